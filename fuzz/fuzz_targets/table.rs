//! Tests the tool's table reader. A table that was read must be the same after writing and reading, and
//! a table written in any of the usual styles must be read unchanged.

#![no_main]

use libfuzzer_sys::fuzz_target;
use table::{Features, HeaderRow, Table, TableOptions};

#[path = "../../src/bin/elbo/data/formats/cells.rs"]
#[allow(dead_code)]
mod cells;
#[path = "../../src/bin/elbo/data/formats/columns.rs"]
#[allow(dead_code)]
mod columns;
#[path = "../../src/bin/elbo/data/formats/header.rs"]
mod header;
#[path = "../../src/bin/elbo/data/formats/lines.rs"]
mod lines;
#[path = "../../src/bin/elbo/data/formats/records.rs"]
mod records;
#[path = "../../src/bin/elbo/data/formats/separator.rs"]
#[allow(dead_code)]
mod separator;
#[path = "../../src/bin/elbo/data/formats/splitter.rs"]
mod splitter;
#[path = "../../src/bin/elbo/data/formats/table.rs"]
#[allow(dead_code)]
mod table;
#[path = "../../src/bin/elbo/data/formats/table_options.rs"]
#[allow(dead_code)]
mod table_options;
#[path = "../../src/bin/elbo/text.rs"]
#[allow(dead_code)]
mod text;

/// Style in which a program may write tables.
struct Style {
    separator: u8,
    line_break: &'static str,
    quoted: bool,
    empty_lines: bool,
}

impl Style {
    fn of(byte: u8) -> Self {
        Self {
            separator: [b',', b';', b'\t', b'|'][usize::from(byte & 3)],
            line_break: ["\n", "\r\n", "\r"][usize::from(byte >> 5) % 3],
            quoted: byte & 8 != 0,
            empty_lines: byte & 16 != 0,
        }
    }

    fn has_empty_lines(&self, columns: usize) -> bool {
        self.empty_lines && columns > 1
    }

    fn write(&self, records: impl IntoIterator<Item = Vec<String>>) -> String {
        let mut text = String::new();
        for record in records {
            for (i, cell) in record.iter().enumerate() {
                if i > 0 {
                    text.push(char::from(self.separator));
                }
                let special = |c: char| ",;|=\t\"\n\r\u{feff}".contains(c);
                if self.quoted || cell.is_empty() || cell.contains(special) {
                    text.push_str(&format!("\"{}\"", cell.replace('"', "\"\"")));
                } else {
                    text.push_str(cell);
                }
            }
            text.push_str(self.line_break);
            // In a table of one column, an empty line is a missing value.
            if self.has_empty_lines(record.len()) {
                text.push_str(self.line_break);
            }
        }
        text
    }
}

/// Returns the rows of a table as text, with the label last.
fn records(table: &Table) -> Vec<Vec<String>> {
    let mut header = table.columns.clone();
    header.extend(table.label_column.clone());
    let rows = table.numbers.chunks(table.columns.len()).enumerate().map(|(i, row)| {
        let mut cells: Vec<String> = row.iter().map(f64::to_string).collect();
        cells.extend(table.labels.as_ref().map(|labels| labels[i].clone()));
        cells
    });
    std::iter::once(header).chain(rows).collect()
}

fn same(a: &Table, b: &Table) -> bool {
    let bits = |table: &Table| table.numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    a.columns == b.columns && a.labels == b.labels && bits(a) == bits(b)
}

fn read_again(table: &Table, style: &Style) -> Table {
    let label = table.label_column.as_ref().map(|_| (table.columns.len() + 1).to_string());
    let options = TableOptions {
        separator: Some(style.separator),
        header: HeaderRow::Yes,
        features: Features::All,
        label: label.as_deref(),
        ..TableOptions::default()
    };
    let text = style.write(records(table));
    table::read(text.as_bytes(), &options).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

/// Reads arbitrary bytes: the reader must not panic, and a table that it returns has finite numbers.
fn anything(style: &Style, options: TableOptions, bytes: &[u8]) {
    let table = match table::read(bytes, &options) {
        Err(error) => return assert!(!error.to_string().is_empty()),
        Ok(table) => table,
    };
    let (width, rows) = (table.columns.len(), table.numbers.len() / table.columns.len());
    assert!(rows > 0 && rows * width == table.numbers.len());
    assert!(table.numbers.iter().all(|x| x.is_finite()));
    assert!(table.labels.as_ref().is_none_or(|labels| labels.len() == rows));
    // The label column is selected by its number, which may also be the name of a feature.
    if !table.columns.contains(&(width + 1).to_string()) {
        assert!(same(&read_again(&table, style), &table), "{table:?}");
    }
}

/// Writes a table of numbers made from the bytes and reads it back; then damages one cell and checks
/// that the message names its line.
fn written(style: &Style, bytes: &[u8]) {
    let [width, place, rest @ ..] = bytes else { return };
    let width = usize::from(width % 5) + 1;
    let cells: Vec<f64> = rest
        .as_chunks()
        .0
        .iter()
        .map(|&word| f64::from_le_bytes(word))
        .map(|x| if x.is_finite() { x } else { 0.5 })
        .collect();
    let numbers = cells[..cells.len() / width * width].to_vec();
    if numbers.is_empty() {
        return;
    }
    let columns = (0..width).map(|i| format!("c {i}")).collect();
    let lines = Vec::new();
    let number_names = false;
    let table = Table {
        columns,
        number_names,
        file_columns: width,
        numbers,
        lines,
        labels: None,
        label_column: None,
    };
    assert!(same(&read_again(&table, style), &table), "{table:?}");

    let mut damaged = records(&table);
    let row = 1 + usize::from(*place) % (damaged.len() - 1);
    damaged[row][usize::from(*place) % width] = "no number".to_owned();
    let text = style.write(damaged);
    let options = TableOptions { separator: Some(style.separator), ..TableOptions::default() };
    let message = table::read(text.as_bytes(), &options).expect_err("a damaged cell").to_string();
    let line = 1 + row * if style.has_empty_lines(width) { 2 } else { 1 };
    assert!(message.starts_with(&format!("line {line}, column 'c ")), "{message} in {text:?}");
}

fuzz_target!(|bytes: &[u8]| {
    let [first, second, rest @ ..] = bytes else { return };
    let style = Style::of(*first);
    let labels = ["1", "2", "kind"];
    let options = TableOptions {
        header: [HeaderRow::Auto, HeaderRow::Yes, HeaderRow::No][usize::from(second % 3)],
        label: labels.get(usize::from(second >> 2 & 3)).copied(),
        dropped: (second & 16 != 0).then_some("2-3"),
        ..TableOptions::default()
    };
    anything(&style, options, rest);
    written(&style, rest);
});
