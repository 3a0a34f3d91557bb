//! Scaling of features, fitted to the training rows and inverted on output.
//!
//! ```text
//! standardize: (x - mean) / std     std divides by the number of rows
//! min-max:     (x - low) / (high - low)
//! ```
//! Numbers are fitted, scaled and unscaled in f64, and a scaled number is rounded once, to the f32 that the
//! model reads: timestamps, amounts and identifiers keep their digits. Statistics are accumulated in the order
//! of the file, so that they are always the same bits. A feature that is constant in the training rows has a std or
//! range of 0. It is only shifted, as if that were 1, and becomes the constant again on output, whatever the model
//! says.

use crate::failure::{Failure, Result};
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
    /// Maps the training rows to mean 0 and standard deviation 1; `std` is 0 for a constant feature.
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
    /// Fits a scaling to the rows that `each` iterates over, and counts the constant features. `each` is called
    /// once, or twice if the squares of a feature exceed the range of f64.
    pub fn fit(
        kind: ScalingKind,
        clip: bool,
        features: usize,
        each: impl Fn(&mut dyn FnMut(&[f64])) -> Result<()>,
    ) -> Result<(Self, usize)> {
        if kind == ScalingKind::None {
            return Ok((Self::None, 0));
        }
        let mut moments = Moments::new(features);
        each(&mut |row| moments.add(row))?;
        if let Some(feature) =
            (0..features).find(|&j| !(moments.high[j] - moments.low[j]).is_finite())
        {
            return Err(Failure::Run(format!(
                "--scale: the values of feature {feature} span {} to {}, more than float64 can subtract",
                moments.low[feature], moments.high[feature]
            )));
        }
        let constant = (0..features).filter(|&j| moments.is_constant(j)).count();
        if kind == ScalingKind::MinMax {
            return Ok((Self::MinMax { low: moments.low, high: moments.high, clip }, constant));
        }
        let mut std = moments.std();
        let inexact: Vec<usize> =
            (0..features).filter(|&j| moments.squares_are_inexact(j)).collect();
        if !inexact.is_empty() {
            let mut by_range = vec![0.0; features];
            each(&mut |row| moments.add_squares_by_range(row, &mut by_range))?;
            for j in inexact {
                std[j] = (moments.high[j] - moments.low[j]) * (by_range[j] / moments.rows).sqrt();
            }
        }
        Ok((Self::Standardize { mean: moments.mean, std }, constant))
    }

    /// Scales a row of f32 in place.
    pub fn apply(&self, row: &mut [f32]) {
        if *self != Self::None {
            self.scale(row.iter_mut().map(|x| (f64::from(*x), x)));
        }
    }

    /// Overwrites `out` with a scaled row of f64.
    pub fn apply_to(&self, numbers: &[f64], out: &mut [f32]) {
        self.scale(numbers.iter().copied().zip(out));
    }

    /// Scales each number and rounds it once.
    fn scale<'a>(&self, numbers: impl Iterator<Item = (f64, &'a mut f32)>) {
        match self {
            Self::None => numbers.for_each(|(x, out)| *out = x as f32),
            Self::Standardize { mean, std } => {
                for (((x, out), mean), std) in numbers.zip(mean).zip(std) {
                    *out = ((x - mean) / divisor(*std)) as f32;
                }
            }
            Self::MinMax { low, high, clip } => {
                for (((x, out), &low), &high) in numbers.zip(low).zip(high) {
                    let inside = if *clip && !x.is_nan() { x.clamp(low, high) } else { x };
                    *out = ((inside - low) / divisor(high - low)) as f32;
                }
            }
        }
    }

    /// Inverts the scaling of all rows, in f64.
    pub fn undo(&self, mut rows: Array2<f64>) -> Array2<f64> {
        for mut row in rows.rows_mut() {
            match self {
                Self::None => {}
                Self::Standardize { mean, std } => {
                    for ((x, mean), std) in row.iter_mut().zip(mean).zip(std) {
                        *x = *x * std + mean;
                    }
                }
                Self::MinMax { low, high, .. } => {
                    for ((x, &low), &high) in row.iter_mut().zip(low).zip(high) {
                        *x = *x * (high - low) + low;
                    }
                }
            }
        }
        rows
    }

    /// Distance of each feature of a row from the domain `[low, high]` of scaled values, in units of its range; 0
    /// for another scaling than min-max.
    pub fn excess_of_features(&self, numbers: &[f64], [below, above]: [f32; 2]) -> Vec<f64> {
        let Self::MinMax { low, high, .. } = self else { return vec![0.0; numbers.len()] };
        let (below, above) = (f64::from(below), f64::from(above));
        let scaled = numbers.iter().zip(low).zip(high);
        scaled
            .map(|((x, &low), &high)| (x - low) / divisor(high - low))
            .map(|x| (below - x).max(x - above).max(0.0))
            .collect()
    }

    /// Sum of [`Self::excess_of_features`] over a row.
    pub fn excess(&self, numbers: &[f64], domain: [f32; 2]) -> f64 {
        self.excess_of_features(numbers, domain).iter().sum()
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

/// Divisor of a feature with this standard deviation or range: 1 if it is constant.
pub fn divisor(spread: f64) -> f64 {
    if spread > 0.0 { spread } else { 1.0 }
}

/// Ranges, means and sums of squared deviations in one pass (Welford 1962), without cancellation if the mean is
/// large compared to the deviations.
struct Moments {
    rows: f64,
    low: Vec<f64>,
    high: Vec<f64>,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    fn new(features: usize) -> Self {
        Self {
            rows: 0.0,
            low: vec![f64::INFINITY; features],
            high: vec![f64::NEG_INFINITY; features],
            mean: vec![0.0; features],
            squares: vec![0.0; features],
        }
    }

    fn add(&mut self, row: &[f64]) {
        self.rows += 1.0;
        let Self { low, high, mean, squares, .. } = self;
        let features = low.iter_mut().zip(high).zip(mean).zip(squares);
        for ((((low, high), mean), squares), &x) in features.zip(row) {
            *low = low.min(x);
            *high = high.max(x);
            let away = x - *mean;
            *mean += away / self.rows;
            *squares += away * (x - *mean);
        }
    }

    /// Adds the squared deviations of a row, divided by the range of the feature so that they neither
    /// overflow nor vanish.
    fn add_squares_by_range(&self, row: &[f64], sums: &mut [f64]) {
        for (j, (sum, x)) in sums.iter_mut().zip(row).enumerate() {
            let away = (x - self.mean[j]) / divisor(self.high[j] - self.low[j]);
            *sum += away * away;
        }
    }

    /// Returns true if the squares of a feature exceed the range of f64.
    fn squares_are_inexact(&self, feature: usize) -> bool {
        !self.is_constant(feature) && !self.squares[feature].is_normal()
    }

    fn is_constant(&self, feature: usize) -> bool {
        self.low[feature] >= self.high[feature]
    }

    /// Standard deviations; exactly 0 for a constant feature.
    fn std(&self) -> Vec<f64> {
        let of = |(j, squares): (usize, &f64)| {
            if self.is_constant(j) { 0.0 } else { (squares / self.rows.max(1.0)).sqrt() }
        };
        self.squares.iter().enumerate().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [[f64; 3]; 4] = [
        [1.0, 7.0, 1e6 + 1.0],
        [2.0, 7.0, 1e6 + 2.0],
        [3.0, 7.0, 1e6 + 3.0],
        [4.0, 7.0, 1e6 + 4.0],
    ];

    fn fit(kind: ScalingKind, clip: bool, rows: &[[f64; 3]]) -> Result<(Scaling, usize)> {
        Scaling::fit(kind, clip, 3, |work| {
            rows.iter().for_each(|row| work(row));
            Ok(())
        })
    }

    fn fitted(kind: ScalingKind, clip: bool) -> (Scaling, usize) {
        fit(kind, clip, &ROWS).unwrap()
    }

    fn scaled(scaling: &Scaling, rows: &[[f64; 3]]) -> Vec<[f32; 3]> {
        let row = |row: &[f64; 3]| {
            let mut out = [f32::NAN; 3];
            scaling.apply_to(row, &mut out);
            out
        };
        rows.iter().map(row).collect()
    }

    fn undone(scaling: &Scaling, rows: &[[f32; 3]]) -> Array2<f64> {
        scaling.undo(Array2::from_shape_fn((rows.len(), 3), |(i, j)| f64::from(rows[i][j])))
    }

    #[test]
    fn standardizes_to_mean_0_and_deviation_1() {
        let (scaling, constant) = fitted(ScalingKind::Standardize, false);
        assert_eq!(constant, 1);
        let rows = scaled(&scaling, &ROWS);
        for feature in [0, 2] {
            let column = || rows.iter().map(|row| f64::from(row[feature]));
            assert!(column().sum::<f64>().abs() < 1e-6);
            assert!((column().map(|x| x * x).sum::<f64>() / 4.0 - 1.0).abs() < 1e-6);
        }
        assert!(rows.iter().all(|row| row[1] == 0.0));
        for (found, expected) in undone(&scaling, &rows).iter().zip(ROWS.as_flattened()) {
            assert!((found - expected).abs() < 2e-7, "{found} {expected}");
        }
    }

    #[test]
    fn constant_feature_stays_constant_on_output() {
        for kind in [ScalingKind::Standardize, ScalingKind::MinMax] {
            let (scaling, _) = fitted(kind, false);
            // What a model says of it is noise around 0.
            let back = undone(&scaling, &[[0.0, 0.7, 0.0], [0.0, -1e30, 0.0]]);
            assert_eq!([back[[0, 1]], back[[1, 1]]], [7.0; 2], "{kind:?}");
            // Another value than the constant does not go unseen on input.
            assert_eq!(scaled(&scaling, &[[1.0, 9.0, 1e6]])[0][1], 2.0, "{kind:?}");
        }
    }

    // 1700000000 to 1700000063, as seconds since 1970 and in units of 1e-200 and 1e+200 (numpy, float64:
    // a.mean(), a.std(), (a[0] - a.mean()) / a.std()).
    #[test]
    fn timestamps_keep_their_digits() {
        let rows: Vec<[f64; 3]> = (0..64)
            .map(|i| {
                let t = 1.7e9 + f64::from(i);
                [t, f64::from(i) * 1e-200, f64::from(i) * 1e200]
            })
            .collect();
        let (scaling, constant) = fit(ScalingKind::Standardize, false, &rows).unwrap();
        let Scaling::Standardize { mean, std } = &scaling else { panic!("{scaling:?}") };
        assert_eq!((mean[0], constant), (1_700_000_031.5, 0));
        for (std, unit) in std.iter().zip([1.0, 1e-200, 1e200]) {
            assert!((std / unit / 18.472_953_201_911_167 - 1.0).abs() < 1e-14, "{std}");
        }
        let ends = [rows[0], rows[63]];
        let found = scaled(&scaling, &ends);
        for (x, expected) in found[0]
            .iter()
            .chain(&found[1])
            .zip([-1.705_195_7_f32, 1.705_195_7].iter().flat_map(|x| [x; 3]))
        {
            assert!((x - expected).abs() <= 2e-7, "{x} {expected}");
        }
        let back = undone(&scaling, &scaled(&scaling, &rows[31..32]));
        assert!((back[[0, 0]] - 1_700_000_031.0).abs() < 1e-6, "{back}");

        let (scaling, constant) = fit(ScalingKind::MinMax, false, &rows).unwrap();
        let x = scaled(&scaling, &rows[21..22]);
        assert_eq!((x[0], constant), ([1.0 / 3.0; 3], 0));
    }

    #[test]
    fn rejects_ranges_beyond_float64() {
        let message = fit(ScalingKind::MinMax, false, &[[0.0, -1.5e308, 0.0], [0.0, 1.5e308, 0.0]]);
        assert!(message.unwrap_err().to_string().contains("feature 1 span"));
    }

    #[test]
    fn min_max_maps_the_training_rows_to_0_to_1() {
        let (scaling, constant) = fitted(ScalingKind::MinMax, false);
        assert_eq!((constant, scaling.features()), (1, Some(3)));
        let rows = scaled(&scaling, &ROWS);
        assert_eq!((rows[0], rows[3]), ([0.0, 0.0, 0.0], [1.0, 0.0, 1.0]));
        let third = undone(&scaling, &rows[1..2]);
        for (found, expected) in third.iter().zip(ROWS[1]) {
            assert!((found - expected).abs() < 1e-7, "{found} {expected}");
        }
        let outside = [7.0, 8.0, 1e6];
        assert_eq!(scaled(&scaling, &[outside]), [[2.0, 1.0, -1.0 / 3.0]]);
        // 1 above, 0 (a constant feature has the range 1), 1/3 below.
        assert_eq!(scaling.excess(&outside, [0.0, 1.0]), 1.0 + 1.0 / 3.0);
        assert!((scaling.excess(&outside, [-1.0, 1.0]) - 1.0).abs() < 1e-15);
        assert_eq!(scaling.excess(&ROWS[2], [0.0, 1.0]), 0.0);
    }

    #[test]
    fn clips_to_the_range_but_keeps_nan() {
        let (scaling, _) = fitted(ScalingKind::MinMax, true);
        let mut outside = [7.0, 8.0, f32::NAN];
        scaling.apply(&mut outside);
        assert_eq!(outside[..2], [1.0, 0.0]);
        assert!(outside[2].is_nan());
        assert_eq!(scaled(&scaling, &[[1e300, -1e300, 1e40]]), [[1.0, 0.0, 1.0]]);
    }

    #[test]
    fn no_scaling_is_the_identity_and_all_kinds_round_trip_as_json() {
        let (none, constant) = fitted(ScalingKind::None, false);
        let mut row = [0.1_f32, 1e-44, 3.0];
        none.apply(&mut row);
        assert_eq!((row, constant), ([0.1, 1e-44, 3.0], 0));
        assert_eq!(scaled(&none, &[[0.1, 1e-44, 3.0]]), [row]);
        for kind in [ScalingKind::None, ScalingKind::Standardize, ScalingKind::MinMax] {
            let scaling = fitted(kind, true).0;
            let text = serde_json::to_string(&scaling).unwrap();
            assert_eq!(serde_json::from_str::<Scaling>(&text).unwrap(), scaling, "{text}");
        }
    }
}
