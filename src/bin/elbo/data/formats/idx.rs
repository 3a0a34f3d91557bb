//! IDX, the format of the MNIST files.
//!
//! ```text
//! 0  0  dtype  rank        dtype 8: unsigned bytes
//! rank × u32, big-endian   the dimensions, images first
//! the elements, row-major
//! ```
//! Source: "The IDX file format" on the MNIST page of Y. LeCun.
//!
//! With `elements`, this file depends on the standard library alone, so that a fuzz target can include it.

use super::elements::{ElementsError, byte_count, read_bytes};
use std::fmt;
use std::io::{self, Read};
use std::ops::RangeInclusive;

/// Contents of an IDX file of unsigned bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Idx {
    /// Dimensions: the number of images, then usually height and width.
    pub shape: Vec<usize>,
    /// Elements in row-major order.
    pub bytes: Vec<u8>,
}

/// Reason why a stream cannot be read as IDX.
#[derive(Debug)]
pub enum IdxError {
    /// The first two bytes are not zero.
    Magic,
    /// The elements are not unsigned bytes.
    ElementType(u8),
    /// The number of dimensions is not the expected one.
    Rank(u8),
    /// The stream ends inside the header.
    HeaderEnds,
    /// The elements do not fit the header.
    Elements(ElementsError),
    /// The header cannot be read.
    Io(io::Error),
}

impl fmt::Display for IdxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => write!(f, "not an IDX file: it does not start with two zero bytes"),
            Self::ElementType(code) => write!(
                f,
                "IDX elements of type 0x{code:02x} ({}) are not supported; expected unsigned bytes (0x08)",
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
                "the IDX file has {rank} dimension{}; expected images, which have at least 2 (is this a \
                 file of labels?)",
                if *rank == 1 { "" } else { "s" }
            ),
            Self::HeaderEnds => write!(f, "truncated: the file ends inside the IDX header"),
            Self::Elements(error) => write!(f, "{error}"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for IdxError {}

/// Reads a whole IDX file of images: unsigned bytes of at least two dimensions.
pub fn read(stream: impl Read) -> Result<Idx, IdxError> {
    read_of_rank(2..=u8::MAX, stream)
}

/// Reads a whole IDX file whose number of dimensions is in `ranks`; labels have one.
pub fn read_of_rank(ranks: RangeInclusive<u8>, mut stream: impl Read) -> Result<Idx, IdxError> {
    let shape = read_header(ranks, &mut stream)?;
    let bytes = read_bytes(stream, &shape).map_err(IdxError::Elements)?;
    Ok(Idx { shape, bytes })
}

/// Reads the shape and leaves the stream at the first element.
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
        // A dimension has 32 bits, and `usize` is no narrower on any target of this crate.
        shape.push(u32::from_be_bytes(header_word(stream)?) as usize);
    }
    byte_count(&shape, 1).map_err(IdxError::Elements)?;
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
    fn reads_images() {
        let mut file = header(8, &[2, 1, 3]);
        file.extend([1, 2, 3, 4, 5, 6]);
        let idx = read(&file[..]).unwrap();
        assert_eq!(idx, Idx { shape: vec![2, 1, 3], bytes: vec![1, 2, 3, 4, 5, 6] });
    }

    #[test]
    fn rejects_what_is_not_a_file_of_images() {
        assert!(message(b"PK\x03\x04").contains("two zero bytes"));
        assert!(message(&header(0x0d, &[2, 2])).contains("32-bit floats"));
        assert!(message(&header(8, &[5])).contains("labels"));
        assert!(message(&[0, 0, 8, 3, 0, 0]).contains("inside the IDX header"));
        let mut file = header(8, &[2, 1, 3]);
        file.extend([1, 2, 3, 4, 5]);
        assert_eq!(
            message(&file),
            "truncated: the header promises shape [2, 1, 3], but only 5 of 6 bytes follow"
        );
        file.extend([6, 7]);
        assert!(message(&file).starts_with("damaged: data continue after the shape [2, 1, 3]"));
    }

    #[test]
    fn allocates_nothing_for_a_huge_claimed_shape() {
        let world = [1 << 31; 2];
        assert!(message(&header(8, &world)).starts_with("truncated"));
        assert!(message(&header(8, &[u32::MAX; 3])).contains("too large to address"));
        assert!(
            message(&header(8, &[0, u32::MAX, u32::MAX, u32::MAX]))
                .contains("too large to address")
        );
        assert!(message(&header(8, &[1; 255])[..300]).contains("inside the IDX header"));
    }

    #[test]
    fn survives_any_damaged_byte() {
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
