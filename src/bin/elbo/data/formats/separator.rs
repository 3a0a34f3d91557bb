//! Separator between the columns of a table.

use super::cells::is_number;
use super::lines::Lines;
use super::splitter::{Progress, Splitter};
use csv::ByteRecord;
use std::collections::HashMap;

/// Separators that tables may have. Of several that fit equally well, the first is taken; the comma is the last, because it also
/// stands in numbers and in texts.
const SEPARATORS: [u8; 4] = [b';', b'\t', b'|', b','];

/// Separators in words, for messages.
pub const EXPECTED: &str = "commas, semicolons, tabs or bars (|)";

/// Returns the separator of a file whose name says it.
pub fn of_name(name: &str) -> Option<u8> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    [".tsv", ".tab"].iter().any(|end| name.ends_with(end)).then_some(b'\t')
}

/// Reads a line such as `sep=;`, with which a file tells spreadsheets its separator. `None` for any other line.
pub fn declared(line: &[u8]) -> Option<Result<u8, String>> {
    let (start, separator) = line.split_at_checked(4)?;
    if !start.eq_ignore_ascii_case(b"sep=") {
        return None;
    }
    match *separator {
        [separator] if SEPARATORS.contains(&separator) => Some(Ok(separator)),
        [_] => {
            let separator = String::from_utf8_lossy(separator);
            Some(Err(format!("the columns are separated by '{separator}'; expected {EXPECTED}")))
        }
        _ => None,
    }
}

/// Chooses the separator for the first lines of a table.
///
/// 1. The one with which the most records have the same number of columns, at least two.
/// 2. Among these, the one with which the most cells below the first line are numbers: `1,5;2,5` has two
///    numbers with a decimal comma, not three columns.
/// 3. Among these, the one with the most columns.
///
/// A comma if none of them separates anything.
pub fn detect(sample: &[u8]) -> u8 {
    let mut best = (b',', (0, 0, 0));
    for separator in SEPARATORS {
        let fit = fit(sample, separator);
        if fit.0 > 0 && fit > best.1 {
            best = (separator, fit);
        }
    }
    best.0
}

/// Number of records of the most frequent width, share of numbers in thousandths, and that width.
fn fit(sample: &[u8], separator: u8) -> (usize, usize, usize) {
    let records = records(sample, separator);
    let mut widths: HashMap<usize, usize> = HashMap::new();
    for record in records.iter().filter(|record| record.len() > 1) {
        *widths.entry(record.len()).or_default() += 1;
    }
    let most = widths.into_iter().map(|(width, count)| (count, width)).max();
    let Some((count, width)) = most else { return (0, 0, 0) };
    let below = records.iter().skip(1).filter(|record| record.len() == width);
    let (mut cells, mut numbers) = (0, 0);
    for cell in below.flatten() {
        cells += 1;
        numbers += usize::from(std::str::from_utf8(cell).is_ok_and(|cell| is_number(cell.trim())));
    }
    (count, (1000 * numbers).checked_div(cells).unwrap_or(0), width)
}

/// Splits the sample up to the first error; it may end within a record.
fn records(sample: &[u8], separator: u8) -> Vec<ByteRecord> {
    let (mut lines, mut records) = (Lines::new(sample), Vec::new());
    let (mut line, mut splitter) = (Vec::new(), Splitter::new(separator));
    while lines.read(&mut line).is_ok_and(|found| found) {
        let between = !splitter.is_quoted();
        if !(between && line.trim_ascii().is_empty()) {
            match splitter.line(&line) {
                Progress::Complete => {
                    records.push(std::mem::replace(&mut splitter, Splitter::new(separator)).record);
                }
                Progress::InQuotes => {}
                Progress::TextAfterQuote => break,
            }
        }
        line.clear();
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_the_separator_in_the_first_lines() {
        for (text, separator) in [
            ("a", ','),
            ("a,b\n1,2\n", ','),
            ("a,b;c,d", ','),
            ("\"a,b,c\"; d", ';'),
            ("a b\tc\td,e", '\t'),
            // Commas in names, and a quote that is none.
            ("Temp, C;Press, bar;Flow, l/min\n20.5;1.2;3.0\n21.0;1.1;2.5\n", ';'),
            ("Temp, C|Press, bar\n20.5|1.2\n", '|'),
            ("Temp, C\tPress, bar\n20.5\t1.2\n", '\t'),
            ("Size 5\";x;y\n20.5;1.2;3.0\n", ';'),
            // Decimal commas, without a header and with one.
            ("1,5;2,5;3,5\n1,0;2,25;3,75\n", ';'),
            ("a;b\n1,5;2,5\n1,0;2,25\n", ';'),
            ("2020-01-01 10:00;1,5\n2020-01-02 10:00;2,5\n", ';'),
            // Words with other separators in them.
            ("x,y,kind\n1,2,a;b\n3,4,c;d\n", ','),
            ("1,2,a|b\n3,4,c|d\n", ','),
            ("x,\"note; long\"\n1,\"a; b\"\n", ','),
            ("x;note\n1;\"a, b, c\nd\"\n2;e\n", ';'),
            // A ragged line, and a quote that is not closed, are left to the reader.
            ("a;b\n1;2\n3\n4;5\n", ';'),
            ("a;b\n1;2\n3;\"4\n5;6\n", ';'),
        ] {
            assert_eq!(char::from(detect(text.as_bytes())), separator, "{text:?}");
        }
    }

    #[test]
    fn reads_the_separator_that_a_line_or_a_name_tells() {
        for (line, expected) in
            [("sep=;", b';'), ("SEP=,", b','), ("Sep=|", b'|'), ("sep=\t", b'\t')]
        {
            assert_eq!(declared(line.as_bytes()), Some(Ok(expected)));
        }
        for line in ["sep=", "sep=;;", "sep", "a,b", "séparé=;"] {
            assert_eq!(declared(line.as_bytes()), None, "{line}");
        }
        let other = declared(b"sep=:").unwrap().unwrap_err();
        assert_eq!(
            other,
            "the columns are separated by ':'; expected commas, semicolons, tabs or bars (|)"
        );
        assert_eq!(
            [of_name("A.TSV"), of_name("a.tab.gz"), of_name("a.csv")],
            [Some(b'\t'), Some(b'\t'), None]
        );
    }
}
