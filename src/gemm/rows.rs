//! Matrices in memory: contiguous rows, a stride apart.

use crate::error::{Error, Result};
use ndarray::{ArrayViewMut2, CowArray, Ix2};
use std::marker::PhantomData;

/// A matrix whose rows are contiguous, `stride` elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) stride: usize,
}

/// A mutable matrix whose rows are contiguous, `stride` elements apart.
///
/// Can be cut between columns: each side then has a part of every row.
pub(crate) struct RowsMut<'a> {
    /// Element 0 of row 0. Only the columns of the rows are this matrix's.
    data: *mut f32,
    rows: usize,
    /// Columns that may be written. Columns of padding below this number become zero.
    columns: usize,
    stride: usize,
    memory: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for the mutable slices that are its rows, which may be sent.
unsafe impl Send for RowsMut<'_> {}

impl<'a> RowsMut<'a> {
    pub(crate) fn new(data: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(rows == 0 || columns <= stride && (rows - 1) * stride + columns <= data.len());
        Self { data: data.as_mut_ptr(), rows, columns, stride, memory: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    #[inline(always)]
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Columns `column .. column + length` of a row.
    #[inline(always)]
    pub(super) fn part(&mut self, row: usize, column: usize, length: usize) -> &mut [f32] {
        assert!(row < self.rows && column <= self.columns && length <= self.columns - column);
        // SAFETY: inside the row, by the assertion; `new` has checked that the rows are inside the memory, and no
        // other matrix has these columns of it.
        unsafe {
            let start = self.data.add(row * self.stride + column);
            std::slice::from_raw_parts_mut(start, length)
        }
    }

    /// The columns before `column`, and those from it on.
    pub(crate) fn split_columns(self, column: usize) -> (Self, Self) {
        assert!(column <= self.columns);
        let part =
            |first: usize, columns| Self { data: self.data.wrapping_add(first), columns, ..self };
        (part(0, column), part(column, self.columns - column))
    }

    /// The rows before `row`, and those from it on.
    fn split_rows(self, row: usize) -> (Self, Self) {
        assert!(row <= self.rows);
        let part = |first: usize, rows| {
            let data = self.data.wrapping_add(first * self.stride);
            Self { data, rows, ..self }
        };
        (part(0, row), part(row, self.rows - row))
    }

    /// Consecutive rows, `length` at a time.
    pub(super) fn chunks(self, length: usize) -> impl Iterator<Item = Self> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let (chunk, others) = rest.take().filter(|y| y.rows > 0).map(|y| {
                let length = length.min(y.rows);
                y.split_rows(length)
            })?;
            rest = Some(others);
            Some(chunk)
        })
    }
}

/// An output's memory, which must be one block of rows.
pub(crate) fn slice_mut<'a>(
    argument: &'static str,
    view: &'a mut ArrayViewMut2<'_, f32>,
) -> Result<&'a mut [f32]> {
    if !view.is_standard_layout() {
        return Err(Error::Layout { argument, strides: view.strides().to_vec() });
    }
    Ok(view.as_slice_mut().expect("a standard layout"))
}

/// An output's rows, which must be one block.
pub(super) fn rows_mut<'a>(
    argument: &'static str,
    view: &'a mut ArrayViewMut2<'_, f32>,
) -> Result<RowsMut<'a>> {
    let (rows, columns) = view.dim();
    Ok(RowsMut::new(slice_mut(argument, view)?, rows, columns, columns))
}

/// An input's memory, copied if it is not one block of rows.
pub(crate) fn rows<'a>(standard: &'a CowArray<'_, f32, Ix2>) -> Rows<'a> {
    let (rows, columns) = standard.dim();
    Rows { data: standard.as_slice().expect("a standard layout"), rows, stride: columns }
}
