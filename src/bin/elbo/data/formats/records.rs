//! Records of a table and the numbers and labels in their cells.

use super::cells::{Thousands, is_missing, thousands};
use super::columns::Columns;
use super::lines::{Lines, without_break};
use super::separator::{self, EXPECTED};
use super::splitter::{Progress, Splitter};
use crate::text::counted;
use csv::ByteRecord;
use std::fmt;
use std::io::{self, BufRead, Cursor};
use std::ops::Range;

/// Reason why a text cannot be read as a table, in a sentence.
#[derive(Debug, PartialEq)]
pub enum TableError {
    /// The text is malformed, or lacks what a model needs.
    Table(String),
    /// An option names what the table does not have.
    Option(String),
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(message) | Self::Option(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for TableError {}

impl From<String> for TableError {
    fn from(message: String) -> Self {
        Self::Table(message)
    }
}

/// Reader of the records of a table. Empty lines are skipped, except in a table of one column, where they are
/// empty cells unless they end the table.
pub struct Records<R> {
    lines: Lines<R>,
    separator: u8,
    /// True if the first record has one cell.
    single: Option<bool>,
    /// Empty lines of a table of one column, and the record after them.
    empty: Range<u64>,
    after_empty: Option<Row>,
}

/// A record of a table.
#[derive(Debug)]
pub struct Row {
    pub record: ByteRecord,
    /// Line on which the record starts, from 1 on, as an editor counts.
    pub line: u64,
}

/// Lines and bytes in which the separator is detected; wide tables have two lines whatever their size.
const SAMPLE_LINES: usize = 64;
const SAMPLE_BYTES: usize = 1 << 18;

/// A table with its start, in which the separator was looked for.
pub type Sampled<R> = io::Chain<Cursor<Vec<u8>>, R>;

impl<R: BufRead> Records<Sampled<R>> {
    /// Starts to read a table. Its separator is that of a first line such as `sep=;`, else `separator`, else
    /// it is detected in the first lines.
    pub fn new(mut stream: R, separator: Option<u8>) -> Result<Self, TableError> {
        let mut sample = Vec::new();
        let mut lines = Lines::new(&mut stream);
        let mut used = 0;
        while used < 2 || used < SAMPLE_LINES && sample.len() < SAMPLE_BYTES {
            let start = sample.len();
            if !lines.read(&mut sample).map_err(cannot_read)? {
                break;
            }
            used += usize::from(!sample[start..].trim_ascii().is_empty());
        }
        // A byte-order mark.
        if sample.starts_with(b"\xef\xbb\xbf") {
            sample.drain(..3);
        }
        let mut first = Vec::new();
        Lines::new(&sample[..]).read(&mut first).map_err(cannot_read)?;
        let declared = separator::declared(without_break(&first).0).transpose();
        let declared = declared.map_err(|reason| format!("line 1: {reason}"))?;
        let start = if declared.is_some() { first.len() } else { 0 };
        let separator = declared.or(separator);
        let separator = separator.unwrap_or_else(|| separator::detect(&sample[start..]));
        let mut whole = Cursor::new(sample);
        whole.set_position(start as u64);
        let mut records = Self::separated_by(io::Read::chain(whole, stream), separator);
        records.lines.count = u64::from(declared.is_some());
        Ok(records)
    }
}

impl<R: BufRead> Records<R> {
    /// Starts to read a table without a byte-order mark.
    pub fn separated_by(stream: R, separator: u8) -> Self {
        Self { lines: Lines::new(stream), separator, single: None, empty: 0..0, after_empty: None }
    }

    pub fn separator(&self) -> u8 {
        self.separator
    }

    pub fn next(&mut self) -> Result<Option<Row>, TableError> {
        if let Some(line) = self.empty.next() {
            return Ok(Some(Row { record: ByteRecord::from(vec![""]), line }));
        }
        if let Some(row) = self.after_empty.take() {
            return Ok(Some(row));
        }
        let next = self.lines.count + 1;
        let Some(row) = self.read()? else { return Ok(None) };
        let single = *self.single.get_or_insert(row.record.len() == 1);
        if single && row.line > next {
            self.empty = next..row.line;
            self.after_empty = Some(row);
            return self.next();
        }
        Ok(Some(row))
    }

    /// Reads the next record that is not an empty line.
    fn read(&mut self) -> Result<Option<Row>, TableError> {
        let mut line = Vec::new();
        // A line of separators alone has empty cells.
        let is_empty =
            |line: &[u8]| line.iter().all(|&b| b.is_ascii_whitespace() && b != self.separator);
        while is_empty(&line) {
            line.clear();
            if !self.lines.read(&mut line).map_err(cannot_read)? {
                return Ok(None);
            }
        }
        let first = self.lines.count;
        let mut splitter = Splitter::new(self.separator);
        let mut opened = (0, 0);
        loop {
            let count = self.lines.count;
            if line.contains(&0) {
                return Err(format!(
                    "line {count} has a NUL byte; expected text (is the file damaged?)"
                )
                .into());
            }
            let cells = splitter.record.len();
            match splitter.line(&line) {
                Progress::Complete => {
                    return Ok(Some(Row { record: splitter.record, line: first }));
                }
                Progress::InQuotes if cells < splitter.record.len() || count == first => {
                    opened = (count, splitter.record.len() + 1);
                }
                Progress::InQuotes => {}
                Progress::TextAfterQuote => {
                    return Err(format!(
                        "line {count}, column {}: text follows a closing quote; write a quote inside of a \
                         quoted cell twice",
                        splitter.record.len() + 1
                    )
                    .into());
                }
            }
            line.clear();
            if !self.lines.read(&mut line).map_err(cannot_read)? {
                let (line, column) = opened;
                return Err(format!(
                    "line {line}, column {column}: a quote is opened and not closed; close it, or write a \
                     cell that starts with a quote as \"\"\"cell\""
                )
                .into());
            }
        }
    }
}

fn cannot_read(error: io::Error) -> TableError {
    TableError::Table(format!("cannot read: {error}"))
}

impl Row {
    /// The cells as text, without whitespace around them.
    pub fn cells(&self) -> impl Iterator<Item = Result<&str, TableError>> {
        (0..self.record.len()).map(|place| self.cell(place))
    }

    /// Cells of a header line.
    pub fn names(&self) -> Result<Vec<String>, TableError> {
        self.cells().map(|cell| cell.map(str::to_owned)).collect()
    }

    /// A cell as text, without whitespace around it.
    pub fn cell(&self, place: usize) -> Result<&str, TableError> {
        let text = std::str::from_utf8(&self.record[place]);
        text.map(str::trim).map_err(|_| {
            TableError::Table(format!(
                "line {}, column {}: the text is not UTF-8; save the table as UTF-8",
                self.line,
                place + 1
            ))
        })
    }

    /// Location of a cell for messages.
    pub fn at(&self, place: usize, columns: &Columns) -> String {
        if columns.named {
            format!("line {}, column '{}'", self.line, columns.names[place])
        } else {
            format!("line {}, column {}", self.line, place + 1)
        }
    }

    /// A cell as a finite number.
    pub fn number(&self, place: usize, columns: &Columns) -> Result<f64, TableError> {
        let cell = self.cell(place)?;
        if let Ok(number) = cell.parse::<f64>()
            && number.is_finite()
        {
            return Ok(number);
        }
        let at = self.at(place, columns);
        Err(TableError::Table(if is_missing(cell) {
            let shown = if cell.is_empty() { String::new() } else { format!(" ({cell})") };
            let remedy = if columns.fixed {
                "fill it in or remove the line"
            } else {
                "fill it in, remove the line, or exclude the column with --drop-columns"
            };
            format!("{at}: missing value{shown}; {remedy}")
        } else if cell.parse::<f64>().is_ok() {
            format!("{at}: expected a finite number in the range of float64, found {cell}")
        } else if let Some(commas) = thousands(cell) {
            match commas {
                Thousands::Perhaps => format!(
                    "{at}: the comma in '{cell}' is ambiguous; remove it if it separates thousands, or \
                     replace it with a point if it is a decimal comma"
                ),
                Thousands::Surely => {
                    format!("{at}: '{cell}' has thousands separators; remove the commas")
                }
            }
        } else if cell.replace(',', ".").parse::<f64>().is_ok() {
            format!("{at}: '{cell}' has a decimal comma; replace it with a point")
        } else if columns.names.len() == 1 && cell.contains(char::is_whitespace) {
            format!("{at}: expected columns separated by {EXPECTED}, found '{cell}'")
        } else if columns.fixed {
            format!("{at}: expected a number, found '{cell}'")
        } else {
            format!(
                "{at}: expected a number, found '{cell}'; exclude the column with --drop-columns, or use it as \
                 the label with --label-column"
            )
        }))
    }

    /// A cell as a label, which must not be empty.
    pub fn label(&self, place: usize, columns: &Columns) -> Result<String, TableError> {
        match self.cell(place)? {
            "" => Err(TableError::Table(format!("{}: missing label", self.at(place, columns)))),
            cell => Ok(cell.to_owned()),
        }
    }

    /// Checks that the record has as many cells as there are columns, and that not all of several are empty.
    pub fn check_length(&self, columns: &Columns, separator: u8) -> Result<(), TableError> {
        let (found, expected) = (self.record.len(), columns.names.len());
        let line = self.line;
        if found > 1 && self.is_empty() {
            return Err(format!("line {line} has separators but no values; remove it").into());
        }
        if found == expected {
            return Ok(());
        }
        let separator = match separator {
            b'\t' => "tabs".to_owned(),
            other => format!("'{}'", char::from(other)),
        };
        let last = self.record.iter().next_back().unwrap_or_default();
        let remedy = if found == expected + 1 && last.trim_ascii().is_empty() {
            "; remove the separator at the end of the line"
        } else {
            ""
        };
        Err(TableError::Table(format!(
            "line {line} has {}; expected {expected}, as in the first line (separated by {separator}){remedy}",
            counted(found, "column"),
        )))
    }

    /// Returns true if all cells are empty.
    pub fn is_empty(&self) -> bool {
        self.record.iter().all(|cell| cell.trim_ascii().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the records, each as its line and its cells, or the error.
    fn read(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut records = match Records::new(text.as_bytes(), None) {
            Ok(records) => records,
            Err(error) => return vec![error.to_string()],
        };
        loop {
            match records.next() {
                Ok(None) => return found,
                Ok(Some(row)) => {
                    found.push(format!("{}: {}", row.line, row.names().unwrap().join(" / ")));
                }
                Err(error) => {
                    found.push(error.to_string());
                    return found;
                }
            }
        }
    }

    #[test]
    fn reads_records_with_their_lines() {
        let cases: [(&str, &[&str]); 20] = [
            ("", &[]),
            ("\n \n", &[]),
            ("a,b\n1,2", &["1: a / b", "2: 1 / 2"]),
            // Line ends of each kind, and a byte-order mark.
            ("\u{feff}a,b\r\n1,2\r\n", &["1: a / b", "2: 1 / 2"]),
            ("a,b\r1,2\r3,4\r", &["1: a / b", "2: 1 / 2", "3: 3 / 4"]),
            // Empty lines are nothing in a table of several columns.
            ("\n\na,b\n\n1,2\n \n", &["3: a / b", "5: 1 / 2"]),
            ("a\tb\n\t\n1\t2\n", &["1: a / b", "2:  / ", "3: 1 / 2"]),
            // In a table of one column they are empty cells, except at the end.
            ("a\n1\n\n\n2\n", &["1: a", "2: 1", "3: ", "4: ", "5: 2"]),
            ("\na\n", &["1: ", "2: a"]),
            ("a\n1\n\n \n", &["1: a", "2: 1"]),
            ("a\n\"\"\n", &["1: a", "2: "]),
            // Lines that tell spreadsheets the separator.
            ("sep=;\na,x;b\n1,5;2\n", &["2: a,x / b", "3: 1,5 / 2"]),
            ("\u{feff}SEP=|\r\na|b\r\n", &["2: a / b"]),
            ("sep=,\rx,y\r1,2", &["2: x / y", "3: 1 / 2"]),
            ("sep=;\nx\n\n1\n", &["2: x", "3: ", "4: 1"]),
            (
                "sep=:\na:b\n",
                &[
                    "line 1: the columns are separated by ':'; expected commas, semicolons, tabs or bars (|)",
                ],
            ),
            // Line breaks in quotes are counted.
            ("a,b\n\"1\r\n\n2\",3\n4,5\n", &["1: a / b", "2: 1\r\n\n2 / 3", "5: 4 / 5"]),
            // Damaged text.
            (
                "a,b\n1,2\n3,\"4\n5,6\n",
                &[
                    "1: a / b",
                    "2: 1 / 2",
                    "line 3, column 2: a quote is opened and not closed; close it, or write a cell that starts \
                     with a quote as \"\"\"cell\"",
                ],
            ),
            (
                "a,b\n\"5\" pipe\",2\n",
                &[
                    "1: a / b",
                    "line 2, column 1: text follows a closing quote; write a quote inside of a quoted cell twice",
                ],
            ),
            (
                "a,b\n1,\0\n",
                &["1: a / b", "line 2 has a NUL byte; expected text (is the file damaged?)"],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }
}
