//! Random choice of the rows that are held out for the test.

use super::Data;
use crate::failure::{Failure, Result};
use crate::text::counted;

impl Data {
    /// Moves rows drawn with `seed` to the end, one part for each fraction given: the rows of the first
    /// fraction come last, those of the second before them. Returns the start of the second part and that of
    /// the first. Each part has at least one row, and at least one row stays.
    ///
    /// Only `order` changes; the rows stay where they are.
    pub fn hold_out(&mut self, fractions: [Option<f64>; 2], seed: u64) -> Result<[usize; 2]> {
        let rows = self.len();
        let parts = fractions.iter().flatten().count();
        if parts == 0 {
            return Ok([rows; 2]);
        }
        let refuse = |reason: String| {
            Err(Failure::Run(format!(
                "{}: {reason}; give other files with --validation and --test",
                self.name
            )))
        };
        if rows <= parts {
            return refuse(format!(
                "the file has {}, too few to hold some out",
                counted(rows, "row")
            ));
        }
        let Ok(last) = u32::try_from(rows) else {
            return refuse(format!(
                "the file has {rows} rows; rows can be held out of at most {}",
                u32::MAX
            ));
        };
        let [first, second] = fractions;
        let reserved = usize::from(second.is_some());
        let last_start = first.map_or(rows, |share| kept(rows, share).max(1 + reserved));
        let start = second.map_or(last_start, |share| {
            let held_out = (rows - kept(rows, share)).clamp(1, last_start - 1);
            last_start - held_out
        });
        let mut order: Vec<u32> = (0..last).collect();
        let mut random = SplitMix64(seed);
        // The last steps of a Fisher-Yates shuffle: each leaves one drawn row at the end.
        for last in (start..rows).rev() {
            order.swap(random.below(last as u64 + 1) as usize, last);
        }
        self.order = Some(order);
        Ok([start, last_start])
    }
}

/// Number of rows that are not held out.
fn kept(rows: usize, fraction: f64) -> usize {
    let held_out = (rows as f64 * fraction) as usize;
    rows - held_out.clamp(1, rows - 1)
}

/// SplitMix64 (Steele, Lea and Flood 2014). The rows held out by a seed must not change between versions, so
/// the generators of the library do not replace it.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Draws an integer below `bound`, uniform up to a bias of `bound`·2⁻⁶⁴.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Rows;
    use crate::data::labels::Labels;
    use crate::data::rows::Places;
    use ndarray::Array2;

    fn numbered(n: usize) -> Data {
        let rows = Rows::U8(Array2::from_shape_fn((n, 2), |(i, _)| i as u8));
        let of_rows = (0..n as u32).collect();
        let labels = Labels {
            name: "l".into(),
            places: Places::Rows,
            of_rows,
            classes: n,
            names: Vec::new(),
        };
        Data { labels: Some(labels), ..Data::new("x", rows) }
    }

    #[test]
    fn holds_out_rows_by_seed() {
        let held_out = |n: usize, fraction, seed| {
            let mut data = numbered(n);
            let [kept, end] = data.hold_out([Some(fraction), None], seed).unwrap();
            assert_eq!(kept, end);
            let numbers = data.numbers(0..n).unwrap();
            let mut all: Vec<usize> =
                numbers.column(0).iter().map(|x| (x * 255.0).round() as usize).collect();
            let labels = data.labels.as_ref().unwrap();
            // Labels follow their rows.
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
        let single = numbered(1).hold_out([Some(0.1), None], 1).unwrap_err().to_string();
        assert!(single.contains("--validation"), "{single}");
    }

    #[test]
    fn test_rows_leave_the_validation_rows_as_they_are() {
        let order = |fractions| {
            let mut data = numbered(100);
            let starts = data.hold_out(fractions, 3).unwrap();
            (starts, data.order.unwrap_or_default())
        };
        let ([start, _], alone) = order([Some(0.1), None]);
        let ([test, validation], both) = order([Some(0.1), Some(0.25)]);
        assert_eq!((start, validation, test), (90, 90, 65));
        assert_eq!(both[validation..], alone[start..]);
        assert_ne!(both[test..validation], alone[test..start]);
        let ([test, validation], _) = order([None, Some(0.25)]);
        assert_eq!((test, validation), (75, 100));
        assert_eq!(order([None, None]), ([100, 100], Vec::new()));
        assert_eq!(numbered(3).hold_out([Some(0.9), Some(0.9)], 1).unwrap(), [1, 2]);
        assert!(numbered(2).hold_out([Some(0.1), Some(0.1)], 1).is_err());
    }

    #[test]
    fn holds_out_the_fraction_for_any_number_of_rows() {
        assert!((2..100_000).all(|rows| kept(rows, 0.1) == rows - (rows / 10).max(1)));
        assert_eq!((kept(10, 0.999), kept(10, 1e-9), kept(10, 0.5)), (1, 9, 5));
    }
}
