//! Reading `.npy`, the array format of NumPy: `float32`, `float64` and `uint8`, any order.
//!
//! ```text
//! \x93NUMPY  major minor  header length (u16 in version 1, u32 later, little-endian)
//! {'descr': '<f4', 'fortran_order': False, 'shape': (60000, 784), }
//! the elements
//! ```
//! Source: NumPy's documentation of `numpy.lib.format`.
//!
//! Why not by `ndarray-npy`, which writes our arrays: it allocates what the header claims before
//! it looks at the file, so a damaged header ends the process instead of giving an error; and
//! `float64` would be held in memory beside the `float32` that is made of it.

use ndarray::{Array2, ArrayD, ShapeBuilder};
use std::fmt;
use std::io::{self, Read};

/// How a `.npy` file begins.
pub const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The dictionary of any plain array has under a hundred characters; this is room enough, and
/// little enough to allocate by the file's word.
const LONGEST_HEADER: usize = 1 << 16;

/// An array with its first axis as rows and all others flattened, in C order.
#[derive(Debug, PartialEq)]
pub enum NpyRows {
    /// `uint8`.
    U8(Array2<u8>),
    /// `float32`, or `float64` rounded to it.
    F32(Array2<f32>),
}

/// A file's rows and the shape it had.
#[derive(Debug, PartialEq)]
pub struct Npy {
    pub rows: NpyRows,
    pub shape: Vec<usize>,
}

/// Why a stream is not an array of rows.
#[derive(Debug)]
pub enum NpyError {
    /// The header is not what the format asks for; the text says how.
    Header(&'static str),
    /// An element type other than the three.
    ElementType(String),
    /// Fewer than two dimensions.
    Rank(Vec<usize>),
    /// More bytes than this machine can address.
    TooLarge(Vec<usize>),
    /// The compressed stream has no proper end.
    CutOff,
    /// The stream ends before the last element.
    Truncated {
        /// What the header promises.
        shape: Vec<usize>,
        /// Bytes promised.
        promised: usize,
        /// Bytes that were there.
        found: usize,
    },
    /// The stream goes on after the last element.
    Trailing(Vec<usize>),
    /// The stream cannot be read.
    Io(io::Error),
}

impl fmt::Display for NpyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(reason) => write!(f, "damaged .npy header: {reason}"),
            Self::ElementType(descr) => write!(
                f,
                "dtype {descr}; expected float32, float64 or uint8 (in NumPy: `a.astype('float32')`)"
            ),
            Self::Rank(shape) => write!(
                f,
                "an array of shape {shape:?}; expected at least 2 dimensions, rows first \
                 (in NumPy: `a.reshape(rows, -1)`)"
            ),
            Self::TooLarge(shape) => {
                write!(f, "its header claims shape {shape:?}, more than can be addressed")
            }
            Self::CutOff => write!(f, "truncated: the compressed stream has no proper end"),
            Self::Truncated { shape, promised, found } => write!(
                f,
                "truncated: its header promises shape {shape:?}, {promised} bytes, \
                 the file holds {found}"
            ),
            Self::Trailing(shape) => {
                write!(f, "longer than the shape {shape:?} that its header promises: damaged")
            }
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for NpyError {}

/// Reads a whole `.npy` file.
///
/// Memory grows with what the stream holds, never by the word of its header.
pub fn read(mut stream: impl Read) -> Result<Npy, NpyError> {
    let Header { descr, fortran_order, shape } = Header::read(&mut stream)?;
    if shape.len() < 2 {
        return Err(NpyError::Rank(shape));
    }
    let rows = match descr.as_str() {
        "|u1" | "<u1" | ">u1" | "u1" | "B" => {
            NpyRows::U8(read_rows(stream, &shape, fortran_order, |[byte]| byte)?)
        }
        "<f4" => NpyRows::F32(read_rows(stream, &shape, fortran_order, f32::from_le_bytes)?),
        ">f4" => NpyRows::F32(read_rows(stream, &shape, fortran_order, f32::from_be_bytes)?),
        "<f8" => NpyRows::F32(read_rows(stream, &shape, fortran_order, |b| {
            f64::from_le_bytes(b) as f32
        })?),
        ">f8" => NpyRows::F32(read_rows(stream, &shape, fortran_order, |b| {
            f64::from_be_bytes(b) as f32
        })?),
        _ => return Err(NpyError::ElementType(descr)),
    };
    Ok(Npy { rows, shape })
}

/// Reads a whole `.npy` file of whole numbers, of any width and any number of dimensions.
///
/// What is above the range of `i64` becomes its largest number.
pub fn read_integers(mut stream: impl Read) -> Result<(Vec<i64>, Vec<usize>), NpyError> {
    let Header { descr, fortran_order, shape } = Header::read(&mut stream)?;
    let large = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    macro_rules! rows {
        ($decode:expr) => {
            read_rows(stream, &shape, fortran_order, $decode)?
        };
    }
    let rows: Array2<i64> = match descr.trim_start_matches('|') {
        "u1" | "<u1" | ">u1" | "B" => rows!(|[byte]| i64::from(byte)),
        "i1" | "<i1" | ">i1" | "b" => rows!(|b| i64::from(i8::from_le_bytes(b))),
        "<i2" => rows!(|b| i64::from(i16::from_le_bytes(b))),
        ">i2" => rows!(|b| i64::from(i16::from_be_bytes(b))),
        "<u2" => rows!(|b| i64::from(u16::from_le_bytes(b))),
        ">u2" => rows!(|b| i64::from(u16::from_be_bytes(b))),
        "<i4" => rows!(|b| i64::from(i32::from_le_bytes(b))),
        ">i4" => rows!(|b| i64::from(i32::from_be_bytes(b))),
        "<u4" => rows!(|b| i64::from(u32::from_le_bytes(b))),
        ">u4" => rows!(|b| i64::from(u32::from_be_bytes(b))),
        "<i8" => rows!(i64::from_le_bytes),
        ">i8" => rows!(i64::from_be_bytes),
        "<u8" => rows!(|b| large(u64::from_le_bytes(b))),
        ">u8" => rows!(|b| large(u64::from_be_bytes(b))),
        _ => return Err(NpyError::ElementType(descr)),
    };
    Ok((rows.into_iter().collect(), shape))
}

/// Reads elements of `WIDTH` bytes to the end of the stream and lays them out as rows.
fn read_rows<T: Clone, const WIDTH: usize>(
    mut stream: impl Read,
    shape: &[usize],
    fortran_order: bool,
    decode: impl Fn([u8; WIDTH]) -> T,
) -> Result<Array2<T>, NpyError> {
    // A zero elsewhere must not hide an overflow, hence `max(1)`.
    let claim = shape.iter().try_fold(WIDTH.max(size_of::<T>()), |n, &m| n.checked_mul(m.max(1)));
    let Some(_) = claim.filter(|&claim| isize::try_from(claim).is_ok()) else {
        return Err(NpyError::TooLarge(shape.to_vec()));
    };
    let count: usize = shape.iter().product();
    let promised = count * WIDTH;

    let mut elements = Vec::new();
    let mut piece = Vec::with_capacity(PIECE);
    let mut found = 0;
    while found < promised {
        piece.clear();
        let wanted = PIECE.min(promised - found);
        match stream.by_ref().take(wanted as u64).read_to_end(&mut piece) {
            Ok(_) => {}
            // How a gzip stream says that it was cut off: what came before is in `piece`.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(NpyError::Io(error)),
        }
        found += piece.len();
        if piece.len() < wanted {
            return Err(NpyError::Truncated { shape: shape.to_vec(), promised, found });
        }
        elements.extend(piece.as_chunks::<WIDTH>().0.iter().map(|&bytes| decode(bytes)));
    }
    match stream.take(1).read_to_end(&mut Vec::new()) {
        Ok(0) => {}
        Ok(_) => return Err(NpyError::Trailing(shape.to_vec())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(NpyError::CutOff),
        Err(error) => return Err(NpyError::Io(error)),
    }
    elements.shrink_to_fit();

    // A shape without axes is that of one number.
    let rows = shape.first().copied().unwrap_or(1);
    let flat = [rows, shape.iter().skip(1).product()];
    let rows = if fortran_order {
        ArrayD::from_shape_vec(shape.f(), elements)
            .map(|array| array.as_standard_layout().into_owned())
            .and_then(|array| array.into_shape_with_order(flat))
    } else {
        Array2::from_shape_vec(flat, elements)
    };
    Ok(rows.expect("as many elements as the shape has"))
}

/// Bytes decoded at a time: a multiple of every width.
const PIECE: usize = 1 << 16;

/// What the dictionary of a `.npy` file says.
#[derive(Debug, PartialEq)]
pub struct Header {
    pub descr: String,
    pub fortran_order: bool,
    pub shape: Vec<usize>,
}

impl Header {
    pub fn read(stream: &mut impl Read) -> Result<Self, NpyError> {
        let [start @ .., major, _minor] = header_bytes::<8>(stream)?;
        if start != *MAGIC {
            return Err(NpyError::Header("it must begin with \\x93NUMPY"));
        }
        let length = match major {
            1 => usize::from(u16::from_le_bytes(header_bytes(stream)?)),
            2 | 3 => u32::from_le_bytes(header_bytes(stream)?) as usize,
            _ => return Err(NpyError::Header("expected format version 1, 2 or 3")),
        };
        if length > LONGEST_HEADER {
            return Err(NpyError::Header("longer than any plain array's"));
        }
        let mut text = vec![0; length];
        stream.read_exact(&mut text).map_err(header_ends)?;
        std::str::from_utf8(&text)
            .map_err(|_| "not text")
            .and_then(Self::parse)
            .map_err(NpyError::Header)
    }

    /// Reads the dictionary, a Python literal with three known keys.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        let mut rest = Literal(text);
        rest.expect('{', "it must be a dictionary")?;
        while !rest.next_is('}') {
            let key = rest.string()?;
            rest.expect(':', "a key without a value")?;
            match key {
                "descr" => descr = Some(rest.descr()?),
                "fortran_order" => fortran_order = Some(rest.boolean()?),
                "shape" => shape = Some(rest.tuple()?),
                _ => return Err("a key other than descr, fortran_order and shape"),
            }
            if !rest.next_is(',') {
                rest.expect('}', "the dictionary does not end")?;
                break;
            }
        }
        if !rest.0.trim().is_empty() {
            return Err("text after the dictionary");
        }
        Ok(Self {
            descr: descr.ok_or("without descr")?,
            fortran_order: fortran_order.ok_or("without fortran_order")?,
            shape: shape.ok_or("without shape")?,
        })
    }
}

/// What is left to read of a Python literal.
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

    /// The text up to where `ends` is true first, which is left to be read.
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
        let (text, rest) = self.0.split_once(quote).ok_or("a string does not end")?;
        self.0 = rest;
        Ok(text)
    }

    /// A type's name; for a list of fields, the list as it stands.
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
        let (fields, rest) = self.0.split_at(end.ok_or("a list does not end")?);
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
            numbers.push(digits.parse().map_err(|_| "shape must hold whole numbers")?);
            if !self.next_is(',') {
                self.expect(')', "the shape does not end")?;
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
        io::ErrorKind::UnexpectedEof => NpyError::Header("the file ends within it"),
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
    fn the_three_types_come_back() {
        let doubles = arr2(&[[0.1_f64, 0.2], [0.3, 1e300]]);
        let floats = arr2(&[[0.1_f32, 0.2], [0.3, f32::INFINITY]]);
        let bytes = arr2(&[[1_u8, 2, 3], [4, 5, 255]]);
        assert_eq!(read(&written(&doubles)[..]).unwrap().rows, NpyRows::F32(floats.clone()));
        assert_eq!(read(&written(&floats)[..]).unwrap().rows, NpyRows::F32(floats));
        assert_eq!(read(&written(&bytes)[..]).unwrap().rows, NpyRows::U8(bytes));
    }

    #[test]
    fn either_order_and_any_rank_gives_the_same_rows() {
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
    fn more_than_one_piece() {
        let many = Array2::from_shape_fn((5, 40_000), |(i, j)| (i * 40_000 + j) as f32);
        assert_eq!(read(&written(&many)[..]).unwrap().rows, NpyRows::F32(many));
    }

    #[test]
    fn big_endian_is_read() {
        let header = "{'descr': '>f4', 'fortran_order': False, 'shape': (1, 1), }\n";
        let npy = read(&with_header(header, &0.25_f32.to_be_bytes())[..]).unwrap();
        assert_eq!(npy.rows, NpyRows::F32(arr2(&[[0.25]])));
    }

    #[test]
    fn each_way_to_be_wrong_has_its_message() {
        assert!(message(&written(&arr2(&[[1_i32]]))).starts_with("dtype <i4; expected float32"));
        assert!(message(&written(&ndarray::arr1(&[1.0_f32]))).starts_with("an array of shape [1]"));
        assert!(message(b"\x93NUMPX\x01\x00").contains("must begin"));
        assert!(message(b"\x93NUMPY\x01\x00\x76\x00{").contains("ends within"));
        assert!(message(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{").contains("longer than any"));
        let mut file = written(&arr2(&[[1_u8, 2]]));
        file.push(0);
        assert!(message(&file).starts_with("longer than the shape [1, 2]"));
        file.truncate(file.len() - 2);
        assert_eq!(
            message(&file),
            "truncated: its header promises shape [1, 2], 2 bytes, the file holds 1"
        );
        let fields = "{'descr': [('a', '<f4'), ('b', [('c', 'i')])], 'fortran_order': False, \
                      'shape': (1, 1)}";
        assert!(message(&with_header(fields, &[])).starts_with("dtype [('a', '<f4')"));
    }

    #[test]
    fn a_header_that_claims_the_world_allocates_nothing() {
        for shape in ["(4294967296, 784)", "(1, 1152921504606846975)"] {
            let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}");
            assert!(message(&with_header(&header, &[])).starts_with("truncated"));
        }
        for shape in ["(4294967296, 4294967296)", "(0, 4294967296, 4294967296)"] {
            let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}");
            assert!(message(&with_header(&header, &[])).contains("more than can be addressed"));
        }
    }

    #[test]
    fn odd_dictionaries() {
        let fine = [
            "{'shape':(2,3),'fortran_order':True,'descr':\"<f8\"}",
            "  { 'descr' : '<f8' , 'fortran_order' : True , 'shape' : ( 2 , 3 , ) , } \n",
        ];
        for text in fine {
            let header = Header { descr: "<f8".into(), fortran_order: true, shape: vec![2, 3] };
            assert_eq!(Header::parse(text), Ok(header), "{text}");
        }
        let wrong = [
            ("", "it must be a dictionary"),
            ("{", "expected a string"),
            ("{'descr'", "a key without a value"),
            ("{'descr': '<f4'", "the dictionary does not end"),
            ("{'descr': '<f4}", "a string does not end"),
            ("{'descr': [", "a list does not end"),
            ("{'fortran_order': 1}", "fortran_order must be True or False"),
            ("{'shape': 3}", "shape must be a tuple"),
            ("{'shape': (-1,)}", "shape must hold whole numbers"),
            ("{'shape': (99999999999999999999,)}", "shape must hold whole numbers"),
            ("{'shape': (3 4)}", "the shape does not end"),
            ("{'color': 1}", "a key other than descr, fortran_order and shape"),
            ("{}", "without descr"),
            ("{} {}", "text after the dictionary"),
        ];
        for (text, reason) in wrong {
            assert_eq!(Header::parse(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn no_byte_of_the_header_can_do_harm() {
        let file = written(&Array2::from_elem((3, 4), 0.5_f32));
        for place in 0..file.len() - 3 * 4 * 4 {
            for byte in 0..=u8::MAX {
                let mut damaged = file.clone();
                damaged[place] = byte;
                if let Ok(npy) = read(&damaged[..]) {
                    let elements = match npy.rows {
                        NpyRows::U8(rows) => rows.len(),
                        NpyRows::F32(rows) => rows.len(),
                    };
                    assert_eq!(elements, 12, "byte {place} = {byte}");
                }
            }
        }
    }
}
