//! Matrices in memory: contiguous rows, a stride apart.

use crate::error::{Error, Result};
use ndarray::{ArrayViewMut2, CowArray, Ix2};

/// A matrix whose rows are contiguous, `stride` elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) stride: usize,
}

/// A mutable matrix whose rows are contiguous, `stride` elements apart.
pub(crate) struct RowsMut<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) rows: usize,
    /// Columns that may be written. Columns of padding below this number become zero.
    pub(crate) columns: usize,
    pub(crate) stride: usize,
}

/// Consecutive rows, `length` at a time.
pub(super) fn split_rows(y: RowsMut<'_>, length: usize) -> Vec<RowsMut<'_>> {
    let RowsMut { data, rows, columns, stride } = y;
    // `chunks_mut` panics if asked for chunks of 0 elements.
    if rows == 0 || columns == 0 {
        return Vec::new();
    }
    data.chunks_mut(length * stride)
        .enumerate()
        .map(|(index, data)| RowsMut {
            data,
            rows: length.min(rows - index * length),
            columns,
            stride,
        })
        .collect()
}

/// An output's memory, which must be one block of rows.
pub(crate) fn rows_mut<'a>(
    argument: &'static str,
    view: &'a mut ArrayViewMut2<'_, f32>,
) -> Result<RowsMut<'a>> {
    let (rows, columns) = view.dim();
    if !view.is_standard_layout() {
        return Err(Error::Layout { argument, strides: view.strides().to_vec() });
    }
    let data = view.as_slice_mut().expect("a standard layout");
    Ok(RowsMut { data, rows, columns, stride: columns })
}

/// An input's memory, copied if it is not one block of rows.
pub(crate) fn rows<'a>(standard: &'a CowArray<'_, f32, Ix2>) -> Rows<'a> {
    let (rows, columns) = standard.dim();
    Rows { data: standard.as_slice().expect("a standard layout"), rows, stride: columns }
}
