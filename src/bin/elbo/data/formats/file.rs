//! Opening of files, gzipped or not.

use crate::failure::{Failure, Result};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Opens a file for reading.
pub fn open(path: &Path) -> Result<File> {
    let open = || -> io::Result<_> {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(file)
    };
    open().map_err(|error| Failure::cannot_read(&path.display(), &error))
}

/// Decompresses a stream if it is gzipped. `expected` lists the accepted formats for messages.
pub fn plain<'a>(
    name: &str,
    stream: impl Read + 'a,
    expected: &str,
) -> Result<Box<dyn BufRead + 'a>> {
    let mut stream = BufReader::new(stream);
    let start = stream.fill_buf().map_err(|error| Failure::cannot_read(&name, &error))?;
    if start.is_empty() {
        return Err(Failure::Run(format!("{name}: the file is empty; {expected}")));
    }
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(BufReader::new(MultiGzDecoder::new(stream)))
    } else {
        Box::new(stream)
    })
}

/// Returns the first bytes of a decompressed stream without consuming them.
pub fn start<'a>(name: &str, plain: &'a mut impl BufRead, expected: &str) -> Result<&'a [u8]> {
    plain.fill_buf().map_err(|error| {
        Failure::Run(format!("{name}: damaged or truncated gzip file: {error}; {expected}"))
    })
}

/// Returns true if a file that starts with these bytes is text.
pub fn is_text(start: &[u8]) -> bool {
    let control = |byte: u8| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c);
    // Bytes from 0x80 on may be UTF-8, or another encoding, which the table reader rejects by name.
    !start.is_empty() && !start.iter().any(|&byte| control(byte) || byte == 0x7f)
}
