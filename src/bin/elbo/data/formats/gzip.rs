//! Decompression of gzip files: one member or several in a row, with zeros after the last.
//!
//! Tapes and block devices pad files with zeros, and `gzip` ignores them. `flate2::read::MultiGzDecoder` takes
//! them for the header of another member.

use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// First bytes of a gzip file.
pub const MAGIC: &[u8; 2] = b"\x1f\x8b";

/// Decompressed stream of all members.
pub struct Gzip<R> {
    /// Member that is being read; `None` at the end.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Gzip<R> {
    pub fn new(stream: R) -> Self {
        Self { member: Some(GzDecoder::new(stream)) }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(buffer).map_err(damaged)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let next = self.member.take().map(GzDecoder::into_inner);
            self.member = next.map(next_member).transpose()?.flatten();
        }
        Ok(0)
    }
}

fn damaged(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::Interrupted => error,
        kind => io::Error::new(kind, format!("damaged or truncated gzip file: {error}")),
    }
}

/// Returns the member after the end of another, if there is one.
fn next_member<R: BufRead>(mut stream: R) -> io::Result<Option<GzDecoder<R>>> {
    let mut padded = false;
    loop {
        let buffer = stream.fill_buf()?;
        match buffer.iter().position(|&byte| byte != 0) {
            _ if buffer.is_empty() => return Ok(None),
            None => {
                let zeros = buffer.len();
                stream.consume(zeros);
                padded = true;
            }
            Some(0) if !padded && buffer[0] == MAGIC[0] => {
                return Ok(Some(GzDecoder::new(stream)));
            }
            Some(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "there are bytes after the end of the gzip data; remove them (`gzip -dc FILE` writes the \
                     data alone)",
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::{BufReader, Write};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(file: &[u8]) -> Result<String, String> {
        let mut texts = Vec::new();
        for capacity in [1, 7, 8192] {
            let mut text = String::new();
            let stream = BufReader::with_capacity(capacity, file);
            let result = Gzip::new(stream).read_to_string(&mut text);
            texts.push(result.map(|_| text).map_err(|error| error.to_string()));
        }
        assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
        texts.swap_remove(0)
    }

    #[test]
    fn reads_members_and_ignores_zeros_after_the_last() {
        let one = gzip(b"a,b\n");
        let two = [&one[..], &gzip(b""), &gzip(b"1,2\n")].concat();
        for zeros in [0, 1, 4, 512, 20_000] {
            let padding = vec![0; zeros];
            assert_eq!(read(&[&one[..], &padding].concat()).unwrap(), "a,b\n", "{zeros}");
            assert_eq!(read(&[&two[..], &padding].concat()).unwrap(), "a,b\n1,2\n", "{zeros}");
        }
    }

    #[test]
    fn rejects_other_bytes_after_the_end_and_truncated_members() {
        let one = gzip(b"a,b\n");
        for rest in [&b"x"[..], b"\0\0x", &[&[0; 4][..], &one].concat()] {
            let message = read(&[&one[..], rest].concat()).unwrap_err();
            assert!(message.starts_with("there are bytes after the end"), "{message}");
        }
        for end in 1..one.len() {
            let message = read(&one[..end]).unwrap_err();
            assert!(message.starts_with("damaged or truncated gzip file: "), "{message}");
            assert!(read(&[&one[..], &one[..end]].concat()).is_err(), "{end}");
        }
    }
}
