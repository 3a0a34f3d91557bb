//! Data sets: the rows that training and evaluation read.

mod augmentation;
mod conditioned;

pub use augmentation::Augmentation;
pub use conditioned::{Conditioned, Labeled};

use ndarray::{ArrayBase, Data, Ix2};

/// Rows of numbers that can be read in any order, from any thread.
///
/// Implemented for two-dimensional ndarrays and views of `f32`, which are read unchanged, and of `u8`,
/// which are divided by 255 when read (one correctly rounded division), so a data set of bytes stays
/// bytes in memory.
pub trait Dataset: Sync {
    /// Number of rows.
    fn row_count(&self) -> usize;

    /// Width D of a row.
    fn features(&self) -> usize;

    /// Overwrites `out`, of length D, with row `row`.
    fn read_row(&self, row: usize, out: &mut [f32]);

    /// Announces the rows of the next batch of a training run, so that data on a disk can be fetched early.
    ///
    /// This is a hint; the default does nothing.
    fn prefetch(&self, rows: &[u32]) {
        let _ = rows;
    }

    /// Width C of the condition vector of each row; 0 if there is none.
    ///
    /// [`Conditioned`] and [`Labeled`] add conditions to a data set.
    fn conditions(&self) -> usize {
        0
    }

    /// Overwrites `out`, of length C, with the condition of row `row`.
    fn read_condition(&self, row: usize, out: &mut [f32]) {
        let _ = row;
        assert!(out.is_empty(), "data without conditions");
    }
}

/// Element type of a [`Dataset`] in memory: `f32` or `u8`. Sealed.
pub trait Element: Copy + Sync + sealed::Sealed {
    /// Converts the element to the number that kernels see.
    fn to_f32(self) -> f32;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for u8 {}
}

/// No conversion.
impl Element for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

/// Division by 255: 0 gives 0 and 255 gives 1.
impl Element for u8 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from(self) / 255.0
    }
}

impl<S> Dataset for ArrayBase<S, Ix2>
where
    S: Data + Sync,
    S::Elem: Element,
{
    fn row_count(&self) -> usize {
        self.nrows()
    }

    fn features(&self) -> usize {
        self.ncols()
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        let row = self.row(row);
        assert_eq!(row.len(), out.len());
        match row.to_slice() {
            Some(row) => {
                for (out, value) in out.iter_mut().zip(row) {
                    *out = value.to_f32();
                }
            }
            None => {
                for (out, value) in out.iter_mut().zip(row) {
                    *out = value.to_f32();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn scales_bytes_and_reads_any_layout() {
        let bytes = array![[0_u8, 51, 255], [255, 102, 0]];
        let mut out = [f32::NAN; 3];
        bytes.read_row(1, &mut out);
        assert_eq!(out, [1.0, 0.4, 0.0]);
        let mut column = [f32::NAN; 2];
        bytes.t().read_row(1, &mut column);
        assert_eq!(column, [0.2, 0.4]);
        let floats = Array2::from_shape_fn((2, 2), |(r, c)| (10 * r + c) as f32);
        Dataset::read_row(&floats.view(), 1, &mut column);
        assert_eq!(column, [10.0, 11.0]);
    }
}
