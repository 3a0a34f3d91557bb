//! Reading tables: text with commas, semicolons, tabs or bars (`|`) between the columns.
//!
//! The crate `csv` takes the text apart; this file decides what is a header and which columns are features
//! and labels. With `columns`, `lines` and `records` it leans on that crate and the standard library alone,
//! so that a fuzz target can include it.

use super::columns::{Columns, listed};
use super::records::{Records, Row, TableError, is_missing};
use std::io::{BufRead, Read};

/// How to read a table.
#[derive(Clone, Debug, Default)]
pub struct TableOptions<'a> {
    /// What stands between columns; found out from the first line if nobody says.
    pub delimiter: Option<u8>,
    pub header: Header,
    pub features: Features<'a>,
    /// Columns that are not features, as a list of names and numbers.
    pub dropped: Option<&'a str>,
    /// The column of labels, by name or number.
    pub label: Option<&'a str>,
    /// Where none is chosen: the name of a column whose cells are labels if it is there and each row has
    /// one; or its number, in a table without a header.
    pub usual_label: Option<&'a str>,
}

/// Whether the first line names the columns.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Header {
    Yes,
    No,
    /// It does if it is words, and does not if it is numbers; labels are passed over.
    #[default]
    Auto,
}

/// Which columns are features.
#[derive(Clone, Copy, Debug, Default)]
pub enum Features<'a> {
    /// All but the label.
    #[default]
    All,
    /// A list of names and numbers.
    Listed(&'a str),
    /// Those that a model was trained with.
    OfModel(&'a [String]),
}

/// A table's numbers and labels.
#[derive(Debug, PartialEq)]
pub struct Table {
    /// What the features are called: by the header, or by their numbers from 1 on.
    pub columns: Vec<String>,
    /// Row-major, as wide as there are columns.
    pub numbers: Vec<f32>,
    /// What stands in the column of labels.
    pub labels: Option<Vec<String>>,
    /// What that column is called.
    pub label_column: Option<String>,
}

/// Reads a whole table.
pub fn read(mut stream: impl BufRead, options: &TableOptions) -> Result<Table, TableError> {
    let mut start = Vec::new();
    while start.trim_ascii().is_empty()
        && stream.read_until(b'\n', &mut start).map_err(|error| error.to_string())? > 0
    {}
    let delimiter = options.delimiter.unwrap_or_else(|| sniff(&start));
    let mut records = Records::new(start.chain(stream), delimiter);
    let Some(first) = records.next()? else {
        return Err("no data: the table is empty".to_owned().into());
    };
    let named = has_header(&first, options)?;
    let names = if named {
        first.cells().map(|cell| cell.map(str::to_owned)).collect::<Result<_, _>>()?
    } else {
        (1..=first.record.len()).map(|number| number.to_string()).collect()
    };
    let columns = Columns { names, named };
    let mut next = if named { records.next()? } else { Some(first) };
    let (places, label) = choose(&columns, options)?;
    check_names(&columns, &places, next.as_ref(), delimiter)?;

    let mut table = Table {
        columns: places.iter().map(|&place| columns.names[place].clone()).collect(),
        numbers: Vec::new(),
        labels: label.map(|_| Vec::new()),
        label_column: label.map(|place| columns.names[place].clone()),
    };
    if next.is_none() {
        return Err("no data: there is nothing below the header".to_owned().into());
    }
    while let Some(row) = next {
        if row.record.len() != columns.names.len() {
            return Err(row.of_other_length(&columns, delimiter).into());
        }
        for &place in &places {
            table.numbers.push(row.number(place, &columns)?);
        }
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

/// What most often stands between columns in the first line.
fn sniff(line: &[u8]) -> u8 {
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0), (b'|', 0)];
    let mut quoted = false;
    for &byte in line {
        quoted ^= byte == b'"';
        for (delimiter, count) in &mut counts {
            *count += usize::from(!quoted && byte == *delimiter);
        }
    }
    // Of equals, the first.
    counts
        .into_iter()
        .rev()
        .max_by_key(|(_, count)| *count)
        .map_or(b',', |(delimiter, _)| delimiter)
}

fn has_header(first: &Row, options: &TableOptions) -> Result<bool, TableError> {
    match options.header {
        Header::Yes => return Ok(true),
        Header::No => return Ok(false),
        Header::Auto => {}
    }
    let mut parts = first.cell(0)?.split_whitespace();
    if first.record.len() == 1
        && parts.clone().count() > 1
        && parts.all(|part| part.parse::<f32>().is_ok())
    {
        return Err(format!(
            "line {}: the columns have spaces between them; expected commas, semicolons, \
             tabs or bars (|)",
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
        match cell.parse::<f32>() {
            Ok(_) => numbers += 1,
            Err(_) => words += 1,
        }
    }
    if words > 0 && numbers > 0 {
        return Err(format!(
            "line {} has words and numbers; say whether it names the columns with --header yes or no \
             (and name a column of labels with --label-column)",
            first.line
        )
        .into());
    }
    Ok(words > 0)
}

/// The places of the features and of the label.
fn choose(
    columns: &Columns,
    options: &TableOptions,
) -> Result<(Vec<usize>, Option<usize>), TableError> {
    let under = |option: &'static str| move |message: String| format!("{option}: {message}");
    let label = options.label.map(|label| columns.place(label)).transpose();
    let label = label.map_err(under("--label-column"))?.or_else(|| usual_label(columns, options));
    let dropped = options.dropped.map(|list| columns.places(list)).transpose();
    let dropped = dropped.map_err(under("--drop-columns"))?.unwrap_or_default();
    let mut features = match options.features {
        Features::All => (0..columns.names.len()).filter(|&place| Some(place) != label).collect(),
        Features::Listed(list) => columns.places(list).map_err(under("--columns"))?,
        Features::OfModel(names) => of_model(columns, names, label)?,
    };
    features.retain(|place| !dropped.contains(place));
    if let Some(label) = label.filter(|label| features.contains(label)) {
        return Err(
            format!("column '{}' is both a feature and the label", columns.names[label]).into()
        );
    }
    if features.is_empty() {
        return Err("no column of numbers is left to read".to_owned().into());
    }
    Ok((features, label))
}

/// The place of the column that a model's labels came from, if the table has it.
fn usual_label(columns: &Columns, options: &TableOptions) -> Option<usize> {
    let place = columns.place(options.usual_label?).ok()?;
    if columns.named {
        return Some(place);
    }
    // A number says less than a name: in a table of the features alone it is one of these.
    match options.features {
        Features::OfModel(names) => of_model(columns, names, Some(place)).is_ok().then_some(place),
        _ => None,
    }
}

/// That each feature has a name of its own; `next` is the line below the header.
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
                "an empty column at the end: {} at the end of each line? Leave it out with \
                 --drop-columns {number}",
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
            "column {number} has no name in the header: the index of a pandas frame? Leave it out with \
             --drop-columns {number}, or write the file with index=False"
        )
        .into());
    }
    for (i, &place) in features.iter().enumerate() {
        let name = &columns.names[place];
        if features[..i].iter().any(|&other| columns.names[other] == *name) {
            return Err(format!(
                "two columns are called '{name}'; leave one out with --drop-columns, by its number"
            )
            .into());
        }
    }
    Ok(())
}

/// The places of a model's columns: by their names, or by their numbers if the model knows no names. A table
/// without a header has them in their order.
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
                "{}; the model wants {}, in a header or as the only columns",
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
            "no column '{name}', which the model was trained with; the file has {}",
            columns.listed()
        ))),
    };
    names.iter().map(place).collect()
}

/// Reads text of one column, with what may be its header.
pub fn read_column(stream: impl BufRead) -> Result<Vec<String>, TableError> {
    let mut records = Records::new(stream, b',');
    let mut cells = Vec::new();
    while let Some(row) = records.next()? {
        if row.record.len() != 1 {
            let count = row.record.len();
            return Err(
                format!("line {}: {count} columns; expected one, of labels", row.line).into()
            );
        }
        match row.cell(0)? {
            "" => return Err(format!("line {}: a missing label", row.line).into()),
            cell => cells.push(cell.to_owned()),
        }
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str, options: TableOptions) -> Result<Table, String> {
        read(text.as_bytes(), &options).map_err(|error| error.to_string())
    }

    fn plain(text: &str) -> Table {
        table(text, TableOptions::default()).unwrap()
    }

    fn message(text: &str) -> String {
        table(text, TableOptions::default()).unwrap_err()
    }

    fn labeled(text: &str, label: &str) -> Result<Table, String> {
        table(text, TableOptions { label: Some(label), ..TableOptions::default() })
    }

    #[test]
    fn the_first_line_says_what_stands_between_columns_and_whether_it_names_them() {
        for text in [
            "a,b\n1,2\n3,4\n",
            "a;b\r\n1;2\r\n3;4",
            "\u{feff}a\tb\n\n1\t 2\n3\t4\n\n",
            "\n\na|b\n1|2\n3| 4\n",
        ] {
            let found = plain(text);
            assert_eq!(found.columns, ["a", "b"], "{text:?}");
            assert_eq!(found.numbers, [1.0, 2.0, 3.0, 4.0], "{text:?}");
        }
        let found = plain("1,2\n3,-4.5e1\n");
        assert_eq!((&found.columns.join(" ")[..], &found.numbers[2..]), ("1 2", &[3.0, -45.0][..]));
        assert_eq!(plain("\"a;b;c\",\"say \"\"d\"\"\"\n1,2\n").columns, ["a;b;c", "say \"d\""]);
        // However little of it a stream gives at a time.
        let slowly = std::io::BufReader::with_capacity(2, &b"alpha;beta\n1;2\n"[..]);
        assert_eq!(read(slowly, &TableOptions::default()).unwrap().columns, ["alpha", "beta"]);
        let years = TableOptions { header: Header::Yes, ..TableOptions::default() };
        assert_eq!(table("2019,2020\n1,2\n", years).unwrap().columns, ["2019", "2020"]);
        let unclear = message("id,2019\n1,2\n");
        assert!(unclear.starts_with("line 1 has words and numbers; say whether"), "{unclear}");
        let none = TableOptions { header: Header::No, ..TableOptions::default() };
        assert_eq!(
            table("a,2\n", none).unwrap_err().split(';').next(),
            Some("line 1, column 1: 'a'")
        );
    }

    #[test]
    fn columns_are_chosen_in_the_order_asked_for() {
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
        assert_eq!(table(text, all).unwrap_err(), "no column of numbers is left to read");
        let none = TableOptions { features: Features::Listed("e"), ..TableOptions::default() };
        assert_eq!(
            table(text, none).unwrap_err(),
            "--columns: no column 'e'; the file has a, b, c, d"
        );
    }

    #[test]
    fn a_usual_label_is_read_where_there_is_one() {
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
    fn a_usual_label_is_read_without_a_header_too() {
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
        // The features alone.
        for (names, label) in [(["1", "2"], "3"), (["2", "3"], "1")] {
            assert_eq!(read("1,2\n", &names, label).unwrap(), (vec![1.0, 2.0], None));
        }
        // Another column of words is none of the label's.
        let message = read("1,x,a\n", &["1", "2"], "3").unwrap_err();
        assert!(message.starts_with("line 1 has words and numbers"), "{message}");
    }

    #[test]
    fn labels_may_be_words_and_are_no_features() {
        let found = labeled("x,kind,y\n1,setosa,2\n3,\"iris, other\",4\n", "kind").unwrap();
        assert_eq!((found.columns.join(" ").as_str(), found.numbers.len()), ("x y", 4));
        assert_eq!(found.labels.unwrap(), ["setosa", "iris, other"]);
        assert_eq!(found.label_column.unwrap(), "kind");
        // By number a column of words does not make a header of the first line.
        let found = labeled("1,2,a\n3,4,b\n", "3").unwrap();
        assert_eq!((found.columns.join(" ").as_str(), found.numbers.len()), ("1 2", 4));
        assert_eq!(labeled("x,y\n1,\n", "y").unwrap_err(), "line 2, column 'y': a missing label");
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
            "column 'y' is both a feature and the label"
        );
    }

    #[test]
    fn a_model_finds_its_columns_by_name() {
        let of_model = |text, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            table(
                text,
                TableOptions { features: Features::OfModel(&names), ..TableOptions::default() },
            )
        };
        assert_eq!(of_model("c,b,a\n3,2,1\n", &["a", "b"]).unwrap().numbers, [1.0, 2.0]);
        let lacks = of_model("c,b\n3,2\n", &["a", "b"]).unwrap_err();
        assert_eq!(lacks, "no column 'a', which the model was trained with; the file has c, b");
        // Without a header they are in their order.
        assert_eq!(of_model("3,2\n", &["a", "b"]).unwrap().numbers, [3.0, 2.0]);
        let wide = of_model("3,2,1\n", &["a", "b"]).unwrap_err();
        assert_eq!(
            wide,
            "3 columns and no header; the model wants a, b, in a header or as the only columns"
        );
        assert_eq!(of_model("3,2,1\n", &["1", "3"]).unwrap().numbers, [3.0, 1.0]);
        assert_eq!(of_model("x,y,z\n3,2,1\n", &["1", "3"]).unwrap().numbers, [3.0, 1.0]);
    }

    #[test]
    fn what_is_no_number_is_told_with_its_line_as_an_editor_counts() {
        // An empty line, a cell of two lines, both kinds of line breaks.
        for line_break in ["\n", "\r\n"] {
            let text = |cell: &str| {
                let lines = ["a,b", "", "1,2", "\"3", "\",4", cell];
                lines.join(line_break)
            };
            for (cell, reason) in [
                ("5,", "a missing value; fill it in, remove the line, or leave the column out"),
                ("5,NA", "a missing value (NA); fill it in"),
                ("5,nan", "a missing value (nan); fill it in"),
                ("5,x", "'x'; expected a number; leave the column out with --drop-columns"),
                ("5,1e99", "1e99; expected a finite number"),
                ("5,\"1,5\"", "'1,5' has a decimal comma; write a point in its place"),
                ("5,\"0,125\"", "'0,125' has a decimal comma; write a point in its place"),
                (
                    "5,\"-1,234\"",
                    "'-1,234' may have a thousands separator (leave the comma out) or a decimal comma \
                     (write a point in its place)",
                ),
                ("5,\"1,234.5\"", "'1,234.5' has thousands separators; leave the commas out"),
                ("5,\"1,234,567\"", "'1,234,567' has thousands separators; leave the commas out"),
                ("5,\"1,23,456\"", "'1,23,456'; expected a number"),
            ] {
                let message = message(&text(cell));
                assert!(message.starts_with(&format!("line 6, column 'b': {reason}")), "{message}");
            }
            let short = message(&text("5"));
            assert_eq!(
                short,
                "line 6: 1 columns; expected 2, as in the first line (',' between them)"
            );
        }
        let spaces = "line 2, column 'a b': '1 2'; expected commas, semicolons, tabs or bars (|) between the columns";
        assert_eq!(message("a b\n1 2\n"), spaces);
        assert!(message("1 2\n3 4\n").starts_with("line 1: the columns have spaces between them"));
    }

    #[test]
    fn a_table_without_data_or_names_is_an_error() {
        assert_eq!(message(""), "no data: the table is empty");
        assert_eq!(message("\n\n"), "no data: the table is empty");
        assert_eq!(message("a,b\n"), "no data: there is nothing below the header");
        assert!(
            message(",a\n0,1\n").starts_with("column 1 has no name in the header: the index of")
        );
        let comma = "an empty column at the end: a comma at the end of each line? Leave it out with \
                     --drop-columns 3";
        assert_eq!(message("a,b,\n0,1,\n"), comma);
        assert!(message("a,b,\n0,1,2\n").starts_with("column 3 has no name in the header"));
        assert!(message("a,a\n0,1\n").starts_with("two columns are called 'a'"));
        let latin =
            read(&b"gr\xfc\xdfe,b\n1,2\n"[..], &TableOptions::default()).unwrap_err().to_string();
        assert_eq!(latin, "line 1, column 1: not UTF-8 text; save the table as UTF-8");
    }
}
