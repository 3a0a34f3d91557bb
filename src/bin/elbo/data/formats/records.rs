//! The lines of a table, and what stands in their cells: numbers, labels, or what is told with its place.

use super::columns::Columns;
use super::lines::Lines;
use csv::{ByteRecord, ReaderBuilder};
use std::fmt;
use std::io::Read;

/// Why a text is no such table, in a sentence.
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

/// The lines of a table, with their numbers.
pub struct Records<R> {
    reader: csv::Reader<Lines<R>>,
}

/// A line of a table.
pub struct Row {
    pub record: ByteRecord,
    /// As an editor counts, from 1 on.
    pub line: u64,
}

impl<R: Read> Records<R> {
    pub fn new(stream: R, delimiter: u8) -> Self {
        let mut builder = ReaderBuilder::new();
        builder.has_headers(false).flexible(true).delimiter(delimiter);
        Self { reader: builder.from_reader(Lines::new(stream)) }
    }

    pub fn next(&mut self) -> Result<Option<Row>, TableError> {
        let mut record = ByteRecord::new();
        let more = self.reader.read_byte_record(&mut record);
        if !more.map_err(|error| format!("cannot read: {error}"))? {
            return Ok(None);
        }
        let last = self.reader.get_ref().line(self.reader.position().byte());
        // A cell in quotes may hold line breaks.
        let within = record.as_slice().iter().filter(|&&byte| byte == b'\n').count() as u64;
        Ok(Some(Row { record, line: last.saturating_sub(within).max(1) }))
    }
}

/// Whether a cell says that there is no value.
pub fn is_missing(cell: &str) -> bool {
    let words = ["", "na", "n/a", "nan", "null", "none", "?", "-"];
    words.iter().any(|word| cell.eq_ignore_ascii_case(word))
}

/// What the commas in a number are.
enum Thousands {
    Perhaps,
    Surely,
}

/// Whether three digits follow each comma in a number.
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
    pub fn cells(&self) -> impl Iterator<Item = Result<&str, TableError>> {
        (0..self.record.len()).map(|place| self.cell(place))
    }

    pub fn cell(&self, place: usize) -> Result<&str, TableError> {
        let text = std::str::from_utf8(&self.record[place]);
        text.map(str::trim).map_err(|_| {
            TableError(format!(
                "line {}, column {}: not UTF-8 text; save the table as UTF-8",
                self.line,
                place + 1
            ))
        })
    }

    /// Where a cell is, for messages.
    fn at(&self, place: usize, columns: &Columns) -> String {
        if columns.named {
            format!("line {}, column '{}'", self.line, columns.names[place])
        } else {
            format!("line {}, column {}", self.line, place + 1)
        }
    }

    pub fn number(&self, place: usize, columns: &Columns) -> Result<f32, TableError> {
        let cell = self.cell(place)?;
        if let Ok(number) = cell.parse::<f32>()
            && number.is_finite()
        {
            return Ok(number);
        }
        let at = self.at(place, columns);
        Err(TableError(if is_missing(cell) {
            let shown = if cell.is_empty() { String::new() } else { format!(" ({cell})") };
            format!(
                "{at}: a missing value{shown}; fill it in, remove the line, or leave the column out with \
                 --drop-columns"
            )
        } else if cell.parse::<f64>().is_ok() {
            format!("{at}: {cell}; expected a finite number, within the range of 32 bits")
        } else if let Some(commas) = thousands(cell) {
            match commas {
                Thousands::Perhaps => format!(
                    "{at}: '{cell}' may have a thousands separator (leave the comma out) or a decimal \
                     comma (write a point in its place)"
                ),
                Thousands::Surely => {
                    format!("{at}: '{cell}' has thousands separators; leave the commas out")
                }
            }
        } else if cell.replace(',', ".").parse::<f32>().is_ok() {
            format!("{at}: '{cell}' has a decimal comma; write a point in its place")
        } else if columns.names.len() == 1 && cell.contains(char::is_whitespace) {
            format!(
                "{at}: '{cell}'; expected commas, semicolons, tabs or bars (|) between the columns"
            )
        } else {
            format!(
                "{at}: '{cell}'; expected a number; leave the column out with --drop-columns, or name it \
                 with --label-column if it is the label"
            )
        }))
    }

    pub fn label(&self, place: usize, columns: &Columns) -> Result<String, TableError> {
        match self.cell(place)? {
            "" => Err(TableError(format!("{}: a missing label", self.at(place, columns)))),
            cell => Ok(cell.to_owned()),
        }
    }

    pub fn of_other_length(&self, columns: &Columns, delimiter: u8) -> String {
        let between = match delimiter {
            b'\t' => "tabs".to_owned(),
            other => format!("'{}'", char::from(other)),
        };
        format!(
            "line {}: {} columns; expected {}, as in the first line ({between} between them)",
            self.line,
            self.record.len(),
            columns.names.len()
        )
    }
}
