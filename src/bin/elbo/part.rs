//! Some of the rows of a data set, as the library reads them.

use crate::data::{Data, Rows};
use elbo::Dataset;
use std::ops::Range;

/// Rows in a range, scaled and mapped to where the model wants them, with their classes one-hot.
pub struct Part<'a> {
    data: &'a Data,
    rows: Range<usize>,
}

impl<'a> Part<'a> {
    pub fn new(data: &'a Data, rows: Range<usize>) -> Self {
        Self { data, rows }
    }

    /// Where row `row` of the part is in the file.
    fn place(&self, row: usize) -> usize {
        self.data.place(self.rows.start + row)
    }
}

impl Dataset for Part<'_> {
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
    use crate::labels::Labels;
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
        let part = data.part(1..3);
        let (mut row, mut condition) = ([f32::NAN; 2], [f32::NAN; 3]);
        part.read_row(1, &mut row);
        part.read_condition(1, &mut condition);
        assert_eq!((row, condition), ([0.4_f32.mul_add(2.0, -1.0), 1.0], [0.0, 1.0, 0.0]));
        assert_eq!((part.row_count(), part.features(), part.conditions()), (2, 2, 3));
        assert_eq!(data.numbers(0..1).unwrap(), arr2(&[[-1.0, 0.2_f32.mul_add(2.0, -1.0)]]));
        assert_eq!(data.conditions(0..1), Some(arr2(&[[0.0, 0.0, 1.0]])));
        data.conditional = false;
        assert_eq!((data.part(0..3).conditions(), data.conditions(0..1)), (0, None));
    }
}
