//! Activations in memory.

use crate::gemm::{Rows, RowsMut, padded};
use crate::simd::LANES;
use crate::simd::aligned::AlignedBuffer;

/// A matrix of activations whose rows start on cache lines; the elements between a row's end
/// and the next row are zero.
#[derive(Clone)]
pub(crate) struct Matrix {
    pub(in crate::vae) data: AlignedBuffer,
    pub(in crate::vae) columns: usize,
    pub(in crate::vae) stride: usize,
}

impl Matrix {
    pub(crate) fn zeros(rows: usize, columns: usize) -> Self {
        // Rows an odd number of cache lines apart fall into different sets of the cache: a
        // column of 64 rows then has room in it.
        let stride = ((padded(columns) / LANES) | 1) * LANES;
        // Whole groups of 16 may be read and written from any element of a row on.
        Self { data: AlignedBuffer::zeros(rows * stride + LANES), columns, stride }
    }

    /// Row `row` without its padding.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.stride..][..self.columns]
    }

    #[inline(always)]
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * self.stride..][..self.columns]
    }

    /// The rows from row `row` on with their padding, and their stride.
    #[inline(always)]
    pub(in crate::vae) fn rows_from(&self, row: usize) -> (&[f32], usize) {
        (&self.data[row * self.stride..], self.stride)
    }

    #[inline(always)]
    pub(in crate::vae) fn rows_from_mut(&mut self, row: usize) -> (&mut [f32], usize) {
        (&mut self.data[row * self.stride..], self.stride)
    }

    #[inline(always)]
    pub(crate) fn rows(&self, rows: usize) -> Rows<'_> {
        Rows { data: &self.data, rows, stride: self.stride }
    }

    pub(crate) fn rows_mut(&mut self, rows: usize) -> RowsMut<'_> {
        RowsMut::new(&mut self.data, rows, self.stride, self.stride)
    }
}
