//! Total correlation (β-TCVAE): the KL divergence in three parts, each with its weight.
//!
//! The mean over the data of KL(q(z|x) ‖ p(z)), with q(z) the mixture of all posteriors, is
//!
//! ```text
//!   mean [ln q(z|x) − ln q(z)]        index-code mutual information      weight α
//! + mean [ln q(z) − ln Π_d q(z_d)]    total correlation                  weight β
//! + mean [ln Π_d q(z_d) − ln p(z)]    dimension-wise KL                  weight γ
//! ```
//!
//! The mixture is estimated from the B rows of a batch. With `L_ijd = ln N(z_id; μ_jd, e^{v_jd})`:
//!
//! ```text
//! ln q(z_i)        = LSE_j Σ_d L_ijd − ln(N·B)
//! ln Π_d q(z_id)   = Σ_d (LSE_j L_ijd − ln(N·B))
//! ```
//!
//! N = 1 makes q(z) the mixture of the batch, and is what [`vae`](crate::vae) trains and evaluates: each
//! part is then near 0 where the posteriors are the prior, and the loss of a row does not depend on the
//! number of rows in the data set. Minibatch-weighted sampling, which Chen et al. propose, takes the
//! number of examples in the data set for N. The gradients are the same: N adds the constant
//! `(α + β(Z−1) − γZ)·ln N` to the weighted sum.
//!
//! The estimate does depend on B: a row is one of the B that its own q(z) is made of, so the mutual
//! information is at most ln(N·B).
//!
//! # Derivation of the gradient
//! LSE differentiates to a softmax. With `a = softmax_j Σ_d L_ijd`, `b = softmax_j L_ijd` and
//! u = (z_id − μ_jd)e^{−v_jd}:
//!
//! ```text
//! ∂loss/∂L_ijd = (α·[i=j] + (β−α)·a_ij + (γ−β)·b_ijd)/B
//! ∂L/∂z = −u    ∂L/∂μ = u    ∂L/∂v = ½((z−μ)²e^{−v} − 1)      and γ·(z−m)/s²/B of the prior
//! ```
//!
//! # Method
//! 1. `P_ijd = ½(z−μ)²e^{−v} + ½(v − min_j v)` is not negative, and `L = M_d − P` with M_d a bound of
//!    the density: so e^{−P} needs neither a maximum to be found nor care for overflow. Where all
//!    of a row's e^{−P} vanish (their sum is below 1e-18) they are computed again less the least P.
//! 2. Sixteen rows i in the lanes; j, in tiles of 64, and d are loops. Every sum over j is then a chain
//!    a lane over its tile, and nothing is added across lanes. A sum over tiles is a pair of floats
//!    (two-sum), so its error does not grow with B. This gives `Σ_j e^{−P}` and, from tile to tile, the
//!    LSE of Σ_d P; with gradients also the matrix a. Parallel over groups of sixteen rows.
//! 3. With gradients, for each d the pairs again: b is e^{−P} over its sum; dz is a chain over the
//!    rows j of a tile, dμ and dv are chains over 64 groups of rows, sixteen lanes each, which are
//!    transposed and added by a tree in the end; more tiles and groups are added as pairs. Parallel over d.
//!
//! Cost: 1 or 2 exponentials for each of B²·Z pairs, B² besides, and memory for B² numbers where there
//! are gradients (none without).
//!
//! Value and gradients on one core of a Zen 5 with AVX-512, the best of many (`tests::speed`): 0.10 ms for
//! B = 128 and Z = 10, 4.3 ms for B = 1,024 and Z = 10, 25 ms for Z = 64: 3.4 to 5.2 billion
//! exponentials a second.
//!
//! # Contract
//! - For any B, each of the three means is within 1e-5 of the sum of the magnitudes of the logarithms in
//!   it, and the gradients within 1e-5 + 2⁻²³·(Z + 6)·T of the sum of the magnitudes of their terms. T is
//!   the largest exponent that counts, 16 more than the Σ_d P of the posterior nearest to z: its rounding
//!   is a relative error of e^{−T}.
//! - No bit depends on threads or instruction sets.
//! - NaN or ±∞ in z, μ or v gives a sum that is NaN or ±∞.
//!
//! Source: Chen, Li, Grosse & Duvenaud, "Isolating Sources of Disentanglement in VAEs" (2018).

mod pairs;

use super::kernel::batch::{CONTIGUOUS, check, check_all};
use super::kl::{NormalKl, Prior};
use crate::Compute;
use crate::error::{Error, Result, expect_non_negative};
use crate::math::scalar;
use crate::simd::LANES;
use crate::simd::environment::FloatEnvironment;
use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use pairs::{Coefficients, Dimension, FirstPass, Group, Prepare, SecondPass};

/// The weights of the three parts; by default 1 each, which is the KL divergence.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub struct TcWeights {
    /// The weight α of the index-code mutual information.
    pub alpha: f32,
    /// The weight β of the total correlation.
    pub beta: f32,
    /// The weight γ of the dimension-wise KL.
    pub gamma: f32,
}

impl Default for TcWeights {
    fn default() -> Self {
        Self { alpha: 1.0, beta: 1.0, gamma: 1.0 }
    }
}

impl TcWeights {
    /// Checks the weights.
    ///
    /// # Errors
    /// [`Error::Config`] if a weight is negative or not finite.
    pub fn validate(&self) -> Result<()> {
        expect_non_negative("alpha", self.alpha)?;
        expect_non_negative("beta", self.beta)?;
        expect_non_negative("gamma", self.gamma)
    }

    /// Factors of the gradients of `scale` times the weighted parts.
    fn coefficients(self, scale: f32) -> Coefficients {
        let Self { alpha, beta, gamma } = self;
        Coefficients {
            // α·MI + β·TC + γ·KL, ordered by ln q(z|x), ln q(z), ln Π q(z_d) and ln p(z).
            own: alpha * scale,
            joint: (beta - alpha) * scale,
            marginal: (gamma - beta) * scale,
            prior: gamma * scale,
        }
    }
}

/// The parts of the KL divergence, means over rows, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decomposition {
    /// Index-code mutual information: how much z tells about the example that it came from.
    pub mutual_information: f64,
    /// Total correlation: how far the latent dimensions are from independent.
    pub total_correlation: f64,
    /// The KL divergence of each dimension's mixture from the prior, summed over dimensions.
    pub dimension_wise_kl: f64,
}

impl Decomposition {
    /// `α·MI + β·TC + γ·KL`.
    #[must_use]
    pub fn weighted(&self, weights: TcWeights) -> f64 {
        f64::from(weights.alpha) * self.mutual_information
            + f64::from(weights.beta) * self.total_correlation
            + f64::from(weights.gamma) * self.dimension_wise_kl
    }
}

/// Pairs below which the calling thread works alone.
const SHARE_PAIRS: usize = 50_000;

/// Scratch memory for the pairs of a batch: filled by [`Self::set_row`], evaluated, and read by
/// [`Self::gradient_row`].
#[derive(Default)]
pub(crate) struct TotalCorrelation {
    rows: usize,
    latent: usize,
    dimensions: Vec<Dimension>,
    groups: Vec<Group>,
}

impl TotalCorrelation {
    /// Prepares for a batch of `rows` by `latent`, whose rows are to be set next. Allocates only if
    /// there is less room than that.
    pub(crate) fn reserve(&mut self, rows: usize, latent: usize) {
        (self.rows, self.latent) = (rows, latent);
        // Buffers grow and never shrink, so batches up to the largest so far allocate nothing.
        let groups = rows.div_ceil(LANES);
        if self.dimensions.len() < latent {
            self.dimensions.resize_with(latent, Dimension::default);
        }
        for dimension in &mut self.dimensions[..latent] {
            dimension.reserve(groups * LANES);
        }
        if self.groups.len() < groups {
            self.groups.resize_with(groups, Group::default);
        }
        for group in &mut self.groups[..groups] {
            group.reserve(latent);
        }
    }

    /// Sets row `row` of the batch.
    pub(crate) fn set_row(&mut self, row: usize, z: &[f32], mu: &[f32], logvar: &[f32]) {
        // Transposed: one dimension of all rows lies together.
        let inputs = z.iter().zip(mu).zip(logvar);
        for (dimension, ((&z, &mu), &logvar)) in self.dimensions.iter_mut().zip(inputs) {
            dimension.z[row] = z;
            dimension.mu[row] = mu;
            dimension.logvar[row] = logvar;
        }
    }

    /// The three parts, with ln(N·B) for `ln_weight`.
    pub(crate) fn forward(
        &mut self,
        compute: &Compute,
        ln_weight: f64,
        prior: Prior,
    ) -> Decomposition {
        self.first_pass(compute, ln_weight, prior, None)
    }

    /// [`Self::forward`], and the gradients of `scale` times the sum over rows of the weighted parts:
    /// with `scale` = 1/B those of [`Decomposition::weighted`].
    pub(crate) fn forward_backward(
        &mut self,
        compute: &Compute,
        weights: TcWeights,
        ln_weight: f64,
        prior: Prior,
        scale: f32,
    ) -> Decomposition {
        // B numbers for each of the B rows: the matrix a.
        let coefficients = weights.coefficients(scale);
        for group in &mut self.groups[..self.rows.div_ceil(LANES)] {
            group.reserve_weights(self.rows);
        }
        let parts = self.first_pass(compute, ln_weight, prior, Some(coefficients));
        // 3.
        let (rows, groups) = (self.rows, &self.groups);
        let prior = NormalKl::new(prior);
        self.threads(compute).for_each_mut(&mut self.dimensions[..self.latent], |d, dimension| {
            let pass = SecondPass { dimension, d, groups, rows, coefficients, prior };
            compute.simd().dispatch(pass);
        });
        parts
    }

    /// Accumulates row `row` of the gradients.
    pub(crate) fn gradient_row(
        &self,
        row: usize,
        dz: &mut [f32],
        dmu: &mut [f32],
        dlogvar: &mut [f32],
    ) {
        let outputs = dz.iter_mut().zip(dmu).zip(dlogvar);
        for (dimension, ((dz, dmu), dlogvar)) in self.dimensions.iter().zip(outputs) {
            *dz += dimension.dz[row];
            *dmu += dimension.dmu[row];
            *dlogvar += dimension.dlogvar[row];
        }
    }

    fn threads(&self, compute: &Compute) -> Compute {
        compute.for_work(self.rows * self.rows * self.latent, SHARE_PAIRS)
    }

    fn first_pass(
        &mut self,
        compute: &Compute,
        ln_weight: f64,
        prior: Prior,
        coefficients: Option<Coefficients>,
    ) -> Decomposition {
        let (rows, set, threads) = (self.rows, compute.simd(), self.threads(compute));
        // 1.
        threads.for_each_mut(&mut self.dimensions[..self.latent], |_, dimension| {
            set.dispatch(Prepare { dimension, rows });
        });
        let dimensions = &self.dimensions[..self.latent];
        let prior = NormalKl::new(prior);
        let groups = &mut self.groups[..rows.div_ceil(LANES)];
        // 2.
        threads.for_each_mut(groups, |index, group| {
            let pass = FirstPass { group, index, dimensions, rows, ln_weight, prior, coefficients };
            set.dispatch(pass);
        });

        // One chain in row order, whatever threads the groups came from.
        let mut sums = [0.0; 3];
        for row in 0..rows {
            let logs = &groups[row / LANES].logs;
            let [posterior, aggregate, product, prior] = logs.map(|lanes| lanes[row % LANES]);
            // ln q(z|x) − ln q(z), ln q(z) − ln Π q(z_d), ln Π q(z_d) − ln p(z).
            sums[0] += posterior - aggregate;
            sums[1] += aggregate - product;
            sums[2] += product - prior;
        }
        let [mutual_information, total_correlation, dimension_wise_kl] =
            sums.map(|sum| sum / rows as f64);
        Decomposition { mutual_information, total_correlation, dimension_wise_kl }
    }
}

/// A batch: samples z of the posteriors with means μ and log-variances v, each `[B, Z]`, and the prior.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// One sample z of each posterior.
    pub z: ArrayView2<'a, f32>,
    /// The means μ.
    pub mu: ArrayView2<'a, f32>,
    /// The log-variances v = ln σ².
    pub logvar: ArrayView2<'a, f32>,
    /// The prior of every latent dimension.
    pub prior: Prior,
}

/// Places of the gradients, each `[B, Z]`; their content is overwritten.
pub struct Gradients<'a> {
    /// ∂loss/∂z with μ and v held fixed, to be continued through z = μ + σε.
    pub dz: ArrayViewMut2<'a, f32>,
    /// ∂loss/∂μ with z held fixed.
    pub dmu: ArrayViewMut2<'a, f32>,
    /// ∂loss/∂v with z held fixed.
    pub dlogvar: ArrayViewMut2<'a, f32>,
}

fn filled(inputs: Inputs<'_>) -> Result<TotalCorrelation> {
    let Inputs { z, mu, logvar, prior } = inputs;
    let (rows, latent) = z.dim();
    prior.validate()?;
    check_all(&[("z", z), ("mu", mu), ("logvar", logvar)])?;
    if rows == 0 {
        return Err(Error::Shape {
            argument: "z",
            expected: "at least one row to take the mean of".to_owned(),
            found: format!("{:?}", [rows, latent]),
        });
    }
    let mut scratch = TotalCorrelation::default();
    scratch.reserve(rows, latent);
    // Copied: the passes take one dimension of all rows at a time.
    for row in 0..rows {
        let [z, mu, logvar] = [z, mu, logvar].map(|view| view.index_axis_move(Axis(0), row));
        let [z, mu, logvar] = [&z, &mu, &logvar].map(|row| row.to_slice().expect(CONTIGUOUS));
        scratch.set_row(row, z, mu, logvar);
    }
    Ok(scratch)
}

/// `ln(N·B)`, by which the sums over the batch are divided, with the crate's own logarithm.
///
/// # Errors
/// [`Error::Config`] if the data set is empty.
pub(crate) fn ln_weight(dataset_size: usize, rows: usize) -> Result<f64> {
    if dataset_size == 0 {
        return Err(Error::config("dataset_size", "at least 1", dataset_size));
    }
    Ok(scalar::ln(dataset_size as f64 * rows as f64))
}

/// Returns the three parts for a batch drawn from `dataset_size` examples. Allocates.
///
/// # Errors
/// [`Error::Shape`] if the shapes differ or there is no row; [`Error::Layout`] if rows are not
/// contiguous; [`Error::Config`] if the data set is empty or the prior invalid.
///
/// ```
/// use elbo::{Compute, loss::{kl::Prior, total_correlation::{self, Inputs}}};
/// use ndarray::{Array2, array};
///
/// // z₁ = z₂: the dimensions are anything but independent.
/// let z = array![[-3.0, -3.0], [0.0, 0.0], [3.0, 3.0]];
/// let logvar = Array2::from_elem((3, 2), -4.0);
/// let prior = Prior::default();
/// let inputs = Inputs { z: z.view(), mu: z.view(), logvar: logvar.view(), prior };
/// let parts = total_correlation::over_data_set(&Compute::serial(), inputs)?;
/// // Either dimension tells which of three examples it was: ln 3 nats once, and once too often.
/// assert!((parts.mutual_information - 3_f64.ln()).abs() < 1e-5);
/// assert!((parts.total_correlation - 3_f64.ln()).abs() < 1e-5);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn forward(
    compute: &Compute,
    inputs: Inputs<'_>,
    dataset_size: usize,
) -> Result<Decomposition> {
    let _environment = FloatEnvironment::standard();
    let ln_weight = ln_weight(dataset_size, inputs.z.nrows().max(1))?;
    Ok(filled(inputs)?.forward(compute, ln_weight, inputs.prior))
}

/// Returns the three parts for a whole data set: q(z) is the mixture of its rows, with ln B in place of
/// ln(N·B). The mutual information is then the usual estimate, at most ln B. Allocates.
///
/// # Errors
/// As [`forward`].
pub fn over_data_set(compute: &Compute, inputs: Inputs<'_>) -> Result<Decomposition> {
    forward(compute, inputs, 1)
}

/// Overwrites the gradients with those of [`Decomposition::weighted`] of [`forward`], whose value it
/// returns, to its bits. Allocates: room for B² and some B·Z numbers.
///
/// # Errors
/// As [`forward`], and [`Error::Config`] if a weight is negative or not finite; the gradients are then
/// left as they were.
pub fn forward_backward(
    compute: &Compute,
    gradients: Gradients<'_>,
    inputs: Inputs<'_>,
    weights: TcWeights,
    dataset_size: usize,
) -> Result<Decomposition> {
    let _environment = FloatEnvironment::standard();
    weights.validate()?;
    let Gradients { mut dz, mut dmu, mut dlogvar } = gradients;
    let (rows, latent) = inputs.z.dim();
    let ln_weight = ln_weight(dataset_size, rows.max(1))?;
    for (argument, view) in [("dz", &dz), ("dmu", &dmu), ("dlogvar", &dlogvar)] {
        check(argument, (rows, latent), view.view())?;
    }
    // The inputs are checked with the shape of z, before a gradient is touched.
    let mut scratch = filled(inputs)?;
    let scale = (1.0 / rows as f64) as f32;
    let parts = scratch.forward_backward(compute, weights, ln_weight, inputs.prior, scale);
    for row in 0..rows {
        let [dz, dmu, dlogvar] =
            [&mut dz, &mut dmu, &mut dlogvar].map(|view| view.row_mut(row).into_slice());
        let [dz, dmu, dlogvar] = [dz, dmu, dlogvar].map(|row| row.expect(CONTIGUOUS));
        // `gradient_row` accumulates.
        for gradients in [&mut *dz, &mut *dmu, &mut *dlogvar] {
            gradients.fill(0.0);
        }
        scratch.gradient_row(row, dz, dmu, dlogvar);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests;
