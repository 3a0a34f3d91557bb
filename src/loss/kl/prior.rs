//! The prior N(m, s²), and the divergence from it as a term.

use super::expm1_less_argument;
use crate::error::{Error, Result};
use crate::loss::term::{Range, Term};
use crate::math::exp::expm1;
use crate::math::scalar;
use pulp::Simd;

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
    /// m.
    pub mean: f32,
    /// s, the standard deviation.
    pub std: f32,
}

impl Default for Prior {
    fn default() -> Self {
        Self { mean: 0.0, std: 1.0 }
    }
}

impl Prior {
    /// Whether it is N(0, 1).
    pub(crate) fn is_standard(self) -> bool {
        self == Self::default()
    }

    /// # Errors
    /// [`Error::Config`] for a mean that is not finite, or a standard deviation outside
    /// [10⁻¹⁵, 10¹⁵], whose square or its inverse f32 would lose.
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

/// The term KL(N(μ, e^v) ‖ N(m, s²)): inputs μ and v, gradients with respect to both.
///
/// Made by [`Self::new`]; under N(0, 1) its bits are those of
/// [`StandardNormalKl`](super::StandardNormalKl).
#[derive(Clone, Copy)]
pub(crate) struct NormalKl {
    pub(crate) mean: f32,
    /// 1/s².
    pub(crate) inverse_variance: f32,
    /// ln s².
    pub(crate) log_variance: f32,
}

impl NormalKl {
    pub(crate) fn new(prior: Prior) -> Self {
        let std = f64::from(prior.std);
        Self {
            mean: prior.mean,
            inverse_variance: (1.0 / (std * std)) as f32,
            log_variance: (2.0 * scalar::ln(std)) as f32,
        }
    }
}

impl Term<2, 2> for NormalKl {
    const ACCEPTS: Option<Range> = None;

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, [mu, logvar]: [S::f32s; 2]) -> (S::f32s, [S::f32s; 2]) {
        let half = simd.splat_f32s(0.5);
        let distance = simd.sub_f32s(mu, simd.splat_f32s(self.mean));
        let dmu = simd.mul_f32s(distance, simd.splat_f32s(self.inverse_variance));
        let u = simd.sub_f32s(logvar, simd.splat_f32s(self.log_variance));
        let expm1_u = expm1(simd, u);
        let spread = expm1_less_argument(simd, u, expm1_u);
        let kl = simd.mul_f32s(half, simd.mul_add_f32s(distance, dmu, spread));
        (kl, [dmu, simd.mul_f32s(half, expm1_u)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::conformance::{Conformance, element, ulp};
    use crate::loss::kl::StandardNormalKl;
    use crate::loss::reference;
    use crate::simd::InstructionSet;
    use proptest::prelude::*;

    const PRIOR: Prior = Prior { mean: -0.75, std: 2.5 };

    fn twin(inputs: [f64; 2]) -> (f64, [f64; 2]) {
        let NormalKl { mean, inverse_variance, log_variance } = NormalKl::new(PRIOR);
        reference::normal_kl(inputs, [mean, inverse_variance, log_variance].map(f64::from))
    }

    #[test]
    fn conforms() {
        let logvars: Vec<f32> = (-100..=100).map(|i| 1.8 + i as f32 / 37.0).collect();
        let mut elements: Vec<[f32; 2]> = Vec::new();
        for &v in &logvars {
            elements.extend([0.0, -0.75, 1e-4, 0.7, -1.5, 3.0, 100.0].map(|mu| [mu, v]));
        }
        Conformance {
            term: NormalKl::new(PRIOR),
            twin,
            elements: elements.clone(),
            // |v − ln s²| is below 3.
            value_ulps: 3.0 + 3.0,
            value_size: |_, value| value,
            gradient_ulps: [2.0, 2.0 + 3.0],
            underflow: 0.0,
            gradient_size: |_, gradients| gradients,
            smooth: elements.into_iter().filter(|e| e[0] != -0.75).collect(),
        }
        .check();
    }

    #[test]
    fn the_default_prior_has_the_bits_of_the_standard_normal() {
        let standard = NormalKl::new(Prior::default());
        for i in -200..=200 {
            for mu in [0.0, -0.0, 1e-20, -0.3, 2.0, f32::INFINITY, f32::NAN] {
                for set in [InstructionSet::SCALAR, InstructionSet::detect()] {
                    let inputs = [mu, i as f32 / 2.0];
                    let (a, da) = element(set, standard, inputs);
                    let (b, db) = element(set, StandardNormalKl, inputs);
                    assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(), "{inputs:?}");
                    for (a, b) in da.into_iter().zip(db) {
                        assert!(a == b || a.is_nan() && b.is_nan(), "{inputs:?}");
                    }
                }
            }
        }
    }

    proptest! {
        /// The two forms in print, in f32, differ by the rounding of their largest term alone.
        #[test]
        fn the_published_forms_agree(
            mu in -8.0_f32..8.0, v in -12.0_f32..8.0, mean in -2.0_f32..2.0, std in 0.1_f32..10.0,
        ) {
            let set = InstructionSet::detect();
            let (kl, _) = element(set, NormalKl::new(Prior::default()), [mu, v]);
            let other = -0.5 * (1.0 + v - v.exp() - mu * mu);
            let largest = 1.0_f32.max(v.abs()).max(v.exp()).max(mu * mu);
            let bound = 3.0 * ulp(largest.into());
            prop_assert!((kl - f64::from(other)).abs() <= bound, "{} {}", kl, other);

            let (kl, _) = element(set, NormalKl::new(Prior { mean, std }), [mu, v]);
            let (variance, distance) = (v.exp() / (std * std), (mu - mean) / std);
            let log_ratio = v / 2.0 - std.ln();
            let other = 0.5 * (variance + distance * distance - 1.0) - log_ratio;
            // u = v − ln s² is rounded before it is an exponent: |u| ULP of e^u.
            let u = 2.0 * log_ratio.abs() + 1.0;
            let largest = 1.0_f32.max(u * variance).max(distance * distance).max(v.abs());
            let bound = 4.0 * ulp(largest.into());
            prop_assert!((kl - f64::from(other)).abs() <= bound, "{} {}", kl, other);
        }
    }

    #[test]
    fn priors_that_are_none() {
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
