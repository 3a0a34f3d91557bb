//! Warnings about digits that are lost when numbers are rounded to float32 without scaling.

use super::Data;
use super::scaling::Scaling;
use crate::failure::Result;
use crate::text::{listed, number};

/// A feature is announced if its values are rounded to multiples of more than this part of their spread, that
/// is, to fewer than 16,384 different values.
const COARSE: f64 = 1.0 / 16_384.0;

/// First integer that float64 may round: 2⁵³.
const INEXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// Larger numbers are no integers of 64 bits but floats, none of which above 2⁵³ has a fraction.
const LARGEST_INTEGER: f64 = 18_446_744_073_709_551_616.0;

/// Values of a feature.
#[derive(Clone)]
struct Spread {
    low: f64,
    high: f64,
    /// True if float32 rounds one of the values.
    rounded: bool,
    /// True if all values are integers of at most 64 bits.
    integers: bool,
}

impl Spread {
    fn add(&mut self, x: f64) {
        self.low = self.low.min(x);
        self.high = self.high.max(x);
        self.rounded |= f64::from(x as f32) != x;
        self.integers &= x.fract() == 0.0 && x.abs() <= LARGEST_INTEGER;
    }

    /// Returns true if float32 gives some of the values up that the feature tells apart: integers, or values
    /// far from 0 compared to their spread.
    fn loses_digits(&self) -> bool {
        let largest = self.low.abs().max(self.high.abs()) as f32;
        let step = f64::from(largest.next_up()) - f64::from(largest);
        self.rounded
            && self.high > self.low
            && (self.integers || step > COARSE * (self.high - self.low))
    }
}

/// Warns about features that lose digits: integers beyond 2⁵³, and without scaling all that float32 rounds
/// noticeably.
pub fn warnings(data: &Data) -> Result<Vec<String>> {
    if !data.rows.are_wide() {
        return Ok(Vec::new());
    }
    let empty =
        Spread { low: f64::INFINITY, high: f64::NEG_INFINITY, rounded: false, integers: true };
    let mut spreads = vec![empty; data.width()];
    data.rows.each(|_, numbers| {
        spreads.iter_mut().zip(numbers).for_each(|(spread, &x)| spread.add(x));
        Ok(())
    })?;
    let names = |chosen: &dyn Fn(&Spread) -> bool| -> Vec<String> {
        let chosen = spreads.iter().enumerate().filter(|(_, spread)| chosen(spread));
        chosen.map(|(column, _)| data.column_name(column)).collect()
    };
    let mut warnings = Vec::new();
    let wide = names(&|s| s.integers && s.low.abs().max(s.high.abs()) > INEXACT_INTEGERS);
    if !wide.is_empty() {
        warnings.push(format!(
            "{}: {}: integers beyond 2^53 are rounded to float64 and may no longer be distinct; leave \
             identifiers out with --drop-columns",
            data.name,
            listed(&wide)
        ));
    }
    if data.scaling != Scaling::None {
        return Ok(warnings);
    }
    let coarse = names(&Spread::loses_digits);
    if let Some(column) = spreads.iter().position(Spread::loses_digits) {
        let Spread { low, high, .. } = spreads[column];
        let (from, to) = (number(low as f32), number(high as f32));
        warnings.push(format!(
            "{}: {}: the values lose digits when they are rounded to float32 ({} to {} become {from} to \
             {to}); use --scale standardize or --scale min-max",
            data.name,
            listed(&coarse),
            number(low),
            number(high),
        ));
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Rows;
    use ndarray::Array2;

    fn of(column: impl Fn(usize) -> f64) -> Vec<String> {
        let rows = Rows::F64(Array2::from_shape_fn((64, 1), |(i, _)| column(i)));
        warnings(&Data { columns: vec!["a".into()], ..Data::new("x", rows) }).unwrap()
    }

    #[test]
    fn names_columns_that_lose_digits() {
        assert_eq!(
            of(|i| 1.7e9 + i as f64),
            [
                "x: column 'a': the values lose digits when they are rounded to float32 (1700000000 to 1700000063 \
              become 1700000000 to 1700000000); use --scale standardize or --scale min-max"
            ]
        );
        for column in [
            // Steps of 8 at 1e8; integers above 2²⁴; a mean 1e5 deviations from 0; steps of 1.4e-45.
            &(|i: usize| 123_456_789.01 + 0.5 * i as f64) as &dyn Fn(usize) -> f64,
            &|i| 16_777_216.0 + 1e6 * i as f64 + 1.0,
            &|i| 1e5 + (i as f64 / 7.0).sin(),
            &|i| 1e-44 * i as f64,
        ] {
            assert_eq!(of(column).len(), 1, "{}", column(1));
        }
    }

    #[test]
    fn says_nothing_about_numbers_that_float32_holds_well() {
        for column in [
            &(|i: usize| i as f64 / 7.0) as &dyn Fn(usize) -> f64,
            &|i| 2000.0 + i as f64,
            &|i| 1000.0 + i as f64 / 7.0,
            &|_| 1_700_000_001.0,
            &|i| 1e30 / (1.0 + i as f64),
        ] {
            assert_eq!(of(column), [""; 0], "{}", column(1));
        }
    }

    #[test]
    fn announces_integers_that_float64_rounds_even_with_scaling() {
        let rows = Array2::from_shape_fn((64, 2), |(i, j)| [i as f64, 2e16 + 4.0 * i as f64][j]);
        let scaling = Scaling::Standardize { mean: vec![0.0; 2], std: vec![1.0; 2] };
        let data = Data { scaling, ..Data::new("x", Rows::F64(rows)) };
        let found = warnings(&data).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("x: column 1: integers beyond 2^53 are rounded"), "{found:?}");
    }
}
