//! Compares the tool's IDX reader, for whole and for fragmented input, with a short reference parser.

#![no_main]

use elbo_fuzz::{Meter, measured};
use libfuzzer_sys::fuzz_target;
use std::io::{self, Read};

#[path = "../../src/bin/elbo/data/formats/elements.rs"]
mod elements;
#[path = "../../src/bin/elbo/data/formats/idx.rs"]
mod idx;

#[global_allocator]
static METER: Meter = Meter;

/// Parses an IDX file by the definition of the format. Returns the shape and the elements, or the
/// fault as one word.
fn parse(bytes: &[u8]) -> Result<(Vec<usize>, &[u8]), &'static str> {
    let (&[zero_0, zero_1, element_type, rank], rest) =
        bytes.split_first_chunk().ok_or("header")?;
    if [zero_0, zero_1] != [0, 0] {
        return Err("magic");
    }
    if element_type != 8 {
        return Err("type");
    }
    if rank < 2 {
        return Err("rank");
    }
    let (header, elements) = rest.split_at_checked(4 * usize::from(rank)).ok_or("header")?;
    let shape: Vec<u32> =
        header.as_chunks().0.iter().map(|&word| u32::from_be_bytes(word)).collect();
    // Saturating, because the product of the claimed sizes can overflow any integer; a size of 0 counts
    // as 1, because the reader multiplies the sizes one by one.
    let claimed = shape.iter().fold(1_u128, |product, &n| product.saturating_mul(n.max(1).into()));
    if claimed >= 1 << 63 {
        return Err("large");
    }
    let size: u64 = shape.iter().map(|&n| u64::from(n)).product();
    match (elements.len() as u64).cmp(&size) {
        std::cmp::Ordering::Less => Err("truncated"),
        std::cmp::Ordering::Equal => Ok((shape.iter().map(|&n| n as usize).collect(), elements)),
        std::cmp::Ordering::Greater => Err("trailing"),
    }
}

fn word(error: &idx::IdxError) -> &'static str {
    use elements::ElementsError::*;
    use idx::IdxError::*;
    match error {
        Magic => "magic",
        ElementType(_) => "type",
        Rank(_) => "rank",
        HeaderEnds => "header",
        Elements(TooLarge(_)) => "large",
        Elements(Truncated { .. }) => "truncated",
        Elements(Trailing(_)) => "trailing",
        Elements(CutOff) => "a gzip stream that ends early",
        Elements(elements::ElementsError::Io(_)) | idx::IdxError::Io(_) => "an error of the stream",
    }
}

/// Stream that returns a few bytes at a time and reports interruptions in between.
struct Pieces<'a> {
    rest: &'a [u8],
    calls: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(4) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = buffer.len().min(self.calls % 4);
        self.rest.read(&mut buffer[..length])
    }
}

fuzz_target!(|bytes: &[u8]| {
    let expected = parse(bytes);
    let (whole, peak) = measured(|| idx::read(bytes));
    // Memory is bounded by the input (a shape, and a buffer that doubles as it grows), whatever the
    // header claims.
    assert!(peak <= 4 * bytes.len() + 16_384, "{peak} bytes for {} of input", bytes.len());
    for found in [whole, idx::read(Pieces { rest: bytes, calls: 0 })] {
        match (&found, &expected) {
            (Ok(found), Ok((shape, elements))) => {
                assert_eq!((&found.shape, &found.bytes[..]), (shape, *elements));
            }
            (Err(error), Err(expected)) => {
                assert_eq!(word(error), *expected);
                assert!(!error.to_string().is_empty());
            }
            _ => panic!("found {found:?}, expected {expected:?}"),
        }
    }
});
