//! Reader of tables: text whose columns are separated by commas, semicolons, tabs or bars (`|`).
//!
//! The `csv` crate splits the text; this file decides what is a header and which columns are features and
//! labels. With `columns`, `lines`, `records` and the tool's `text`, it depends on that crate and the standard
//! library alone, so that a fuzz target can include it.

use super::columns::Columns;
use super::records::{Records, Row, TableError, is_missing};
use crate::text::{counted, listed};
use std::io::BufRead;

/// Options for reading a table.
#[derive(Clone, Debug, Default)]
pub struct TableOptions<'a> {
    /// Delimiter between columns; `None` detects it in the first line.
    pub delimiter: Option<u8>,
    pub header: HeaderRow,
    pub features: Features<'a>,
    /// Columns to exclude from the features, as a list of names and numbers.
    pub dropped: Option<&'a str>,
    /// Column of labels, by name or number.
    pub label: Option<&'a str>,
    /// Column of labels of the data that the model was trained on: its name or, without a header, its
    /// number. It is used without `label` if the table has it and no cell of it is empty.
    pub usual_label: Option<&'a str>,
}

/// Treatment of the first line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum HeaderRow {
    Yes,
    No,
    /// The first line is a header if its cells are words, and not if they are numbers; the cell of the
    /// label column does not count.
    #[default]
    Auto,
}

/// Selection of the feature columns.
#[derive(Clone, Copy, Debug, Default)]
pub enum Features<'a> {
    /// All columns but the label.
    #[default]
    All,
    /// A list of names and numbers.
    Listed(&'a str),
    /// The columns of the training data.
    OfModel(&'a [String]),
}

/// Numbers and labels of a table.
#[derive(Debug, PartialEq)]
pub struct Table {
    /// Names of the features in the header, or their numbers from 1 on.
    pub columns: Vec<String>,
    /// Features in row-major order.
    pub numbers: Vec<f64>,
    /// Line of each row, from 1 on.
    pub lines: Vec<u64>,
    /// Label of each row.
    pub labels: Option<Vec<String>>,
    /// Name of the label column.
    pub label_column: Option<String>,
}

/// Reads a whole table.
pub fn read(stream: impl BufRead, options: &TableOptions) -> Result<Table, TableError> {
    let mut records = Records::new(stream, options.delimiter)?;
    let Some(first) = records.next()? else {
        return Err("the table is empty".to_owned().into());
    };
    let named = has_header(&first, options)?;
    let names = if named {
        first.names()?
    } else {
        (1..=first.record.len()).map(|number| number.to_string()).collect()
    };
    let columns = Columns { names, named };
    let mut next = if named { records.next()? } else { Some(first) };
    let (places, label) = choose(&columns, options)?;
    check_names(&columns, &places, next.as_ref(), records.delimiter())?;

    let mut table = Table {
        columns: places.iter().map(|&place| columns.names[place].clone()).collect(),
        numbers: Vec::new(),
        lines: Vec::new(),
        labels: label.map(|_| Vec::new()),
        label_column: label.map(|place| columns.names[place].clone()),
    };
    if next.is_none() {
        return Err("the table has a header but no rows".to_owned().into());
    }
    while let Some(row) = next {
        row.check_length(&columns, records.delimiter())?;
        for &place in &places {
            table.numbers.push(row.number(place, &columns)?);
        }
        table.lines.push(row.line);
        if let (Some(place), Some(labels)) = (label, &mut table.labels) {
            match row.label(place, &columns) {
                Ok(label) => labels.push(label),
                Err(_) if options.label.is_none() => table.labels = None,
                Err(error) => return Err(error),
            }
        }
        next = records.next()?;
    }
    Ok(table)
}

/// Decides whether the first line is a header.
fn has_header(first: &Row, options: &TableOptions) -> Result<bool, TableError> {
    match options.header {
        HeaderRow::Yes => return Ok(true),
        HeaderRow::No => return Ok(false),
        HeaderRow::Auto => {}
    }
    let mut parts = first.cell(0)?.split_whitespace();
    if first.record.len() == 1
        && parts.clone().count() > 1
        && parts.all(|part| part.parse::<f64>().is_ok())
    {
        return Err(format!(
            "line {}: the columns are separated by spaces; expected commas, semicolons, tabs or bars (|)",
            first.line
        )
        .into());
    }
    let label = options.label.or(options.usual_label);
    let label = label.and_then(|label| label.trim().parse::<usize>().ok());
    let (mut words, mut numbers) = (0, 0);
    for (place, cell) in first.cells().enumerate() {
        let cell = cell?;
        if Some(place + 1) == label || is_missing(cell) {
            continue;
        }
        match cell.parse::<f64>() {
            Ok(_) => numbers += 1,
            Err(_) => words += 1,
        }
    }
    if words > 0 && numbers > 0 {
        return Err(format!(
            "line {} has words and numbers; use --header yes or --header no to say whether it is a header \
             (and --label-column for a column of labels)",
            first.line
        )
        .into());
    }
    Ok(words > 0)
}

/// Finds the places of the features and of the label.
fn choose(
    columns: &Columns,
    options: &TableOptions,
) -> Result<(Vec<usize>, Option<usize>), TableError> {
    let under = |option: &'static str| move |message: String| format!("{option}: {message}");
    let label = options.label.map(|label| columns.place(label)).transpose();
    let label = label.map_err(|error| {
        if options.label == options.usual_label {
            // The model names the column, not the user.
            format!("{error}; the model takes its classes from that column (see --label-column)")
        } else {
            under("--label-column")(error)
        }
    })?;
    let label = label.or_else(|| usual_label(columns, options));
    let dropped = options.dropped.map(|list| columns.places(list)).transpose();
    let dropped = dropped.map_err(under("--drop-columns"))?.unwrap_or_default();
    let mut features = match options.features {
        Features::All => (0..columns.names.len()).filter(|&place| Some(place) != label).collect(),
        Features::Listed(list) => columns.places(list).map_err(under("--columns"))?,
        Features::OfModel(names) => of_model(columns, names, label)?,
    };
    features.retain(|place| !dropped.contains(place));
    if let Some(label) = label.filter(|label| features.contains(label)) {
        return Err(format!(
            "column '{}' cannot be both a feature and the label",
            columns.names[label]
        )
        .into());
    }
    if features.is_empty() {
        return Err("no feature columns are left".to_owned().into());
    }
    Ok((features, label))
}

/// Finds the label column of the training data, if the table has it.
fn usual_label(columns: &Columns, options: &TableOptions) -> Option<usize> {
    let place = columns.place(options.usual_label?).ok()?;
    if columns.named {
        return Some(place);
    }
    // In a table of the features alone, the number of the label column may be that of a feature.
    match options.features {
        Features::OfModel(names) => of_model(columns, names, Some(place)).is_ok().then_some(place),
        _ => None,
    }
}

/// Checks that the features have different names; `next` is the line below the header.
fn check_names(
    columns: &Columns,
    features: &[usize],
    next: Option<&Row>,
    delimiter: u8,
) -> Result<(), TableError> {
    let nameless = features.iter().find(|&&place| columns.names[place].is_empty());
    if let Some(&place) = nameless {
        let number = place + 1;
        let is_empty = |row: &Row| row.record.get(place).is_some_and(|c| c.trim_ascii().is_empty());
        if number == columns.names.len() && next.is_some_and(is_empty) {
            return Err(format!(
                "the last column is empty; if each line ends with {}, exclude it with --drop-columns {number}",
                match delimiter {
                    b',' => "a comma",
                    b';' => "a semicolon",
                    b'\t' => "a tab",
                    _ => "a bar (|)",
                }
            )
            .into());
        }
        return Err(format!(
            "column {number} has no name in the header; if it is a pandas index, exclude it with \
             --drop-columns {number}, or write the file with index=False"
        )
        .into());
    }
    for (i, &place) in features.iter().enumerate() {
        let name = &columns.names[place];
        if features[..i].iter().any(|&other| columns.names[other] == *name) {
            return Err(format!(
                "two columns are called '{name}'; exclude one by its number with --drop-columns"
            )
            .into());
        }
    }
    Ok(())
}

/// Finds the columns of the training data: by name, or by number if they had no names. In a table without a
/// header they are in the same order.
fn of_model(
    columns: &Columns,
    names: &[String],
    label: Option<usize>,
) -> Result<Vec<usize>, TableError> {
    if !columns.named {
        let all: Vec<_> = (0..columns.names.len()).filter(|&place| Some(place) != label).collect();
        let numbers = names.iter().map(|name| columns.place(name).ok()).collect::<Option<Vec<_>>>();
        return match numbers {
            Some(places) => Ok(places),
            None if all.len() == names.len() => Ok(all),
            None => Err(format!(
                "the file has {}; expected the columns of the training data, {}, in a header or as the only \
                 columns",
                columns.listed(),
                listed(names)
            )
            .into()),
        };
    }
    let by_number = names.iter().all(|name| name.parse::<usize>().is_ok());
    let place = |name: &String| match columns.names.iter().position(|found| found == name) {
        Some(place) => Ok(place),
        None if by_number => columns.place(name).map_err(TableError),
        None => Err(TableError(format!(
            "no column '{name}', which the training data have; the file has {}",
            columns.listed()
        ))),
    };
    names.iter().map(place).collect()
}

/// Reads the cells of a table of one column, and the line of each; the first may be a header.
pub fn read_column(stream: impl BufRead) -> Result<(Vec<String>, Vec<u64>), TableError> {
    let mut records = Records::new(stream, Some(b','))?;
    let (mut cells, mut lines) = (Vec::new(), Vec::new());
    while let Some(row) = records.next()? {
        if row.record.len() != 1 {
            let columns = counted(row.record.len(), "column");
            return Err(format!(
                "line {} has {columns}; expected a single column of labels",
                row.line
            )
            .into());
        }
        match row.cell(0)? {
            "" => return Err(format!("line {}: missing label", row.line).into()),
            cell => cells.push(cell.to_owned()),
        }
        lines.push(row.line);
    }
    Ok((cells, lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str, options: TableOptions) -> Result<Table, String> {
        read(text.as_bytes(), &options).map_err(|error| error.to_string())
    }

    fn parse(text: &str) -> Table {
        table(text, TableOptions::default()).unwrap()
    }

    fn message(text: &str) -> String {
        table(text, TableOptions::default()).unwrap_err()
    }

    fn labeled(text: &str, label: &str) -> Result<Table, String> {
        table(text, TableOptions { label: Some(label), ..TableOptions::default() })
    }

    #[test]
    fn detects_delimiter_and_header_in_the_first_line() {
        for text in [
            "a,b\n1,2\n3,4\n",
            "a;b\r\n1;2\r\n3;4",
            "\u{feff}a\tb\n\n1\t 2\n3\t4\n\n",
            "\n\na|b\n1|2\n3| 4\n",
        ] {
            let found = parse(text);
            assert_eq!(found.columns, ["a", "b"], "{text:?}");
            assert_eq!(found.numbers, [1.0, 2.0, 3.0, 4.0], "{text:?}");
        }
        let found = parse("1,2\n3,-4.5e1\n");
        assert_eq!((&found.columns.join(" ")[..], &found.numbers[2..]), ("1 2", &[3.0, -45.0][..]));
        assert_eq!(parse("\"a;b;c\",\"say \"\"d\"\"\"\n1,2\n").columns, ["a;b;c", "say \"d\""]);
        // A stream that returns two bytes at a time.
        let slowly = std::io::BufReader::with_capacity(2, &b"alpha;beta\n1;2\n"[..]);
        assert_eq!(read(slowly, &TableOptions::default()).unwrap().columns, ["alpha", "beta"]);
        let years = TableOptions { header: HeaderRow::Yes, ..TableOptions::default() };
        assert_eq!(table("2019,2020\n1,2\n", years).unwrap().columns, ["2019", "2020"]);
        let unclear = message("id,2019\n1,2\n");
        assert!(unclear.starts_with("line 1 has words and numbers; use --header"), "{unclear}");
        let none = TableOptions { header: HeaderRow::No, ..TableOptions::default() };
        assert_eq!(
            table("a,2\n", none).unwrap_err().split(';').next(),
            Some("line 1, column 1: expected a number, found 'a'")
        );
    }

    #[test]
    fn selects_columns_in_the_order_of_the_list() {
        let text = "a,b,c,d\n1,2,3,4\n5,6,7,8\n";
        let chosen = |list| {
            table(
                text,
                TableOptions { features: Features::Listed(list), ..TableOptions::default() },
            )
            .unwrap()
        };
        assert_eq!(chosen("d,1").numbers, [4.0, 1.0, 8.0, 5.0]);
        assert_eq!(chosen("2-3").columns, ["b", "c"]);
        let dropped = TableOptions { dropped: Some("1,c"), ..TableOptions::default() };
        assert_eq!(table(text, dropped).unwrap().columns, ["b", "d"]);
        let all = TableOptions { dropped: Some("1-4"), ..TableOptions::default() };
        assert_eq!(table(text, all).unwrap_err(), "no feature columns are left");
        let none = TableOptions { features: Features::Listed("e"), ..TableOptions::default() };
        assert_eq!(
            table(text, none).unwrap_err(),
            "--columns: no column 'e'; the file has a, b, c, d"
        );
    }

    #[test]
    fn reads_the_usual_label_if_present() {
        let read = |text: &str| {
            table(text, TableOptions { usual_label: Some("kind"), ..TableOptions::default() })
                .unwrap()
        };
        let found = read("x,kind\n1,a\n2,b\n");
        assert_eq!(
            (found.columns.join(" "), found.labels.unwrap().join(" ")),
            ("x".into(), "a b".into())
        );
        assert_eq!(read("x,kind\n1,a\n2,\n").labels, None);
        assert_eq!(read("x,y\n1,2\n").columns, ["x", "y"]);
    }

    #[test]
    fn reads_the_usual_label_without_a_header() {
        let read = |text: &str, names: &[&str], label| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let features = Features::OfModel(&names);
            let options =
                TableOptions { features, usual_label: Some(label), ..TableOptions::default() };
            table(text, options).map(|table| (table.numbers, table.labels))
        };
        let labels = |labels: &[&str]| Some(labels.iter().map(|&l| l.to_owned()).collect());
        let found = read("1,2,a\n3,4,b\n", &["1", "2"], "3").unwrap();
        assert_eq!(found, (vec![1.0, 2.0, 3.0, 4.0], labels(&["a", "b"])));
        let found = read("a,1,2\nb,3,4\n", &["2", "3"], "1").unwrap();
        assert_eq!(found, (vec![1.0, 2.0, 3.0, 4.0], labels(&["a", "b"])));
        // Tables of the features alone.
        for (names, label) in [(["1", "2"], "3"), (["2", "3"], "1")] {
            assert_eq!(read("1,2\n", &names, label).unwrap(), (vec![1.0, 2.0], None));
        }
        // A column of words that is not the label's.
        let message = read("1,x,a\n", &["1", "2"], "3").unwrap_err();
        assert!(message.starts_with("line 1 has words and numbers"), "{message}");
    }

    #[test]
    fn labels_are_words_and_not_features() {
        let found = labeled("x,kind,y\n1,setosa,2\n3,\"iris, other\",4\n", "kind").unwrap();
        assert_eq!((found.columns.join(" ").as_str(), found.numbers.len()), ("x y", 4));
        assert_eq!(found.labels.unwrap(), ["setosa", "iris, other"]);
        assert_eq!(found.label_column.unwrap(), "kind");
        // The label column, given by number, does not make the first line a header.
        let found = labeled("1,2,a\n3,4,b\n", "3").unwrap();
        assert_eq!((found.columns.join(" ").as_str(), found.numbers.len()), ("1 2", 4));
        assert_eq!(labeled("x,y\n1,\n", "y").unwrap_err(), "line 2, column 'y': missing label");
        assert_eq!(
            labeled("x,y\n1,2\n", "z").unwrap_err(),
            "--label-column: no column 'z'; the file has x, y"
        );
        let both = TableOptions {
            features: Features::Listed("x,y"),
            label: Some("y"),
            ..TableOptions::default()
        };
        assert_eq!(
            table("x,y\n1,2\n", both).unwrap_err(),
            "column 'y' cannot be both a feature and the label"
        );
    }

    #[test]
    fn finds_the_columns_of_the_training_data() {
        let of_model = |text, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            table(
                text,
                TableOptions { features: Features::OfModel(&names), ..TableOptions::default() },
            )
        };
        assert_eq!(of_model("c,b,a\n3,2,1\n", &["a", "b"]).unwrap().numbers, [1.0, 2.0]);
        let lacks = of_model("c,b\n3,2\n", &["a", "b"]).unwrap_err();
        assert_eq!(lacks, "no column 'a', which the training data have; the file has c, b");
        // Without a header they are in the order of the training data.
        assert_eq!(of_model("3,2\n", &["a", "b"]).unwrap().numbers, [3.0, 2.0]);
        let wide = of_model("3,2,1\n", &["a", "b"]).unwrap_err();
        assert_eq!(
            wide,
            "the file has 3 columns and no header; expected the columns of the training data, a, b, in a \
             header or as the only columns"
        );
        assert_eq!(of_model("3,2,1\n", &["1", "3"]).unwrap().numbers, [3.0, 1.0]);
        assert_eq!(of_model("x,y,z\n3,2,1\n", &["1", "3"]).unwrap().numbers, [3.0, 1.0]);
    }

    #[test]
    fn reports_bad_cells_with_their_line() {
        // An empty line, a cell of two lines, and both kinds of line breaks.
        for line_break in ["\n", "\r\n"] {
            let text = |cell: &str| {
                let lines = ["a,b", "", "1,2", "\"3", "\",4", cell];
                lines.join(line_break)
            };
            for (cell, reason) in [
                ("5,", "missing value; fill it in, remove the line, or exclude the column"),
                ("5,NA", "missing value (NA); fill it in"),
                ("5,nan", "missing value (nan); fill it in"),
                ("5,x", "expected a number, found 'x'; exclude the column with --drop-columns"),
                ("5,1e999", "expected a finite number in the range of float64, found 1e999"),
                ("5,\"1,5\"", "'1,5' has a decimal comma; replace it with a point"),
                ("5,\"0,125\"", "'0,125' has a decimal comma; replace it with a point"),
                (
                    "5,\"-1,234\"",
                    "the comma in '-1,234' is ambiguous; remove it if it separates thousands, or replace it \
                     with a point",
                ),
                ("5,\"1,234.5\"", "'1,234.5' has thousands separators; remove the commas"),
                ("5,\"1,234,567\"", "'1,234,567' has thousands separators; remove the commas"),
                ("5,\"1,23,456\"", "expected a number, found '1,23,456'"),
            ] {
                let message = message(&text(cell));
                assert!(message.starts_with(&format!("line 6, column 'b': {reason}")), "{message}");
            }
            let short = message(&text("5"));
            assert_eq!(
                short,
                "line 6 has 1 column; expected 2, as in the first line (separated by ',')"
            );
        }
        let spaces = "line 2, column 'a b': expected columns separated by commas, semicolons, tabs or bars (|), found '1 2'";
        assert_eq!(message("a b\n1 2\n"), spaces);
        assert!(message("1 2\n3 4\n").starts_with("line 1: the columns are separated by spaces"));
    }

    #[test]
    fn rejects_tables_without_rows_or_names() {
        assert_eq!(message(""), "the table is empty");
        assert_eq!(message("\n\n"), "the table is empty");
        assert_eq!(message("a,b\n"), "the table has a header but no rows");
        assert!(
            message(",a\n0,1\n")
                .starts_with("column 1 has no name in the header; if it is a pandas index")
        );
        let comma = "the last column is empty; if each line ends with a comma, exclude it with --drop-columns 3";
        assert_eq!(message("a,b,\n0,1,\n"), comma);
        assert!(message("a,b,\n0,1,2\n").starts_with("column 3 has no name in the header"));
        assert!(message("a,a\n0,1\n").starts_with("two columns are called 'a'"));
        let latin =
            read(&b"gr\xfc\xdfe,b\n1,2\n"[..], &TableOptions::default()).unwrap_err().to_string();
        assert_eq!(latin, "line 1, column 1: the text is not UTF-8; save the table as UTF-8");
    }
}
