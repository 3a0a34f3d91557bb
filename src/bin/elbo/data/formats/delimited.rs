//! Small tables that other commands wrote, perhaps saved again by a spreadsheet.

use std::fs;
use std::io;
use std::path::Path;

/// A table's text, read whole.
pub struct Delimited(Vec<u8>);

impl Delimited {
    pub fn read(path: &Path) -> io::Result<Self> {
        fs::read(path).map(Self)
    }

    /// The table: a header, then rows with commas, semicolons or tabs between their cells.
    pub fn records(&self) -> csv::Reader<&[u8]> {
        csv::ReaderBuilder::new()
            .delimiter(self.delimiter())
            .trim(csv::Trim::All)
            .from_reader(&self.0[..])
    }

    /// What most often stands outside of quotes in the header; of equals, the comma.
    fn delimiter(&self) -> u8 {
        let header = self.0.split(|&byte| byte == b'\n').find(|line| !line.trim_ascii().is_empty());
        let count = |delimiter: u8| {
            let mut quoted = false;
            let outside = |&&byte: &&u8| {
                quoted ^= byte == b'"';
                byte == delimiter && !quoted
            };
            header.unwrap_or_default().iter().filter(outside).count()
        };
        let mut most = b',';
        for other in [b';', b'\t'] {
            if count(other) > count(most) {
                most = other;
            }
        }
        most
    }

    /// The line, from 1 on, where the record at a position begins.
    ///
    /// The position's own line is off by one after `\r\n` and by more after empty lines; its byte is before
    /// them.
    pub fn line(&self, at: Option<&csv::Position>) -> usize {
        let end = at.map_or(0, |at| at.byte() as usize).min(self.0.len());
        let (before, after) = self.0.split_at(end);
        let empty = after.iter().take_while(|&&byte| byte == b'\n' || byte == b'\r');
        1 + before.iter().chain(empty).filter(|&&byte| byte == b'\n').count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_an_editor() {
        for text in ["a,b\n1,2\n\n\n3,4\n5,6\n", "a,b\r\n1,2\r\n\r\n\r\n3,4\r\n5,6"] {
            let table = Delimited(text.into());
            let mut reader = table.records();
            let lines = reader.records().map(|row| table.line(row.unwrap().position()));
            assert_eq!(lines.collect::<Vec<_>>(), [2, 5, 6], "{text:?}");
        }
    }

    #[test]
    fn semicolons_and_tabs_are_told_from_commas() {
        for (text, delimiter) in [
            ("a", b','),
            ("a,b;c,d", b','),
            ("\n\"a,b,c\";d", b';'),
            ("a b\tc\td,e", b'\t'),
            ("", b','),
        ] {
            assert_eq!(Delimited(text.into()).delimiter(), delimiter, "{text:?}");
        }
    }
}
