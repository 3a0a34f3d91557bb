//! Which rows are held out.

use super::Data;
use crate::failure::{Failure, Result};

impl Data {
    /// Moves a part of the rows, drawn by `seed`, to the end, and says how many remain before them. At
    /// least one row goes and at least one stays.
    ///
    /// Only the order is kept: neither the rows nor their file are touched.
    pub fn hold_out(&mut self, fraction: f64, seed: u64) -> Result<usize> {
        let rows = self.len();
        if rows < 2 {
            return Err(Failure::Run(format!(
                "{}: a single row, none to hold out for the test; name another file with --test",
                self.name
            )));
        }
        let last = u32::try_from(rows).map_err(|_| {
            Failure::Run(format!(
                "{}: {rows} rows; expected at most {} to hold some out of; name another file with --test",
                self.name,
                u32::MAX
            ))
        })?;
        let kept = kept(rows, fraction);
        let mut order: Vec<u32> = (0..last).collect();
        let mut random = SplitMix64(seed);
        // The last steps of Fisher and Yates' shuffle: each leaves one drawn row at the end.
        for last in (kept..rows).rev() {
            order.swap(random.below(last as u64 + 1) as usize, last);
        }
        self.order = Some(order);
        Ok(kept)
    }
}

/// How many of the rows stay in the training.
fn kept(rows: usize, fraction: f64) -> usize {
    let held_out = (rows as f64 * fraction) as usize;
    rows - held_out.clamp(1, rows - 1)
}

/// SplitMix64 (Steele, Lea and Flood 2014): enough to draw which rows are held out.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform below `bound`, up to a bias of `bound`·2⁻⁶⁴.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Rows;
    use crate::data::labels::Labels;
    use ndarray::Array2;

    fn numbered(n: usize) -> Data {
        let rows = Rows::U8(Array2::from_shape_fn((n, 2), |(i, _)| i as u8));
        let of_rows = (0..n as u32).collect();
        let labels = Labels { name: "l".into(), of_rows, classes: n, names: Vec::new() };
        Data { labels: Some(labels), ..Data::new("x", rows) }
    }

    #[test]
    fn a_part_is_held_out_by_the_seed() {
        let held_out = |n: usize, fraction, seed| {
            let mut data = numbered(n);
            let kept = data.hold_out(fraction, seed).unwrap();
            let numbers = data.numbers(0..n).unwrap();
            let mut all: Vec<usize> =
                numbers.column(0).iter().map(|x| (x * 255.0).round() as usize).collect();
            let labels = data.labels.as_ref().unwrap();
            // Labels go where their rows go.
            assert!(
                all.iter().enumerate().all(|(i, &row)| labels.of_rows[data.place(i)] == row as u32)
            );
            let tail = all[kept..].to_vec();
            all.sort_unstable();
            assert!(all.iter().enumerate().all(|(i, &row)| row == i));
            tail
        };
        assert_eq!(held_out(100, 0.1, 1).len(), 10);
        assert_eq!(held_out(100, 0.1, 1), held_out(100, 0.1, 1));
        assert_ne!(held_out(100, 0.1, 1), held_out(100, 0.1, 2));
        assert_eq!(held_out(2, 0.1, 1).len(), 1);
        assert_eq!(held_out(100, 0.25, 1)[15..], held_out(100, 0.1, 1));
        assert!(numbered(1).hold_out(0.1, 1).unwrap_err().to_string().contains("--test"));
    }

    #[test]
    fn a_tenth_is_a_tenth_whatever_the_number_of_rows() {
        assert!((2..100_000).all(|rows| kept(rows, 0.1) == rows - (rows / 10).max(1)));
        assert_eq!((kept(10, 0.999), kept(10, 1e-9), kept(10, 0.5)), (1, 9, 5));
    }
}
