//! Importance weighting: a tighter bound from several samples of z, with its gradient.
//!
//! For k samples z_k = μ + σ·ε_k of one row:
//!
//! ```text
//! ln w_k = ln p(x|z_k) + ln p(z_k) − ln q(z_k|x)
//! loss   = −ln mean_k w_k          between the negative ELBO (k = 1) and −ln p(x)
//! w̃_k    = softmax_k ln w_k
//! ```
//!
//! # Derivation
//! ∂(−ln mean w) = −Σ w̃_k·∂ln w_k. Along z = μ + σε with v = ln σ² the density ln q(z|x) is
//! −½(v + ε² + ln 2π), whose derivative by z vanishes and by v is −½. With the reconstruction
//! rec = −ln p(x|z), the prior N(m, s²) and g_k the whole gradient by z_k:
//!
//! ```text
//! IWAE   g_k = w̃_k·(∂rec/∂z + (z−m)/s²)             dμ += g_k    dv += ½·g_k·σε_k − ½·w̃_k
//! DReG   g_k = w̃_k²·(∂rec/∂z + (z−m)/s² − ε_k/σ)    dμ += g_k    dv += ½·g_k·σε_k
//! ```
//!
//! The IWAE gradient of the encoder drowns in noise as k grows. DReG takes the part of it that has
//! mean zero out, which leaves w̃² and the derivative of ln q by z, −ε/σ; the decoder's gradient
//! is that of IWAE. With k = 1 DReG is the estimator called "sticking the landing".
//!
//! # Method
//! The decoder's loss is differentiated with its gradients multiplied by w̃_k, so that what comes
//! back to z, `dz`, already has one weight in it; [`backward`] adds the rest. ε/σ is σε·e^{−v}.
//!
//! # Contract
//! - Each element of ln q − ln p is within 3·2⁻²³ of the sum of the magnitudes of its four terms;
//!   `normalize` within 1e-14 relative, in the order of the samples.
//! - Each gradient is within 4·2⁻²³ of the sum of the magnitudes of its terms, what it is accumulated
//!   onto included. (In units of 2⁻²⁴ the term of the prior is off by 4 and that of ε/σ by 4, of which 2
//!   are the exponential's; each sum and product that follows rounds once, which makes 7 of g and 8 of
//!   the sum that it is added to.)
//! - A sample whose weight is 0 (ln w = −∞) counts as one of k and has no gradient. If all are, the
//!   bound is −∞ and the weights are NaN, as they are if any ln w is NaN or +∞.
//!
//! Sources: Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (2016); Tucker, Lawson,
//! Gu & Maddison, "Doubly Reparameterized Gradient Estimators" (2019); Roeder, Wu & Duvenaud,
//! "Sticking the Landing" (2017).

use super::kernel::batch::KernelRows;
use super::kernel::sums::row_values;
use super::kernel::{Range, Term};
use super::kl::{NormalKl, Prior};
use crate::error::expect_length;
use crate::math::exp::exp;
use crate::math::scalar;
use crate::simd::InstructionSet;
use crate::simd::environment::FloatEnvironment;
use crate::simd::lanes::{Lanewise, zip};
use crate::{Compute, Result};
use ndarray::ArrayView2;
use pulp::{Simd, WithSimd};

/// Estimator of the encoder's gradient of an importance-weighted bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(rename_all = "snake_case"))]
pub enum Estimator {
    /// The gradient of the bound itself.
    #[default]
    Iwae,
    /// Doubly reparameterized (DReG): the same mean, less noise.
    Dreg,
}

/// The term ln q(z|x) − ln p(z): inputs z, v and ε.
///
/// `½((z−m)²/s² + ln s² − v − ε²)`: the constants ½ ln 2π cancel.
#[derive(Clone, Copy)]
pub(crate) struct LogRatio(NormalKl);

impl LogRatio {
    pub(crate) fn new(prior: Prior) -> Self {
        Self(NormalKl::new(prior))
    }
}

impl Term<3, 0> for LogRatio {
    const ACCEPTS: Option<Range> = None;

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, [z, logvar, epsilon]: [S::f32s; 3]) -> (S::f32s, [S::f32s; 0]) {
        // (z−m)²/s² + ln s² − v − ε², from the smallest terms to the square.
        let distance = simd.sub_f32s(z, simd.splat_f32s(self.0.mean));
        let scaled = simd.mul_f32s(distance, simd.splat_f32s(self.0.inverse_variance));
        let spread = simd.sub_f32s(simd.splat_f32s(self.0.log_variance), logvar);
        let density = simd.negate_mul_add_f32s(epsilon, epsilon, spread);
        let sum = simd.mul_add_f32s(distance, scaled, density);
        (simd.mul_f32s(simd.splat_f32s(0.5), sum), [])
    }
}

/// Samples z = μ + e^{v/2}·ε of posteriors, one row a sample, and the prior.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// ln p(x|z) of each sample.
    pub log_likelihoods: &'a [f64],
    /// The samples z `[rows, Z]`.
    pub z: ArrayView2<'a, f32>,
    /// The log-variances v `[rows, Z]` of their posteriors.
    pub logvar: ArrayView2<'a, f32>,
    /// The noise ε `[rows, Z]`.
    pub epsilon: ArrayView2<'a, f32>,
    /// The prior of every latent dimension.
    pub prior: Prior,
}

/// Overwrites `out` with ln w of each sample:
/// `out[r] = log_likelihoods[r] − Σ_d [ln q(z[r, d]|x) − ln p(z[r, d])]`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if shapes or lengths differ;
/// [`Error::Layout`](crate::Error::Layout) if rows are not contiguous;
/// [`Error::Config`](crate::Error::Config) if the prior is invalid.
pub fn log_weights(compute: &Compute, out: &mut [f64], samples: Samples<'_>) -> Result<()> {
    let _environment = FloatEnvironment::standard();
    let Samples { log_likelihoods, z, logvar, epsilon, prior } = samples;
    prior.validate()?;
    expect_length("out", z.nrows(), out.len())?;
    expect_length("log_likelihoods", z.nrows(), log_likelihoods.len())?;
    let inputs = [("z", z), ("logvar", logvar), ("epsilon", epsilon)];
    let rows = KernelRows::<_, 3, 0>::new(LogRatio::new(prior), None, inputs, 1.0)?;
    row_values(compute, rows, out)?;
    // `out` holds the log ratios.
    for (out, likelihood) in out.iter_mut().zip(log_likelihoods) {
        *out = likelihood - *out;
    }
    Ok(())
}

/// Turns the ln w of one row's samples into the weights w̃, which sum to 1, and returns
/// ln mean w: the bound, in nats.
///
/// ```
/// use elbo::loss::importance::normalize;
///
/// let mut weights = [3.0_f64.ln() - 1000.0, 1.0_f64.ln() - 1000.0];
/// let bound = normalize(&mut weights);
/// assert!((bound - (2.0_f64.ln() - 1000.0)).abs() < 1e-12);
/// assert!((weights[0] - 0.75).abs() < 1e-12 && (weights[1] - 0.25).abs() < 1e-12);
/// ```
pub fn normalize(log_weights: &mut [f64]) -> f64 {
    let _environment = FloatEnvironment::standard();
    // e^{ln w − max} cannot overflow. A comparison with NaN is false; the sum brings it in.
    let mut largest = f64::NEG_INFINITY;
    for &weight in &*log_weights {
        if weight > largest {
            largest = weight;
        }
    }
    // −∞ − (−∞) is NaN: the weights are NaN, and the bound is −∞.
    let nothing = log_weights.iter().all(|&weight| weight == f64::NEG_INFINITY);
    // In the order of the samples, in f64.
    let mut sum = 0.0;
    for weight in &mut *log_weights {
        *weight = scalar::exp(*weight - largest);
        sum += *weight;
    }
    for weight in &mut *log_weights {
        *weight /= sum;
    }
    if nothing { f64::NEG_INFINITY } else { largest + scalar::ln(sum / log_weights.len() as f64) }
}

/// Running ln Σ exp of numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogSum {
    largest: f64,
    /// Σ exp(number − largest).
    sum: f64,
}

impl Default for LogSum {
    fn default() -> Self {
        Self { largest: f64::NEG_INFINITY, sum: 0.0 }
    }
}

impl LogSum {
    pub(crate) fn add(&mut self, number: f64) {
        // A term of 0, which must not become the largest number: −∞ − (−∞) is NaN.
        if number == f64::NEG_INFINITY {
            return;
        }
        if number > self.largest {
            // The sum so far, relative to the new largest number.
            self.sum = self.sum * scalar::exp(self.largest - number) + 1.0;
            self.largest = number;
        } else {
            self.sum += scalar::exp(number - self.largest);
        }
    }

    /// The logarithm of the sum: −∞ of nothing, NaN if a number was NaN.
    pub(crate) fn value(self) -> f64 {
        if self.sum == 0.0 { self.largest } else { self.largest + scalar::ln(self.sum) }
    }
}

/// The sample's weight and the prior, for both estimators.
#[derive(Clone, Copy)]
struct Weight {
    prior: NormalKl,
    weight: f32,
    /// scale·w̃.
    scaled: f32,
}

impl Weight {
    /// `dz + scale·w̃·(z−m)/s²`.
    #[inline(always)]
    fn with_prior<S: Simd>(self, simd: S, dz: S::f32s, z: S::f32s) -> S::f32s {
        // One factor for the row, so that each element takes one fused multiply-add.
        let pull = simd.splat_f32s(self.scaled * self.prior.inverse_variance);
        simd.mul_add_f32s(simd.sub_f32s(z, simd.splat_f32s(self.prior.mean)), pull, dz)
    }
}

/// `dlogvar + ½·g·σε`.
#[inline(always)]
fn through_sigma<S: Simd>(
    simd: S,
    dlogvar: S::f32s,
    g: S::f32s,
    sigma_epsilon: S::f32s,
) -> S::f32s {
    simd.mul_add_f32s(simd.mul_f32s(simd.splat_f32s(0.5), g), sigma_epsilon, dlogvar)
}

#[derive(Clone, Copy)]
struct Iwae(Weight);

impl Lanewise<2, 3> for Iwae {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        simd: S,
        [dmu, dlogvar]: [S::f32s; 2],
        [dz, z, sigma_epsilon]: [S::f32s; 3],
    ) -> [S::f32s; 2] {
        let g = self.0.with_prior(simd, dz, z);
        // −½·w of ln q, whose derivative by v along z = μ + σε is −½.
        let dlogvar = simd.sub_f32s(dlogvar, simd.splat_f32s(0.5 * self.0.scaled));
        [simd.add_f32s(dmu, g), through_sigma(simd, dlogvar, g, sigma_epsilon)]
    }
}

#[derive(Clone, Copy)]
struct Dreg(Weight);

impl Lanewise<2, 4> for Dreg {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        simd: S,
        [dmu, dlogvar]: [S::f32s; 2],
        [dz, z, sigma_epsilon, logvar]: [S::f32s; 4],
    ) -> [S::f32s; 2] {
        let g = self.0.with_prior(simd, dz, z);
        // The score of ln q by z: ε/σ = σε·e^{−v}.
        let score = simd.mul_f32s(sigma_epsilon, exp(simd, simd.neg_f32s(logvar)));
        let g = simd.negate_mul_add_f32s(simd.splat_f32s(self.0.scaled), score, g);
        // The second factor w̃; the first is in dz.
        let g = simd.mul_f32s(simd.splat_f32s(self.0.weight), g);
        [simd.add_f32s(dmu, g), through_sigma(simd, dlogvar, g, sigma_epsilon)]
    }
}

/// [`backward`] on slices of one length.
#[inline(always)]
pub(crate) fn backward_row<S: Simd>(
    simd: S,
    estimator: Estimator,
    Gradients { dmu, dlogvar }: Gradients<'_>,
    Sample { dz, z, logvar, sigma_epsilon, weight, scale, prior }: Sample<'_>,
) {
    // The estimator is chosen once a row, not in the loop.
    let sample = Weight { prior: NormalKl::new(prior), weight, scaled: scale * weight };
    match estimator {
        Estimator::Iwae => zip(simd, [dmu, dlogvar], [dz, z, sigma_epsilon], Iwae(sample)),
        Estimator::Dreg => zip(simd, [dmu, dlogvar], [dz, z, sigma_epsilon, logvar], Dreg(sample)),
    }
}

/// Gradients of one row's μ and v, which [`backward`] accumulates onto.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// ∂loss/∂μ.
    pub dmu: &'a mut [f32],
    /// ∂loss/∂v.
    pub dlogvar: &'a mut [f32],
}

/// One sample of a row, for [`backward`].
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The gradient that the decoder's backward pass leaves at its input when the gradients of its loss
    /// were multiplied by `scale·weight`.
    pub dz: &'a [f32],
    /// The sample z.
    pub z: &'a [f32],
    /// The log-variance v of the posterior.
    pub logvar: &'a [f32],
    /// σε, as [`reparameterize::forward`](crate::layers::reparameterize::forward) leaves it.
    pub sigma_epsilon: &'a [f32],
    /// The sample's w̃ of [`normalize`].
    pub weight: f32,
    /// Factor of the loss, such as 1/B.
    pub scale: f32,
    /// The prior of every latent dimension.
    pub prior: Prior,
}

/// Accumulates one sample's part of the encoder's gradient onto `dmu` and `dlogvar`, which become
/// the gradient of `scale·loss` after all samples.
///
/// With `w = scale·weight`:
///
/// ```text
/// IWAE   g = dz + w·(z−m)/s²                     dmu += g   dlogvar += ½·g·σε − ½·w
/// DReG   g = weight·(dz + w·((z−m)/s² − ε/σ))    dmu += g   dlogvar += ½·g·σε
/// ```
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the lengths differ;
/// [`Error::Config`](crate::Error::Config) if the prior is invalid.
pub fn backward(
    simd: InstructionSet,
    estimator: Estimator,
    gradients: Gradients<'_>,
    sample: Sample<'_>,
) -> Result<()> {
    struct Op<'a>(Estimator, Gradients<'a>, Sample<'a>);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            backward_row(simd, self.0, self.1, self.2);
        }
    }
    sample.prior.validate()?;
    let Sample { dz, z, logvar, sigma_epsilon, .. } = sample;
    let length = gradients.dmu.len();
    expect_length("dlogvar", length, gradients.dlogvar.len())?;
    let inputs = [("dz", dz), ("z", z), ("logvar", logvar), ("sigma_epsilon", sigma_epsilon)];
    for (argument, input) in inputs {
        expect_length(argument, length, input.len())?;
    }
    simd.dispatch(Op(estimator, gradients, sample));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::testing::conformance::Conformance;
    use crate::loss::testing::reference;

    #[test]
    fn running_sum_agrees_with_the_whole() {
        let numbers: Vec<f64> = (0..100).map(|i| f64::from((i * 37) % 101) * 3.0 - 900.0).collect();
        let mut running = LogSum::default();
        numbers.iter().for_each(|&number| running.add(number));
        let largest = numbers.iter().fold(f64::MIN, |a, &b| a.max(b));
        let exact = largest + numbers.iter().map(|n| (n - largest).exp()).sum::<f64>().ln();
        assert!((running.value() - exact).abs() < 1e-12, "{} {exact}", running.value());
        assert_eq!(LogSum::default().value(), f64::NEG_INFINITY);
        running.add(f64::NEG_INFINITY);
        assert!((running.value() - exact).abs() < 1e-12);
        running.add(f64::NAN);
        assert!(running.value().is_nan());
    }

    #[test]
    fn log_ratio_conforms() {
        let mut elements = Vec::new();
        for z in [-3.0, -0.2, 0.0, 1e-4, 1.0, 40.0] {
            for v in [-20.0, -3.0, -0.1, 0.0, 0.7, 5.0] {
                elements.extend([-3.5, -0.4, 0.0, 0.9, 2.0].map(|epsilon| [z, v, epsilon]));
            }
        }
        Conformance {
            term: LogRatio::new(Prior::default()),
            twin: reference::log_ratio,
            elements: elements.clone(),
            value_ulps: 3.0,
            value_size: |[z, v, e], _| 0.5 * (z * z).max(v.abs()).max(e * e),
            gradient_ulps: [],
            underflow: 1e-45,
            gradient_size: |_, gradients| gradients,
            smooth: elements,
        }
        .check();
    }

    #[test]
    fn normalizes_zero_and_invalid_weights() {
        let mut weights = [f64::NEG_INFINITY, -5.0, f64::NEG_INFINITY, -5.0];
        assert!((normalize(&mut weights) - (-5.0 - 2.0_f64.ln())).abs() < 1e-14);
        assert_eq!(weights, [0.0, 0.5, 0.0, 0.5]);
        let mut weights = [f64::NEG_INFINITY; 3];
        assert_eq!(normalize(&mut weights), f64::NEG_INFINITY);
        assert!(weights.iter().all(|weight| weight.is_nan()));
        for bad in [f64::NAN, f64::INFINITY] {
            let mut weights = [0.0, bad, -1.0];
            assert!(normalize(&mut weights).is_nan());
            assert!(weights.iter().any(|weight| weight.is_nan()), "{bad}");
        }
        assert_eq!(normalize(&mut [-3.25]), -3.25);
    }

    /// −ln mean w as a function of [μ, v] for a reconstruction ½·a·(z−c)², and its gradient by hand.
    fn bound(mu: f64, v: f64, epsilon: &[f64]) -> f64 {
        let mut weights: Vec<f64> = epsilon
            .iter()
            .map(|e| {
                let z = mu + (v / 2.0).exp() * e;
                let ratio = 0.5 * ((z - 0.3) * (z - 0.3) / 4.0 + 4.0_f64.ln() - v - e * e);
                -0.5 * 1.7 * (z - 0.9) * (z - 0.9) - ratio
            })
            .collect();
        -normalize(&mut weights)
    }

    fn gradient(
        set: InstructionSet,
        estimator: Estimator,
        mu: f64,
        v: f64,
        noise: &[f64],
    ) -> [f32; 2] {
        let prior = Prior { mean: 0.3, std: 2.0 };
        let sigma = (v / 2.0).exp();
        let z: Vec<f64> = noise.iter().map(|e| mu + sigma * e).collect();
        let mut weights: Vec<f64> = z
            .iter()
            .zip(noise)
            .map(|(z, e)| {
                let ratio = 0.5 * ((z - 0.3) * (z - 0.3) / 4.0 + 4.0_f64.ln() - v - e * e);
                -0.5 * 1.7 * (z - 0.9) * (z - 0.9) - ratio
            })
            .collect();
        normalize(&mut weights);
        let (mut dmu, mut dlogvar) = ([0.0], [0.0]);
        for ((z, e), w) in z.iter().zip(noise).zip(weights) {
            let scale = 0.5;
            let dz = [(scale * w * 1.7 * (z - 0.9)) as f32];
            let inputs = [*z as f32, v as f32, (sigma * e) as f32];
            let [z, v, noise] = inputs.each_ref().map(std::slice::from_ref);
            let gradients = Gradients { dmu: &mut dmu, dlogvar: &mut dlogvar };
            let (weight, scale) = (w as f32, scale as f32);
            let sample =
                Sample { dz: &dz, z, logvar: v, sigma_epsilon: noise, weight, scale, prior };
            backward(set, estimator, gradients, sample).unwrap();
        }
        [dmu[0], dlogvar[0]]
    }

    #[test]
    fn iwae_has_the_gradient_of_the_bound() {
        let noise = [0.3, -1.2, 0.8, 2.0, -0.1];
        for (mu, v) in [(0.4, -0.6), (-1.0, 0.5), (2.0, -3.0)] {
            let h = 1e-5;
            let slopes = [
                (bound(mu + h, v, &noise) - bound(mu - h, v, &noise)) / (2.0 * h),
                (bound(mu, v + h, &noise) - bound(mu, v - h, &noise)) / (2.0 * h),
            ];
            for set in InstructionSet::available() {
                let found = gradient(set, Estimator::Iwae, mu, v, &noise);
                for (found, slope) in found.into_iter().zip(slopes) {
                    let exact = 0.5 * slope;
                    assert!((f64::from(found) - exact).abs() < 1e-6, "{set}: {found} {exact}");
                }
            }
        }
    }

    /// Their means agree: over many draws, DReG's and IWAE's, and DReG's varies less.
    #[test]
    fn dreg_has_the_mean_of_iwae_and_less_variance() {
        let draws = 4000;
        let numbers = 5 * draws;
        // Quantiles of the normal distribution in a shuffled order, by the sum of twelve.
        let mut noise = vec![0.0; numbers];
        let mut state = 1_u32;
        for value in &mut noise {
            for _ in 0..12 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *value += f64::from(state >> 8) / f64::from(1 << 24) - 0.5;
            }
        }
        let set = InstructionSet::detect();
        let moments = |estimator| {
            let (mut sum, mut squares) = ([0.0; 2], [0.0; 2]);
            for noise in noise.chunks(5) {
                let g = gradient(set, estimator, 0.4, -0.6, noise).map(f64::from);
                for i in 0..2 {
                    sum[i] += g[i] / f64::from(draws as u32);
                    squares[i] += g[i] * g[i] / f64::from(draws as u32);
                }
            }
            (sum, [0, 1].map(|i| squares[i] - sum[i] * sum[i]))
        };
        let (mean, variance) = moments(Estimator::Iwae);
        let (dreg_mean, dreg_variance) = moments(Estimator::Dreg);
        for i in 0..2 {
            let error = ((variance[i] + dreg_variance[i]) / f64::from(draws as u32)).sqrt();
            assert!((mean[i] - dreg_mean[i]).abs() < 4.0 * error, "{mean:?} {dreg_mean:?}");
            assert!(dreg_variance[i] < variance[i], "{variance:?} {dreg_variance:?}");
        }
    }

    #[test]
    fn has_the_same_bits_on_every_set_and_length() {
        let prior = Prior { mean: 0.1, std: 0.7 };
        for n in 0..=67 {
            let value = |i: usize, salt: usize| ((i * 31 + salt * 17) % 97) as f32 / 31.0 - 1.5;
            let [dz, z, v, noise] =
                [0, 1, 2, 3].map(|salt| (0..n).map(|i| value(i, salt)).collect::<Vec<_>>());
            for estimator in [Estimator::Iwae, Estimator::Dreg] {
                let run = |set| {
                    let (mut dmu, mut dv) = (z.clone(), dz.clone());
                    let gradients = Gradients { dmu: &mut dmu, dlogvar: &mut dv };
                    let sample = Sample {
                        dz: &dz,
                        z: &z,
                        logvar: &v,
                        sigma_epsilon: &noise,
                        weight: 0.3,
                        scale: 0.01,
                        prior,
                    };
                    backward(set, estimator, gradients, sample).unwrap();
                    [dmu, dv].map(|v| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
                };
                let expected = run(InstructionSet::SCALAR);
                for set in InstructionSet::available() {
                    assert_eq!(run(set), expected, "{set}, n={n}");
                }
            }
        }
    }
}
