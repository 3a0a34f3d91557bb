//! Scaling of features, fitted to the training rows and inverted on output.
//!
//! ```text
//! standardize: (x - mean) / std     std divides by the number of rows
//! min-max:     (x - low) / (high - low)
//! ```
//! Statistics are accumulated in f64 in the order of the file, so that they are always the same bits. A
//! feature that is constant in the training rows is only shifted, as if its std or range were 1.

use crate::failure::Result;
use clap::ValueEnum;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

/// Scaling of each feature as it is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// No scaling.
    #[default]
    None,
    /// Maps the training rows to mean 0 and standard deviation 1.
    #[serde(rename = "standardise", alias = "standardize")]
    Standardize { mean: Vec<f64>, std: Vec<f64> },
    /// Maps the training rows to 0 to 1; with `clip`, values outside of their range are clamped to it.
    MinMax { low: Vec<f64>, high: Vec<f64>, clip: bool },
}

/// Kind of scaling to fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ScalingKind {
    #[default]
    None,
    #[value(alias = "standardise")]
    Standardize,
    MinMax,
}

impl Scaling {
    /// Fits a scaling to the rows that `each` iterates over, and counts the constant features.
    pub fn fit(
        kind: ScalingKind,
        clip: bool,
        features: usize,
        each: impl FnOnce(&mut dyn FnMut(&[f32])) -> Result<()>,
    ) -> Result<(Self, usize)> {
        match kind {
            ScalingKind::None => Ok((Self::None, 0)),
            ScalingKind::Standardize => {
                let mut moments = Moments::new(features);
                each(&mut |row| moments.add(row))?;
                Ok(moments.finish())
            }
            ScalingKind::MinMax => {
                let mut low = vec![f64::INFINITY; features];
                let mut high = vec![f64::NEG_INFINITY; features];
                each(&mut |row| {
                    for ((low, high), &x) in low.iter_mut().zip(&mut high).zip(row) {
                        *low = low.min(f64::from(x));
                        *high = high.max(f64::from(x));
                    }
                })?;
                let constant = low.iter().zip(&high).filter(|(low, high)| low == high).count();
                Ok((Self::MinMax { low, high, clip }, constant))
            }
        }
    }

    /// Scales a row in place.
    pub fn apply(&self, row: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Standardize { mean, std } => {
                for ((x, mean), std) in row.iter_mut().zip(mean).zip(std) {
                    *x = ((f64::from(*x) - mean) / std) as f32;
                }
            }
            Self::MinMax { low, high, clip } => {
                for ((x, &low), &high) in row.iter_mut().zip(low).zip(high) {
                    let wide = f64::from(*x);
                    let inside = if *clip && !wide.is_nan() { wide.clamp(low, high) } else { wide };
                    *x = ((inside - low) / range(low, high)) as f32;
                }
            }
        }
    }

    /// Inverts the scaling of a row in place.
    pub fn undo(&self, row: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Standardize { mean, std } => {
                for ((x, mean), std) in row.iter_mut().zip(mean).zip(std) {
                    *x = (f64::from(*x) * std + mean) as f32;
                }
            }
            Self::MinMax { low, high, .. } => {
                for ((x, &low), &high) in row.iter_mut().zip(low).zip(high) {
                    *x = (f64::from(*x) * range(low, high) + low) as f32;
                }
            }
        }
    }

    /// Inverts the scaling of all rows in place.
    pub fn undo_all(&self, rows: &mut Array2<f32>) {
        if *self != Self::None {
            for mut row in rows.rows_mut() {
                match row.as_slice_mut() {
                    Some(row) => self.undo(row),
                    None => {
                        let mut copy = row.to_vec();
                        self.undo(&mut copy);
                        row.iter_mut().zip(copy).for_each(|(to, from)| *to = from);
                    }
                }
            }
        }
    }

    /// Number of features it was fitted to; `None` without scaling.
    pub fn features(&self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Standardize { mean, .. } => Some(mean.len()),
            Self::MinMax { low, .. } => Some(low.len()),
        }
    }
}

/// Divisor of min-max scaling: the range of a feature, or 1 if it is constant.
pub fn range(low: f64, high: f64) -> f64 {
    if high > low { high - low } else { 1.0 }
}

/// Means and sums of squared deviations in one pass (Welford 1962), without cancellation if the mean is large
/// compared to the deviations.
struct Moments {
    rows: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    fn new(features: usize) -> Self {
        Self { rows: 0.0, mean: vec![0.0; features], squares: vec![0.0; features] }
    }

    fn add(&mut self, row: &[f32]) {
        self.rows += 1.0;
        for ((mean, squares), &x) in self.mean.iter_mut().zip(&mut self.squares).zip(row) {
            let x = f64::from(x);
            let away = x - *mean;
            *mean += away / self.rows;
            *squares += away * (x - *mean);
        }
    }

    fn finish(self) -> (Scaling, usize) {
        let mut constant = 0;
        let std = self.squares.iter().map(|squares| {
            let std = (squares / self.rows.max(1.0)).sqrt();
            if std > 0.0 {
                std
            } else {
                constant += 1;
                1.0
            }
        });
        let std = std.collect();
        (Scaling::Standardize { mean: self.mean, std }, constant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [[f32; 3]; 4] = [
        [1.0, 7.0, 1e6 + 1.0],
        [2.0, 7.0, 1e6 + 2.0],
        [3.0, 7.0, 1e6 + 3.0],
        [4.0, 7.0, 1e6 + 4.0],
    ];

    fn fitted(kind: ScalingKind, clip: bool) -> (Scaling, usize) {
        let each = |work: &mut dyn FnMut(&[f32])| {
            ROWS.iter().for_each(|row| work(row));
            Ok(())
        };
        Scaling::fit(kind, clip, 3, each).unwrap()
    }

    #[test]
    fn standardizes_to_mean_0_and_deviation_1() {
        let (scaling, constant) = fitted(ScalingKind::Standardize, false);
        assert_eq!(constant, 1);
        let mut rows = ROWS;
        rows.iter_mut().for_each(|row| scaling.apply(row));
        for feature in [0, 2] {
            let column = rows.map(|row| f64::from(row[feature]));
            assert!(column.iter().sum::<f64>().abs() < 1e-6, "{column:?}");
            assert!((column.iter().map(|x| x * x).sum::<f64>() / 4.0 - 1.0).abs() < 1e-6);
        }
        assert!(rows.iter().all(|row| row[1] == 0.0));
        rows.iter_mut().for_each(|row| scaling.undo(row));
        for (found, expected) in rows.as_flattened().iter().zip(ROWS.as_flattened()) {
            assert!((found / expected - 1.0).abs() < 2.0 * f32::EPSILON, "{found} {expected}");
        }
    }

    #[test]
    fn min_max_maps_the_training_rows_to_0_to_1() {
        let (scaling, constant) = fitted(ScalingKind::MinMax, false);
        assert_eq!((constant, scaling.features()), (1, Some(3)));
        let mut rows = ROWS;
        rows.iter_mut().for_each(|row| scaling.apply(row));
        assert_eq!((rows[0], rows[3]), ([0.0, 0.0, 0.0], [1.0, 0.0, 1.0]));
        rows.iter_mut().for_each(|row| scaling.undo(row));
        assert_eq!(rows, ROWS);
        let mut outside = [7.0, 8.0, 1e6];
        scaling.apply(&mut outside);
        assert_eq!(outside, [2.0, 1.0, -1.0 / 3.0]);
    }

    #[test]
    fn clips_to_the_range_but_keeps_nan() {
        let (scaling, _) = fitted(ScalingKind::MinMax, true);
        let mut outside = [7.0, 8.0, f32::NAN];
        scaling.apply(&mut outside);
        assert_eq!(outside[..2], [1.0, 0.0]);
        assert!(outside[2].is_nan());
    }

    #[test]
    fn no_scaling_is_the_identity_and_all_kinds_round_trip_as_json() {
        let (none, constant) = fitted(ScalingKind::None, false);
        let mut row = ROWS[2];
        none.apply(&mut row);
        none.undo(&mut row);
        assert_eq!((row, constant), (ROWS[2], 0));
        for kind in [ScalingKind::None, ScalingKind::Standardize, ScalingKind::MinMax] {
            let scaling = fitted(kind, true).0;
            let text = serde_json::to_string(&scaling).unwrap();
            assert_eq!(serde_json::from_str::<Scaling>(&text).unwrap(), scaling, "{text}");
        }
    }
}
