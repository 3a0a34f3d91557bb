//! The fused objective: reconstruction, KL divergence, β and all gradients in one pass.
//!
//! ```text
//! loss = reconstruction + β·KL
//! reconstruction = R(max(l,0) − l·t + ln(1+e^{−|l|}))     dlogits = (σ(l) − t)/n
//! KL             = R(½(μ² + expm1(v) − v))                dmu     = β·μ/m
//!                                                         dlogvar = β·½·expm1(v)/m
//! ```
//!
//! R is the [`Reduction`], n and m by what it divides: 1 and 1, B and B, or B·D and B·Z. Every
//! element is read once and every gradient written once; with a batch that does not fit into
//! cache the memory sets the pace.
//!
//! The terms are those of [`bernoulli`](super::bernoulli) and [`kl`](super::kl), with their bounds,
//! their rules for ±∞, NaN and −0, and their bits: each part of the result equals, to the last
//! bit, what the module for it returns. With β = 0 an infinite KL makes the loss NaN, not the
//! reconstruction alone.

use super::Reduction;
use super::batch::{TermRows, total};
use super::bernoulli::Bernoulli;
use super::kl::StandardNormalKl;
use super::term::ValueOf;
use crate::{Compute, Error, Result};
use ndarray::{ArrayView2, ArrayViewMut2};

/// The negative evidence lower bound and its two parts, reduced, in nats.
///
/// Under [`Reduction::Mean`] the sum of the parts is no bound: see there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elbo {
    /// `reconstruction + β·kl`: what the gradients are of.
    pub loss: f64,
    /// The negative log-likelihood of the data.
    pub reconstruction: f64,
    /// The divergence of the posterior from the prior, not weighted.
    pub kl: f64,
}

/// What the objective is computed from.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// The decoder's output `[B, D]`.
    pub logits: ArrayView2<'a, f32>,
    /// The data `[B, D]`, in [0, 1].
    pub targets: ArrayView2<'a, f32>,
    /// The posterior's means `[B, Z]`.
    pub mu: ArrayView2<'a, f32>,
    /// The posterior's log-variances `[B, Z]`.
    pub logvar: ArrayView2<'a, f32>,
}

/// Where the gradients go; what is there is overwritten.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// ∂loss/∂logits `[B, D]`.
    pub dlogits: ArrayViewMut2<'a, f32>,
    /// ∂loss/∂mu `[B, Z]`, the KL's part (the reconstruction's comes through the decoder).
    pub dmu: ArrayViewMut2<'a, f32>,
    /// ∂loss/∂logvar `[B, Z]`, the KL's part.
    pub dlogvar: ArrayViewMut2<'a, f32>,
}

/// The objective of a batch, without gradients.
///
/// # Errors
/// [`Error::Config`] for a `beta` that is negative or not finite; [`Error::Shape`] if the arrays
/// do not fit together or a mean has nothing to reduce; [`Error::Layout`] if rows are not
/// contiguous; [`Error::TargetOutOfRange`] for the first target, in row order, outside [0, 1], or
/// [`Error::NotFiniteData`] if it is NaN or ±∞.
pub fn forward(
    compute: &Compute,
    inputs: Inputs<'_>,
    beta: f32,
    reduction: Reduction,
) -> Result<Elbo> {
    let [data, latent] = fit(inputs, beta)?;
    let reconstruction = TermRows::new(ValueOf(Bernoulli), [], data, 1.0, reduction)?;
    let kl = TermRows::new(ValueOf(StandardNormalKl), [], latent, beta, reduction)?;
    let divisors = [reconstruction.divisor(), kl.divisor()];
    Ok(weigh(total(compute, (reconstruction, kl))?, divisors, beta))
}

/// Overwrites `gradients` with those of [`forward`], whose value it returns.
///
/// The value has the bits of [`forward`]'s.
///
/// # Errors
/// As [`forward`]; what the gradients then hold is unspecified.
///
/// An example is at the top of [`loss`](super).
pub fn forward_backward(
    compute: &Compute,
    gradients: Gradients<'_>,
    inputs: Inputs<'_>,
    beta: f32,
    reduction: Reduction,
) -> Result<Elbo> {
    let Gradients { dlogits, dmu, dlogvar } = gradients;
    let [data, latent] = fit(inputs, beta)?;
    let dlatent = [("dmu", dmu), ("dlogvar", dlogvar)];
    let reconstruction = TermRows::new(Bernoulli, [("dlogits", dlogits)], data, 1.0, reduction)?;
    let kl = TermRows::new(StandardNormalKl, dlatent, latent, beta, reduction)?;
    let divisors = [reconstruction.divisor(), kl.divisor()];
    Ok(weigh(total(compute, (reconstruction, kl))?, divisors, beta))
}

/// The inputs of the two terms, by name, of one number of rows.
#[allow(clippy::type_complexity, reason = "two pairs of named views")]
fn fit(inputs: Inputs<'_>, beta: f32) -> Result<[[(&'static str, ArrayView2<'_, f32>); 2]; 2]> {
    let Inputs { logits, targets, mu, logvar } = inputs;
    if !(beta >= 0.0 && beta.is_finite()) {
        return Err(Error::config("beta", "a finite number of at least 0", beta));
    }
    if mu.nrows() != logits.nrows() {
        return Err(Error::shape("mu", [logits.nrows(), mu.ncols()], mu.shape()));
    }
    Ok([[("logits", logits), ("targets", targets)], [("mu", mu), ("logvar", logvar)]])
}

fn weigh(sums: [f64; 2], divisors: [f64; 2], beta: f32) -> Elbo {
    let [reconstruction, kl] = [sums[0] / divisors[0], sums[1] / divisors[1]];
    Elbo { loss: reconstruction + f64::from(beta) * kl, reconstruction, kl }
}
