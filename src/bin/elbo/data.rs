//! Data sets: one example a row, from a file or from the embedded sample.

use crate::failure::{Failure, Result};
use crate::labels::{self, Labels};
use crate::part::Part;
use crate::stream;
use crate::{idx, npy};
use elbo::Dataset;
use ndarray::{Array2, Axis, Slice};
use std::io::Read;
use std::ops::Range;
use std::path::Path;

/// Examples as rows, with what is known about where they come from.
#[derive(Debug)]
pub struct Data {
    /// What to call it in messages: the file's path, as the user gave it.
    pub name: String,
    /// The examples.
    pub rows: Rows,
    /// Height and width, where a row is an image.
    pub image: Option<[usize; 2]>,
    /// The class of each row, and how many classes there are.
    pub labels: Option<Labels>,
    /// Whether rows are read as 2x − 1 of what is stored.
    pub signed: bool,
}

/// The examples, in the type they were stored in.
#[derive(Debug, PartialEq)]
pub enum Rows {
    /// Bytes, 255 standing for 1. They stay bytes in memory.
    U8(Array2<u8>),
    /// Any finite numbers.
    F32(Array2<f32>),
}

const TRAIN_SAMPLE: &[u8] = include_bytes!("sample/train-images-idx3-ubyte.gz");
const TEST_SAMPLE: &[u8] = include_bytes!("sample/test-images-idx3-ubyte.gz");
const TRAIN_LABELS: &[u8] = include_bytes!("sample/train-labels-idx1-ubyte.gz");
const TEST_LABELS: &[u8] = include_bytes!("sample/test-labels-idx1-ubyte.gz");

/// What can be read, for messages.
const EXPECTED: &str = "expected IDX images (plain or .gz) or a .npy array";

impl Data {
    /// Reads a file: IDX or `.npy`, either of them gzipped or not, told apart by how it begins.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&path.display().to_string(), stream::open(path, EXPECTED)?)
    }

    /// The first 5,000 training and 1,000 test images of MNIST, which the tool carries, without or
    /// with their labels.
    pub fn sample(labelled: bool) -> Result<(Self, Self)> {
        let read = |name: &str, images, labels| -> Result<Self> {
            let mut data = Self::parse(name, images)?;
            if labelled {
                data.labels = Some(labels::parse(name, labels)?.of_classes(10)?);
            }
            Ok(data)
        };
        Ok((
            read("embedded training sample", TRAIN_SAMPLE, TRAIN_LABELS)?,
            read("embedded test sample", TEST_SAMPLE, TEST_LABELS)?,
        ))
    }

    fn parse(name: &str, stream: impl Read) -> Result<Self> {
        let wrong = |reason: String| Failure::Run(format!("{name}: {reason}"));
        let mut plain = stream::plain(name, stream, EXPECTED)?;
        let start = stream::start(name, &mut plain, EXPECTED)?;
        let (rows, shape) = if start.starts_with(npy::MAGIC) {
            let npy::Npy { rows, shape } = npy::read(plain).map_err(|e| wrong(e.to_string()))?;
            match rows {
                npy::Rows::U8(rows) => (Rows::U8(rows), shape),
                npy::Rows::F32(rows) => (Rows::F32(rows), shape),
            }
        } else if start.starts_with(&[0, 0]) {
            let idx::Idx { shape, bytes } = idx::read(plain).map_err(|e| wrong(e.to_string()))?;
            let flat = [shape[0], shape[1..].iter().product()];
            let rows = Array2::from_shape_vec(flat, bytes).expect("the reader counted them");
            (Rows::U8(rows), shape)
        } else {
            return Err(wrong(format!("neither IDX nor .npy; {EXPECTED}")));
        };

        let image = image_of(&shape);
        let data = Self { name: name.to_owned(), rows, image, labels: None, signed: false };
        if data.is_empty() || data.width() == 0 {
            return Err(wrong(format!("no data: its shape is {shape:?}")));
        }
        Ok(data)
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        self.rows.len_of(Axis(0))
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements of one example.
    pub fn width(&self) -> usize {
        self.rows.len_of(Axis(1))
    }

    /// Some of the rows, as training and evaluation read them.
    pub fn part(&self, rows: Range<usize>) -> Part<'_> {
        Part::new(self, rows)
    }

    /// The first rows, as training reads them.
    pub fn into_first(self, rows: usize) -> Box<dyn Dataset> {
        let first = Slice::from(..rows);
        match self.rows {
            Rows::U8(mut bytes) => {
                bytes.slice_axis_inplace(Axis(0), first);
                Box::new(bytes)
            }
            Rows::F32(mut numbers) => {
                numbers.slice_axis_inplace(Axis(0), first);
                Box::new(numbers)
            }
        }
    }

    /// Some of the rows as training and evaluation read them.
    pub fn numbers(&self, rows: Range<usize>) -> Array2<f32> {
        let part = self.part(rows);
        let mut numbers = Array2::zeros((part.row_count(), part.features()));
        for (i, mut row) in numbers.rows_mut().into_iter().enumerate() {
            part.read_row(i, row.as_slice_mut().expect("a fresh array"));
        }
        numbers
    }

    /// That the rows are as wide as the model's input.
    pub fn check_width(&self, expected: usize, of: &str) -> Result<()> {
        let found = self.width();
        if found == expected {
            return Ok(());
        }
        Err(Failure::Run(format!(
            "{}: rows of {found} elements; expected {expected}, as {of} has",
            self.name
        )))
    }

    /// The conditions of some of the rows, `[rows, classes]`, where there are labels.
    pub fn conditions(&self, rows: Range<usize>) -> Option<Array2<f32>> {
        let labels = self.labels.as_ref()?;
        let part = self.part(rows);
        let mut conditions = Array2::zeros((part.row_count(), labels.classes));
        for (i, mut row) in conditions.rows_mut().into_iter().enumerate() {
            part.read_condition(i, row.as_slice_mut().expect("a fresh array"));
        }
        Some(conditions)
    }

    /// The name of each row's class, where there are labels.
    pub fn label_names(&self) -> Option<Vec<String>> {
        let labels = self.labels.as_ref()?;
        Some(labels.of_rows.iter().map(ToString::to_string).collect())
    }

    /// Gives each row its class.
    pub fn label(&mut self, labels: Labels) -> Result<()> {
        if labels.of_rows.len() != self.len() {
            return Err(Failure::Run(format!(
                "{}: {} labels; expected {}, one for each row of {}",
                labels.name,
                labels.of_rows.len(),
                self.len(),
                self.name
            )));
        }
        self.labels = Some(labels);
        Ok(())
    }

    /// Moves a tenth of the rows, drawn by `seed`, to the end, and says how many remain before
    /// them. At least one row goes and at least one stays.
    ///
    /// Within the one array: a copy of either part would double the memory of a large file.
    pub fn hold_out_a_tenth(&mut self, seed: u64) -> Result<usize> {
        let rows = self.len();
        if rows < 2 {
            return Err(Failure::Run(format!(
                "{}: a single row, none to hold out for the test; name another file with --test",
                self.name
            )));
        }
        let kept = rows - (rows / 10).max(1);
        let mut random = SplitMix64(seed);
        // The last steps of Fisher and Yates' shuffle: each leaves one drawn row at the end.
        for last in (kept..rows).rev() {
            let drawn = random.below(last as u64 + 1) as usize;
            match &mut self.rows {
                Rows::U8(rows) => swap_rows(rows, drawn, last),
                Rows::F32(rows) => swap_rows(rows, drawn, last),
            }
            if let Some(labels) = &mut self.labels {
                labels.of_rows.swap(drawn, last);
            }
        }
        Ok(kept)
    }
}

impl Rows {
    fn len_of(&self, axis: Axis) -> usize {
        match self {
            Self::U8(rows) => rows.len_of(axis),
            Self::F32(rows) => rows.len_of(axis),
        }
    }
}

/// Exchanges row `a` with row `b`, which is not before it.
fn swap_rows<T>(rows: &mut Array2<T>, a: usize, b: usize) {
    if a < b {
        let width = rows.ncols();
        let elements = rows.as_slice_mut().expect("the readers make standard layout");
        let (before_b, from_b) = elements.split_at_mut(b * width);
        before_b[a * width..][..width].swap_with_slice(&mut from_b[..width]);
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): enough to draw which rows are held out.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform below `bound`, up to a bias of `bound`·2⁻⁶⁴.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// Height and width of the images in an array of `shape`: its axes beyond the first, without
/// those of length 1, where two are left.
fn image_of(shape: &[usize]) -> Option<[usize; 2]> {
    let axes: Vec<usize> = shape[1..].iter().copied().filter(|&n| n != 1).collect();
    axes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;
    use ndarray_npy::WriteNpyExt;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    const IDX: [u8; 19] = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 51, 255];

    fn message(bytes: &[u8]) -> String {
        Data::parse("x", bytes).unwrap_err().to_string()
    }

    #[test]
    fn the_sample_is_mnist() {
        let (train, test) = Data::sample(true).unwrap();
        assert_eq!((train.len(), test.len(), train.width()), (5000, 1000, 784));
        assert_eq!((train.image, test.image), (Some([28, 28]), Some([28, 28])));
        let digits = |data: &Data| {
            let mut counts = [0; 10];
            data.labels.iter().flat_map(|l| &l.of_rows).for_each(|&l| counts[l as usize] += 1);
            counts
        };
        assert_eq!(train.labels.as_ref().unwrap().of_rows[..5], [5, 0, 4, 1, 9]);
        assert_eq!(test.labels.as_ref().unwrap().of_rows[..5], [7, 2, 1, 0, 4]);
        assert!(digits(&train).iter().all(|n| (400..600).contains(n)), "{:?}", digits(&train));
        assert_eq!(digits(&test).iter().sum::<usize>(), 1000);
        assert!(Data::sample(false).unwrap().0.labels.is_none());
        // MNIST's mean grey value is 0.1307.
        let mean = train.numbers(0..5000).mean().unwrap();
        assert!((mean - 0.13).abs() < 0.005, "{mean}");
    }

    #[test]
    fn formats_are_known_by_how_they_begin() {
        let bytes = arr2(&[[0_u8, 51, 255]]);
        let floats = bytes.mapv(|byte| f32::from(byte) / 255.0);
        let mut npy = Vec::new();
        floats.write_npy(&mut npy).unwrap();
        for file in [IDX.to_vec(), gzip(&IDX), npy.clone(), gzip(&npy)] {
            let data = Data::parse("x", &file[..]).unwrap();
            assert_eq!(data.numbers(0..1), floats);
        }
        assert_eq!(Data::parse("x", &IDX[..]).unwrap().rows, Rows::U8(bytes));
    }

    #[test]
    fn each_way_to_be_wrong_has_its_message() {
        assert_eq!(message(b""), format!("x: the file is empty; {EXPECTED}"));
        assert_eq!(message(b"P5 28 28"), format!("x: neither IDX nor .npy; {EXPECTED}"));
        assert_eq!(
            message(&IDX[..18]),
            "x: truncated: its header promises 1×1×3 bytes, the file holds 2"
        );
        assert_eq!(
            message(&[0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 3]),
            "x: no data: its shape is [0, 3]"
        );
        let missing = Data::read(Path::new("no/such/file")).unwrap_err().to_string();
        assert!(missing.starts_with("no/such/file: cannot read: No such file"), "{missing}");
        let folder = Data::read(&std::env::temp_dir()).unwrap_err().to_string();
        assert!(folder.contains("cannot read: is a folder"), "{folder}");
    }

    #[test]
    fn a_gzip_file_cut_anywhere_is_an_error() {
        let whole = gzip(&IDX);
        for end in 0..whole.len() {
            let message = message(&whole[..end]);
            assert!(
                ["empty", "truncated", "neither"].iter().any(|word| message.contains(word)),
                "{end}: {message}"
            );
        }
        let mut two = whole.clone();
        two.extend(gzip(&[7]));
        assert!(message(&two).contains("longer than"), "{}", message(&two));
    }

    #[test]
    fn a_tenth_is_held_out_by_the_seed() {
        let numbered = |n: usize| Data {
            name: "x".into(),
            rows: Rows::U8(Array2::from_shape_fn((n, 2), |(i, _)| i as u8)),
            image: None,
            labels: Some(Labels { name: "l".into(), of_rows: (0..n as u32).collect(), classes: n }),
            signed: false,
        };
        let held_out = |n, seed| {
            let mut data = numbered(n);
            let kept = data.hold_out_a_tenth(seed).unwrap();
            let Rows::U8(rows) = data.rows else { unreachable!() };
            // Labels go where their rows go.
            let labels = data.labels.unwrap().of_rows;
            assert!(rows.column(0).iter().zip(labels).all(|(&row, label)| u32::from(row) == label));
            let mut all: Vec<u8> = rows.column(0).to_vec();
            let tail = all[kept..].to_vec();
            all.sort_unstable();
            assert!(all.iter().enumerate().all(|(i, &v)| usize::from(v) == i));
            tail
        };
        assert_eq!(held_out(100, 1).len(), 10);
        assert_eq!(held_out(100, 1), held_out(100, 1));
        assert_ne!(held_out(100, 1), held_out(100, 2));
        assert_eq!(held_out(2, 1).len(), 1);
        assert!(numbered(1).hold_out_a_tenth(1).unwrap_err().to_string().contains("--test"));
    }

    #[test]
    fn images_are_two_axes_beyond_the_rows() {
        assert_eq!(image_of(&[10, 28, 28]), Some([28, 28]));
        assert_eq!(image_of(&[10, 1, 28, 20]), Some([28, 20]));
        assert_eq!(image_of(&[10, 784]), None);
        assert_eq!(image_of(&[10, 32, 32, 3]), None);
    }
}
