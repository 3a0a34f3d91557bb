//! Some of the rows of a data set, as the library reads them.

use crate::data::{Data, Rows};
use elbo::Dataset;
use ndarray::{ArrayView2, Axis, Slice};
use std::ops::Range;

/// Rows in a range, mapped to where the model wants them, with their classes one-hot.
pub struct Part<'a> {
    rows: View<'a>,
    labels: &'a [u32],
    /// 0 without labels.
    classes: usize,
    signed: bool,
}

enum View<'a> {
    U8(ArrayView2<'a, u8>),
    F32(ArrayView2<'a, f32>),
}

impl<'a> Part<'a> {
    pub fn new(data: &'a Data, rows: Range<usize>) -> Self {
        let slice = Slice::from(rows.clone());
        let labels = data.labels.as_ref();
        Self {
            rows: match &data.rows {
                Rows::U8(bytes) => View::U8(bytes.slice_axis(Axis(0), slice)),
                Rows::F32(numbers) => View::F32(numbers.slice_axis(Axis(0), slice)),
            },
            labels: labels.map_or(&[], |labels| &labels.of_rows[rows]),
            classes: labels.map_or(0, |labels| labels.classes),
            signed: data.signed,
        }
    }

    fn inner(&self) -> &dyn Dataset {
        match &self.rows {
            View::U8(rows) => rows,
            View::F32(rows) => rows,
        }
    }
}

impl Dataset for Part<'_> {
    fn row_count(&self) -> usize {
        self.inner().row_count()
    }

    fn features(&self) -> usize {
        self.inner().features()
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.inner().read_row(row, out);
        if self.signed {
            // Twice x is exact: one rounding, as of a fused multiply-add.
            out.iter_mut().for_each(|x| *x = 2.0 * *x - 1.0);
        }
    }

    fn conditions(&self) -> usize {
        self.classes
    }

    fn read_condition(&self, row: usize, out: &mut [f32]) {
        out.fill(0.0);
        if self.classes > 0 {
            out[self.labels[row] as usize] = 1.0;
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
        let data = Data {
            name: "x".into(),
            rows: Rows::U8(arr2(&[[0, 51], [255, 0], [102, 255]])),
            image: None,
            labels: Some(Labels { name: "l".into(), of_rows: vec![2, 0, 1], classes: 3 }),
            signed: true,
        };
        let part = data.part(1..3);
        let (mut row, mut condition) = ([f32::NAN; 2], [f32::NAN; 3]);
        part.read_row(1, &mut row);
        part.read_condition(1, &mut condition);
        assert_eq!((row, condition), ([0.4_f32.mul_add(2.0, -1.0), 1.0], [0.0, 1.0, 0.0]));
        assert_eq!((part.row_count(), part.features(), part.conditions()), (2, 2, 3));
        assert_eq!(data.numbers(0..1), arr2(&[[-1.0, 0.2_f32.mul_add(2.0, -1.0)]]));
        assert_eq!(data.conditions(0..1), Some(arr2(&[[0.0, 0.0, 1.0]])));
    }
}
