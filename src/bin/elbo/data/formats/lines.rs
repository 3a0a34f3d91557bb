//! Lines of a text, counted as an editor counts them.

use std::io::{self, BufRead, ErrorKind};

/// Reader of lines that end with `\n`, `\r\n` or a lone `\r`.
pub struct Lines<R> {
    stream: R,
    /// Number of lines that have been read, which is the number of the last one from 1 on.
    pub count: u64,
}

impl<R: BufRead> Lines<R> {
    pub fn new(stream: R) -> Self {
        Self { stream, count: 0 }
    }

    /// Appends the next line with its line break to `text`; returns false at the end of the stream.
    pub fn read(&mut self, text: &mut Vec<u8>) -> io::Result<bool> {
        let start = text.len();
        loop {
            let buffer = match self.stream.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                buffer => buffer?,
            };
            if buffer.is_empty() {
                let found = text.len() > start;
                self.count += u64::from(found);
                return Ok(found);
            }
            let Some(end) = buffer.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                text.extend_from_slice(buffer);
                let read = buffer.len();
                self.stream.consume(read);
                continue;
            };
            let carriage_return = buffer[end] == b'\r';
            text.extend_from_slice(&buffer[..=end]);
            self.stream.consume(end + 1);
            if carriage_return && self.stream.fill_buf()?.first() == Some(&b'\n') {
                text.push(b'\n');
                self.stream.consume(1);
            }
            self.count += 1;
            return Ok(true);
        }
    }
}

/// Splits a line into its text and its line break.
pub fn without_break(line: &[u8]) -> (&[u8], &[u8]) {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    line.split_at(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    #[test]
    fn ends_lines_at_each_kind_of_line_break() {
        let cases: [(&str, &[&str]); 6] = [
            ("", &[]),
            ("a", &["a"]),
            ("a\nb\n", &["a\n", "b\n"]),
            ("a\r\nb\r\n\r\nc", &["a\r\n", "b\r\n", "\r\n", "c"]),
            ("a\rb\r\rc\r", &["a\r", "b\r", "\r", "c\r"]),
            ("a\n\rb\r\r\n", &["a\n", "\r", "b\r", "\r\n"]),
        ];
        for (text, expected) in cases {
            for capacity in 1..4 {
                let mut lines = Lines::new(BufReader::with_capacity(capacity, text.as_bytes()));
                let mut found = Vec::new();
                let mut line = Vec::new();
                while lines.read(&mut line).unwrap() {
                    found.push(String::from_utf8(std::mem::take(&mut line)).unwrap());
                }
                assert_eq!(found, expected, "{text:?}");
                assert_eq!(lines.count, expected.len() as u64);
            }
        }
        assert_eq!(without_break(b"a,b\r\n"), (&b"a,b"[..], &b"\r\n"[..]));
        assert_eq!(without_break(b"a,b\r"), (&b"a,b"[..], &b"\r"[..]));
        assert_eq!(without_break(b"a,b"), (&b"a,b"[..], &b""[..]));
    }
}
