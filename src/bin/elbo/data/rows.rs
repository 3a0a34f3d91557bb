//! Rows of a data set, in memory or in their file.

use super::formats::streamed::Streamed;
use crate::failure::Result;
use elbo::Dataset;
use ndarray::Array2;

/// Rows in the type in which they are stored.
#[derive(Debug)]
pub enum Rows {
    /// Bytes from 0 to 255, which stand for 0 to 1; they stay bytes in memory.
    U8(Array2<u8>),
    /// Any numbers.
    F32(Array2<f32>),
    /// Rows of either kind that are read from their file when needed.
    Streamed(Streamed),
}

impl Rows {
    pub fn len(&self) -> usize {
        match self {
            Self::U8(rows) => rows.nrows(),
            Self::F32(rows) => rows.nrows(),
            Self::Streamed(rows) => rows.len(),
        }
    }

    pub fn width(&self) -> usize {
        match self {
            Self::U8(rows) => rows.ncols(),
            Self::F32(rows) => rows.ncols(),
            Self::Streamed(rows) => rows.width(),
        }
    }

    /// Returns true if the elements are bytes and thus from 0 to 1.
    pub fn are_bytes(&self) -> bool {
        match self {
            Self::U8(_) => true,
            Self::F32(_) => false,
            Self::Streamed(rows) => rows.is_bytes(),
        }
    }

    /// Overwrites `out` with a row.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::U8(rows) => rows.read_row(row, out),
            Self::F32(rows) => rows.read_row(row, out),
            Self::Streamed(rows) => rows.read_row(row, out),
        }
    }

    /// Calls `work` with each row in the order of the file.
    pub fn each(&self, mut work: impl FnMut(usize, &[f32]) -> Result<()>) -> Result<()> {
        if let Self::Streamed(rows) = self {
            return rows.each(work);
        }
        let mut row = vec![0.0; self.width()];
        for i in 0..self.len() {
            self.read_row(i, &mut row);
            work(i, &row)?;
        }
        Ok(())
    }
}

/// Location of a row of a file for messages: its line, if it has one, else its number from 0 on.
pub fn location(lines: &[u64], row: usize) -> String {
    lines.get(row).map_or_else(|| format!("row {row}"), |line| format!("line {line}"))
}
