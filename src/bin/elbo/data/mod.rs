//! Data sets, one example per row: from a file, a directory of images or the embedded sample.

pub mod description;
pub mod domain;
pub mod formats;
mod hold_out;
pub mod labels;
mod load;
mod rounding;
mod rows;
pub mod scaling;
pub mod train_test;
mod trim;

pub use description::{DataDescription, UserRows};
pub use formats::image_shape::ImageShape;
pub use load::{ReadOptions, ReadPlan, Stream};
pub use rows::{Rows, location};

use crate::failure::{Failure, Result, row_of};
use crate::text::{counted, number};
use elbo::Dataset;
use labels::{Labels, RawLabels};
use ndarray::{Array2, Axis};
use scaling::Scaling;
use std::ops::Range;
use std::path::Path;

/// Examples as rows, with their labels, names and scaling.
#[derive(Debug)]
pub struct Data {
    /// Path of the file as the user gave it, for messages.
    pub name: String,
    /// Examples in the order of the file.
    pub rows: Rows,
    /// Names of the features; empty if they have none.
    pub columns: Vec<String>,
    /// True if the names are numbers although the table has a header.
    pub number_names: bool,
    /// Number of columns in the table, if the features have only numbers.
    pub table_width: Option<usize>,
    /// Line of each row in a table, from 1 on; empty for other files.
    pub lines: Vec<u64>,
    /// Shape of the images, if the rows are images.
    pub image: Option<ImageShape>,
    /// True if the images were resized to that shape.
    pub resized: bool,
    /// Labels that came with the rows and are not yet assigned to classes.
    pub found: Option<RawLabels>,
    /// Column of these labels.
    pub label_column: Option<String>,
    /// Class of each row in the order of the file.
    pub labels: Option<Labels>,
    /// True if the model is given the classes.
    pub conditional: bool,
    /// Scaling of each row as it is read.
    pub scaling: Scaling,
    /// True if rows are then mapped to 2x − 1.
    pub signed: bool,
    /// Largest value that bytes or pixels of this depth can have, 255 or 65,535; 0 for other numbers.
    pub deepest: u16,
    /// Value of the bytes or pixels that is read as 1, if it is not the largest possible one.
    pub white: Option<u16>,
    /// Position of each row in the file, if they are read in another order.
    pub order: Option<Vec<u32>>,
    /// Range to which scaled values are clipped because the likelihood accepts no others.
    pub clip: Option<[f32; 2]>,
    /// Warnings about the file, for the user.
    pub warnings: Vec<String>,
}

impl Data {
    /// A data set of unlabeled, unscaled rows.
    pub fn new(name: &str, rows: Rows) -> Self {
        Self {
            name: name.to_owned(),
            rows,
            columns: Vec::new(),
            number_names: false,
            table_width: None,
            lines: Vec::new(),
            image: None,
            resized: false,
            found: None,
            label_column: None,
            labels: None,
            conditional: false,
            scaling: Scaling::None,
            signed: false,
            deepest: 0,
            white: None,
            order: None,
            clip: None,
            warnings: Vec::new(),
        }
    }

    /// Puts the columns of a table in another order of the same names; other names change nothing.
    pub fn arrange_columns(&mut self, names: &[String]) {
        let place = |name: &String| self.columns.iter().position(|column| column == name);
        let places: Option<Vec<usize>> = names.iter().map(place).collect();
        let Some(places) = places.filter(|places| places.len() == self.columns.len()) else {
            return;
        };
        if let Rows::F64(rows) = &mut self.rows
            && !places.is_sorted()
        {
            *rows = rows.select(Axis(1), &places).as_standard_layout().into_owned();
            self.columns = names.to_vec();
        }
    }

    /// Names a column for messages: `column 'age'`, or its number from 0 on.
    pub fn column_name(&self, column: usize) -> String {
        match self.columns.get(column) {
            Some(name) => format!("column '{name}'"),
            None => format!("column {column}"),
        }
    }

    /// Names the row at a position in the file, the `part` of the data that it belongs to and, in a table, its value
    /// that is largest after scaling.
    pub fn name_row(&self, place: usize, part: &str) -> String {
        let row = location(&self.lines, place);
        match self.largest_value(place).filter(|_| !self.lines.is_empty()) {
            Some(largest) => format!("{row} ({part}; largest value: {largest})"),
            None => format!("{row} ({part})"),
        }
    }

    /// Names the value of a row in memory that is largest after scaling, and its column.
    fn largest_value(&self, place: usize) -> Option<String> {
        let mut scaled = vec![0.0; self.width()];
        self.rows.read_row(place, &self.scaling, &mut scaled);
        let columns = scaled.iter().enumerate();
        let (column, _) = columns.max_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs()))?;
        let value = match &self.rows {
            Rows::F32(rows) => number(rows[[place, column]]),
            Rows::F64(rows) => number(rows[[place, column]]),
            Rows::U8(_) | Rows::Streamed(_) => return None,
        };
        Some(format!("{value} in {}", self.column_name(column)))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Number of features.
    pub fn width(&self) -> usize {
        self.rows.width()
    }

    /// Returns the position of a row in the file.
    pub fn place(&self, row: usize) -> usize {
        self.order.as_ref().map_or(row, |order| order[row] as usize)
    }

    /// A range of rows as training and evaluation read them; call [`Self::check_read`] after using them.
    pub fn view(&self, rows: Range<usize>) -> DataView<'_> {
        DataView::new(self, rows)
    }

    /// Reads a range of rows as training and evaluation do.
    pub fn numbers(&self, rows: Range<usize>) -> Result<Array2<f32>> {
        let view = self.view(rows);
        let mut numbers = Array2::zeros((view.row_count(), view.features()));
        for (i, mut row) in numbers.rows_mut().into_iter().enumerate() {
            view.read_row(i, row.as_slice_mut().expect("a fresh array"));
        }
        self.check_read()?;
        Ok(numbers)
    }

    /// Conditions of a range of rows, `[rows, classes]`, if the model is given the classes.
    pub fn conditions(&self, rows: Range<usize>) -> Option<Array2<f32>> {
        let view = self.view(rows);
        if view.conditions() == 0 {
            return None;
        }
        let mut conditions = Array2::zeros((view.row_count(), view.conditions()));
        for (i, mut row) in conditions.rows_mut().into_iter().enumerate() {
            view.read_condition(i, row.as_slice_mut().expect("a fresh array"));
        }
        Some(conditions)
    }

    /// Returns true if rows are read from the file when they are needed.
    pub fn is_streamed(&self) -> bool {
        matches!(self.rows, Rows::Streamed(_))
    }

    /// Returns an error if a row could not be read; such a row of a streamed file is NaN.
    pub fn check_read(&self) -> Result<()> {
        match &self.rows {
            Rows::Streamed(rows) => rows.check(),
            Rows::U8(_) | Rows::F32(_) | Rows::F64(_) => Ok(()),
        }
    }

    /// Returns the result of using the rows, or the error of reading one, which would have caused any other.
    pub fn used<T>(&self, result: elbo::Result<T>) -> Result<T> {
        self.check_read()?;
        Ok(result?)
    }

    /// Checks that the rows have `expected` features, as those of `of` have.
    pub fn check_width(&self, expected: usize, of: &str) -> Result<()> {
        let found = self.width();
        if found == expected {
            return Ok(());
        }
        Err(Failure::Run(format!(
            "{}: the rows have {}; expected {expected}, as in {of}",
            self.name,
            counted(found, "feature")
        )))
    }

    /// Name of the file without its directory, for titles.
    pub fn file_name(&self) -> String {
        let name = Path::new(&self.name).file_name();
        name.map_or_else(|| self.name.clone(), |name| name.to_string_lossy().into_owned())
    }

    /// Checks that the row that `option` asks for exists.
    pub fn check_row(&self, option: &str, row: usize) -> Result<()> {
        if row < self.len() {
            return Ok(());
        }
        Err(Failure::Usage(format!(
            "{option} {row}: {} has {}, numbered from 0",
            self.name,
            counted(self.len(), "row")
        )))
    }

    /// Name of the class of each row, empty where the label is missing; `None` without labels.
    pub fn label_names(&self) -> Option<Vec<String>> {
        let labels = self.labels.as_ref()?;
        Some(labels.of_rows.iter().map(|&label| labels.class(label as usize)).collect())
    }

    /// Description of the data for a model file.
    pub fn description(&self) -> DataDescription {
        DataDescription {
            columns: self.columns.clone(),
            number_names: self.number_names,
            table_width: self.table_width,
            image: self.image,
            resized: self.resized,
            white: self.white,
            scaling: self.scaling.clone(),
            signed: self.signed,
            classes: self.labels.as_ref().map(|labels| labels.names.clone()).unwrap_or_default(),
            label_column: self.label_column.clone(),
        }
    }
}

/// A range of rows as the model reads them: scaled and mapped, with classes one-hot.
pub struct DataView<'a> {
    data: &'a Data,
    rows: Range<usize>,
}

impl<'a> DataView<'a> {
    pub fn new(data: &'a Data, rows: Range<usize>) -> Self {
        Self { data, rows }
    }

    /// Returns the position of a row of the view in the file.
    fn place(&self, row: usize) -> usize {
        self.data.place(self.rows.start + row)
    }

    /// Adds the file and the row to an error about a row of the view; `part` names the view.
    pub fn locate(&self, failure: Failure, part: &str) -> Failure {
        let Failure::Diverged { place: None, mut error } = failure else { return failure };
        let place = row_of(&mut error).map(|row| {
            *row = self.place(*row);
            format!("{}: {}", self.data.name, self.data.name_row(*row, part))
        });
        Failure::Diverged { place, error }
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
        self.data.rows.read_row(self.place(row), &self.data.scaling, out);
        if let Some([low, high]) = self.data.clip {
            out.iter_mut().for_each(|x| *x = x.clamp(low, high));
        }
        if self.data.signed {
            // 2x is exact, so this rounds once, like a fused multiply-add.
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
    use crate::data::rows::Places;
    use ndarray::arr2;

    #[test]
    fn maps_rows_and_encodes_classes_one_hot() {
        let (name, of_rows) = ("l".into(), vec![2, 0, 1]);
        let rows = Rows::U8(arr2(&[[0, 51], [255, 0], [102, 255]]));
        let mut data = Data {
            labels: Some(Labels {
                name,
                places: Places::Rows,
                of_rows,
                classes: 3,
                names: Vec::new(),
            }),
            conditional: true,
            signed: true,
            ..Data::new("x", rows)
        };
        let view = data.view(1..3);
        let (mut row, mut condition) = ([f32::NAN; 2], [f32::NAN; 3]);
        view.read_row(1, &mut row);
        view.read_condition(1, &mut condition);
        assert_eq!((row, condition), ([0.4_f32.mul_add(2.0, -1.0), 1.0], [0.0, 1.0, 0.0]));
        assert_eq!((view.row_count(), view.features(), view.conditions()), (2, 2, 3));
        assert_eq!(data.numbers(0..1).unwrap(), arr2(&[[-1.0, 0.2_f32.mul_add(2.0, -1.0)]]));
        assert_eq!(data.conditions(0..1), Some(arr2(&[[0.0, 0.0, 1.0]])));
        data.conditional = false;
        assert_eq!((data.view(0..3).conditions(), data.conditions(0..1)), (0, None));
    }
}
