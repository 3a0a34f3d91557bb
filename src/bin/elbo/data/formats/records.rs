//! Records of a table and the numbers and labels in their cells.

use super::columns::Columns;
use super::lines::LineCounter;
use crate::text::counted;
use csv::{ByteRecord, ReaderBuilder};
use std::fmt;
use std::io::{self, BufRead, Cursor};

/// Reason why a text cannot be read as a table, in a sentence.
#[derive(Debug)]
pub struct TableError(pub String);

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TableError {}

impl From<String> for TableError {
    fn from(message: String) -> Self {
        Self(message)
    }
}

/// Reader of the records of a table.
pub struct Records<R> {
    reader: csv::Reader<LineCounter<io::Chain<Cursor<Vec<u8>>, R>>>,
    delimiter: u8,
}

/// A record of a table.
pub struct Row {
    pub record: ByteRecord,
    /// Line on which the record starts, from 1 on, as an editor counts.
    pub line: u64,
}

impl<R: BufRead> Records<R> {
    /// Starts to read a table; without a `delimiter`, it is detected in the first line that is not empty.
    pub fn new(mut stream: R, delimiter: Option<u8>) -> Result<Self, TableError> {
        let mut start = Vec::new();
        while start.trim_ascii().is_empty()
            && stream.read_until(b'\n', &mut start).map_err(|error| error.to_string())? > 0
        {
        }
        let delimiter = delimiter.unwrap_or_else(|| detect_delimiter(&start));
        let mut builder = ReaderBuilder::new();
        builder.has_headers(false).flexible(true).delimiter(delimiter);
        let stream = LineCounter::new(io::Read::chain(Cursor::new(start), stream));
        Ok(Self { reader: builder.from_reader(stream), delimiter })
    }

    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }

    pub fn next(&mut self) -> Result<Option<Row>, TableError> {
        let mut record = ByteRecord::new();
        let more = self.reader.read_byte_record(&mut record);
        if !more.map_err(|error| format!("cannot read: {error}"))? {
            return Ok(None);
        }
        let last = self.reader.get_ref().line(self.reader.position().byte());
        // A quoted cell may contain line breaks.
        let within = record.as_slice().iter().filter(|&&byte| byte == b'\n').count() as u64;
        Ok(Some(Row { record, line: last.saturating_sub(within).max(1) }))
    }
}

/// Returns the delimiter that occurs most often outside of quotes; in a tie, the first of `,` `;` tab `|`.
fn detect_delimiter(line: &[u8]) -> u8 {
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0), (b'|', 0)];
    let mut quoted = false;
    for &byte in line {
        quoted ^= byte == b'"';
        for (delimiter, count) in &mut counts {
            *count += usize::from(!quoted && byte == *delimiter);
        }
    }
    // `max_by_key` returns the last of several equal elements.
    counts.iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(delimiter, _)| *delimiter)
}

/// Returns true if a cell is empty or a word for a missing value.
pub fn is_missing(cell: &str) -> bool {
    let words = ["", "na", "n/a", "nan", "null", "none", "?", "-"];
    words.iter().any(|word| cell.eq_ignore_ascii_case(word))
}

/// Certainty that the commas in a number separate thousands.
enum Thousands {
    Perhaps,
    Surely,
}

/// Recognizes a number in which three digits follow each comma.
fn thousands(cell: &str) -> Option<Thousands> {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = cell.split_once('.').map_or((cell, None), |(w, f)| (w, Some(f)));
    let mut groups = whole.strip_prefix(['+', '-']).unwrap_or(whole).split(',');
    let first = groups.next()?;
    let groups: Vec<&str> = groups.collect();
    let grouped = (1..=3).contains(&first.len())
        && !first.starts_with('0')
        && !groups.is_empty()
        && groups.iter().all(|group| group.len() == 3 && digits(group))
        && digits(first)
        && fraction.is_none_or(digits);
    let surely = groups.len() > 1 || fraction.is_some();
    grouped.then_some(if surely { Thousands::Surely } else { Thousands::Perhaps })
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
            TableError(format!(
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
        Err(TableError(if is_missing(cell) {
            let shown = if cell.is_empty() { String::new() } else { format!(" ({cell})") };
            format!(
                "{at}: missing value{shown}; fill it in, remove the line, or exclude the column with \
                 --drop-columns"
            )
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
            format!(
                "{at}: expected columns separated by commas, semicolons, tabs or bars (|), found '{cell}'"
            )
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
            "" => Err(TableError(format!("{}: missing label", self.at(place, columns)))),
            cell => Ok(cell.to_owned()),
        }
    }

    /// Checks that the record has as many cells as there are columns.
    pub fn check_length(&self, columns: &Columns, delimiter: u8) -> Result<(), TableError> {
        if self.record.len() == columns.names.len() {
            return Ok(());
        }
        let delimiter = match delimiter {
            b'\t' => "tabs".to_owned(),
            other => format!("'{}'", char::from(other)),
        };
        Err(TableError(format!(
            "line {} has {}; expected {}, as in the first line (separated by {delimiter})",
            self.line,
            counted(self.record.len(), "column"),
            columns.names.len()
        )))
    }
}
