//! Data sets with a condition vector for each row, for conditional VAEs.

use super::Dataset;
use crate::error::{Error, Result};
use ndarray::{ArrayView2, Axis};

/// Data set with a vector of numbers as the condition of each row.
///
/// ```
/// use elbo::{Conditioned, Dataset};
/// use ndarray::array;
///
/// let (data, conditions) = (array![[0.1_f32, 0.2], [0.3, 0.4]], array![[20.0_f32], [30.0]]);
/// let conditioned = Conditioned::new(&data, conditions.view())?;
/// let mut out = [0.0];
/// conditioned.read_condition(1, &mut out);
/// assert_eq!((conditioned.conditions(), out), (1, [30.0]));
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Conditioned<'a> {
    data: &'a dyn Dataset,
    conditions: ArrayView2<'a, f32>,
}

impl<'a> Conditioned<'a> {
    /// Adds `conditions` `[rows, C]`, any finite numbers, to the rows of `data`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the numbers of rows differ or C is 0, [`Error::NotFiniteData`] for a
    /// condition that is NaN or ±∞.
    pub fn new(data: &'a dyn Dataset, conditions: ArrayView2<'a, f32>) -> Result<Self> {
        let (rows, columns) = conditions.dim();
        if rows != data.row_count() || columns == 0 {
            return Err(Error::Shape {
                argument: "conditions",
                expected: format!("{} rows of at least one column", data.row_count()),
                found: format!("shape [{rows}, {columns}]"),
            });
        }
        for ((row, column), &value) in conditions.indexed_iter() {
            if !value.is_finite() {
                return Err(Error::NotFiniteData { row, column, value, step: None });
            }
        }
        Ok(Self { data, conditions })
    }
}

impl Dataset for Conditioned<'_> {
    fn row_count(&self) -> usize {
        self.data.row_count()
    }

    fn features(&self) -> usize {
        self.data.features()
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.data.read_row(row, out);
    }

    fn prefetch(&self, rows: &[u32]) {
        self.data.prefetch(rows);
    }

    fn conditions(&self) -> usize {
        self.conditions.ncols()
    }

    fn read_condition(&self, row: usize, out: &mut [f32]) {
        let condition = self.conditions.index_axis(Axis(0), row);
        assert_eq!(condition.len(), out.len());
        for (out, &value) in out.iter_mut().zip(condition) {
            *out = value;
        }
    }
}

/// Data set with a class label for each row; the condition is the one-hot vector of the class.
///
/// ```
/// use elbo::{Dataset, Labeled};
/// use ndarray::array;
///
/// let data = array![[0.1_f32, 0.2], [0.3, 0.4]];
/// let labeled = Labeled::new(&data, &[2, 0], 3)?;
/// let mut out = [f32::NAN; 3];
/// labeled.read_condition(0, &mut out);
/// assert_eq!(out, [0.0, 0.0, 1.0]);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Labeled<'a> {
    data: &'a dyn Dataset,
    labels: &'a [u32],
    classes: usize,
}

impl<'a> Labeled<'a> {
    /// Adds the class of each row, one of `0..classes`, to `data`.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one label for each row, [`Error::Config`] if there are no
    /// classes or a label is not one of them.
    pub fn new(data: &'a dyn Dataset, labels: &'a [u32], classes: usize) -> Result<Self> {
        crate::error::expect_length("labels", data.row_count(), labels.len())?;
        if classes == 0 {
            return Err(Error::config("classes", "at least 1", classes));
        }
        if let Some(row) = labels.iter().position(|&label| label as usize >= classes) {
            let found = format!("{} in row {row} with {classes} classes", labels[row]);
            return Err(Error::config(
                "labels",
                "class numbers below the number of classes",
                found,
            ));
        }
        Ok(Self { data, labels, classes })
    }

    /// Class of each row.
    #[must_use]
    pub fn labels(&self) -> &'a [u32] {
        self.labels
    }
}

impl Dataset for Labeled<'_> {
    fn row_count(&self) -> usize {
        self.data.row_count()
    }

    fn features(&self) -> usize {
        self.data.features()
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.data.read_row(row, out);
    }

    fn prefetch(&self, rows: &[u32]) {
        self.data.prefetch(rows);
    }

    fn conditions(&self) -> usize {
        self.classes
    }

    fn read_condition(&self, row: usize, out: &mut [f32]) {
        assert_eq!(self.classes, out.len());
        out.fill(0.0);
        out[self.labels[row] as usize] = 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn reads_rows_and_conditions() {
        let data = array![[0.25_f32, 0.5], [0.75, 1.0]];
        let conditions = array![[1.0_f32, 3.0], [2.0, 4.0]];
        let turned = Conditioned::new(&data, conditions.t()).unwrap();
        let labeled = Labeled::new(&data, &[1, 0], 2).unwrap();
        let mut out = [f32::NAN; 2];
        for (wrapped, expected) in [(&turned as &dyn Dataset, [3.0, 4.0]), (&labeled, [1.0, 0.0])] {
            assert_eq!((wrapped.row_count(), wrapped.features(), wrapped.conditions()), (2, 2, 2));
            wrapped.read_row(1, &mut out);
            assert_eq!(out, [0.75, 1.0]);
            wrapped.read_condition(1, &mut out);
            assert_eq!(out, expected);
        }
        assert_eq!(data.conditions(), 0);
        data.read_condition(0, &mut []);
    }

    #[test]
    fn rejects_conditions_and_labels_that_do_not_fit() {
        let data = Array2::<f32>::zeros((2, 3));
        let message = |result: Result<()>| result.unwrap_err().to_string();
        let conditioned = |conditions: Array2<f32>| {
            message(Conditioned::new(&data, conditions.view()).map(|_| ()))
        };
        assert_eq!(
            conditioned(Array2::zeros((3, 1))),
            "`conditions`: expected 2 rows of at least one column, found shape [3, 1]"
        );
        assert_eq!(
            conditioned(Array2::zeros((2, 0))),
            "`conditions`: expected 2 rows of at least one column, found shape [2, 0]"
        );
        assert_eq!(
            conditioned(array![[0.0], [f32::NAN]]),
            "row 1, column 0: NaN in the data; remove the row or replace the value"
        );
        let labeled =
            |labels: &[u32], classes| message(Labeled::new(&data, labels, classes).map(|_| ()));
        assert_eq!(labeled(&[0], 2), "`labels`: expected length 2, found length 1");
        assert_eq!(labeled(&[0, 0], 0), "`classes`: expected at least 1, found 0");
        assert_eq!(
            labeled(&[0, 2], 2),
            "`labels`: expected class numbers below the number of classes, found 2 in row 1 with 2 classes"
        );
    }
}
