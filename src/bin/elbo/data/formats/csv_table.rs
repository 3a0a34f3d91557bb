//! Small tables with a header, such as those that other commands write.

use super::cells::missing_among_numbers;
use super::columns::Columns;
use super::file;
use super::records::{Records, Row, TableError};
use super::separator;
use crate::failure::{Failure, Result};
use csv::ByteRecord;
use serde::de::DeserializeOwned;
use std::io::BufRead;
use std::path::Path;

/// A table that is read whole, perhaps after a spreadsheet has saved it again.
pub struct CsvTable {
    header: ByteRecord,
    pub columns: Columns,
    pub rows: Vec<Row>,
}

impl CsvTable {
    /// Reads a file, or standard input for `-`; `expected` describes the table for messages.
    pub fn read(path: &Path, expected: &str) -> Result<Self> {
        let (name, stream) = file::open_or_stdin(path)?;
        let stream = file::text(&name, stream, &format!("expected {expected}"))?;
        let table = Self::parse(stream, separator::of_name(&name));
        table.map_err(|error| Failure::Run(format!("{name}: {error}; expected {expected}")))
    }

    fn parse(stream: impl BufRead, separator: Option<u8>) -> std::result::Result<Self, TableError> {
        let mut records = Records::new(stream, separator)?;
        let Some(mut header) = records.next()? else {
            return Err("the table is empty".to_owned().into());
        };
        let columns = Columns::new(header.names()?, true, false);
        header.record.trim();
        let mut rows = Vec::new();
        while let Some(mut row) = records.next()? {
            row.check_length(&columns, records.separator())?;
            row.record.trim();
            rows.push(row);
        }
        Ok(Self { header: header.record, columns, rows })
    }

    /// Deserializes each row by the names in the header.
    pub fn deserialize<T: DeserializeOwned>(&self) -> std::result::Result<Vec<T>, TableError> {
        let deserialize = |row: &Row| {
            row.record.deserialize(Some(&self.header)).map_err(|error| {
                let reason = match error.kind() {
                    csv::ErrorKind::Deserialize { err, .. } => err.kind().to_string(),
                    _ => error.to_string(),
                };
                TableError::Table(format!("line {}: {reason}", row.line))
            })
        };
        self.rows.iter().map(deserialize).collect()
    }

    /// Reads a column of labels, none of which may be missing.
    pub fn labels(&self, place: usize) -> std::result::Result<Vec<String>, TableError> {
        let labels = self.rows.iter().map(|row| row.label(place, &self.columns));
        let labels = labels.collect::<std::result::Result<Vec<_>, _>>()?;
        match missing_among_numbers(&labels) {
            None => Ok(labels),
            Some(row) => Err(TableError::Table(format!(
                "{}: missing label ({})",
                self.rows[row].at(place, &self.columns),
                labels[row]
            ))),
        }
    }

    /// Reads a column as numbers, which may be infinite but not NaN.
    pub fn numbers(&self, place: usize) -> std::result::Result<Vec<f64>, TableError> {
        let number = |row: &Row| {
            let cell = row.cell(place)?;
            cell.parse().ok().filter(|number: &f64| !number.is_nan()).ok_or_else(|| {
                TableError::Table(format!(
                    "{}: expected a number, found '{cell}'",
                    row.at(place, &self.columns)
                ))
            })
        };
        self.rows.iter().map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> CsvTable {
        CsvTable::parse(text.as_bytes(), None).unwrap()
    }

    #[test]
    fn counts_lines_as_editors_do() {
        for text in ["a,b\n1,2\n\n\n3,4\n5,6\n", "a,b\r\n1,2\r\n\r\n\r\n3,4\r\n5,6"] {
            let lines: Vec<u64> = parse(text).rows.iter().map(|row| row.line).collect();
            assert_eq!(lines, [2, 5, 6], "{text:?}");
        }
    }

    #[test]
    fn detects_the_delimiter_in_the_header() {
        for (text, names) in [
            ("a", &["a"][..]),
            ("a,b;c,d", &["a", "b;c", "d"]),
            ("\n\"a,b,c\"; d", &["a,b,c", "d"]),
            ("a b\tc\td,e", &["a b", "c", "d,e"]),
        ] {
            assert_eq!(parse(text).columns.names, names, "{text:?}");
        }
        assert!(CsvTable::parse(&b""[..], None).is_err());
    }

    #[test]
    fn reads_columns_as_labels_and_numbers() {
        let table = parse("a; b\n x ; -inf\ny;2.5\n");
        assert_eq!(table.labels(0).unwrap(), ["x", "y"]);
        assert_eq!(table.numbers(1).unwrap(), [f64::NEG_INFINITY, 2.5]);
        let message = table.numbers(0).unwrap_err().to_string();
        assert_eq!(message, "line 2, column 'a': expected a number, found 'x'");
        let short = CsvTable::parse(&b"a,b\n1\n"[..], None).err().unwrap().to_string();
        assert_eq!(
            short,
            "line 2 has 1 column; expected 2, as in the first line (separated by ',')"
        );
    }
}
