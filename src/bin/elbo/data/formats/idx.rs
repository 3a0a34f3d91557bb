//! IDX, the format of the MNIST files.
//!
//! ```text
//! 0  0  dtype  rank        dtype 8: unsigned bytes
//! rank × u32, big-endian   the dimensions, images first
//! the elements, row-major
//! ```
//! Source: "The IDX file format" on the MNIST page of Y. LeCun.
//!
//! This file leans on the standard library alone, so that a fuzz target can include it.

use std::fmt;
use std::io::{self, Read};
use std::ops::RangeInclusive;

/// Unsigned bytes under the dimensions that the header names.
#[derive(Debug, PartialEq, Eq)]
pub struct Idx {
    /// The images, then height and width (or whatever a row is made of).
    pub shape: Vec<usize>,
    /// Row-major, as many as the product of `shape`.
    pub bytes: Vec<u8>,
}

/// Why a stream is not an IDX file of images.
#[derive(Debug)]
pub enum IdxError {
    /// The first two bytes are not zero.
    Magic,
    /// The elements are of another type.
    ElementType(u8),
    /// Another number of dimensions than asked for.
    Rank(u8),
    /// More bytes than this machine can address.
    TooLarge(Vec<usize>),
    /// The stream ends within the header.
    HeaderEnds,
    /// The stream ends before the last element.
    Truncated {
        /// What the header promises.
        shape: Vec<usize>,
        /// Elements that were there.
        found: usize,
    },
    /// All elements were there, but the compressed stream around them has no proper end.
    CutOff,
    /// The stream goes on after the last element.
    Trailing(Vec<usize>),
    /// The stream cannot be read.
    Io(io::Error),
}

impl fmt::Display for IdxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => write!(f, "not an IDX file: it must begin with two zero bytes"),
            Self::ElementType(code) => write!(
                f,
                "IDX elements of type 0x{code:02x} ({}); expected unsigned bytes (0x08)",
                match code {
                    0x09 => "signed bytes",
                    0x0b => "16-bit integers",
                    0x0c => "32-bit integers",
                    0x0d => "32-bit floats",
                    0x0e => "64-bit floats",
                    _ => "unknown",
                }
            ),
            Self::Rank(rank) => write!(
                f,
                "IDX with {rank} dimension{}; expected images, which have at least 2 \
                 (is this a file of labels?)",
                if *rank == 1 { "" } else { "s" }
            ),
            Self::TooLarge(shape) => {
                write!(f, "its header claims {} bytes, more than can be addressed", Times(shape))
            }
            Self::HeaderEnds => write!(f, "truncated: the file ends within the IDX header"),
            Self::Truncated { shape, found } => write!(
                f,
                "truncated: its header promises {} bytes, the file holds {found}",
                Times(shape)
            ),
            Self::CutOff => write!(f, "truncated: the compressed stream has no proper end"),
            Self::Trailing(shape) => write!(
                f,
                "longer than the {} bytes that its header promises: damaged, or not IDX",
                Times(shape)
            ),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for IdxError {}

/// A shape as `60000×28×28`.
struct Times<'a>(&'a [usize]);

impl fmt::Display for Times<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, n) in self.0.iter().enumerate() {
            write!(f, "{}{n}", if i == 0 { "" } else { "×" })?;
        }
        Ok(())
    }
}

/// Reads a whole IDX file of images: unsigned bytes under at least two dimensions.
///
/// Memory grows with what the stream holds, never by the word of its header.
pub fn read(stream: impl Read) -> Result<Idx, IdxError> {
    read_of_rank(2..=u8::MAX, stream)
}

/// As [`read`], with so many dimensions: labels have one.
pub fn read_of_rank(ranks: RangeInclusive<u8>, mut stream: impl Read) -> Result<Idx, IdxError> {
    let shape = read_header(ranks, &mut stream)?;
    let promised: usize = shape.iter().product();

    let mut bytes = Vec::new();
    match stream.by_ref().take(promised as u64).read_to_end(&mut bytes) {
        Ok(_) => {}
        // How a gzip stream says that it was cut off: what came before is in `bytes`.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(IdxError::Io(error)),
    }
    if bytes.len() < promised {
        return Err(IdxError::Truncated { shape, found: bytes.len() });
    }
    match stream.take(1).read_to_end(&mut Vec::new()) {
        Ok(0) => {}
        Ok(_) => return Err(IdxError::Trailing(shape)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(IdxError::CutOff),
        Err(error) => return Err(IdxError::Io(error)),
    }
    bytes.shrink_to_fit();
    Ok(Idx { shape, bytes })
}

/// Reads the shape, and leaves the stream where the elements begin.
pub fn read_header(
    ranks: RangeInclusive<u8>,
    stream: &mut impl Read,
) -> Result<Vec<usize>, IdxError> {
    let [zero_0, zero_1, element_type, rank] = header_word(stream)?;
    if (zero_0, zero_1) != (0, 0) {
        return Err(IdxError::Magic);
    }
    if element_type != 0x08 {
        return Err(IdxError::ElementType(element_type));
    }
    if !ranks.contains(&rank) {
        return Err(IdxError::Rank(rank));
    }
    let mut shape = Vec::with_capacity(usize::from(rank));
    for _ in 0..rank {
        // A dimension is 32 bits wide and `usize` no narrower on any target of this crate.
        shape.push(u32::from_be_bytes(header_word(stream)?) as usize);
    }
    // A zero elsewhere must not hide an overflow: `[0, 2³², 2³²]` claims nothing, but its rows do.
    let size = shape.iter().try_fold(1_usize, |size, &n| size.checked_mul(n.max(1)));
    let Some(_) = size.filter(|&size| isize::try_from(size).is_ok()) else {
        return Err(IdxError::TooLarge(shape));
    };
    Ok(shape)
}

fn header_word(stream: &mut impl Read) -> Result<[u8; 4], IdxError> {
    let mut word = [0; 4];
    match stream.read_exact(&mut word) {
        Ok(()) => Ok(word),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(IdxError::HeaderEnds),
        Err(error) => Err(IdxError::Io(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(element_type: u8, shape: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0, 0, element_type, shape.len() as u8];
        bytes.extend(shape.iter().flat_map(|n| n.to_be_bytes()));
        bytes
    }

    fn message(bytes: &[u8]) -> String {
        read(bytes).unwrap_err().to_string()
    }

    #[test]
    fn images_come_back_as_written() {
        let mut file = header(8, &[2, 1, 3]);
        file.extend([1, 2, 3, 4, 5, 6]);
        let idx = read(&file[..]).unwrap();
        assert_eq!(idx, Idx { shape: vec![2, 1, 3], bytes: vec![1, 2, 3, 4, 5, 6] });
    }

    #[test]
    fn each_way_to_be_wrong_has_its_message() {
        assert!(message(b"PK\x03\x04").contains("two zero bytes"));
        assert!(message(&header(0x0d, &[2, 2])).contains("32-bit floats"));
        assert!(message(&header(8, &[5])).contains("labels"));
        assert!(message(&[0, 0, 8, 3, 0, 0]).contains("within the IDX header"));
        let mut file = header(8, &[2, 1, 3]);
        file.extend([1, 2, 3, 4, 5]);
        assert_eq!(message(&file), "truncated: its header promises 2×1×3 bytes, the file holds 5");
        file.extend([6, 7]);
        assert!(message(&file).starts_with("longer than the 2×1×3 bytes"));
    }

    #[test]
    fn a_header_that_claims_the_world_allocates_nothing() {
        let world = [1 << 31; 2];
        assert!(message(&header(8, &world)).starts_with("truncated"));
        assert!(message(&header(8, &[u32::MAX; 3])).contains("more than can be addressed"));
        assert!(message(&header(8, &[0, u32::MAX, u32::MAX, u32::MAX])).contains("addressed"));
        assert!(message(&header(8, &[1; 255])[..300]).contains("within the IDX header"));
    }

    #[test]
    fn no_byte_of_the_header_can_do_harm() {
        let mut file = header(8, &[2, 1, 3]);
        file.extend([1, 2, 3, 4, 5, 6]);
        for place in 0..file.len() {
            for byte in 0..=u8::MAX {
                let mut damaged = file.clone();
                damaged[place] = byte;
                let read = read(&damaged[..]);
                if place < 16 && byte != file[place] {
                    assert!(read.is_err(), "byte {place} = {byte}");
                } else {
                    assert_eq!(read.unwrap().bytes, damaged[16..]);
                }
            }
        }
    }
}
