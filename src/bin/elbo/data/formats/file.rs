//! Opening of files, gzipped or not.

use super::gzip::{self, Gzip};
use crate::failure::{Failure, Result};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Name of standard input in messages.
pub const STDIN: &str = "standard input";

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

/// Opens a file, or standard input for `-`, and returns its name for messages.
pub fn open_or_stdin(path: &Path) -> Result<(String, Box<dyn Read>)> {
    if path == Path::new("-") {
        return Ok((STDIN.to_owned(), Box::new(io::stdin().lock())));
    }
    Ok((path.display().to_string(), Box::new(open(path)?)))
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
    Ok(if start.starts_with(gzip::MAGIC) {
        Box::new(BufReader::new(Gzip::new(stream)))
    } else {
        Box::new(stream)
    })
}

/// Returns the first bytes of a decompressed stream without consuming them.
pub fn start<'a>(name: &str, plain: &'a mut impl BufRead, expected: &str) -> Result<&'a [u8]> {
    plain.fill_buf().map_err(|error| Failure::Run(format!("{name}: {error}; {expected}")))
}

/// Decompresses a text if it is gzipped, and checks that it is one.
pub fn text<'a>(
    name: &str,
    stream: impl Read + 'a,
    expected: &str,
) -> Result<Box<dyn BufRead + 'a>> {
    let mut plain = plain(name, stream, expected)?;
    let start = start(name, &mut plain, expected)?;
    match unsupported(start) {
        Some(reason) => Err(Failure::Run(format!("{name}: {reason}"))),
        None if start.is_empty() || is_text(start) => Ok(plain),
        None => Err(Failure::Run(format!("{name}: unknown format; {expected}"))),
    }
}

/// Recognizes formats that are not supported, and says how to convert them.
pub fn unsupported(start: &[u8]) -> Option<&'static str> {
    const UTF_16: &str = "the text is UTF-16; save it as UTF-8";
    const JSON: &str = "JSON is not supported; convert it first (in Python: `pandas.read_json(f).to_csv(g, \
                        index=False)`)";
    const MARKUP: &str =
        "the file is HTML or XML; expected data (was a page saved in place of a file?)";
    let formats: [(&[u8], &str); 14] = [
        (
            b"PAR1",
            "Parquet is not supported; convert it first (in Python: `pandas.read_parquet(f).to_csv(g, \
             index=False)`)",
        ),
        (
            b"ARROW1",
            "Arrow is not supported; convert it first (in Python: `pandas.read_feather(f).to_csv(g, \
             index=False)`)",
        ),
        (b"\x89HDF", "HDF5 is not supported; write the array with numpy.save"),
        (b"\xd0\xcf\x11\xe0", "Excel workbooks are not supported; save the sheet as .csv"),
        (
            b"%%MatrixMarket",
            "MatrixMarket is not supported; convert it first (in Python: `numpy.save(g, \
             scipy.io.mmread(f).toarray())`)",
        ),
        (b"{", JSON),
        (b"[]", JSON),
        (b"<!", MARKUP),
        (b"<html", MARKUP),
        (b"<?xml", MARKUP),
        (b"\xff\xfe", UTF_16),
        (b"\xfe\xff", UTF_16),
        (b"BZh", "bzip2 is not supported; decompress the file or use gzip"),
        (b"\x28\xb5\x2f\xfd", "Zstandard is not supported; decompress the file or use gzip"),
    ];
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    if let Some((_, reason)) = formats.iter().find(|(magic, _)| text.starts_with(magic)) {
        return Some(reason);
    }
    // An array of JSON in any layout.
    let inside = text.strip_prefix(b"[").map(<[u8]>::trim_ascii_start);
    if inside
        .is_some_and(|inside| [b"{", b"[", b"\""].iter().any(|start| inside.starts_with(*start)))
    {
        return Some(JSON);
    }
    // UTF-16 without a byte-order mark.
    match start {
        [a, 0, b, 0, ..] | [0, a, 0, b, ..] if [a, b].iter().all(|c| (9..127).contains(*c)) => {
            Some(UTF_16)
        }
        _ => None,
    }
}

/// Returns true if a file that starts with these bytes is text.
pub fn is_text(start: &[u8]) -> bool {
    let control = |byte: u8| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c);
    // Bytes from 0x80 on may be UTF-8, or another encoding, which the table reader rejects by name.
    !start.is_empty() && !start.iter().any(|&byte| control(byte) || byte == 0x7f)
}
