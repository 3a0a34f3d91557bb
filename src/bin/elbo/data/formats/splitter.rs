//! Splitting of lines into the cells of a record.
//!
//! ```text
//! a;"x;y";2      a quoted cell may contain separators and line breaks, and "" for a quote
//! 5" pipe;3      a quote inside of an unquoted cell is an ordinary character
//! "5" pipe";3    an error: text follows the closing quote
//! ```
//! The splitter is our own because the `csv` crate skips empty lines, takes an unclosed quote for a cell that
//! extends to the end of the file, and accepts text after a closing quote; a row would be lost or merged
//! with another without an error.

use super::lines::without_break;
use csv::ByteRecord;

/// Cells of the record that is being read.
pub struct Splitter {
    separator: u8,
    pub record: ByteRecord,
    /// Contents of the quoted cell that is being read.
    cell: Vec<u8>,
    quoted: bool,
}

/// State after a line.
#[derive(Debug, PartialEq)]
pub enum Progress {
    /// The record is complete.
    Complete,
    /// A quoted cell goes on in the next line.
    InQuotes,
    /// Text follows the quote that closes the cell after the last of `record`.
    TextAfterQuote,
}

impl Splitter {
    pub fn new(separator: u8) -> Self {
        Self { separator, record: ByteRecord::new(), cell: Vec::new(), quoted: false }
    }

    /// Returns true within a quoted cell.
    pub fn is_quoted(&self) -> bool {
        self.quoted
    }

    /// Splits the next line.
    pub fn line(&mut self, line: &[u8]) -> Progress {
        let (mut rest, line_break) = without_break(line);
        if !self.quoted && !rest.contains(&b'"') {
            rest.split(|&byte| byte == self.separator).for_each(|c| self.record.push_field(c));
            return Progress::Complete;
        }
        loop {
            if !self.quoted {
                let end = self.end_of_cell(rest);
                let Some(quote) = opening_quote(&rest[..end]) else {
                    self.record.push_field(&rest[..end]);
                    if end == rest.len() {
                        return Progress::Complete;
                    }
                    rest = &rest[end + 1..];
                    continue;
                };
                rest = &rest[quote + 1..];
                self.quoted = true;
            }
            let Some(after) = self.quoted_text(rest) else {
                self.cell.extend_from_slice(line_break);
                return Progress::InQuotes;
            };
            let end = self.end_of_cell(after);
            if !after[..end].trim_ascii().is_empty() {
                return Progress::TextAfterQuote;
            }
            self.record.push_field(&self.cell);
            self.cell.clear();
            self.quoted = false;
            if end == after.len() {
                return Progress::Complete;
            }
            rest = &after[end + 1..];
        }
    }

    /// Takes the text of a quoted cell, and returns what follows the closing quote; `None` if there is none.
    fn quoted_text<'a>(&mut self, mut rest: &'a [u8]) -> Option<&'a [u8]> {
        loop {
            let Some(end) = rest.iter().position(|&byte| byte == b'"') else {
                self.cell.extend_from_slice(rest);
                return None;
            };
            self.cell.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.strip_prefix(b"\"") {
                Some(after) => rest = after,
                None => return Some(rest),
            }
            self.cell.push(b'"');
        }
    }

    fn end_of_cell(&self, text: &[u8]) -> usize {
        text.iter().position(|&byte| byte == self.separator).unwrap_or(text.len())
    }
}

/// Finds the quote that a cell starts with, perhaps after whitespace.
fn opening_quote(cell: &[u8]) -> Option<usize> {
    let start = cell.trim_ascii_start();
    start.starts_with(b"\"").then(|| cell.len() - start.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits lines at commas, and joins the cells by ` / `.
    fn split(lines: &[&str]) -> (String, Progress) {
        let mut splitter = Splitter::new(b',');
        let mut progress = Progress::Complete;
        lines.iter().for_each(|line| progress = splitter.line(line.as_bytes()));
        let cells: Vec<_> = splitter.record.iter().map(String::from_utf8_lossy).collect();
        (cells.join(" / "), progress)
    }

    #[test]
    fn splits_each_form_of_a_cell() {
        use Progress::{Complete, InQuotes, TextAfterQuote};
        let cases: [(&[&str], &str, Progress); 16] = [
            (&["a,b\n"], "a / b", Complete),
            (&["a,,\r\n"], "a /  / ", Complete),
            (&["\"a,b\",c"], "a,b / c", Complete),
            (&["\"\",\"say \"\"c\"\"\"\r"], " / say \"c\"", Complete),
            (&["5\" pipe,6\""], "5\" pipe / 6\"", Complete),
            (&["a, \"b, c\" ,d"], "a / b, c / d", Complete),
            (&["\"\"\"\",b"], "\" / b", Complete),
            (&["\"a\r\n", "b\",c\r\n"], "a\r\nb / c", Complete),
            (&["x,\"a\n", "\n", "b\"\n"], "x / a\n\nb", Complete),
            (&["x,\"a\n", "b\n"], "x", InQuotes),
            (&["\"a\"\"\n"], "", InQuotes),
            (&["\"5\" pipe\",b"], "", TextAfterQuote),
            (&["x,\"a\"b,c"], "x", TextAfterQuote),
            (&["\"a\n", "b,\"c\"\n"], "", TextAfterQuote),
            (&["\"a\",\n"], "a / ", Complete),
            (&["\""], "", InQuotes),
        ];
        for (lines, cells, progress) in cases {
            assert_eq!(split(lines), (cells.to_owned(), progress), "{lines:?}");
        }
    }
}
