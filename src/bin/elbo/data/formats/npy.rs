//! Reader of `.npy`, the array format of NumPy: booleans, integers and floats in C or Fortran order.
//!
//! ```text
//! \x93NUMPY  major minor  header length (u16 in version 1, u32 later, little-endian)
//! {'descr': '<f4', 'fortran_order': False, 'shape': (60000, 784), }
//! the elements
//! ```
//! Source: NumPy's documentation of `numpy.lib.format`.
//!
//! The reader is our own because `ndarray-npy` and `npyz` 0.9 both trust the header: the former allocates
//! what it claims, and the latter allocates its stated length (up to 4 GiB), takes an overflowing shape for
//! an empty array, and ignores trailing data.

use super::dtype::Dtype;
use super::elements::{ElementsError, byte_count, read_bytes, read_pieces};
use ndarray::{Array2, ArrayD, ShapeBuilder};
use std::fmt;
use std::io::{self, Read};

/// First bytes of a `.npy` file.
pub const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Longest header that is read. The header of a plain array is shorter than a hundred bytes.
const LONGEST_HEADER: usize = 1 << 16;

/// Bytes decoded at a time: a multiple of every element size.
const PIECE: usize = 1 << 16;

/// Elements in C order; the first axis is the rows, all others are flattened.
#[derive(Debug, PartialEq)]
pub enum NpyRows {
    /// `uint8`.
    U8(Array2<u8>),
    /// `float32` and integers of 16 bits.
    F32(Array2<f32>),
    /// `float64` and wider integers.
    F64(Array2<f64>),
}

/// Contents of a file: its rows and the shape in its header.
#[derive(Debug, PartialEq)]
pub struct Npy {
    pub rows: NpyRows,
    pub shape: Vec<usize>,
}

/// Reason why a stream cannot be read as an array of rows.
#[derive(Debug)]
pub enum NpyError {
    /// The header is malformed; the text says where.
    Header(&'static str),
    /// The element type is not supported.
    ElementType(String),
    /// The array has fewer than two dimensions.
    Rank(Vec<usize>),
    /// The elements do not fit the header.
    Elements(ElementsError),
    /// The header cannot be read.
    Io(io::Error),
}

impl fmt::Display for NpyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(reason) => write!(f, "damaged .npy header: {reason}"),
            Self::ElementType(descr) => write!(
                f,
                "dtype {descr} is not supported; expected booleans, integers or floats of at most 64 bits (in NumPy: \
                 `a.astype('float64')`)"
            ),
            Self::Rank(shape) => write!(
                f,
                "the array has shape {shape:?}; expected at least 2 dimensions, rows first (in NumPy: \
                 `a.reshape(rows, -1)`)"
            ),
            Self::Elements(error) => write!(f, "{error}"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for NpyError {}

impl From<ElementsError> for NpyError {
    fn from(error: ElementsError) -> Self {
        Self::Elements(error)
    }
}

/// Reads a whole `.npy` file of data.
pub fn read(mut stream: impl Read) -> Result<Npy, NpyError> {
    let NpyHeader { descr, fortran_order, shape } = NpyHeader::read(&mut stream)?;
    if shape.len() < 2 {
        return Err(NpyError::Rank(shape));
    }
    let rows = match Dtype::parse(&descr) {
        Some(Dtype::U8) => NpyRows::U8(rows_of(read_bytes(stream, &shape)?, &shape, fortran_order)),
        Some(dtype) if dtype.fits_f32() => {
            let decode = |bytes: &[u8], out: &mut [f32]| dtype.decode_row(bytes, out);
            let elements = decoded(stream, &shape, dtype, decode)?;
            NpyRows::F32(rows_of(elements, &shape, fortran_order))
        }
        Some(dtype) => {
            let decode = |bytes: &[u8], out: &mut [f64]| dtype.decode_wide_row(bytes, out);
            let elements = decoded(stream, &shape, dtype, decode)?;
            NpyRows::F64(rows_of(elements, &shape, fortran_order))
        }
        None => return Err(NpyError::ElementType(descr)),
    };
    Ok(Npy { rows, shape })
}

/// Reads and decodes the elements of an array.
fn decoded<T: Copy + Default>(
    stream: impl Read,
    shape: &[usize],
    dtype: Dtype,
    decode: impl Fn(&[u8], &mut [T]),
) -> Result<Vec<T>, NpyError> {
    let promised = byte_count(shape, dtype.size)?;
    let mut elements = Vec::new();
    read_pieces(stream, shape, promised, PIECE, |bytes| {
        let start = elements.len();
        elements.resize(start + bytes.len() / dtype.size, T::default());
        decode(bytes, &mut elements[start..]);
    })?;
    elements.shrink_to_fit();
    Ok(elements)
}

/// Reads a whole `.npy` file of integers, of any size and any number of dimensions.
///
/// Integers above the range of `i64` become `i64::MAX`.
pub fn read_integers(mut stream: impl Read) -> Result<(Vec<i64>, Vec<usize>), NpyError> {
    let NpyHeader { descr, fortran_order, shape } = NpyHeader::read(&mut stream)?;
    let Some(dtype) = Dtype::parse(&descr).filter(|dtype| !dtype.is_float()) else {
        return Err(NpyError::ElementType(descr));
    };
    byte_count(&shape, size_of::<i64>())?;
    let promised = byte_count(&shape, dtype.size)?;
    let mut elements = Vec::new();
    read_pieces(stream, &shape, promised, PIECE, |bytes| {
        elements.extend(bytes.chunks_exact(dtype.size).map(|bytes| dtype.decode_integer(bytes)));
    })?;
    Ok((rows_of(elements, &shape, fortran_order).into_iter().collect(), shape))
}

/// Lays out elements as rows in C order.
fn rows_of<T: Clone>(elements: Vec<T>, shape: &[usize], fortran_order: bool) -> Array2<T> {
    // A shape without axes is that of a single number.
    let rows = shape.first().copied().unwrap_or(1);
    let flat = [rows, shape.iter().skip(1).product()];
    let rows = if fortran_order {
        ArrayD::from_shape_vec(shape.f(), elements)
            .map(|array| array.as_standard_layout().into_owned())
            .and_then(|array| array.into_shape_with_order(flat))
    } else {
        Array2::from_shape_vec(flat, elements)
    };
    rows.expect("as many elements as the shape has")
}

/// Entries of the dictionary in a `.npy` header.
#[derive(Debug, PartialEq)]
pub struct NpyHeader {
    pub descr: String,
    pub fortran_order: bool,
    pub shape: Vec<usize>,
}

impl NpyHeader {
    /// Reads the header and leaves the stream at the first element.
    pub fn read(stream: &mut impl Read) -> Result<Self, NpyError> {
        let [start @ .., major, _minor] = header_bytes::<8>(stream)?;
        if start != *MAGIC {
            return Err(NpyError::Header("it does not start with \\x93NUMPY"));
        }
        let length = match major {
            1 => usize::from(u16::from_le_bytes(header_bytes(stream)?)),
            2 | 3 => u32::from_le_bytes(header_bytes(stream)?) as usize,
            _ => return Err(NpyError::Header("expected format version 1, 2 or 3")),
        };
        if length > LONGEST_HEADER {
            return Err(NpyError::Header("it is longer than that of any plain array"));
        }
        let mut text = vec![0; length];
        stream.read_exact(&mut text).map_err(header_ends)?;
        std::str::from_utf8(&text)
            .map_err(|_| "it is not text")
            .and_then(Self::parse)
            .map_err(NpyError::Header)
    }

    /// Parses the dictionary, a Python literal with three known keys.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        let mut rest = Literal(text);
        rest.expect('{', "it is not a dictionary")?;
        while !rest.next_is('}') {
            let key = rest.string()?;
            rest.expect(':', "a key without a value")?;
            match key {
                "descr" => descr = Some(rest.descr()?),
                "fortran_order" => fortran_order = Some(rest.boolean()?),
                "shape" => shape = Some(rest.tuple()?),
                _ => return Err("unknown key; expected descr, fortran_order and shape"),
            }
            if !rest.next_is(',') {
                rest.expect('}', "the dictionary is not closed")?;
                break;
            }
        }
        if !rest.0.trim().is_empty() {
            return Err("text follows the dictionary");
        }
        Ok(Self {
            descr: descr.ok_or("descr is missing")?,
            fortran_order: fortran_order.ok_or("fortran_order is missing")?,
            shape: shape.ok_or("shape is missing")?,
        })
    }
}

/// Rest of a Python literal that is being parsed.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    fn next_is(&mut self, wanted: char) -> bool {
        match self.0.trim_start().strip_prefix(wanted) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char, otherwise: &'static str) -> Result<(), &'static str> {
        if self.next_is(wanted) { Ok(()) } else { Err(otherwise) }
    }

    /// Takes the text before the first character for which `ends` is true.
    fn until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let text = self.0.trim_start();
        let (taken, rest) = text.split_at(text.find(ends).unwrap_or(text.len()));
        self.0 = rest;
        taken
    }

    fn string(&mut self) -> Result<&'a str, &'static str> {
        let quote = if self.next_is('"') { '"' } else { '\'' };
        if quote == '\'' {
            self.expect('\'', "expected a string")?;
        }
        let (text, rest) = self.0.split_once(quote).ok_or("a string is not closed")?;
        self.0 = rest;
        Ok(text)
    }

    /// Takes the name of a type; a list of fields is taken as it is written.
    fn descr(&mut self) -> Result<String, &'static str> {
        if !self.next_is('[') {
            return self.string().map(str::to_owned);
        }
        let mut depth = 1_usize;
        let end = self.0.find(|c| {
            depth = match c {
                '[' => depth + 1,
                ']' => depth - 1,
                _ => depth,
            };
            depth == 0
        });
        let (fields, rest) = self.0.split_at(end.ok_or("a list is not closed")?);
        self.0 = &rest[1..];
        Ok(format!("[{fields}]"))
    }

    fn boolean(&mut self) -> Result<bool, &'static str> {
        match self.until(|c| !c.is_ascii_alphabetic()) {
            "True" => Ok(true),
            "False" => Ok(false),
            _ => Err("fortran_order must be True or False"),
        }
    }

    fn tuple(&mut self) -> Result<Vec<usize>, &'static str> {
        self.expect('(', "shape must be a tuple")?;
        let mut numbers = Vec::new();
        while !self.next_is(')') {
            let digits = self.until(|c| !c.is_ascii_digit());
            numbers.push(digits.parse().map_err(|_| "shape must contain integers")?);
            // Python 2 wrote long integers as 2L.
            self.0 = self.0.strip_prefix('L').unwrap_or(self.0);
            if !self.next_is(',') {
                self.expect(')', "the shape is not closed")?;
                break;
            }
        }
        Ok(numbers)
    }
}

fn header_bytes<const N: usize>(stream: &mut impl Read) -> Result<[u8; N], NpyError> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).map_err(header_ends)?;
    Ok(bytes)
}

fn header_ends(error: io::Error) -> NpyError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => NpyError::Header("the file ends inside it"),
        _ => NpyError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, arr2};
    use ndarray_npy::WriteNpyExt;

    fn written(array: &impl WriteNpyExt) -> Vec<u8> {
        let mut file = Vec::new();
        array.write_npy(&mut file).unwrap();
        file
    }

    fn with_header(dictionary: &str, data: &[u8]) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.extend([1, 0]);
        file.extend((dictionary.len() as u16).to_le_bytes());
        file.extend(dictionary.as_bytes());
        file.extend(data);
        file
    }

    fn message(file: &[u8]) -> String {
        read(file).unwrap_err().to_string()
    }

    #[test]
    fn reads_each_element_type() {
        let doubles = arr2(&[[0.1_f64, 0.2], [0.3, 1e300]]);
        let floats = arr2(&[[0.1_f32, 0.2], [0.3, f32::INFINITY]]);
        let integers = arr2(&[[1_700_000_031_i64, -7], [0, 1]]);
        let wide = integers.mapv(|i| i as f64);
        assert_eq!(read(&written(&integers)[..]).unwrap().rows, NpyRows::F64(wide));
        let short = arr2(&[[-3_i16, 255], [0, 1]]);
        let exact = short.mapv(f32::from);
        assert_eq!(read(&written(&short)[..]).unwrap().rows, NpyRows::F32(exact));
        let bytes = arr2(&[[1_u8, 2, 3], [4, 5, 255]]);
        assert_eq!(read(&written(&doubles)[..]).unwrap().rows, NpyRows::F64(doubles));
        assert_eq!(read(&written(&floats)[..]).unwrap().rows, NpyRows::F32(floats));
        assert_eq!(read(&written(&bytes)[..]).unwrap().rows, NpyRows::U8(bytes));
    }

    #[test]
    fn reads_both_orders_and_any_rank() {
        let c = Array3::from_shape_fn((2, 3, 4), |(i, j, k)| (100 * i + 10 * j + k) as f32);
        let fortran = Array3::from_shape_fn((2, 3, 4).f(), |(i, j, k)| c[[i, j, k]]);
        let (c, fortran) = (written(&c), written(&fortran));
        assert_ne!(c, fortran);
        let read_c = read(&c[..]).unwrap();
        assert_eq!(read_c, read(&fortran[..]).unwrap());
        assert_eq!(read_c.shape, [2, 3, 4]);
        let NpyRows::F32(rows) = read_c.rows else { panic!("f32 was written") };
        assert_eq!(rows.dim(), (2, 12));
        assert_eq!(rows[[1, 7]], 113.0);
        assert!(rows.is_standard_layout());
    }

    #[test]
    fn reads_arrays_longer_than_one_piece() {
        let many = Array2::from_shape_fn((5, 40_000), |(i, j)| (i * 40_000 + j) as f32);
        assert_eq!(read(&written(&many)[..]).unwrap().rows, NpyRows::F32(many));
    }

    #[test]
    fn reads_big_endian() {
        let header = "{'descr': '>f4', 'fortran_order': False, 'shape': (1, 1), }\n";
        let npy = read(&with_header(header, &0.25_f32.to_be_bytes())[..]).unwrap();
        assert_eq!(npy.rows, NpyRows::F32(arr2(&[[0.25]])));
    }

    #[test]
    fn rejects_what_is_not_an_array_of_rows() {
        assert!(
            message(&with_header(
                "{'descr': '<c8', 'fortran_order': False, 'shape': (1, 1)}",
                &[0; 8]
            ))
            .starts_with("dtype <c8 is not supported; expected booleans, integers or")
        );
        assert!(
            message(&written(&ndarray::arr1(&[1.0_f32])))
                .starts_with("the array has shape [1]; expected")
        );
        assert!(message(b"\x93NUMPX\x01\x00").contains("does not start"));
        assert!(message(b"\x93NUMPY\x01\x00\x76\x00{").contains("ends inside"));
        assert!(message(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{").contains("longer than that of any"));
        let mut file = written(&arr2(&[[1_u8, 2]]));
        file.push(0);
        assert!(message(&file).starts_with("damaged: data continue after the shape [1, 2]"));
        file.truncate(file.len() - 2);
        assert_eq!(
            message(&file),
            "truncated: the header promises shape [1, 2], but only 1 of 2 bytes follow"
        );
        let fields = "{'descr': [('a', '<f4'), ('b', [('c', 'i')])], 'fortran_order': False, \
                      'shape': (1, 1)}";
        assert!(message(&with_header(fields, &[])).starts_with("dtype [('a', '<f4')"));
    }

    #[test]
    fn allocates_nothing_for_a_huge_claimed_shape() {
        for shape in ["(4294967296, 784)", "(1, 1152921504606846975)"] {
            let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}");
            assert!(message(&with_header(&header, &[])).starts_with("truncated"));
        }
        for shape in ["(4294967296, 4294967296)", "(0, 4294967296, 4294967296)"] {
            let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}");
            assert!(message(&with_header(&header, &[])).contains("too large to address"));
        }
    }

    #[test]
    fn parses_any_valid_dictionary_and_names_errors() {
        let fine = [
            "{'shape':(2,3),'fortran_order':True,'descr':\"<f8\"}",
            "  { 'descr' : '<f8' , 'fortran_order' : True , 'shape' : ( 2 , 3 , ) , } \n",
            "{'descr': '<f8', 'fortran_order': True, 'shape': (2L, 3L), }    \n",
            "{'descr': '<f8', 'fortran_order': True, 'shape': (2L, 3), }",
        ];
        for text in fine {
            let header = NpyHeader { descr: "<f8".into(), fortran_order: true, shape: vec![2, 3] };
            assert_eq!(NpyHeader::parse(text), Ok(header), "{text}");
        }
        let wrong = [
            ("", "it is not a dictionary"),
            ("{", "expected a string"),
            ("{'descr'", "a key without a value"),
            ("{'descr': '<f4'", "the dictionary is not closed"),
            ("{'descr': '<f4}", "a string is not closed"),
            ("{'descr': [", "a list is not closed"),
            ("{'fortran_order': 1}", "fortran_order must be True or False"),
            ("{'shape': 3}", "shape must be a tuple"),
            ("{'shape': (-1,)}", "shape must contain integers"),
            ("{'shape': (99999999999999999999,)}", "shape must contain integers"),
            ("{'shape': (3 4)}", "the shape is not closed"),
            ("{'shape': (L,)}", "shape must contain integers"),
            ("{'shape': (2LL,)}", "the shape is not closed"),
            ("{'shape': (2 L,)}", "the shape is not closed"),
            ("{'shape': (np.int64(2), 3)}", "shape must contain integers"),
            ("{'color': 1}", "unknown key; expected descr, fortran_order and shape"),
            ("{}", "descr is missing"),
            ("{} {}", "text follows the dictionary"),
        ];
        for (text, reason) in wrong {
            assert_eq!(NpyHeader::parse(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn survives_any_damaged_header_byte() {
        let file = written(&Array2::from_elem((3, 4), 0.5_f32));
        for place in 0..file.len() - 3 * 4 * 4 {
            for byte in 0..=u8::MAX {
                let mut damaged = file.clone();
                damaged[place] = byte;
                if let Ok(npy) = read(&damaged[..]) {
                    let elements = match npy.rows {
                        NpyRows::U8(rows) => rows.len(),
                        NpyRows::F32(rows) => rows.len(),
                        NpyRows::F64(rows) => rows.len(),
                    };
                    assert_eq!(elements, 12, "byte {place} = {byte}");
                }
            }
        }
    }
}
