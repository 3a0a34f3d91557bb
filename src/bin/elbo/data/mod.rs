//! Data sets: one example a row, from a file, a folder of pictures or the embedded sample.

pub mod description;
pub mod domain;
pub mod formats;
mod hold_out;
pub mod labels;
mod load;
mod rows;
pub mod scaling;
pub mod train_test;

pub use description::DataDescription;
pub use formats::image_shape::ImageShape;
pub use load::{Plan, ReadOptions, Stream};
pub use rows::Rows;

use crate::failure::{Failure, Result};
use elbo::Dataset;
use labels::{Labels, Raw};
use ndarray::Array2;
use scaling::Scaling;
use std::ops::Range;
use std::path::Path;

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
    pub fn view(&self, rows: Range<usize>) -> DataView<'_> {
        DataView::new(self, rows)
    }

    /// Some of the rows as training and evaluation read them.
    pub fn numbers(&self, rows: Range<usize>) -> Result<Array2<f32>> {
        let part = self.view(rows);
        let mut numbers = Array2::zeros((part.row_count(), part.features()));
        for (i, mut row) in numbers.rows_mut().into_iter().enumerate() {
            part.read_row(i, row.as_slice_mut().expect("a fresh array"));
        }
        self.check_read()?;
        Ok(numbers)
    }

    /// The conditions of some of the rows, `[rows, classes]`, where the model sees the classes.
    pub fn conditions(&self, rows: Range<usize>) -> Option<Array2<f32>> {
        let part = self.view(rows);
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

    /// The file without its folder, for titles.
    pub fn file_name(&self) -> String {
        let name = Path::new(&self.name).file_name();
        name.map_or_else(|| self.name.clone(), |name| name.to_string_lossy().into_owned())
    }

    /// That there is the row that `option` asks for.
    pub fn check_row(&self, option: &str, row: usize) -> Result<()> {
        if row < self.len() {
            return Ok(());
        }
        Err(Failure::Usage(format!(
            "{option} {row}: {} has {} rows, 0 to {}",
            self.name,
            self.len(),
            self.len() - 1
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
    pub fn notes(&self) -> DataDescription {
        DataDescription {
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

/// Rows in a range, scaled and mapped to where the model wants them, with their classes one-hot.
pub struct DataView<'a> {
    data: &'a Data,
    rows: Range<usize>,
}

impl<'a> DataView<'a> {
    pub fn new(data: &'a Data, rows: Range<usize>) -> Self {
        Self { data, rows }
    }

    /// Where row `row` of the part is in the file.
    fn place(&self, row: usize) -> usize {
        self.data.place(self.rows.start + row)
    }
}

impl Dataset for DataView<'_> {
    fn row_count(&self) -> usize {
        self.rows.len()
    }

    fn features(&self) -> usize {
        self.data.width()
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.data.rows.read_row(self.place(row), out);
        self.data.scaling.apply(out);
        if self.data.signed {
            // Twice x is exact: one rounding, as of a fused multiply-add.
            out.iter_mut().for_each(|x| *x = 2.0 * *x - 1.0);
        }
    }

    fn prefetch(&self, rows: &[u32]) {
        if let Rows::Streamed(streamed) = &self.data.rows {
            streamed.prefetch(rows.iter().map(|&row| self.place(row as usize)));
        }
    }

    fn conditions(&self) -> usize {
        if !self.data.conditional {
            return 0;
        }
        self.data.labels.as_ref().map_or(0, |labels| labels.classes)
    }

    fn read_condition(&self, row: usize, out: &mut [f32]) {
        out.fill(0.0);
        if let Some(labels) = self.data.labels.as_ref().filter(|_| self.data.conditional) {
            out[labels.of_rows[self.place(row)] as usize] = 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn rows_are_mapped_and_classes_are_one_hot() {
        let (name, of_rows) = ("l".into(), vec![2, 0, 1]);
        let rows = Rows::U8(arr2(&[[0, 51], [255, 0], [102, 255]]));
        let mut data = Data {
            labels: Some(Labels { name, of_rows, classes: 3, names: Vec::new() }),
            conditional: true,
            signed: true,
            ..Data::new("x", rows)
        };
        let part = data.view(1..3);
        let (mut row, mut condition) = ([f32::NAN; 2], [f32::NAN; 3]);
        part.read_row(1, &mut row);
        part.read_condition(1, &mut condition);
        assert_eq!((row, condition), ([0.4_f32.mul_add(2.0, -1.0), 1.0], [0.0, 1.0, 0.0]));
        assert_eq!((part.row_count(), part.features(), part.conditions()), (2, 2, 3));
        assert_eq!(data.numbers(0..1).unwrap(), arr2(&[[-1.0, 0.2_f32.mul_add(2.0, -1.0)]]));
        assert_eq!(data.conditions(0..1), Some(arr2(&[[0.0, 0.0, 1.0]])));
        data.conditional = false;
        assert_eq!((data.view(0..3).conditions(), data.conditions(0..1)), (0, None));
    }
}
