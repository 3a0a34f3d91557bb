//! Data drawn from the likelihood p(x|z).
//!
//! # Formula
//! With `l` an output of the decoder's last layer, u uniform on [0, 1) and ε normal, of mean 0 and variance 1:
//!
//! ```text
//! Bernoulli (all three)    x = 1 if u < σ(l), otherwise 0
//! continuous Bernoulli     x = F⁻¹(u), F(x) = (e^{lx} − 1)/(e^l − 1)
//! Gaussian                 x = l + σ·ε
//! squared error            x = l + ε/√2                        e^{−(l−x)²} is that density, times √π
//! squared error of tanh    x = tanh l + ε/√2                   may lie outside of [−1, 1]
//! ```
//!
//! The mean of the draws is the output of [`Vae::decode`], whatever the likelihood: that a weighted Bernoulli
//! likelihood counts ones more often does not make them more frequent in a draw.
//!
//! # Method
//! 1. u and ε are those of row and column in [`Stream::Data`].
//! 2. F⁻¹ from below for l < 0, `−ln(1 − u·(1 − e^{−a}))/a` with a = |l|, so that no power overflows; for l > 0
//!    one minus that, as x and 1 − x change places with the sign of l. For a < 10⁻⁴, where this is 0/0, the
//!    series `u − ½·a·u·(1 − u)`, which is off by less than a²/12. In f64, then rounded.

use super::{Likelihood, Vae, Variance};
use crate::compute::Compute;
use crate::error::{Error, Result, expect_positive, expect_shape};
use crate::math::scalar;
use crate::random::{Generator, Stream};
use crate::simd::environment::FloatEnvironment;
use crate::vae::inference::Inference;
use ndarray::{Array2, ArrayView2};

/// Options of a draw from the likelihood.
///
/// ```
/// use elbo::vae::DrawOptions;
///
/// let options = DrawOptions { seed: 7, ..DrawOptions::default() };
/// assert_eq!(options.variance, None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrawOptions {
    /// The seed of codes and noise; default 1.
    pub seed: u64,
    /// σ² of a Gaussian likelihood in place of the model's; default none. Required with
    /// [`Variance::Optimal`], which the model does not hold: [`Variance::of_reconstruction`] returns that of
    /// an evaluation.
    pub variance: Option<f32>,
}

impl Default for DrawOptions {
    fn default() -> Self {
        Self { seed: 1, variance: None }
    }
}

impl Vae {
    /// Draws x `[B, D]` from p(x|z) for latent codes z `[B, Z]`: new data, where [`Self::decode`] returns
    /// their mean. Row i is a function of its code, of the seed and of i.
    ///
    /// Bernoulli likelihoods give zeros and ones, the continuous one numbers in [0, 1] (within 10⁻⁷ of the
    /// inverse of its distribution function), a Gaussian adds its noise to the mean. The squared error is that of
    /// a Gaussian with σ² = ½, also where a tanh limits the mean. An output that is NaN stays NaN.
    ///
    /// ```
    /// use elbo::{Compute, vae::{Config, DrawOptions, Vae}};
    /// use ndarray::Array2;
    ///
    /// let (vae, compute) = (Vae::new(Config::builder(12, 2).build()?, 1), Compute::serial());
    /// let z = Array2::zeros((5, 2));
    /// let x = vae.draw(&compute, z.view(), &DrawOptions::default())?;
    /// assert!(x.iter().all(|&pixel| pixel == 0.0 || pixel == 1.0));
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if z does not have Z columns, or if the model has conditions ([`Self::draw_given`]);
    /// [`Error::Config`] for a variance that is not above 0, for one beside a likelihood that has none, and for
    /// none beside [`Variance::Optimal`].
    pub fn draw(
        &self,
        compute: &Compute,
        z: ArrayView2<'_, f32>,
        options: &DrawOptions,
    ) -> Result<Array2<f32>> {
        self.config.expect_unconditional()?;
        self.draw_wide(compute, z, options)
    }

    /// Draws x from p(x|z, c) for latent codes, given the condition `[B, C]` of each.
    ///
    /// # Errors
    /// As [`Self::draw`]; [`Error::Shape`] if the conditions do not fit.
    pub fn draw_given(
        &self,
        compute: &Compute,
        z: ArrayView2<'_, f32>,
        conditions: ArrayView2<'_, f32>,
        options: &DrawOptions,
    ) -> Result<Array2<f32>> {
        expect_shape("z", [z.nrows(), self.config.latent()], z.shape())?;
        self.draw_wide(compute, self.beside("z", z, conditions)?.view(), options)
    }

    /// Draws `count` new rows `[count, D]`: z from the prior, then x from p(x|z). The codes are those of
    /// [`Self::sample`], which returns the means.
    ///
    /// # Errors
    /// As [`Self::draw`].
    pub fn sample_data(
        &self,
        compute: &Compute,
        count: usize,
        options: &DrawOptions,
    ) -> Result<Array2<f32>> {
        let z = self.prior_codes(compute, count, options.seed)?;
        self.draw(compute, z.view(), options)
    }

    /// Draws a new row for each condition `[count, C]`. The codes are those of [`Self::sample_given`].
    ///
    /// # Errors
    /// As [`Self::draw_given`].
    pub fn sample_data_given(
        &self,
        compute: &Compute,
        conditions: ArrayView2<'_, f32>,
        options: &DrawOptions,
    ) -> Result<Array2<f32>> {
        let z = self.prior_codes(compute, conditions.nrows(), options.seed)?;
        self.draw_given(compute, z.view(), conditions, options)
    }

    fn draw_wide(
        &self,
        compute: &Compute,
        z: ArrayView2<'_, f32>,
        options: &DrawOptions,
    ) -> Result<Array2<f32>> {
        let _environment = FloatEnvironment::standard();
        let noise = self.noise(options)?;
        let mut x = Array2::zeros((z.nrows(), self.config.features()));
        let mut inference = Inference::new(&self.config, &self.parameters, compute, z.nrows());
        match noise {
            Noise::ContinuousBernoulli => inference.decode_logits(x.view_mut(), z)?,
            _ => inference.decode(x.view_mut(), z)?,
        }
        // 1. As many random numbers as there are elements.
        let mut random = Array2::zeros(x.raw_dim());
        let generator = Generator::new(options.seed);
        let simd = compute.simd();
        match &noise {
            Noise::Gaussian(_) => generator.normal(simd, random.view_mut(), Stream::Data, 0, 0)?,
            _ => generator.uniform(simd, random.view_mut(), Stream::Data, 0, 0)?,
        }
        match noise {
            Noise::Bernoulli => x.zip_mut_with(&random, |x, &u| {
                if !x.is_nan() {
                    *x = f32::from(u8::from(u < *x));
                }
            }),
            Noise::ContinuousBernoulli => x.zip_mut_with(&random, |x, &u| *x = inverse(*x, u)),
            Noise::Gaussian(deviations) => {
                for (mut x, random) in x.rows_mut().into_iter().zip(random.rows()) {
                    let deviations = deviations.iter().cycle();
                    for ((x, &epsilon), &deviation) in x.iter_mut().zip(random).zip(deviations) {
                        *x = epsilon.mul_add(deviation, *x);
                    }
                }
            }
        }
        Ok(x)
    }

    /// The distribution around the mean.
    fn noise(&self, options: &DrawOptions) -> Result<Noise> {
        let likelihood = self.config.likelihood();
        let Likelihood::Gaussian(own) = likelihood else {
            if let Some(variance) = options.variance {
                return Err(Error::config(
                    "variance",
                    "none without a Gaussian likelihood",
                    variance,
                ));
            }
            return Ok(match likelihood {
                Likelihood::ContinuousBernoulli => Noise::ContinuousBernoulli,
                Likelihood::SquaredError | Likelihood::TanhSquaredError => {
                    Noise::Gaussian(vec![std::f32::consts::FRAC_1_SQRT_2])
                }
                Likelihood::Bernoulli
                | Likelihood::WeightedBernoulli { .. }
                | Likelihood::BernoulliProbabilities
                | Likelihood::Gaussian(_) => Noise::Bernoulli,
            });
        };
        let fixed = match (options.variance, own) {
            (Some(variance), _) | (None, Variance::Fixed(variance)) => variance,
            (None, Variance::Shared | Variance::PerFeature) => {
                let logvar = self.parameters.learned_logvar().iter();
                let deviation = |&logvar: &f32| scalar::exp(0.5 * f64::from(logvar)) as f32;
                return Ok(Noise::Gaussian(logvar.map(deviation).collect()));
            }
            (None, Variance::Optimal) => {
                let expected = "a number: the optimal variance is that of a batch, and the model does \
                                not hold it";
                return Err(Error::config("variance", expected, "none"));
            }
        };
        expect_positive("variance", fixed)?;
        Ok(Noise::Gaussian(vec![f64::from(fixed).sqrt() as f32]))
    }
}

impl Variance {
    /// Returns the optimal variance σ² of an evaluation with this reconstruction term R, in nats per example of
    /// D = `features` elements: `e^{2R/D − 1}/2π`, as `R = D/2·(ln 2πσ² + 1)`.
    ///
    /// ```
    /// // One nat for each of four elements: σ² = e/2π.
    /// let variance = elbo::vae::Variance::of_reconstruction(4.0, 4);
    /// assert!((variance - 0.432_627_9).abs() < 1e-6);
    /// ```
    #[must_use]
    pub fn of_reconstruction(reconstruction: f64, features: usize) -> f32 {
        let power = 2.0 * reconstruction / features as f64 - 1.0;
        (scalar::exp(power) / std::f64::consts::TAU) as f32
    }
}

/// The distribution of x around its mean.
enum Noise {
    Bernoulli,
    ContinuousBernoulli,
    /// With these standard deviations: one, or one for each feature.
    Gaussian(Vec<f32>),
}

/// The number below which a continuous Bernoulli variable of this logit lies with probability `u` (with
/// probability 1 − u for positive logits), u in [0, 1).
fn inverse(logit: f32, u: f32) -> f32 {
    let (a, u) = (f64::from(logit).abs(), f64::from(u));
    // 2.
    let low = if a < 1e-4 {
        u - 0.5 * a * u * (1.0 - u)
    } else {
        -scalar::ln(1.0 - u * (1.0 - scalar::exp(-a))) / a
    };
    if logit > 0.0 { (1.0 - low) as f32 } else { low as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::tests::normal_cdf_twin;
    use crate::simd::InstructionSet;
    use crate::vae::Config;
    use ndarray::{Array1, s};

    const ROWS: usize = 20_000;
    const LOGITS: [f32; 9] = [-90.0, -7.0, -1.0, -2e-4, 0.0, 5e-5, 0.3, 2.0, 30.0];

    /// A model whose last layer is `LOGITS` for every code, or the code itself plus them.
    fn constant(likelihood: Likelihood, conditions: usize) -> Vae {
        let config = Config::builder(LOGITS.len(), 2).hidden(&[]).conditions(conditions);
        let mut vae = Vae::new(config.likelihood(likelihood).build().unwrap(), 1);
        let weight = Array2::zeros((LOGITS.len(), 2 + conditions));
        let bias = Array1::from(LOGITS.to_vec());
        vae.parameters_mut().set("decoder.0", weight.view(), bias.view()).unwrap();
        vae
    }

    /// The largest distance of the empirical from the exact distribution function, times √n: above 1.95 by
    /// chance in one of a thousand samples (Kolmogorov).
    fn distance(draws: &[f32], cdf: impl Fn(f64) -> f64) -> f64 {
        let mut sorted = draws.to_vec();
        sorted.sort_by(f32::total_cmp);
        let n = sorted.len() as f64;
        let steps = sorted.iter().enumerate().map(|(i, &x)| {
            let exact = cdf(f64::from(x));
            (exact - i as f64 / n).abs().max((exact - (i + 1) as f64 / n).abs())
        });
        steps.fold(0.0, f64::max) * n.sqrt()
    }

    fn columns(x: &Array2<f32>) -> Vec<Vec<f32>> {
        x.columns().into_iter().map(|column| column.to_vec()).collect()
    }

    #[test]
    fn draws_follow_their_distribution() {
        let sample = |likelihood, variance| {
            let options = DrawOptions { seed: 3, variance };
            columns(
                &constant(likelihood, 0).sample_data(&Compute::serial(), ROWS, &options).unwrap(),
            )
        };
        // 4 standard errors of a frequency.
        for likelihood in [
            Likelihood::Bernoulli,
            Likelihood::WeightedBernoulli { pos_weight: 5.0 },
            Likelihood::BernoulliProbabilities,
        ] {
            for (draws, logit) in sample(likelihood, None).iter().zip(LOGITS) {
                let p = 1.0 / (1.0 + (-f64::from(logit)).exp());
                assert!(draws.iter().all(|&x| x == 0.0 || x == 1.0));
                let frequency = draws.iter().map(|&x| f64::from(x)).sum::<f64>() / ROWS as f64;
                let error = (p * (1.0 - p) / ROWS as f64).sqrt();
                assert!((frequency - p).abs() <= 4.0 * error, "{logit}: {frequency} {p}");
            }
        }
        for (draws, logit) in sample(Likelihood::ContinuousBernoulli, None).iter().zip(LOGITS) {
            let l = f64::from(logit);
            assert!(draws.iter().all(|x| (0.0..=1.0).contains(x)));
            let cdf = |x: f64| if l == 0.0 { x } else { (l * x).exp_m1() / l.exp_m1() };
            let found = distance(draws, cdf);
            assert!(found < 1.95, "{logit}: {found}");
        }
        for (likelihood, given, variance) in [
            (Likelihood::Gaussian(Variance::Fixed(4.0)), None, 4.0),
            (Likelihood::Gaussian(Variance::Fixed(4.0)), Some(9.0), 9.0),
            (Likelihood::Gaussian(Variance::Optimal), Some(0.25), 0.25),
            (Likelihood::Gaussian(Variance::Shared), None, 1.0),
            (Likelihood::SquaredError, None, 0.5_f64),
            (Likelihood::TanhSquaredError, None, 0.5),
        ] {
            for (draws, logit) in sample(likelihood, given).iter().zip(LOGITS) {
                let l = f64::from(logit);
                let mean = if likelihood == Likelihood::TanhSquaredError { l.tanh() } else { l };
                let found = distance(draws, |x| normal_cdf_twin((x - mean) / variance.sqrt()));
                assert!(found < 1.95, "{likelihood:?} {logit}: {found}");
            }
        }
        let mut vae = constant(Likelihood::Gaussian(Variance::PerFeature), 0);
        let logvar = Array1::from_shape_fn(LOGITS.len(), |i| i as f32 - 4.0);
        vae.parameters_mut().set_vector("likelihood.logvar", logvar.view()).unwrap();
        let draws = vae.sample_data(&Compute::serial(), ROWS, &DrawOptions::default()).unwrap();
        for ((draws, mean), logvar) in columns(&draws).iter().zip(LOGITS).zip(logvar) {
            let deviation = (0.5 * f64::from(logvar)).exp();
            let found = distance(draws, |x| normal_cdf_twin((x - f64::from(mean)) / deviation));
            assert!(found < 1.95, "{mean} {logvar}: {found}");
        }
    }

    #[test]
    fn inverse_of_the_continuous_bernoulli_is_exact_for_every_logit() {
        for logit in
            [0.0_f32, -0.0, 1e-30, 1e-9, 9.99e-5, 1.01e-4, 1e-3, 0.1, 1.0, 5.0, 40.0, 1e4, 3e38]
        {
            for u in [0.0_f32, 1.0 / 16_777_216.0, 1e-3, 0.25, 0.5, 0.9, 1.0 - 1.0 / 16_777_216.0] {
                let (a, v) = (f64::from(logit), f64::from(u));
                let exact = if a < 1e-8 { v } else { -(v * (-a).exp_m1()).ln_1p() / a };
                for (found, exact) in
                    [(inverse(-logit, u), exact), (inverse(logit, u), 1.0 - exact)]
                {
                    let exact = if a == 0.0 { v } else { exact };
                    assert!(
                        (f64::from(found) - exact).abs() <= 1e-7,
                        "{logit} {u}: {found} {exact}"
                    );
                    assert!((0.0..=1.0).contains(&found));
                }
            }
        }
        assert_eq!([inverse(f32::INFINITY, 0.5), inverse(f32::NEG_INFINITY, 0.5)], [1.0, 0.0]);
        assert!(inverse(f32::NAN, 0.5).is_nan());
    }

    #[test]
    fn rows_have_the_same_bits_alone_and_on_any_machine() {
        for likelihood in [
            Likelihood::Bernoulli,
            Likelihood::ContinuousBernoulli,
            Likelihood::SquaredError,
            Likelihood::TanhSquaredError,
            Likelihood::Gaussian(Variance::PerFeature),
        ] {
            let config = Config::builder(70, 3).hidden(&[20]).likelihood(likelihood);
            let vae = Vae::new(config.build().unwrap(), 5);
            let options = DrawOptions { seed: 9, ..DrawOptions::default() };
            let expected = vae.sample_data(&Compute::serial(), 40, &options).unwrap();
            for simd in InstructionSet::available() {
                for threads in [1, 2, 3] {
                    let compute = Compute::new(simd, threads).unwrap();
                    let found = vae.sample_data(&compute, 40, &options).unwrap();
                    assert_eq!(found, expected, "{likelihood:?} {simd} {threads}");
                    let first = vae.sample_data(&compute, 7, &options).unwrap();
                    assert_eq!(first, expected.slice(s![..7, ..]));
                }
            }
            let other = DrawOptions { seed: 10, ..options };
            assert_ne!(vae.sample_data(&Compute::serial(), 40, &other).unwrap(), expected);
        }
    }

    #[test]
    fn conditional_draws_use_the_codes_and_the_noise_of_their_rows() {
        let vae = constant(Likelihood::SquaredError, 3);
        let (compute, options) = (Compute::serial(), DrawOptions::default());
        let conditions = Array2::from_shape_fn((5, 3), |(r, c)| f32::from(u8::from(r % 3 == c)));
        let found = vae.sample_data_given(&compute, conditions.view(), &options).unwrap();
        // This decoder ignores code and condition.
        let plain =
            constant(Likelihood::SquaredError, 0).sample_data(&compute, 5, &options).unwrap();
        assert_eq!(found, plain);
        let z = Array2::zeros((5, 2));
        assert_eq!(vae.draw_given(&compute, z.view(), conditions.view(), &options).unwrap(), plain);
        assert!(vae.sample_data(&compute, 5, &options).is_err());
        assert!(
            vae.draw_given(&compute, z.view(), conditions.slice(s![..4, ..]), &options).is_err()
        );
    }

    #[test]
    fn rejects_a_variance_that_does_not_fit() {
        let message = |likelihood, variance| {
            let options = DrawOptions { variance, ..DrawOptions::default() };
            let drawn = constant(likelihood, 0).sample_data(&Compute::serial(), 1, &options);
            drawn.unwrap_err().to_string()
        };
        assert!(
            message(Likelihood::Gaussian(Variance::Optimal), None)
                .contains("`variance`: expected a number")
        );
        assert!(
            message(Likelihood::Bernoulli, Some(1.0))
                .contains("none without a Gaussian likelihood")
        );
        for variance in [0.0, -1.0, f32::NAN] {
            let message = message(Likelihood::Gaussian(Variance::Shared), Some(variance));
            assert!(message.starts_with("`variance`: "), "{message}");
        }
    }

    #[test]
    fn nan_stays_nan() {
        for likelihood in
            [Likelihood::Bernoulli, Likelihood::ContinuousBernoulli, Likelihood::SquaredError]
        {
            let vae = constant(likelihood, 0);
            let z = Array2::from_elem((2, 2), f32::NAN);
            let x = vae.draw(&Compute::serial(), z.view(), &DrawOptions::default()).unwrap();
            assert!(x.iter().all(|x| x.is_nan()), "{likelihood:?}");
        }
    }
}
