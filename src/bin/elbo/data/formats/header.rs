//! Decision whether the first line of a table is a header.
//!
//! | first line | decision |
//! |---|---|
//! | words, or words and empty cells | header |
//! | numbers | data |
//! | the names of the columns of a model | header |
//! | any, if an option names a column by a word | header |
//! | numbers that count from 0 as pandas counts columns, above a line that has fractions | header |
//! | words and numbers; numbers that may be names; words for missing values only | error that asks for `--header` |
//!
//! A line that is taken for a header by mistake is a row that is lost, and a header that is taken for data is a row that never
//! was, so both are errors where the line could be either.

use super::cells::{is_missing, is_number};
use super::columns::has_names;
use super::records::{Row, TableError};
use super::separator::EXPECTED;
use super::table_options::{Features, HeaderRow, TableOptions};
use std::collections::HashSet;

const SAY: &str = "use --header yes or --header no to say whether it is a header";

/// Decides whether the line `first` is a header; `second` is the line after it.
pub fn is_header(
    first: &Row,
    second: Option<&Row>,
    options: &TableOptions,
) -> Result<bool, TableError> {
    match options.header {
        HeaderRow::Yes => return Ok(true),
        HeaderRow::No => return Ok(false),
        HeaderRow::Auto => {}
    }
    let line = first.line;
    let cells = first.cells().collect::<Result<Vec<_>, _>>()?;
    let mut parts = cells[0].split_whitespace();
    if cells.len() == 1 && parts.clone().count() > 1 && parts.all(is_number) {
        return Err(format!(
            "line {line}: the columns are separated by spaces; expected {EXPECTED}"
        )
        .into());
    }
    let by_options = match options.features {
        Features::Listed(list) => has_names(list),
        Features::All => false,
        Features::OfModel { names, named, .. } => {
            let cells: HashSet<&str> = cells.iter().copied().collect();
            named && names.iter().all(|name| cells.contains(&name[..]))
        }
    };
    if by_options || [options.dropped, options.label].into_iter().flatten().any(has_names) {
        return Ok(true);
    }
    let label = options.label.or(options.usual_label);
    let label = label.and_then(|label| label.trim().parse::<usize>().ok());
    let places = (0..cells.len()).filter(|place| Some(place + 1) != label);
    let cells: Vec<&str> = places.clone().map(|place| cells[place]).collect();
    let next: Vec<&str> = match second {
        Some(row) if row.record.len() == first.record.len() => {
            places.map(|place| row.cell(place)).collect::<Result<_, _>>()?
        }
        _ => Vec::new(),
    };
    let numbers = cells.iter().filter(|cell| is_number(cell)).count();
    let is_word = |cell: &str| !is_missing(cell) && cell.parse::<f64>().is_err();
    let words = cells.iter().filter(|cell| !is_number(cell) && is_word(cell)).count();
    match (words, numbers) {
        (0, 0) if cells.iter().all(|cell| cell.is_empty()) => Ok(false),
        (0, 0) => Err(format!("line {line} has only words for missing values; {SAY}").into()),
        (0, _) => match options.features {
            Features::OfModel { named: false, .. } => Ok(false),
            _ => of_numbers(&cells, &next).ok_or_else(|| {
                format!("line {line} has numbers that may be names of columns; {SAY}").into()
            }),
        },
        (_, 0) => Ok(true),
        _ => Err(format!(
            "line {line} has words and numbers; {SAY} (and --label-column for a column of labels)"
        )
        .into()),
    }
}

/// Decides whether a line of numbers is a header; `None` if it may be one.
fn of_numbers(cells: &[&str], next: &[&str]) -> Option<bool> {
    let whole = |cells: &[&str]| {
        cells.iter().map(|cell| cell.parse::<i64>().ok()).collect::<Option<Vec<_>>>()
    };
    let counts = |numbers: &[i64]| numbers.iter().enumerate().all(|(i, &x)| x == i as i64);
    let fractions = |cells: &[&str]| !cells.is_empty() && whole(cells).is_none();
    // The index of a data frame has no name.
    if let ["", cells @ ..] = cells {
        let indexed = next.first().is_some_and(|cell| !cell.is_empty());
        let counts = cells.len() > 1 && whole(cells).is_some_and(|numbers| counts(&numbers));
        return (indexed && counts).then_some(true);
    }
    let Some(numbers) = whole(cells) else { return Some(false) };
    if counts(&numbers) {
        return (numbers.len() > 2 && fractions(next)).then_some(true);
    }
    // Years and wavelengths, for example.
    let step = numbers.get(1).map(|second| second.wrapping_sub(numbers[0]));
    let even = numbers.windows(2).all(|pair| Some(pair[1].wrapping_sub(pair[0])) == step);
    let may_be_names = numbers.len() > 2 && even && step != Some(0) && fractions(next);
    // Years above other numbers, even whole ones.
    let is_year = |x: f64| (1900.0..=2100.0).contains(&x);
    let year_below = next.iter().any(|cell| cell.parse().is_ok_and(is_year));
    let years = even && step.is_some_and(|step| step != 0) && !next.is_empty() && !year_below;
    let may_be_names = may_be_names || years && numbers.iter().all(|&year| is_year(year as f64));
    (!may_be_names).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::super::records::Records;
    use super::*;

    fn decide(text: &str, options: &TableOptions) -> Result<bool, String> {
        let mut records = Records::new(text.as_bytes(), None).unwrap();
        let (first, second) = (records.next().unwrap().unwrap(), records.next().unwrap());
        is_header(&first, second.as_ref(), options).map_err(|error| error.to_string())
    }

    #[test]
    fn decides_by_the_first_two_lines() {
        let (header, data, asks) = (Some(true), Some(false), None);
        for (text, expected) in [
            ("a,b\n1,2\n", header),
            ("Na,Mg\n1,2\n", header),
            ("Na,nan,x\n1,2,3\n", header),
            ("a,\n1,2\n", header),
            (",a\n0,1\n", header),
            ("1,2\n3,4\n", data),
            ("1,2,3\n4,5,6\n", data),
            ("0.5,1,2\n0.5,1,2\n", data),
            ("?,2,3\n4,5,6\n", data),
            ("1,5;2,5\n1,0;2,5\n", data),
            ("7,7,7\n0.5,1,2\n", data),
            // A data frame of pandas without its index, and with it.
            ("0,1,2,3\n0.1,0.2,0.3,0.4\n", header),
            (",0,1\n0,0.5,0.25\n", header),
            // Numbers that may be names, of pandas, of years or of wavelengths.
            ("0,1,2,3\n5,1,0,3\n", asks),
            ("0,1\n0.5,1\n", asks),
            ("2019,2020\n5,6\n", asks),
            ("2019,2020\n2021,2022\n", data),
            ("2019,2019\n5,6\n", data),
            ("2019\n5\n", data),
            ("0\n0.5\n", asks),
            (",0\n0,0.5\n", asks),
            (",2019,2020\n0,0.5,1\n", asks),
            ("2019,2020,2021\n0.5,1,2\n", asks),
            ("1,2,3\n0.1,0.2,0.3\n", asks),
            ("1100,1102,1104\n0.1,0.2,0.3\n", asks),
            // Words and numbers, and words for missing values.
            ("id,2019\n1,2\n", asks),
            ("1,setosa\n2,virginica\n", asks),
            ("Na\n1\n", asks),
            ("nan,inf\n1,2\n", asks),
        ] {
            let found = decide(text, &TableOptions::default());
            assert_eq!(found.as_ref().ok().copied(), expected, "{text:?}: {found:?}");
            if let Err(message) = found {
                assert!(
                    message.starts_with("line 1 has ")
                        && message.contains("use --header yes or --header no")
                );
            }
            for (header, expected) in [(HeaderRow::Yes, true), (HeaderRow::No, false)] {
                let told = TableOptions { header, ..TableOptions::default() };
                assert_eq!(decide(text, &told), Ok(expected), "{text:?}");
            }
        }
        let spaces = decide("1 2\n3 4\n", &TableOptions::default()).unwrap_err();
        assert!(spaces.starts_with("line 1: the columns are separated by spaces"), "{spaces}");
    }

    #[test]
    fn names_of_options_and_models_are_a_header() {
        let text = "id,2019\n1,2\n";
        let with = |options| decide(text, &options).is_ok_and(|is| is);
        assert!(with(TableOptions { label: Some("id"), ..TableOptions::default() }));
        assert!(with(TableOptions { dropped: Some("id"), ..TableOptions::default() }));
        let features = Features::Listed("2019,id");
        assert!(with(TableOptions { features, ..TableOptions::default() }));
        assert!(!with(TableOptions { dropped: Some("1"), ..TableOptions::default() }));

        let of = |text: &str, names: &[&str], named| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let features = Features::OfModel { names: &names, named, width: None };
            decide(text, &TableOptions { features, ..TableOptions::default() })
        };
        assert_eq!(of("2019,id,x\n1,2,3\n", &["id", "2019"], true), Ok(true));
        assert_eq!(of("2020,2019\n1,2\n", &["2019", "2020"], true), Ok(true));
        assert_eq!(of("0,1\n1,2\n", &["0", "1"], true), Ok(true));
        assert_eq!(of("1,2\n1,2\n", &["2019", "2020"], true), Ok(false));
        // The model was trained without a header: its names are the numbers of the columns.
        assert_eq!(of("1,2,3\n0.5,1,2\n", &["1", "2", "3"], false), Ok(false));
        assert_eq!(of("0,1,2\n0.5,1,2\n", &["1", "2", "3"], false), Ok(false));
    }
}
