//! Opening a file, gzipped or not.

use crate::failure::{Failure, Result};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// A file to read; `expected` is what a message says it should have been.
pub fn open(path: &Path, expected: &str) -> Result<File> {
    let open = || -> io::Result<_> {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::Error::other("is a folder"));
        }
        Ok(file)
    };
    open().map_err(|error| {
        Failure::Run(format!("{}: cannot read: {error}; {expected}", path.display()))
    })
}

/// The contents of a stream, decompressed if it is gzipped.
pub fn plain<'a>(
    name: &str,
    stream: impl Read + 'a,
    expected: &str,
) -> Result<Box<dyn BufRead + 'a>> {
    let mut stream = BufReader::new(stream);
    let start =
        stream.fill_buf().map_err(|error| Failure::Run(format!("{name}: cannot read: {error}")))?;
    if start.is_empty() {
        return Err(Failure::Run(format!("{name}: the file is empty; {expected}")));
    }
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(BufReader::new(MultiGzDecoder::new(stream)))
    } else {
        Box::new(stream)
    })
}

/// How the contents begin.
pub fn start<'a>(name: &str, plain: &'a mut impl BufRead, expected: &str) -> Result<&'a [u8]> {
    plain.fill_buf().map_err(|error| {
        Failure::Run(format!("{name}: damaged or truncated gzip file ({error}); {expected}"))
    })
}

/// Whether contents that begin so are text.
pub fn is_text(start: &[u8]) -> bool {
    let control = |byte: u8| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c);
    // Other bytes may be letters in UTF-8, or in an encoding that the reader of tables names.
    !start.is_empty() && !start.iter().any(|&byte| control(byte) || byte == 0x7f)
}
