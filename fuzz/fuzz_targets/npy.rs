//! Compares the tool's readers of `.npy` and `.npz` with a short reference parser, and reads back arrays
//! from a writer of its own: every element type, byte order, memory order and format version.

#![no_main]

use elbo_fuzz::{Input, Meter, crc32, measured, same};
use libfuzzer_sys::fuzz_target;
use npy::{Npy, NpyRows};
use npz::ArrayChoice;
use std::io::Cursor;

#[path = "../../src/bin/elbo/data/formats/dtype.rs"]
mod dtype;
#[path = "../../src/bin/elbo/data/formats/elements.rs"]
mod elements;
#[path = "../../src/bin/elbo/data/formats/npy.rs"]
mod npy;
#[path = "../../src/bin/elbo/data/formats/npz.rs"]
#[allow(dead_code)]
mod npz;
#[path = "../../src/bin/elbo/text.rs"]
#[allow(dead_code)]
mod text;

#[global_allocator]
static METER: Meter = Meter;

/// Contents of a header.
#[derive(Debug)]
struct Header {
    order: char,
    kind: char,
    size: usize,
    fortran: bool,
    shape: Vec<usize>,
}

/// Splits a Python literal into words, strings (with a leading quote) and single characters.
fn tokens(text: &str) -> Option<Vec<String>> {
    let (mut tokens, mut rest) = (Vec::new(), text.trim_start());
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' | '"' => {
                let end = rest[1..].find(first)?;
                tokens.push(format!("'{}", &rest[1..1 + end]));
                end + 2
            }
            _ => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
                let length = end.max(first.len_utf8());
                tokens.push(rest[..length].to_owned());
                length
            }
        };
        rest = rest[length..].trim_start();
    }
    Some(tokens)
}

/// Parses a header and returns it with the bytes of the elements; `None` if it is not that of an array.
fn parse(bytes: &[u8]) -> Option<(Header, &[u8])> {
    let (&version, rest) = bytes.strip_prefix(b"\x93NUMPY")?.split_first()?;
    let (length, rest) = if version == 1 {
        let (length, rest) = rest.get(1..)?.split_first_chunk()?;
        (usize::from(u16::from_le_bytes(*length)), rest)
    } else {
        let (length, rest) = rest.get(1..)?.split_first_chunk()?;
        (u32::from_le_bytes(*length) as usize, rest)
    };
    let (text, elements) = rest.split_at_checked(length)?;
    let tokens = tokens(std::str::from_utf8(text).ok()?)?;
    // The value of the last key of this name.
    let value = |key: &str| {
        let is_key = |pair: &[String]| pair[0] == format!("'{key}") && pair[1] == ":";
        Some(&tokens[tokens.windows(2).rposition(is_key)? + 2..])
    };
    let fortran = value("fortran_order")?.first()? == "True";
    let descr = value("descr")?.first()?.strip_prefix('\'')?;
    let (order, name) = match descr.chars().next()? {
        order @ ('<' | '>' | '|') => (order, &descr[1..]),
        _ => ('|', descr),
    };
    let (kind, size) = match name {
        "?" => ('b', 1),
        "b" => ('i', 1),
        "B" => ('u', 1),
        _ => (name.chars().next()?, name.get(1..)?.parse().ok()?),
    };
    let shape = value("shape")?.strip_prefix(&["(".to_owned()])?;
    let end = shape.iter().position(|token| token == ")")?;
    let sizes = shape[..end].iter().filter(|token| *token != ",");
    let shape = sizes.map(|size| size.trim_end_matches('L').parse().ok()).collect::<Option<_>>()?;
    Some((Header { order, kind, size, fortran, shape }, elements))
}

impl Header {
    /// The element at a place in C order, from the bytes of the file, and as an integer.
    fn element(&self, place: usize, bytes: &[u8]) -> (f64, Option<i128>) {
        let place = if self.fortran {
            // Digits of the place, the last axis first.
            let (mut rest, mut indices) = (place, Vec::new());
            for &n in self.shape.iter().rev() {
                indices.push(rest % n);
                rest /= n;
            }
            let (mut place, mut stride) = (0, 1);
            for (index, n) in indices.iter().rev().zip(&self.shape) {
                place += index * stride;
                stride *= n;
            }
            place
        } else {
            place
        };
        let mut word = [0; 8];
        for (i, &byte) in bytes[place * self.size..][..self.size].iter().enumerate() {
            word[if self.order == '>' { self.size - 1 - i } else { i }] = byte;
        }
        let word = u64::from_le_bytes(word);
        let unused = 64 - 8 * self.size as u32;
        let integer = match self.kind {
            'b' => Some(i128::from(word != 0)),
            'u' => Some(i128::from(word)),
            'i' => Some(i128::from((word << unused).cast_signed() >> unused)),
            _ => None,
        };
        let number = match (integer, self.size) {
            (Some(integer), _) => integer as f64,
            (None, 8) => f64::from_bits(word),
            (None, 4) => f64::from(f32::from_bits(word as u32)),
            _ => {
                let (exponent, fraction) = ((word >> 10 & 31) as i32, (word & 1023) as f64);
                let magnitude = match exponent {
                    0 => fraction * 2.0_f64.powi(-24),
                    31 if fraction == 0.0 => f64::INFINITY,
                    31 => f64::NAN,
                    _ => (1.0 + fraction / 1024.0) * 2.0_f64.powi(exponent - 15),
                };
                if word >> 15 == 1 { -magnitude } else { magnitude }
            }
        };
        (number, integer)
    }

    /// Asserts that an array was read exactly.
    fn assert_read(&self, found: &Npy, bytes: &[u8]) {
        assert_eq!(found.shape, self.shape);
        let flat = [self.shape[0], self.shape[1..].iter().product()];
        let dimensions = match &found.rows {
            NpyRows::U8(rows) => rows.shape(),
            NpyRows::F32(rows) => rows.shape(),
            NpyRows::F64(rows) => rows.shape(),
        };
        assert_eq!(dimensions, flat);
        let count = flat[0] * flat[1];
        assert_eq!(bytes.len(), count * self.size, "{self:?}");
        for place in 0..count {
            let at = [place / flat[1], place % flat[1]];
            let (expected, _) = self.element(place, bytes);
            match &found.rows {
                NpyRows::U8(rows) => {
                    assert_eq!((self.kind, self.size), ('u', 1));
                    assert_eq!(f64::from(rows[at]), expected);
                }
                NpyRows::F32(rows) => {
                    // No wider type fits.
                    assert!(self.size < 4 || (self.kind, self.size) == ('f', 4), "{self:?}");
                    assert!(same(rows[at], expected as f32), "{self:?}: {place}");
                }
                NpyRows::F64(rows) => {
                    let found = rows[at];
                    let nan = found.is_nan() && expected.is_nan();
                    assert!(nan || found.to_bits() == expected.to_bits(), "{self:?}: {place}");
                }
            }
        }
    }

    /// Asserts that integers were read exactly, limited to i64.
    fn assert_integers(&self, (found, shape): &(Vec<i64>, Vec<usize>), bytes: &[u8]) {
        assert_eq!(*shape, self.shape);
        assert_eq!(found.len() * self.size, bytes.len());
        for (place, &found) in found.iter().enumerate() {
            let expected = self.element(place, bytes).1.expect("a type of integers");
            assert_eq!(i128::from(found), expected.min(i64::MAX.into()), "{self:?}: {place}");
        }
    }
}

/// Reads arbitrary bytes: no panic, memory bounded by the input, and nothing that the reference parser
/// reads otherwise.
fn anything(bytes: &[u8]) {
    let ((rows, integers), peak) = measured(|| (npy::read(bytes), npy::read_integers(bytes)));
    // Buffers double as they grow, float64 from float16, and copies of another order. The constant covers
    // the longest header and a piece of the elements, whatever the header claims.
    assert!(peak <= 64 * bytes.len() + (1 << 18), "{peak} bytes for {} of input", bytes.len());
    if let Ok(found) = &rows {
        let (header, elements) = parse(bytes).expect("an array that was read");
        header.assert_read(found, elements);
    }
    if let Ok(found) = &integers {
        let (header, elements) = parse(bytes).expect("integers that were read");
        header.assert_integers(found, elements);
    }
    for error in [rows.err(), integers.err()].into_iter().flatten() {
        assert!(!error.to_string().is_empty());
    }
    for named in [None, Some("a")] {
        let choice = ArrayChoice { named, usual: Some("b") };
        let read = npz::with_array(Cursor::new(bytes), choice, |stream| {
            let read = npy::read(stream);
            read.map(|_| ()).map_err(|error| error.to_string())
        });
        assert!(read.err().is_none_or(|message| !message.is_empty()));
    }
}

/// An archive of these files without compression, as the definition of the zip format has it.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, contents) in files {
        let place = archive.len() as u32;
        // Versions, flags, method 0, time, checksum, sizes, length of the name, no extra field.
        let mut fields = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        fields.extend(crc32(contents).to_le_bytes());
        fields.extend([(contents.len() as u32).to_le_bytes(); 2].concat());
        fields.extend((name.len() as u16).to_le_bytes());
        fields.extend([0, 0]);
        archive.extend([b"PK\x03\x04", &fields[..], name.as_bytes(), contents].concat());
        directory
            .extend([b"PK\x01\x02\x14\0", &fields[..], &[0; 10], &place.to_le_bytes()].concat());
        directory.extend(name.as_bytes());
    }
    let count = (files.len() as u16).to_le_bytes();
    let sizes = [(directory.len() as u32).to_le_bytes(), (archive.len() as u32).to_le_bytes()];
    let end = [b"PK\x05\x06\0\0\0\0", &[count; 2].concat()[..], &sizes.concat(), &[0, 0]].concat();
    [archive, directory, end].concat()
}

/// Writes an array and reads it back, also from an archive; then cuts it off and appends a byte.
fn written(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let types = ["b1", "u1", "i1", "f2", "u2", "i2", "f4", "u4", "i4", "f8", "u8", "i8"];
    let name = types[input.size(types.len() - 1)];
    let order = if name.ends_with('1') { ['|', '<', '>'] } else { ['<', '>', '<'] }[input.size(2)];
    let fortran = input.flag();
    let shape: Vec<usize> = (0..2 + input.size(2)).map(|_| input.size(5)).collect();
    let size = usize::from(name.as_bytes()[1] - b'0');
    let kind = char::from(name.as_bytes()[0]);
    let header = Header { order, kind, size, fortran, shape };
    let elements: Vec<u8> =
        (0..size * header.shape.iter().product::<usize>()).map(|_| input.byte()).collect();

    let suffix = if input.flag() { "L" } else { "" };
    let [space, quote] = [["", " "][input.size(1)], ["'", "\""][input.size(1)]];
    let sizes: Vec<String> = header.shape.iter().map(|n| format!("{n}{suffix}")).collect();
    let end = ["", ",", ", "][input.size(2)];
    let mut items = [
        format!("{quote}descr{quote}:{space}{quote}{order}{name}{quote}"),
        format!("{quote}fortran_order{quote}:{space}{}", if fortran { "True" } else { "False" }),
        format!("{quote}shape{quote}:{space}({}{end})", sizes.join(&format!(",{space}"))),
    ];
    items.rotate_left(input.size(2));
    let mut text = format!("{{{}{end}}}", items.join(&format!(",{space}")));
    text.extend(std::iter::repeat_n(' ', input.size(63)));
    text.push_str(["", "\n"][input.size(1)]);
    let version = 1 + input.size(2) as u8;
    let length = text.len() as u32;
    let mut file = [b"\x93NUMPY", &[version, 0][..]].concat();
    file.extend(&length.to_le_bytes()[..if version == 1 { 2 } else { 4 }]);
    file.extend(text.as_bytes());
    file.extend(&elements);

    let found = npy::read(&file[..]).unwrap_or_else(|error| panic!("{error}: {text}"));
    header.assert_read(&found, &elements);
    let integers = npy::read_integers(&file[..]);
    assert_eq!(integers.is_ok(), kind != 'f', "{text}");
    if let Ok(integers) = integers {
        header.assert_integers(&integers, &elements);
    }
    let end = usize::from(input.byte()) * file.len() / 256;
    assert!(npy::read(&file[..end]).is_err(), "cut off at {end}: {text}");
    assert!(npy::read(&[&file[..], b"\n"].concat()[..]).is_err(), "a byte more: {text}");

    let zip = archive(&[("other.npy", b"of another purpose"), ("a.npy", &file)]);
    let read = |zip: &[u8]| {
        let choice = ArrayChoice { named: Some("a"), usual: None };
        npz::with_array(Cursor::new(zip), choice, |stream| {
            npy::read(stream).map_err(|error| error.to_string())
        })
    };
    header.assert_read(&read(&zip).unwrap(), &elements);
    // A wrong byte of the elements does not fit the checksum.
    if let Some(last) = elements.len().checked_sub(1) {
        let mut damaged = zip;
        let start =
            damaged.windows(file.len()).position(|window| window == file).expect("the file");
        damaged[start + file.len() - 1 - usize::from(input.byte()) % (last + 1)] ^= 1;
        assert!(read(&damaged).is_err(), "a wrong byte: {text}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    anything(bytes);
    written(bytes);
});
