//! Compact quantiles of a distribution.

use serde::{Deserialize, Serialize};

/// Order statistics: all of them, or 4,097 evenly spaced quantiles of a larger sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantiles(Vec<f64>);

/// Largest number of quantiles: steps of 1/4096.
const MOST: usize = 4097;

impl Quantiles {
    /// Computes the quantiles of numbers other than NaN; `None` if there are none. An infinite number is stored
    /// as the largest finite one, since JSON has no infinity.
    pub fn of(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.iter_mut().for_each(|x| *x = x.clamp(f64::MIN, f64::MAX));
        numbers.sort_by(f64::total_cmp);
        if numbers.len() > MOST {
            let all = Self(numbers);
            numbers = (0..MOST).map(|i| all.at(i as f64 / (MOST - 1) as f64)).collect();
        }
        (!numbers.is_empty()).then_some(Self(numbers))
    }

    /// Returns the quantile `part` from 0 to 1, interpolated linearly between order statistics (Hyndman & Fan
    /// 1996, definition 7, the default of NumPy).
    pub fn at(&self, part: f64) -> f64 {
        let position = part.clamp(0.0, 1.0) * (self.0.len() - 1) as f64;
        let below = self.0[position.floor() as usize];
        let above = self.0[position.ceil() as usize];
        let fraction = position.fract();
        let between = below + fraction * (above - below);
        // The difference of two numbers of the largest size overflows.
        if between.is_finite() { between } else { below * (1.0 - fraction) + above * fraction }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_numpy_on_few_numbers() {
        let quantiles = Quantiles::of(vec![3.0, 1.0, 2.0, 10.0]).unwrap();
        // numpy.quantile([1, 2, 3, 10], …)
        for (part, value) in [(0.0, 1.0), (0.5, 2.5), (0.9, 7.9), (0.99, 9.79), (1.0, 10.0)] {
            assert!((quantiles.at(part) - value).abs() < 1e-12, "{part}");
        }
        assert_eq!(Quantiles::of(vec![7.0]).unwrap().at(0.3), 7.0);
        assert_eq!(Quantiles::of(Vec::new()), None);
    }

    #[test]
    fn infinite_numbers_stay_above_all_others() {
        let quantiles = Quantiles::of(vec![f64::INFINITY, -1.0, f64::NEG_INFINITY]).unwrap();
        assert_eq!(
            (quantiles.at(0.0), quantiles.at(0.5), quantiles.at(1.0)),
            (f64::MIN, -1.0, f64::MAX)
        );
        assert!(quantiles.at(0.75).is_finite());
        let text = serde_json::to_string(&quantiles).unwrap();
        assert_eq!(serde_json::from_str::<Quantiles>(&text).unwrap(), quantiles);
    }

    #[test]
    fn stores_many_numbers_compactly() {
        let quantiles = Quantiles::of((0..100_000).rev().map(f64::from).collect()).unwrap();
        assert_eq!(quantiles.0.len(), MOST);
        for part in [0.0, 0.001, 0.5, 0.99, 0.9999, 1.0] {
            assert!((quantiles.at(part) - part * 99_999.0).abs() < 1e-6, "{part}");
        }
    }
}
