//! Element types of `.npy` arrays.

/// Type, size and byte order of an element, as the `descr` of a `.npy` header names them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dtype {
    /// NumPy's letter: `u` for unsigned integers, `i` for signed ones, `f` for floats, `b` for booleans.
    kind: u8,
    /// Bytes of one element.
    pub size: usize,
    big_endian: bool,
}

impl Dtype {
    /// `uint8`, also the type of IDX images.
    pub const U8: Self = Self { kind: b'u', size: 1, big_endian: false };

    /// Parses a `descr` such as `<f4`; `None` unless it is a boolean, an integer or a float.
    pub fn parse(descr: &str) -> Option<Self> {
        let (order, name) = match descr.as_bytes() {
            [order @ (b'<' | b'>' | b'|'), name @ ..] => (*order, name),
            name => (b'|', name),
        };
        let (kind, size) = match name {
            b"u1" | b"B" => (b'u', 1),
            b"i1" | b"b" => (b'i', 1),
            b"b1" | b"?" => (b'b', 1),
            &[kind @ (b'u' | b'i' | b'f'), b'2'] => (kind, 2),
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

    /// Returns true for floats.
    pub fn is_float(self) -> bool {
        self.kind == b'f'
    }

    /// Returns true if float32 holds every element exactly: bytes, integers of 16 bits, `float32`.
    pub fn fits_f32(self) -> bool {
        self.size <= if self.is_float() { 4 } else { 2 }
    }

    /// Decodes a row of a type that float32 holds exactly. `uint8` is divided by 255.
    pub fn decode_row(self, bytes: &[u8], out: &mut [f32]) {
        let swap = self.big_endian;
        match (self.kind, self.size) {
            (b'u', 1) => each(bytes, out, swap, |[byte]| f32::from(byte) / 255.0),
            (b'i', 1) => each(bytes, out, swap, |[byte]| f32::from(byte as i8)),
            (b'b', 1) => each(bytes, out, swap, |[byte]| f32::from(byte.min(1))),
            (b'f', 2) => each(bytes, out, swap, |bytes| float16(u16::from_le_bytes(bytes))),
            (b'u', 2) => each(bytes, out, swap, |bytes| f32::from(u16::from_le_bytes(bytes))),
            (b'i', 2) => each(bytes, out, swap, |bytes| f32::from(i16::from_le_bytes(bytes))),
            (b'f', 4) => each(bytes, out, swap, f32::from_le_bytes),
            _ => unreachable!("{self:?} does not fit float32"),
        }
    }

    /// Decodes a row of any type. Integers beyond 2⁵³ are rounded.
    pub fn decode_wide_row(self, bytes: &[u8], out: &mut [f64]) {
        let swap = self.big_endian;
        match (self.kind, self.size) {
            (b'u', 4) => each(bytes, out, swap, |bytes| f64::from(u32::from_le_bytes(bytes))),
            (b'i', 4) => each(bytes, out, swap, |bytes| f64::from(i32::from_le_bytes(bytes))),
            (b'u', 8) => each(bytes, out, swap, |bytes| u64::from_le_bytes(bytes) as f64),
            (b'i', 8) => each(bytes, out, swap, |bytes| i64::from_le_bytes(bytes) as f64),
            (b'f', 8) => each(bytes, out, swap, f64::from_le_bytes),
            _ => {
                let mut narrow = [0.0; 64];
                let pieces =
                    bytes.chunks(narrow.len() * self.size).zip(out.chunks_mut(narrow.len()));
                for (bytes, out) in pieces {
                    let narrow = &mut narrow[..out.len()];
                    self.decode_row(bytes, narrow);
                    out.iter_mut().zip(narrow).for_each(|(out, x)| *out = f64::from(*x));
                }
            }
        }
    }

    /// Decodes one integer; one above the range of `i64` becomes `i64::MAX`.
    pub fn decode_integer(self, bytes: &[u8]) -> i64 {
        if self.kind == b'b' {
            return i64::from(bytes.iter().any(|&byte| byte != 0));
        }
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

/// Returns the value of a `float16` (IEEE 754 binary16): a sign, 5 bits of exponent and 10 of fraction.
fn float16(bits: u16) -> f32 {
    let (exponent, fraction) = (u32::from(bits >> 10) & 0x1f, u32::from(bits) & 0x3ff);
    let magnitude = match exponent {
        // Subnormal: a multiple of 2⁻²⁴.
        0 => fraction as f32 / (1 << 24) as f32,
        0x1f if fraction == 0 => f32::INFINITY,
        0x1f => f32::NAN,
        // The exponents are biased by 15 and by 127.
        _ => f32::from_bits((exponent + 112) << 23 | fraction << 13),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// Decodes each element; `number` takes its bytes in little-endian order.
fn each<const N: usize, T>(bytes: &[u8], out: &mut [T], swap: bool, number: impl Fn([u8; N]) -> T) {
    let elements = out.iter_mut().zip(bytes.as_chunks().0);
    if swap {
        elements.for_each(|(out, bytes)| {
            let mut bytes: [u8; N] = *bytes;
            bytes.reverse();
            *out = number(bytes);
        });
    } else {
        elements.for_each(|(out, &bytes)| *out = number(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_rows_of_every_type() {
        let wide = |descr: &str, bytes: &[u8], count: usize| {
            let mut out = vec![f64::NAN; count];
            Dtype::parse(descr).unwrap().decode_wide_row(bytes, &mut out);
            out
        };
        let mut big = 1_700_000_031_u32.to_be_bytes().to_vec();
        big.extend(7_u32.to_be_bytes());
        assert_eq!(wide(">u4", &big, 2), [1_700_000_031.0, 7.0]);
        assert_eq!(wide("<i4", &(-16_777_217_i32).to_le_bytes(), 1), [-16_777_217.0]);
        assert_eq!(wide("<u8", &u64::MAX.to_le_bytes(), 1), [2.0_f64.powi(64)]);
        assert_eq!(wide(">i8", &i64::MIN.to_be_bytes(), 1), [-(2.0_f64.powi(63))]);
        assert_eq!(wide("<f8", &5e-324_f64.to_le_bytes(), 1), [5e-324]);
        assert_eq!(wide(">f8", &0.1_f64.to_be_bytes(), 1), [0.1]);
        assert_eq!(wide("<f4", &0.1_f32.to_le_bytes(), 1), [f64::from(0.1_f32)]);
        // More elements than are decoded at a time.
        let bytes: Vec<u8> = (0..=255).collect();
        assert!(
            wide("|u1", &bytes, 256)
                .iter()
                .zip(0..)
                .all(|(x, i)| *x == f64::from(i as f32 / 255.0))
        );
        assert_eq!(wide("|i1", &[200, 3], 2), [-56.0, 3.0]);
        assert_eq!(wide("<i2", &[254, 255], 1), [-2.0]);
        assert_eq!(wide(">u2", &[128, 0], 1), [32_768.0]);
    }

    #[test]
    fn decodes_booleans_and_float16() {
        let decode = |descr: &str, bytes: &[u8], count: usize| {
            let mut out = vec![f32::NAN; count];
            Dtype::parse(descr).unwrap().decode_row(bytes, &mut out);
            out
        };
        assert_eq!(decode("|b1", &[0, 1, 255], 3), [0.0, 1.0, 1.0]);
        assert_eq!(Dtype::parse("|b1").unwrap().decode_integer(&[255]), 1);
        // numpy.float16 of each.
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7bff, 65_504.0),
            (0x0400, 6.103_515_6e-5),
            (0x03ff, 6.097_555e-5),
            (0x0001, 5.960_464_5e-8),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(decode("<f2", &u16::to_le_bytes(bits), 1), [value], "{bits:#x}");
            assert_eq!(decode(">f2", &u16::to_be_bytes(bits), 1), [value], "{bits:#x}");
        }
        assert!(decode("<f2", &[0, 0x80], 1)[0].is_sign_negative());
        assert!(decode("<f2", &[1, 0x7c], 1)[0].is_nan());
    }

    #[test]
    fn parses_the_types_of_numpy() {
        for (descr, kind, size, big_endian) in [
            ("|u1", b'u', 1, false),
            (">u1", b'u', 1, false),
            ("B", b'u', 1, false),
            ("b", b'i', 1, false),
            ("<i2", b'i', 2, false),
            ("|b1", b'b', 1, false),
            (">f2", b'f', 2, true),
            (">u8", b'u', 8, true),
            ("<f4", b'f', 4, false),
            (">f8", b'f', 8, true),
        ] {
            assert_eq!(Dtype::parse(descr), Some(Dtype { kind, size, big_endian }), "{descr}");
        }
        for descr in
            ["", "<", "f4", "|f4", "i4", "|f2", "<f1", "<i3", "<c8", "<f16", "|O", "<U1", "ü1"]
        {
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
