//! The normal prior of the latent code.

use crate::error::{Error, Result};

/// The prior of every latent dimension: N(m, s²), by default N(0, 1).
///
/// ```
/// use elbo::loss::kl::Prior;
///
/// assert_eq!(Prior::default(), Prior { mean: 0.0, std: 1.0 });
/// assert!(Prior { mean: 0.0, std: 0.0 }.validate().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub struct Prior {
    /// The mean m.
    pub mean: f32,
    /// The standard deviation s.
    pub std: f32,
}

impl Default for Prior {
    fn default() -> Self {
        Self { mean: 0.0, std: 1.0 }
    }
}

impl Prior {
    /// Returns whether the prior is N(0, 1).
    pub(crate) fn is_standard(self) -> bool {
        self == Self::default()
    }

    /// Checks mean and standard deviation.
    ///
    /// # Errors
    /// [`Error::Config`] if the mean is not finite, or the standard deviation lies outside
    /// [10⁻¹⁵, 10¹⁵], where f32 would lose its square or the inverse of that.
    pub fn validate(&self) -> Result<()> {
        if !self.mean.is_finite() {
            return Err(Error::config("prior mean", "a finite number", self.mean));
        }
        if !(1e-15..=1e15).contains(&self.std) {
            return Err(Error::config("prior std", "a number from 1e-15 to 1e15", self.std));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_invalid_priors() {
        let found = |mean, std| Prior { mean, std }.validate().map_err(|e| e.to_string());
        for (mean, std) in [(0.0, 1.0), (-3.0, 1e-15), (1e30, 1e15)] {
            assert_eq!(found(mean, std), Ok(()));
        }
        let message = "`prior mean`: expected a finite number, found NaN";
        assert_eq!(found(f32::NAN, 1.0).unwrap_err(), message);
        for std in [0.0, -1.0, f32::INFINITY, f32::NAN] {
            let message = found(0.0, std).unwrap_err();
            assert_eq!(
                message,
                format!("`prior std`: expected a number from 1e-15 to 1e15, found {std}")
            );
        }
    }
}
