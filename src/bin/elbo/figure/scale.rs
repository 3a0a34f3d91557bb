//! The scale of an axis: range, ticks and labels.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// A linear axis with its ticks.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    range: Range<f64>,
    ticks: Vec<(f64, String)>,
}

impl Scale {
    /// A scale with at most `most` intervals between ticks at round numbers.
    pub fn linear(range: Range<f64>, most: usize) -> Self {
        let ticks = ticks(&range, most, 0.0);
        Self { range, ticks }
    }

    /// A scale with ticks at integers only.
    pub fn whole(range: Range<f64>, most: usize) -> Self {
        let ticks = ticks(&range, most, 1.0);
        Self { range, ticks }
    }

    /// A scale of decimal logarithms, with ticks at powers of ten.
    pub fn logarithmic(range: Range<f64>, most: usize) -> Self {
        let mut scale = Self::whole(range, most);
        for (at, label) in &mut scale.ticks {
            *label = power_of_ten(*at);
        }
        scale
    }

    /// A scale with the given ticks: position and label.
    pub fn with_ticks(range: Range<f64>, ticks: Vec<(f64, String)>) -> Self {
        Self { range, ticks }
    }

    pub fn bounds(&self) -> Range<f64> {
        self.range.clone()
    }

    pub fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }
}

/// Returns the range of the finite values with a margin on both sides, never empty; 0 to 1 without values.
///
/// `margin` is a share of the range.
pub fn around(values: impl Iterator<Item = f64>, margin: f64) -> Range<f64> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|value| value.is_finite()) {
        low = low.min(value);
        high = high.max(value);
    }
    if low > high {
        return 0.0..1.0;
    }
    let margin = (margin * (high - low)).max(1e-3 * high.abs().max(low.abs())).max(1e-6);
    low - margin..high + margin
}

/// Ticks at multiples of 1, 2 or 5 times a power of ten, at least `least_step` apart.
fn ticks(range: &Range<f64>, most: usize, least_step: f64) -> Vec<(f64, String)> {
    let rough = ((range.end - range.start) / most.max(1) as f64).max(least_step);
    let power = 10_f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let step = power * factors.into_iter().find(|f| f * power >= rough * 0.9999).unwrap_or(10.0);
    let first = (range.start / step - 1e-9).ceil();
    let largest = range.start.abs().max(range.end.abs());
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let label = |value: f64| {
        if largest < 1e6 && step > 1e-5 {
            format!("{value:.decimals$}")
        } else if value == 0.0 {
            "0".to_owned()
        } else {
            shortest(&format!("{value:.3e}"))
        }
    };
    (0..1000)
        .map(|i| (first + f64::from(i)) * step)
        .take_while(|value| *value <= range.end + 1e-9 * step)
        // Without this, 0 could be labeled -0.
        .map(|value| if value.abs() < 1e-9 * step { 0.0 } else { value })
        .map(|value| (value, label(value).replace('-', "−")))
        .collect()
}

/// Removes trailing zeros: `1.50e-5` becomes `1.5e-5`.
fn shortest(scientific: &str) -> String {
    match scientific.split_once('e') {
        Some((digits, exponent)) => {
            format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
        None => scientific.to_owned(),
    }
}

fn power_of_ten(exponent: f64) -> String {
    match exponent as i32 {
        e @ -4..=4 => format!("{}", 10_f64.powi(e)),
        e => format!("1e{e}"),
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (low, high): (i32, i32)) -> i32 {
        let part = (value - self.range.start) / (self.range.end - self.range.start);
        low + (part * f64::from(high - low)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, _: H) -> Vec<f64> {
        self.ticks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, value: &f64) -> String {
        let known = self.ticks.iter().find(|(at, _)| at == value);
        known.map_or_else(String::new, |(_, label)| label.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<&str> {
        scale.ticks.iter().map(|(_, label)| &label[..]).collect()
    }

    #[test]
    fn ticks_are_round_numbers_within_the_range() {
        assert_eq!(
            labels(&Scale::linear(-0.04..1.04, 6)),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(labels(&Scale::linear(97.0..123.0, 6)), ["100", "105", "110", "115", "120"]);
        assert_eq!(labels(&Scale::linear(-3.0..3.0, 6)), ["−3", "−2", "−1", "0", "1", "2", "3"]);
        assert_eq!(labels(&Scale::whole(0.5..3.5, 10)), ["1", "2", "3"]);
        assert_eq!(labels(&Scale::whole(0.5..1.5, 10)), ["1"]);
        assert_eq!(labels(&Scale::whole(0.5..1000.5, 6)), ["200", "400", "600", "800", "1000"]);
        assert_eq!(labels(&Scale::linear(0.0..2e-6, 2)), ["0", "1e−6", "2e−6"]);
        assert_eq!(labels(&Scale::linear(0.0..4e6, 2)), ["0", "2e6", "4e6"]);
        assert_eq!(labels(&Scale::logarithmic(-3.1..1.2, 6)), ["0.001", "0.01", "0.1", "1", "10"]);
    }

    #[test]
    fn range_around_constant_or_missing_values_is_not_empty() {
        let range = around([0.0, 0.0].into_iter(), 0.06);
        assert!(range.start < 0.0 && range.end > 0.0);
        assert_eq!(around(std::iter::empty(), 0.1), 0.0..1.0);
        assert_eq!(around([f64::NAN, f64::INFINITY].into_iter(), 0.1), 0.0..1.0);
        let range = around([0.0, 10.0, f64::NAN].into_iter(), 0.1);
        assert_eq!(range, -1.0..11.0);
    }
}
