//! Rows of a data set, in memory or in their file.

use super::formats::streamed::Streamed;
use super::scaling::Scaling;
use crate::failure::Result;
use elbo::Dataset;
use ndarray::Array2;

/// Rows in the type in which they are stored.
#[derive(Debug)]
pub enum Rows {
    /// Bytes from 0 to 255, which stand for 0 to 1; they stay bytes in memory.
    U8(Array2<u8>),
    /// Numbers that float32 holds exactly.
    F32(Array2<f32>),
    /// Other numbers, which are rounded to float32 after they are scaled.
    F64(Array2<f64>),
    /// Rows of any of these kinds that are read from their file when needed.
    Streamed(Streamed),
}

impl Rows {
    pub fn len(&self) -> usize {
        match self {
            Self::U8(rows) => rows.nrows(),
            Self::F32(rows) => rows.nrows(),
            Self::F64(rows) => rows.nrows(),
            Self::Streamed(rows) => rows.len(),
        }
    }

    pub fn width(&self) -> usize {
        match self {
            Self::U8(rows) => rows.ncols(),
            Self::F32(rows) => rows.ncols(),
            Self::F64(rows) => rows.ncols(),
            Self::Streamed(rows) => rows.width(),
        }
    }

    /// Returns true if the elements are bytes and thus from 0 to 1.
    pub fn are_bytes(&self) -> bool {
        match self {
            Self::U8(_) => true,
            Self::F32(_) | Self::F64(_) => false,
            Self::Streamed(rows) => rows.is_unit(),
        }
    }

    /// Returns true if float32 may not hold the numbers exactly.
    pub fn are_wide(&self) -> bool {
        match self {
            Self::U8(_) | Self::F32(_) => false,
            Self::F64(_) => true,
            Self::Streamed(rows) => rows.is_wide(),
        }
    }

    /// Overwrites `out` with a scaled row. The scaled numbers are rounded once.
    pub fn read_row(&self, row: usize, scaling: &Scaling, out: &mut [f32]) {
        match self {
            Self::U8(rows) => rows.read_row(row, out),
            Self::F32(rows) => rows.read_row(row, out),
            Self::F64(rows) => {
                let numbers = rows.row(row);
                return scaling.apply_to(numbers.as_slice().expect("rows in C order"), out);
            }
            Self::Streamed(rows) => {
                rows.read_row(row, out, |numbers, out| scaling.apply_to(numbers, out));
                if rows.is_wide() {
                    return;
                }
            }
        }
        scaling.apply(out);
    }

    /// Returns the largest element if all are below `limit`.
    pub fn largest_below(&self, limit: f32) -> Option<f32> {
        let (mut row, mut largest) = (vec![0.0; self.width()], 0.0);
        for i in 0..self.len() {
            self.read_row(i, &Scaling::None, &mut row);
            largest = row.iter().copied().fold(largest, f32::max);
            if largest >= limit {
                return None;
            }
        }
        Some(largest)
    }

    /// Calls `work` with each row in the order of the file, not scaled.
    pub fn each(&self, mut work: impl FnMut(usize, &[f64]) -> Result<()>) -> Result<()> {
        match self {
            Self::Streamed(rows) => return rows.each(work),
            Self::F64(rows) => {
                let mut rows = rows.rows().into_iter().enumerate();
                return rows.try_for_each(|(i, row)| work(i, row.as_slice().expect("C order")));
            }
            Self::U8(_) | Self::F32(_) => {}
        }
        let (mut row, mut wide) = (vec![0.0; self.width()], vec![0.0; self.width()]);
        for i in 0..self.len() {
            self.read_row(i, &Scaling::None, &mut row);
            wide.iter_mut().zip(&row).for_each(|(wide, &x)| *wide = f64::from(x));
            work(i, &wide)?;
        }
        Ok(())
    }
}

/// Places of rows in their source, for messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Places {
    /// Rows of an array.
    #[default]
    Rows,
    /// Line of each row of a table, from 1 on.
    Lines(Vec<u64>),
    /// File of each image.
    Files(Vec<String>),
}

impl Places {
    /// Place of a row, which is counted from 0.
    pub fn of(&self, row: usize) -> String {
        match self {
            Self::Rows => location(&[], row),
            Self::Lines(lines) => location(lines, row),
            Self::Files(files) => files[row].clone(),
        }
    }
}

/// Location of a row of a file for messages: its line, if it has one, else its number from 0 on.
pub fn location(lines: &[u64], row: usize) -> String {
    lines.get(row).map_or_else(|| format!("row {row}"), |line| format!("line {line}"))
}
