//! Elements of an array file: exactly as many as its header promises.
//!
//! Memory grows with what the stream holds, never with what the header claims.
//!
//! This file depends on the standard library alone, so that a fuzz target can include it.

use std::fmt;
use std::io::{self, Read};

/// Reason why the elements after a header cannot be read.
#[derive(Debug)]
pub enum ElementsError {
    /// The shape needs more bytes than this machine can address.
    TooLarge(Vec<usize>),
    /// The stream ends before the last element.
    Truncated {
        /// Shape in the header.
        shape: Vec<usize>,
        /// Bytes that a file of this shape holds after its header.
        promised: usize,
        /// Bytes that follow the header in this file.
        found: usize,
    },
    /// All elements are there, but the compressed stream around them ends early.
    CutOff,
    /// The stream continues after the last element.
    Trailing(Vec<usize>),
    /// The stream cannot be read.
    Io(io::Error),
}

impl fmt::Display for ElementsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(shape) => {
                write!(f, "the header claims shape {shape:?}, which is too large to address")
            }
            Self::Truncated { shape, promised, found } => write!(
                f,
                "truncated: the header promises shape {shape:?}, but only {found} of {promised} bytes follow"
            ),
            Self::CutOff => write!(f, "truncated: the gzip stream ends early"),
            Self::Trailing(shape) => {
                write!(f, "damaged: data continue after the shape {shape:?} in the header")
            }
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ElementsError {}

/// Returns the number of bytes of an array whose elements take `size` bytes each.
pub fn byte_count(shape: &[usize], size: usize) -> Result<usize, ElementsError> {
    // A zero must not hide an overflow: [0, 2³², 2³²] holds nothing, but the width of its rows overflows.
    let largest = shape.iter().try_fold(size, |bytes, &n| bytes.checked_mul(n.max(1)));
    match largest.map(isize::try_from) {
        Some(Ok(_)) => Ok(size * shape.iter().product::<usize>()),
        _ => Err(ElementsError::TooLarge(shape.to_vec())),
    }
}

/// Reads the `promised` bytes of an array of `shape` in pieces of at most `piece` bytes, hands each to
/// `decode`, and expects the stream to end after them.
pub fn read_pieces(
    mut stream: impl Read,
    shape: &[usize],
    promised: usize,
    piece: usize,
    mut decode: impl FnMut(&mut Vec<u8>),
) -> Result<(), ElementsError> {
    let (mut bytes, mut found) = (Vec::new(), 0);
    while found < promised {
        let wanted = piece.min(promised - found);
        match stream.by_ref().take(wanted as u64).read_to_end(&mut bytes) {
            Ok(_) => {}
            // A gzip stream that is cut off says so after what it holds, which is in `bytes` by now.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(ElementsError::Io(error)),
        }
        found += bytes.len();
        if bytes.len() < wanted {
            return Err(ElementsError::Truncated { shape: shape.to_vec(), promised, found });
        }
        decode(&mut bytes);
        bytes.clear();
    }
    match stream.take(1).read_to_end(&mut bytes) {
        Ok(0) => Ok(()),
        Ok(_) => Err(ElementsError::Trailing(shape.to_vec())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ElementsError::CutOff),
        Err(error) => Err(ElementsError::Io(error)),
    }
}

/// Reads an array of bytes.
pub fn read_bytes(stream: impl Read, shape: &[usize]) -> Result<Vec<u8>, ElementsError> {
    let promised = byte_count(shape, 1)?;
    let mut elements = Vec::new();
    // One piece: the buffer becomes the array.
    read_pieces(stream, shape, promised, promised, |bytes| elements = std::mem::take(bytes))?;
    elements.shrink_to_fit();
    Ok(elements)
}
