//! Element types of `.npy` arrays.

/// Type, size and byte order of an element, as the `descr` of a `.npy` header names them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dtype {
    /// NumPy's letter: `u` for unsigned integers, `i` for signed ones, `f` for floats.
    kind: u8,
    /// Bytes of one element.
    pub size: usize,
    big_endian: bool,
}

impl Dtype {
    /// `uint8`, also the type of IDX images.
    pub const U8: Self = Self { kind: b'u', size: 1, big_endian: false };

    /// Parses a `descr` such as `<f4`; `None` unless it is an integer, `float32` or `float64`.
    pub fn parse(descr: &str) -> Option<Self> {
        let (order, name) = match descr.as_bytes() {
            [order @ (b'<' | b'>' | b'|'), name @ ..] => (*order, name),
            name => (b'|', name),
        };
        let (kind, size) = match name {
            b"u1" | b"B" => (b'u', 1),
            b"i1" | b"b" => (b'i', 1),
            &[kind @ (b'u' | b'i'), b'2'] => (kind, 2),
            &[kind @ (b'u' | b'i' | b'f'), b'4'] => (kind, 4),
            &[kind @ (b'u' | b'i' | b'f'), b'8'] => (kind, 8),
            _ => return None,
        };
        // A single byte has no order; anything longer needs one.
        (size == 1 || order != b'|').then_some(Self {
            kind,
            size,
            big_endian: size > 1 && order == b'>',
        })
    }

    /// Returns true for `float32` and `float64`.
    pub fn is_float(self) -> bool {
        self.kind == b'f'
    }

    /// Decodes a row of floats, or of bytes that are divided by 255; other integers are not read as data.
    pub fn decode_row(self, bytes: &[u8], out: &mut [f32]) {
        fn each<const N: usize>(bytes: &[u8], out: &mut [f32], number: impl Fn([u8; N]) -> f32) {
            for (out, &bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = number(bytes);
            }
        }
        match (self.is_float(), self.size, self.big_endian) {
            (false, 1, _) => each(bytes, out, |[byte]| f32::from(byte) / 255.0),
            (true, 4, false) => each(bytes, out, f32::from_le_bytes),
            (true, 4, true) => each(bytes, out, f32::from_be_bytes),
            (true, 8, false) => each(bytes, out, |bytes| f64::from_le_bytes(bytes) as f32),
            (true, 8, true) => each(bytes, out, |bytes| f64::from_be_bytes(bytes) as f32),
            _ => unreachable!("{self:?} is not a type of rows"),
        }
    }

    /// Decodes one integer; one above the range of `i64` becomes `i64::MAX`.
    pub fn decode_integer(self, bytes: &[u8]) -> i64 {
        let append = |number: i64, &byte: &u8| number << 8 | i64::from(byte);
        let highest = if self.big_endian { bytes.first() } else { bytes.last() };
        let negative = highest.is_some_and(|byte| byte >> 7 == 1);
        let start = if negative && self.kind == b'i' { -1 } else { 0 };
        let number = if self.big_endian {
            bytes.iter().fold(start, append)
        } else {
            bytes.iter().rev().fold(start, append)
        };
        if number < 0 && self.kind == b'u' { i64::MAX } else { number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_types_of_numpy() {
        for (descr, kind, size, big_endian) in [
            ("|u1", b'u', 1, false),
            (">u1", b'u', 1, false),
            ("B", b'u', 1, false),
            ("b", b'i', 1, false),
            ("<i2", b'i', 2, false),
            (">u8", b'u', 8, true),
            ("<f4", b'f', 4, false),
            (">f8", b'f', 8, true),
        ] {
            assert_eq!(Dtype::parse(descr), Some(Dtype { kind, size, big_endian }), "{descr}");
        }
        for descr in ["", "<", "f4", "|f4", "i4", "<f2", "<f1", "<i3", "<c8", "|b1", "<U1", "ü1"] {
            assert_eq!(Dtype::parse(descr), None, "{descr}");
        }
        assert_eq!(Dtype::parse("|u1"), Some(Dtype::U8));
    }

    #[test]
    fn decodes_integers_of_any_size_and_order() {
        let decode = |descr: &str, bytes: &[u8]| Dtype::parse(descr).unwrap().decode_integer(bytes);
        assert_eq!((decode("|u1", &[200]), decode("|i1", &[200])), (200, -56));
        assert_eq!((decode("<i2", &[254, 255]), decode(">i2", &[255, 254])), (-2, -2));
        assert_eq!((decode("<u2", &[0, 128]), decode(">u2", &[128, 0])), (32_768, 32_768));
        for number in [i64::MIN, -1, 0, 1, i64::MAX] {
            assert_eq!(decode("<i8", &number.to_le_bytes()), number);
            assert_eq!(decode(">i8", &number.to_be_bytes()), number);
        }
        assert_eq!(decode("<u8", &u64::MAX.to_le_bytes()), i64::MAX);
        assert_eq!(decode(">u4", &u32::MAX.to_be_bytes()), i64::from(u32::MAX));
    }
}
