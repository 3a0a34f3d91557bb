//! Data sets: one example a row, from a file, a folder of pictures or the embedded sample.

pub mod columns;
pub mod file;
pub mod idx;
mod images;
mod lines;
mod notes;
pub mod npy;
mod npz;
mod read;
mod records;
mod rows;
mod split;
mod streamed;
pub mod table;

pub use images::is_picture;
pub use read::Plan;
pub use rows::Rows;

use crate::args::Reading;
use crate::failure::{Failure, Result};
use crate::labels::{self, Labels, Raw};
use crate::notes::{DataNotes, ImageShape};
use crate::part::Part;
use crate::scaling::Scaling;
use elbo::Dataset;
use ndarray::Array2;
use std::ops::Range;

/// Examples as rows, with what is known about where they come from.
#[derive(Debug)]
pub struct Data {
    /// What to call it in messages: the file's path, as the user gave it.
    pub name: String,
    /// The examples, in the order of the file.
    pub rows: Rows,
    /// What the features are called; empty where they have no names.
    pub columns: Vec<String>,
    /// Where a row is an image.
    pub image: Option<ImageShape>,
    /// Whether the images were resized to that shape.
    pub resized: bool,
    /// Labels that came with the rows.
    pub found: Option<Raw>,
    /// The column they came from.
    pub label_column: Option<String>,
    /// The class of each row, in the order of the file.
    pub labels: Option<Labels>,
    /// Whether the model sees the classes.
    pub conditional: bool,
    /// What is done to each row as it is read.
    pub scaling: Scaling,
    /// Whether rows are then read as 2x − 1.
    pub signed: bool,
    /// The rows' places in the file, if they are not read in its order.
    pub order: Option<Vec<u32>>,
}

const TRAIN_SAMPLE: &[u8] = include_bytes!("../sample/train-images-idx3-ubyte.gz");
const TEST_SAMPLE: &[u8] = include_bytes!("../sample/test-images-idx3-ubyte.gz");
const TRAIN_LABELS: &[u8] = include_bytes!("../sample/train-labels-idx1-ubyte.gz");
const TEST_LABELS: &[u8] = include_bytes!("../sample/test-labels-idx1-ubyte.gz");

impl Data {
    /// Rows without anything else known about them.
    pub fn new(name: &str, rows: Rows) -> Self {
        Self {
            name: name.to_owned(),
            rows,
            columns: Vec::new(),
            image: None,
            resized: false,
            found: None,
            label_column: None,
            labels: None,
            conditional: false,
            scaling: Scaling::None,
            signed: false,
            order: None,
        }
    }

    /// The first 5,000 training and 1,000 test images of MNIST, which the tool carries, with their labels.
    pub fn sample() -> Result<(Self, Self)> {
        let read = |name: &str, images: &[u8], labels: &[u8]| -> Result<Self> {
            let options = Reading::default();
            let plan = Plan { options: &options, like: None, labeled: false };
            let mut data = Self::parse(name, images, plan)?;
            data.labels = Some(labels::parse(name, labels)?.among(10, &[])?);
            Ok(data)
        };
        Ok((
            read("embedded training sample", TRAIN_SAMPLE, TRAIN_LABELS)?,
            read("embedded test sample", TEST_SAMPLE, TEST_LABELS)?,
        ))
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Elements of one example.
    pub fn width(&self) -> usize {
        self.rows.width()
    }

    /// Where row `row` is in the file.
    pub fn place(&self, row: usize) -> usize {
        self.order.as_ref().map_or(row, |order| order[row] as usize)
    }

    /// Some of the rows, as training and evaluation read them. After they are used, [`Self::check_read`].
    pub fn part(&self, rows: Range<usize>) -> Part<'_> {
        Part::new(self, rows)
    }

    /// Some of the rows as training and evaluation read them.
    pub fn numbers(&self, rows: Range<usize>) -> Result<Array2<f32>> {
        let part = self.part(rows);
        let mut numbers = Array2::zeros((part.row_count(), part.features()));
        for (i, mut row) in numbers.rows_mut().into_iter().enumerate() {
            part.read_row(i, row.as_slice_mut().expect("a fresh array"));
        }
        self.check_read()?;
        Ok(numbers)
    }

    /// The conditions of some of the rows, `[rows, classes]`, where the model sees the classes.
    pub fn conditions(&self, rows: Range<usize>) -> Option<Array2<f32>> {
        let part = self.part(rows);
        if part.conditions() == 0 {
            return None;
        }
        let mut conditions = Array2::zeros((part.row_count(), part.conditions()));
        for (i, mut row) in conditions.rows_mut().into_iter().enumerate() {
            part.read_condition(i, row.as_slice_mut().expect("a fresh array"));
        }
        Some(conditions)
    }

    /// That every row that was asked for could be read: a row of a file that stays on the disk is NaN where
    /// it cannot.
    pub fn check_read(&self) -> Result<()> {
        match &self.rows {
            Rows::Streamed(rows) => rows.check(),
            Rows::U8(_) | Rows::F32(_) => Ok(()),
        }
    }

    /// What came of using the rows: the failure to read one comes before what it brought about.
    pub fn used<T>(&self, result: elbo::Result<T>) -> Result<T> {
        self.check_read()?;
        Ok(result?)
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

    /// The name of each row's class, where there are labels.
    pub fn label_names(&self) -> Option<Vec<String>> {
        let labels = self.labels.as_ref()?;
        let name = |label: &u32| {
            labels.names.get(*label as usize).cloned().unwrap_or_else(|| label.to_string())
        };
        Some(labels.of_rows.iter().map(name).collect())
    }

    /// What to remember of them in a model file.
    pub fn notes(&self) -> DataNotes {
        DataNotes {
            columns: self.columns.clone(),
            image: self.image,
            resized: self.resized,
            scaling: self.scaling.clone(),
            signed: self.signed,
            classes: self.labels.as_ref().map(|labels| labels.names.clone()).unwrap_or_default(),
            label_column: self.label_column.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::read::EXPECTED;
    use ndarray::arr2;
    use ndarray_npy::WriteNpyExt;
    use std::io::Write;
    use std::path::Path;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    const IDX: [u8; 19] = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 51, 255];

    fn parse(name: &str, bytes: &[u8]) -> Result<Data> {
        let options = Reading::default();
        Data::parse(name, bytes, Plan { options: &options, like: None, labeled: false })
    }

    fn message(bytes: &[u8]) -> String {
        parse("x", bytes).unwrap_err().to_string()
    }

    #[test]
    fn the_sample_is_mnist() {
        let (train, test) = Data::sample().unwrap();
        assert_eq!((train.len(), test.len(), train.width()), (5000, 1000, 784));
        let shape = Some(ImageShape { height: 28, width: 28, channels: 1 });
        assert_eq!((train.image, test.image), (shape, shape));
        let digits = |data: &Data| {
            let mut counts = [0; 10];
            data.labels.iter().flat_map(|l| &l.of_rows).for_each(|&l| counts[l as usize] += 1);
            counts
        };
        assert_eq!(train.labels.as_ref().unwrap().of_rows[..5], [5, 0, 4, 1, 9]);
        assert_eq!(test.labels.as_ref().unwrap().of_rows[..5], [7, 2, 1, 0, 4]);
        assert!(digits(&train).iter().all(|n| (400..600).contains(n)), "{:?}", digits(&train));
        assert_eq!(digits(&test).iter().sum::<usize>(), 1000);
        // MNIST's mean gray value is 0.1307.
        let mean = train.numbers(0..5000).unwrap().mean().unwrap();
        assert!((mean - 0.13).abs() < 0.005, "{mean}");
    }

    #[test]
    fn formats_are_known_by_how_they_begin() {
        let bytes = arr2(&[[0_u8, 51, 255]]);
        let floats = bytes.mapv(|byte| f32::from(byte) / 255.0);
        let mut npy = Vec::new();
        floats.write_npy(&mut npy).unwrap();
        let table = format!("a,b,c\n0,{},1\n", 51.0_f32 / 255.0);
        for file in
            [&IDX[..], &gzip(&IDX), &npy, &gzip(&npy), table.as_bytes(), &gzip(table.as_bytes())]
        {
            assert_eq!(parse("x", file).unwrap().numbers(0..1).unwrap(), floats);
        }
        assert!(matches!(parse("x", &IDX).unwrap().rows, Rows::U8(found) if found == bytes));
        assert_eq!(parse("x", table.as_bytes()).unwrap().columns, ["a", "b", "c"]);
        // Of a .tsv only tabs stand between columns.
        assert_eq!(parse("x.tsv", b"a,b\tc\n1\t2\n").unwrap().columns, ["a,b", "c"]);
    }

    #[test]
    fn each_way_to_be_wrong_has_its_message() {
        assert_eq!(message(b""), format!("x: the file is empty; {EXPECTED}"));
        assert_eq!(message(b"P5\0"), format!("x: neither IDX nor .npy nor a table; {EXPECTED}"));
        assert!(parse("x.npy", b"1,2\n").unwrap_err().to_string().contains("neither IDX nor .npy"));
        assert!(message(b"PAR1...").starts_with("x: a Parquet file; write it as text first"));
        assert_eq!(
            message(&IDX[..18]),
            "x: truncated: its header promises 1×1×3 bytes, the file holds 2"
        );
        assert_eq!(
            message(&[0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 3]),
            "x: no data: its shape is [0, 3]"
        );
        let options = Reading::default();
        let plan = Plan { options: &options, like: None, labeled: false };
        let missing = Data::read(Path::new("no/such/file"), plan).unwrap_err().to_string();
        assert!(missing.starts_with("no/such/file: cannot read: No such file"), "{missing}");
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
}
