//! Reader of tables: text whose columns are separated by commas, semicolons, tabs or bars (`|`).
//!
//! 1. `separator`: a first line such as `sep=;`, the file name, or the first lines tell the separator.
//! 2. `records`, `lines` and `splitter`: the text is split into records of cells, each with its line.
//! 3. `header`: the first line is a header or the first row.
//! 4. `columns`: options and models choose the features and the label by name or number.
//! 5. `records`: cells are read as numbers and labels.
//!
//! With the tool's `text`, these files depend on the `csv` crate (for its record type) and the standard library
//! alone, so that a fuzz target can include them.

use super::columns::Columns;
use super::header::is_header;
use super::records::{Records, Row, TableError};
pub use super::table_options::{Features, HeaderRow, TableOptions};
use crate::text::{counted, listed};
use std::collections::HashSet;
use std::io::BufRead;

/// Numbers and labels of a table.
#[derive(Debug, PartialEq)]
pub struct Table {
    /// Names of the features in the header, or their numbers from 1 on.
    pub columns: Vec<String>,
    /// True if these numbers are names in a header.
    pub number_names: bool,
    /// Number of columns in the file, whether they are read or not.
    pub file_columns: usize,
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
    let mut records = Records::new(stream, options.separator)?;
    let Some(first) = records.next()? else {
        return Err("the table is empty".to_owned().into());
    };
    let second = records.next()?;
    let named = is_header(&first, second.as_ref(), options)?;
    let names = if named {
        first.names()?
    } else {
        (1..=first.record.len()).map(|number| number.to_string()).collect()
    };
    let mut columns = Columns::new(names, named, options.fixed);
    let dropped = dropped(&columns, options)?;
    if let Features::OfModel { .. } = options.features {
        columns.hide(&dropped);
    }
    let (places, label) = choose(&columns, &dropped, options)?;
    let above = if named { None } else { Some(first) };
    let mut rows = above.into_iter().chain(second);
    let mut next = rows.next();
    if next.is_none() {
        return Err("the table has a header but no rows".to_owned().into());
    }
    check_names(&columns, &places, next.as_ref(), records.separator(), options)?;

    let mut table = Table {
        columns: places.iter().map(|&place| columns.names[place].clone()).collect(),
        number_names: named && places.iter().all(|&place| is_count(&columns.names[place])),
        file_columns: columns.names.len(),
        numbers: Vec::new(),
        lines: Vec::new(),
        labels: label.filter(|_| !options.labels_apart).map(|_| Vec::new()),
        label_column: label.map(|place| columns.names[place].clone()),
    };
    let may_lack_label = options.label.is_none() && !options.label_required;
    while let Some(row) = next {
        row.check_length(&columns, records.separator())?;
        for &place in &places {
            table.numbers.push(row.number(place, &columns)?);
        }
        table.lines.push(row.line);
        if let (Some(place), Some(labels)) = (label, &mut table.labels) {
            match row.cell(place)? {
                "" if may_lack_label => labels.push(String::new()),
                _ => labels.push(row.label(place, &columns)?),
            }
        }
        next = match rows.next() {
            None => records.next()?,
            row => row,
        };
    }
    Ok(table)
}

/// Returns true for the name of a column of a table without a header.
pub fn is_count(name: &str) -> bool {
    name.parse::<usize>().is_ok_and(|number| number > 0 && number.to_string() == name)
}

fn under(option: &'static str) -> impl Fn(String) -> TableError {
    move |message: String| TableError::Option(format!("{option}: {message}"))
}

/// Finds the columns that an option excludes.
fn dropped(columns: &Columns, options: &TableOptions) -> Result<HashSet<usize>, TableError> {
    let Some(list) = options.dropped else { return Ok(HashSet::new()) };
    match columns.places(list) {
        Ok(places) => Ok(places.into_iter().collect()),
        // The option is for the training data; a file beside them may lack the columns.
        Err(_) if matches!(options.features, Features::OfModel { .. }) && !options.fixed => {
            Ok(HashSet::new())
        }
        Err(message) => Err(under("--drop-columns")(message)),
    }
}

/// Finds the places of the features and of the label.
fn choose(
    columns: &Columns,
    dropped: &HashSet<usize>,
    options: &TableOptions,
) -> Result<(Vec<usize>, Option<usize>), TableError> {
    let label = match options.label {
        Some(label) => Some(columns.place(label).map_err(under("--label-column"))?),
        None => usual_label(columns, options)?,
    };
    let mut features = match options.features {
        Features::All => (0..columns.names.len()).filter(|&place| Some(place) != label).collect(),
        Features::Listed(list) => columns.places(list).map_err(under("--columns"))?,
        Features::OfModel { .. } => of_model(columns, options, label)?,
    };
    if !matches!(options.features, Features::OfModel { .. }) {
        features.retain(|place| !dropped.contains(place));
    }
    if let Some(label) = label.filter(|label| features.contains(label)) {
        return Err(TableError::Option(format!(
            "column '{}' cannot be both a feature and the label",
            columns.names[label]
        )));
    }
    if features.is_empty() {
        return Err("no feature columns are left".to_owned().into());
    }
    Ok((features, label))
}

/// Finds the label column of the training data, if the table has it.
fn usual_label(columns: &Columns, options: &TableOptions) -> Result<Option<usize>, TableError> {
    let Some(label) = options.usual_label else { return Ok(None) };
    let of_features =
        |error: String| format!("{error}; it is the label column of the training data");
    // In a table without a header, the column of a number may be that of a feature, if labels are left out.
    let fits = |place: &usize| of_model(columns, options, Some(*place)).is_ok();
    let place = match options.features {
        Features::OfModel { names, named: false, .. } if has_written(columns, names) => {
            columns.find(&name_of_number(label)).map_err(of_features)?
        }
        Features::OfModel { named: false, .. } => {
            let named = match columns.named {
                true => columns.find(label).map_err(of_features)?,
                false => None,
            };
            named.or_else(|| of_number(columns, options, label)).filter(fits)
        }
        Features::OfModel { .. } if !columns.named => columns.place(label).ok().filter(fits),
        _ if !columns.named => None,
        // Which one it is does not matter where none is read.
        _ if options.labels_apart => columns.find(label).ok().flatten(),
        _ => columns.find(label).map_err(of_features)?,
    };
    if place.is_none() && options.label_required {
        return Err(format!(
            "no column '{label}', from which the model takes the classes; the file has {}; give the labels \
             with --label-column or --labels",
            columns.listed()
        )
        .into());
    }
    Ok(place)
}

/// Checks that the features have different names; `next` is the line below the header.
fn check_names(
    columns: &Columns,
    features: &[usize],
    next: Option<&Row>,
    separator: u8,
    options: &TableOptions,
) -> Result<(), TableError> {
    // The list of the option with more columns.
    let drop = |places: &[usize]| {
        let numbers = places.iter().map(|&place| columns.number(place));
        let list: Vec<String> =
            options.dropped.map(str::to_owned).into_iter().chain(numbers).collect();
        format!("--drop-columns {}", list.join(","))
    };
    let nameless: Vec<usize> =
        features.iter().copied().filter(|&place| columns.names[place].is_empty()).collect();
    if let Some(&place) = nameless.first() {
        let numbers: Vec<String> = nameless.iter().map(|place| (place + 1).to_string()).collect();
        let is_empty = |row: &Row| {
            nameless.iter().all(|&i| row.record.get(i).is_some_and(|c| c.trim_ascii().is_empty()))
        };
        let at_the_end = place + nameless.len() == columns.names.len();
        if at_the_end && next.is_some_and(is_empty) {
            let separator = match separator {
                b',' => "a comma",
                b';' => "a semicolon",
                b'\t' => "a tab",
                _ => "a bar (|)",
            };
            return Err(match nameless.len() {
                1 => format!(
                    "the last column is empty; if each line ends with {separator}, exclude it with {}",
                    drop(&nameless)
                ),
                count => format!("the last {count} columns are empty; exclude them with {}", drop(&nameless)),
            }
            .into());
        }
        return Err(match nameless.len() {
            1 => format!(
                "column {} has no name in the header; if it is a pandas index, exclude it with {}, or write \
                 the file with index=False",
                numbers[0],
                drop(&nameless)
            ),
            _ => format!(
                "columns {} have no names in the header; name them, or exclude them with {}",
                numbers.join(", "),
                drop(&nameless)
            ),
        }
        .into());
    }
    let mut seen = HashSet::with_capacity(features.len());
    match features.iter().find(|&&place| !seen.insert(&columns.names[place])) {
        None => Ok(()),
        Some(&twice) => Err(format!(
            "two columns are called '{}'; rename one, or exclude one with {}",
            columns.names[twice],
            drop(&[twice])
        )
        .into()),
    }
}

/// Finds the columns of the training data: by name, or by number if they had no names. In a table without a
/// header, those with names are the only columns and in the same order.
fn of_model(
    columns: &Columns,
    options: &TableOptions,
    label: Option<usize>,
) -> Result<Vec<usize>, TableError> {
    let Features::OfModel { names, named, .. } = options.features else { return Ok(Vec::new()) };
    let lacking = |name: &String| {
        format!(
            "no column '{name}', which the training data have; the file has {}",
            columns.listed()
        )
    };
    if named && columns.named {
        let place = |name: &String| columns.find(name)?.ok_or_else(|| lacking(name));
        return names.iter().map(|name| place(name).map_err(TableError::Table)).collect();
    }
    let all = columns.visible().filter(|&place| Some(place) != label);
    let all: Vec<usize> = all.collect();
    if named && all.len() == names.len() {
        return Ok(all);
    }
    if named {
        return Err(format!(
            "the file has {}; expected the columns of the training data, {}, in a header or as the only \
             columns",
            columns.listed(),
            listed(names)
        )
        .into());
    }
    if columns.named {
        let written = has_written(columns, names);
        let find = |name: &String| match written {
            true => columns.find(&name_of_number(name)),
            false => columns.find(name),
        };
        if let Some(places) = names.iter().map(find).collect::<Result<Option<Vec<_>>, _>>()? {
            return Ok(places);
        }
    }
    let width = training_width(options);
    let is_whole = [columns.names.len(), columns.visible().count()].contains(&width);
    let places: Option<Vec<usize>> =
        names.iter().map(|name| of_number(columns, options, name)).collect();
    let is_alone = all.len() == names.len();
    match places.filter(|_| is_whole) {
        Some(places) if !is_alone || label.is_none_or(|label| !places.contains(&label)) => {
            Ok(places)
        }
        // The other columns are gone, and the order has stayed.
        _ if is_alone => {
            let numbers: Vec<usize> = names.iter().filter_map(|name| name.parse().ok()).collect();
            let rank = |number: &usize| numbers.iter().filter(|other| *other < number).count();
            Ok(numbers.iter().map(|number| all[rank(number)]).collect())
        }
        _ => Err(wrong_width(columns, names.len(), width, options.fixed).into()),
    }
}

/// Number of columns in the table of the training data, which has no header; an earlier version of the tool did
/// not store it, and knew only the columns that it read.
fn training_width(options: &TableOptions) -> usize {
    let Features::OfModel { names, width, .. } = options.features else { return 0 };
    let label = options.usual_label.into_iter();
    let numbers =
        names.iter().map(String::as_str).chain(label).filter_map(|name| name.parse().ok());
    width.unwrap_or_else(|| numbers.max().unwrap_or_default())
}

/// Finds the column of a number in the training data by its place: among those that are left if others are
/// excluded to get the columns of the training data, otherwise among all.
fn of_number(columns: &Columns, options: &TableOptions, number: &str) -> Option<usize> {
    let place = number.parse::<usize>().ok()?.checked_sub(1)?;
    let width = training_width(options);
    if columns.names.len() != width && columns.visible().count() == width {
        return columns.visible().nth(place);
    }
    columns.visible().find(|&visible| visible == place)
}

/// Message for a table with more or fewer columns than the training data, which had no names.
fn wrong_width(columns: &Columns, features: usize, width: usize, fixed: bool) -> String {
    let found = match columns.named {
        true => format!("{} ({})", counted(columns.names.len(), "column"), columns.listed()),
        false => columns.listed(),
    };
    let visible = columns.visible().count();
    let left = match visible == columns.names.len() {
        true => String::new(),
        false => format!(", of which --drop-columns leaves {visible}"),
    };
    let expected = match width > features {
        true => format!(
            "the {width} columns of the training data, or only its {}",
            counted(features, "feature")
        ),
        false => format!("the {} of the training data", counted(features, "column")),
    };
    let remedy = match (visible > features, fixed) {
        (false, _) => "",
        (true, true) => "; exclude the others with --drop-columns",
        (true, false) => "; remove the others from the file",
    };
    format!("the file has {found}{left}; expected {expected}, which had no header{remedy}")
}

/// Name that the tool writes for a column that has only a number.
pub fn name_of_number(number: &str) -> String {
    format!("column_{number}")
}

/// Returns true if a table has the names that the tool writes for all of these numbers.
fn has_written(columns: &Columns, numbers: &[String]) -> bool {
    numbers.iter().all(|number| matches!(columns.find(&name_of_number(number)), Ok(Some(_))))
}

/// Reads the cells of a table of one column, and the line of each; the first may be a header.
pub fn read_column(
    stream: impl BufRead,
    separator: Option<u8>,
) -> Result<(Vec<String>, Vec<u64>), TableError> {
    let mut records = Records::new(stream, separator)?;
    let (mut cells, mut lines) = (Vec::new(), Vec::new());
    while let Some(row) = records.next()? {
        if row.record.len() != 1 {
            return Err(format!(
                "line {} has {}, separated by '{}'; expected a single column of labels (quote a label that \
                 contains the separator)",
                row.line,
                counted(row.record.len(), "column"),
                char::from(records.separator()).escape_default()
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

    fn message(text: &str) -> String {
        table(text, TableOptions::default()).unwrap_err()
    }

    fn labeled(text: &str, label: &str) -> Result<Table, String> {
        table(text, TableOptions { label: Some(label), ..TableOptions::default() })
    }

    /// Input, and what is read or refused.
    #[test]
    fn reads_or_refuses_each_form_of_a_table() {
        let numbers = |columns: &[&str], numbers: &[f64]| Ok((columns.join("/"), numbers.to_vec()));
        let refused = |reason: &str| Err(reason.to_owned());
        let ab = || numbers(&["a", "b"], &[1.0, 2.0, 3.0, 4.0]);
        let unnamed = || numbers(&["1", "2"], &[1.0, 2.0, 3.0, 4.0]);
        for (text, expected) in [
            // Separators, line ends, and marks at the start.
            ("a,b\n1,2\n3,4\n", ab()),
            ("a;b\r\n1;2\r\n3;4", ab()),
            ("\u{feff}a\tb\n\n1\t 2\n3\t4\n\n", ab()),
            ("\n\na|b\n1|2\n3| 4\n", ab()),
            ("a,b\r1,2\r3,4", ab()),
            ("sep=;\r\na;b\r\n1;2\r\n3;4\r\n", ab()),
            ("\u{feff}SEP=|\na|b\n1|2\n3|4\n", ab()),
            ("sep=\t\n1\t2\n3\t4\n", unnamed()),
            ("\"a\", \"b\"\n\"1\",\"2\"\n3 ,4\n", ab()),
            ("1,2\n3,4\n", unnamed()),
            // Separators and quotes in names.
            ("\"a;b;c\",\"say \"\"d\"\"\"\n1,2\n", numbers(&["a;b;c", "say \"d\""], &[1.0, 2.0])),
            ("T, C;Size 5\"\n20.5;1\n", numbers(&["T, C", "Size 5\""], &[20.5, 1.0])),
            ("\"a\n\nb\",c\n1,2\n", numbers(&["a\n\nb", "c"], &[1.0, 2.0])),
            // Numbers and words for missing values in the header.
            ("0,1,2\n0.5,1,2\n", numbers(&["0", "1", "2"], &[0.5, 1.0, 2.0])),
            (
                "0,1\n0.5,1\n",
                refused(
                    "line 1 has numbers that may be names of columns; use --header yes or --header no",
                ),
            ),
            (
                "Na,nan,NULL,x\n1,2,3,4\n",
                numbers(&["Na", "nan", "NULL", "x"], &[1.0, 2.0, 3.0, 4.0]),
            ),
            ("Na\n1\n", refused("line 1 has only words for missing values; use --header yes")),
            ("id,2019\n1,2\n", refused("line 1 has words and numbers; use --header")),
            // Empty lines, cells and rows.
            (
                "a\n1\n\n2\n",
                refused(
                    "line 3, column 'a': missing value; fill it in, remove the line, or exclude",
                ),
            ),
            ("a\n1\n2\n\n\n", numbers(&["a"], &[1.0, 2.0])),
            ("a,b\n1,2\n,\n", refused("line 3 has separators but no values; remove it")),
            (
                "a,b\n1,2\n3\n",
                refused("line 3 has 1 column; expected 2, as in the first line (separated by ',')"),
            ),
            (
                "a,b\n1,2,\n",
                refused(
                    "line 2 has 3 columns; expected 2, as in the first line (separated by ','); remove the separator at the end",
                ),
            ),
            (
                "a,b,\n0,1,\n",
                refused(
                    "the last column is empty; if each line ends with a comma, exclude it with --drop-columns 3",
                ),
            ),
            (
                "a;b;;\n0;1;;\n",
                refused("the last 2 columns are empty; exclude them with --drop-columns 3,4"),
            ),
            ("a,b,\n0,1,2\n", refused("column 3 has no name in the header")),
            (
                "a,,,b\n0,1,2,3\n",
                refused(
                    "columns 2, 3 have no names in the header; name them, or exclude them with --drop-columns 2,3",
                ),
            ),
            (
                ",a\n0,1\n",
                refused(
                    "column 1 has no name in the header; if it is a pandas index, exclude it with --drop-columns 1,",
                ),
            ),
            (
                ",0,1\n0,0.5,1\n",
                refused(
                    "column 1 has no name in the header; if it is a pandas index, exclude it with --drop-columns 1-1,",
                ),
            ),
            (
                "a,b,a\n0,1,2\n",
                refused(
                    "two columns are called 'a'; rename one, or exclude one with --drop-columns 3",
                ),
            ),
            ("", refused("the table is empty")),
            ("\n\n", refused("the table is empty")),
            ("a,b\n", refused("the table has a header but no rows")),
            // Decimal commas, quotes, and bytes that are not text.
            (
                "1,5;2,5\n1,0;2,25\n",
                refused("line 1, column 1: '1,5' has a decimal comma; replace it with a point"),
            ),
            ("a,b\n1,\"2\n3,4\n", refused("line 2, column 2: a quote is opened and not closed")),
            (
                "a,b\n1,2\n\"5\" pipe\",4\n",
                refused("line 3, column 1: text follows a closing quote"),
            ),
            ("a,b\n1,2\n3,\0\n", refused("line 3 has a NUL byte")),
            ("1 2\n3 4\n", refused("line 1: the columns are separated by spaces")),
            ("sep=:\na:b\n", refused("line 1: the columns are separated by ':'; expected commas")),
        ] {
            let found = table(text, TableOptions::default());
            let found = found.map(|table| (table.columns.join("/"), table.numbers));
            match (&found, &expected) {
                (Err(found), Err(expected)) => {
                    assert!(found.starts_with(&expected[..]), "{text:?}: {found}")
                }
                _ => assert_eq!(found, expected, "{text:?}"),
            }
        }
        // A stream that returns two bytes at a time.
        let slowly = std::io::BufReader::with_capacity(2, &b"alpha;beta\n1;2\n"[..]);
        assert_eq!(read(slowly, &TableOptions::default()).unwrap().columns, ["alpha", "beta"]);
        let latin =
            read(&b"gr\xfc\xdfe,b\n1,2\n"[..], &TableOptions::default()).unwrap_err().to_string();
        assert_eq!(latin, "line 1, column 1: the text is not UTF-8; save the table as UTF-8");
    }

    #[test]
    fn header_option_overrides_the_first_line() {
        let with =
            |text: &str, header| table(text, TableOptions { header, ..TableOptions::default() });
        assert_eq!(with("2019,2020\n1,2\n", HeaderRow::Yes).unwrap().columns, ["2019", "2020"]);
        assert_eq!(with("0,1\n0.5,1\n", HeaderRow::No).unwrap().numbers.len(), 4);
        assert_eq!(
            with("a,2\n", HeaderRow::No).unwrap_err().split(';').next(),
            Some("line 1, column 1: expected a number, found 'a'")
        );
    }

    /// The advice of a message must lead to a table that is read.
    #[test]
    fn following_the_advice_reads_the_table() {
        for (text, dropped) in [
            (",a\n0,1\n", None),
            (",0,1\n0,0.5,1\n", None),
            ("a,b,\n0,1,\n", None),
            ("a,b,,\n0,1,,\n", None),
            ("a,b,a\n0,1,2\n", None),
            ("1,2,1,,\n0,1,2,,\n", None),
            (",a,,b\n0,1,2,3\n", Some("b")),
        ] {
            let mut dropped = dropped.map(str::to_owned);
            let header = HeaderRow::Yes;
            let read = |dropped: &Option<String>| {
                table(
                    text,
                    TableOptions { header, dropped: dropped.as_deref(), ..TableOptions::default() },
                )
            };
            for _ in 0..2 {
                let Err(message) = read(&dropped) else { break };
                let (_, advice) = message.split_once("--drop-columns ").unwrap();
                let end = advice.find(", or").unwrap_or(advice.len());
                dropped = Some(advice[..end].to_owned());
            }
            assert!(read(&dropped).is_ok(), "{text:?}: {:?}", read(&dropped));
        }
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
        assert_eq!(read("x,kind\n1,a\n2,\n").labels.unwrap(), ["a", ""]);
        assert_eq!(read("x,y\n1,2\n").columns, ["x", "y"]);
    }

    #[test]
    fn reads_the_usual_label_without_a_header() {
        let read = |text: &str, names: &[&str], label| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let features = Features::OfModel { names: &names, named: false, width: None };
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
            let features =
                Features::OfModel { names: &names, named: names != ["1", "3"], width: None };
            table(text, TableOptions { features, fixed: true, ..TableOptions::default() })
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
        // The names that the tool writes for numbers.
        let written = of_model("column_3,column_1,class\n3,2,1\n", &["1", "3"]).unwrap();
        assert_eq!(written.numbers, [2.0, 3.0]);
        // Numbers that are names are no places.
        assert_eq!(of_model("2020,2019\n3,2\n", &["2019", "2020"]).unwrap().numbers, [2.0, 3.0]);
        let lacks = of_model("x,y,z\n3,2,1\n", &["0", "1"]).unwrap_err();
        assert_eq!(lacks, "no column '0', which the training data have; the file has x, y, z");
        // A name twice is no error if the model does not use it.
        let twice = of_model("a,b,a\n3,2,1\n", &["a", "b"]).unwrap_err();
        assert_eq!(
            twice,
            "two columns are called 'a' (numbers 1, 3); rename or remove one, or exclude one with --drop-columns"
        );
        assert_eq!(of_model("x,b,x\n3,2,1\n", &["b"]).unwrap().numbers, [2.0]);
        // No option excludes a column of a model.
        let missing = of_model("a,b\n3,\n", &["a", "b"]).unwrap_err();
        assert_eq!(missing, "line 2, column 'b': missing value; fill it in or remove the line");
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
}
