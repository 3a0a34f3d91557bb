//! The fused objective: reconstruction, KL penalty, β and all gradients in one pass.
//!
//! ```text
//! loss = reconstruction + β·penalty
//! ```
//!
//! for every [`Reconstruction`] and every [`KlPenalty`], such as Bernoulli from logits with the KL
//! divergence:
//!
//! ```text
//! reconstruction = R(max(l,0) − l·t + ln(1+e^{−|l|}))     doutputs = (σ(l) − t)/n
//! penalty        = R(½(μ² + expm1(v) − v))                dmu      = β·μ/m
//!                                                         dlogvar  = β·½·expm1(v)/m
//! ```
//!
//! R is the [`Reduction`], n and m its divisors: 1 and 1, B and B, or B·D and B·Z.
//!
//! # Method
//! 1. A term that depends on the batch as a whole (the optimal variance, free bits of dimensions, a
//!    capacity of the batch) takes a pass over its own inputs first.
//! 2. One pass over the rows of both: every element is read once and every gradient written once.
//!    With a batch that does not fit into cache, memory is the limit.
//!
//! # Contract
//! Each part of the result equals, to the last bit, that of its term alone, and so do, with β = 1, its
//! gradients. With β = 0 an infinite penalty makes the loss NaN, not the reconstruction alone.

use super::Reduction;
use super::kernel::batch::{BothRows, total};
use super::kl::Prior;
use super::term::{
    KlGradients, KlInputs, KlPenalty, Reconstruction, ReconstructionInputs, RowPlan, batch_value,
    divisor,
};
use crate::Compute;
use crate::error::{Error, Result, expect_non_negative};
use crate::simd::environment::FloatEnvironment;
use ndarray::{ArrayView2, ArrayViewMut2};

/// The negative evidence lower bound and its two parts, reduced, in nats.
///
/// Under [`Reduction::Mean`] the sum of the parts is no bound: see there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elbo {
    /// `reconstruction + β·penalty`, of which the gradients are taken.
    pub loss: f64,
    /// The negative log-likelihood of the data.
    pub reconstruction: f64,
    /// The divergence of the posterior from the prior, neither weighted nor changed by a penalty.
    pub kl: f64,
}

/// The terms of the objective and the weight of the second.
///
/// ```
/// use elbo::loss::{Bernoulli, FreeBits, FreeBitsPer, elbo::Terms};
///
/// let penalty = FreeBits { lambda: 0.1, per: FreeBitsPer::Dimension };
/// let terms = Terms { reconstruction: Bernoulli, penalty, beta: 4.0 };
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms<R, K> {
    /// The term of the decoder's outputs and the data.
    pub reconstruction: R,
    /// The term of the posterior and the prior.
    pub penalty: K,
    /// The weight β of the penalty.
    pub beta: f32,
}

/// The arrays from which the objective is computed, and the prior.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The decoder's outputs `[B, D]`: logits, probabilities or predictions, as the term says.
    pub outputs: ArrayView2<'a, f32>,
    /// The data `[B, D]`.
    pub targets: ArrayView2<'a, f32>,
    /// The posterior's means `[B, Z]`.
    pub mu: ArrayView2<'a, f32>,
    /// The posterior's log-variances `[B, Z]`.
    pub logvar: ArrayView2<'a, f32>,
    /// The prior of every latent dimension.
    pub prior: Prior,
}

impl<'a> Inputs<'a> {
    fn split(self) -> (ReconstructionInputs<'a>, KlInputs<'a>) {
        let Self { outputs, targets, mu, logvar, prior } = self;
        (ReconstructionInputs { outputs, targets }, KlInputs { mu, logvar, prior })
    }
}

/// Places of the gradients; their content is overwritten.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// ∂loss/∂outputs `[B, D]`.
    pub doutputs: ArrayViewMut2<'a, f32>,
    /// ∂loss/∂mu `[B, Z]`, the penalty's part (the reconstruction's comes through the decoder).
    pub dmu: ArrayViewMut2<'a, f32>,
    /// ∂loss/∂logvar `[B, Z]`, the penalty's part.
    pub dlogvar: ArrayViewMut2<'a, f32>,
}

/// Returns the objective of a batch, without gradients.
///
/// # Errors
/// As the methods of [`LossTerm`](super::LossTerm) for both terms; [`Error::Config`] if β is negative or not finite;
/// [`Error::Shape`] if `mu` has another number of rows than `outputs`.
pub fn forward(
    compute: &Compute,
    terms: Terms<impl Reconstruction, impl KlPenalty>,
    inputs: Inputs<'_>,
    reduction: Reduction,
) -> Result<Elbo> {
    evaluate(compute, terms, None, inputs, reduction)
}

/// Overwrites `gradients` with those of [`forward`], and returns its value to the last bit.
///
/// # Errors
/// As [`forward`]; the gradients then hold unspecified values.
///
/// An example is at the top of [`loss`](super).
pub fn forward_backward(
    compute: &Compute,
    terms: Terms<impl Reconstruction, impl KlPenalty>,
    gradients: Gradients<'_>,
    inputs: Inputs<'_>,
    reduction: Reduction,
) -> Result<Elbo> {
    evaluate(compute, terms, Some(gradients), inputs, reduction)
}

fn evaluate<R: Reconstruction, K: KlPenalty>(
    compute: &Compute,
    Terms { reconstruction, penalty, beta }: Terms<R, K>,
    gradients: Option<Gradients<'_>>,
    inputs: Inputs<'_>,
    reduction: Reduction,
) -> Result<Elbo> {
    let _environment = FloatEnvironment::standard();
    let (data, latent) = inputs.split();
    expect_non_negative("beta", beta)?;
    reconstruction.validate(data)?;
    penalty.validate(latent)?;
    // Each term checks its own arrays; only the number of rows is common to both.
    if latent.mu.nrows() != data.outputs.nrows() {
        let expected = [data.outputs.nrows(), latent.mu.ncols()];
        return Err(Error::shape("mu", expected, latent.mu.shape()));
    }
    let divisors = (divisor(data, reduction)?, divisor(latent, reduction)?);
    let (doutputs, dlatent) = gradients
        .map(|Gradients { doutputs, dmu, dlogvar }| (doutputs, KlGradients { dmu, dlogvar }))
        .unzip();

    // 1.
    let couplings = (reconstruction.couple(compute, data)?, penalty.couple(compute, latent)?);

    // 2.
    let scale = (couplings.0.slope / divisors.0) as f32;
    let plan = RowPlan { coupling: &couplings.0, scale, with_sums: false };
    let data_rows = reconstruction.rows(plan, doutputs, data)?;
    // Rounded once, so that β = 1 leaves the bits of the penalty alone.
    let scale = (f64::from(beta) * couplings.1.slope / divisors.1) as f32;
    let plan = RowPlan { coupling: &couplings.1, scale, with_sums: true };
    let latent_rows = penalty.rows(plan, dlatent, latent)?;
    let sums = total(compute, BothRows(data_rows, latent_rows))?;

    // The sums: of the reconstruction, of what it is made of, of the penalty, and of the KL.
    let value = batch_value(&reconstruction, &couplings.0, sums[0], data) / divisors.0;
    let penalty = batch_value(&penalty, &couplings.1, sums[2], latent) / divisors.1;
    let loss = value + f64::from(beta) * penalty;
    Ok(Elbo { loss, reconstruction: value, kl: sums[3] / divisors.1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::testing::reference;
    use crate::loss::{Bernoulli, Kl};
    use crate::simd::InstructionSet;
    use ndarray::Array2;

    /// A batch whose numbers are spread over their ranges.
    struct TestBatch([Array2<f32>; 4]);

    impl TestBatch {
        fn new(rows: usize, data: usize, latent: usize) -> Self {
            let spread = |columns, step: usize, low: f32, high: f32| {
                Array2::from_shape_fn((rows, columns), |(i, j)| {
                    let unit = ((i * 7919 + j * step + 13) % 1009) as f32 / 1008.0;
                    low + (high - low) * unit
                })
            };
            Self([
                spread(data, 331, -12.0, 12.0),
                spread(data, 613, 0.0, 1.0),
                spread(latent, 127, -2.0, 2.0),
                spread(latent, 419, -5.0, 1.5),
            ])
        }

        fn inputs(&self) -> Inputs<'_> {
            let [outputs, targets, mu, logvar] = self.0.each_ref().map(|array| array.view());
            Inputs { outputs, targets, mu, logvar, prior: Prior::default() }
        }

        fn run(
            &self,
            compute: &Compute,
            beta: f32,
            reduction: Reduction,
        ) -> Result<(Elbo, [Array2<f32>; 3])> {
            let [outputs, _, mu, logvar] = &self.0;
            let mut gradients =
                [outputs, mu, logvar].map(|array| Array2::from_elem(array.dim(), f32::NAN));
            let [doutputs, dmu, dlogvar] = gradients.each_mut().map(|array| array.view_mut());
            let views = Gradients { doutputs, dmu, dlogvar };
            let elbo = forward_backward(compute, terms(beta), views, self.inputs(), reduction)?;
            Ok((elbo, gradients))
        }
    }

    fn terms(beta: f32) -> Terms<Bernoulli, Kl> {
        Terms { reconstruction: Bernoulli, penalty: Kl, beta }
    }

    #[test]
    fn beta_scales_the_penalty_and_its_gradients_only() {
        let compute = Compute::serial();
        let batch = TestBatch::new(9, 20, 4);
        let (one, [doutputs, dmu, dlogvar]) =
            batch.run(&compute, 1.0, Reduction::default()).unwrap();
        for beta in [0.0, 0.25, 4.0] {
            let (elbo, gradients) = batch.run(&compute, beta, Reduction::default()).unwrap();
            assert_eq!((elbo.reconstruction, elbo.kl), (one.reconstruction, one.kl));
            assert_eq!(elbo.loss, one.reconstruction + f64::from(beta) * one.kl);
            assert_eq!(gradients[0], doutputs);
            for (found, one) in gradients[1..].iter().zip([&dmu, &dlogvar]) {
                for (&found, &one) in found.iter().zip(one) {
                    assert!((found - beta * one).abs() <= 1.2e-7 * found.abs());
                }
            }
        }
    }

    /// The note on β in [`Reduction`].
    #[test]
    fn means_over_pixels_and_latents_multiply_beta() {
        let compute = Compute::serial();
        let (rows, data, latent) = (6, 56, 7);
        let batch = TestBatch::new(rows, data, latent);
        let run = |beta, reduction| batch.run(&compute, beta, reduction).unwrap();
        let (sum, _) = run(1.0, Reduction::Sum);
        let (batch_mean, _) = run(1.0, Reduction::BatchMean);
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs();
        assert!(close(batch_mean.loss * rows as f64, sum.loss));

        let effective = (data / latent) as f32;
        let (eight_fold, [a, b, c]) = run(effective, Reduction::BatchMean);
        let (mean, gradients) = run(1.0, Reduction::Mean);
        assert!(close(mean.loss * data as f64, eight_fold.loss));
        for (mean, batch_mean) in gradients.iter().zip([&a, &b, &c]) {
            for (&mean, &batch_mean) in mean.iter().zip(batch_mean) {
                assert!((mean * data as f32 - batch_mean).abs() <= 3e-7 * batch_mean.abs());
            }
        }
    }

    #[test]
    fn rejects_means_of_nothing() {
        let compute = Compute::serial();
        let message = |batch: TestBatch, reduction| {
            batch.run(&compute, 1.0, reduction).unwrap_err().to_string()
        };
        let nothing = Elbo { loss: 0.0, reconstruction: 0.0, kl: 0.0 };
        assert_eq!(TestBatch::new(0, 3, 2).run(&compute, 1.0, Reduction::Sum).unwrap().0, nothing);
        for reduction in [Reduction::BatchMean, Reduction::Mean] {
            assert_eq!(
                message(TestBatch::new(0, 3, 2), reduction),
                "`outputs`: expected at least one element to take the mean of, found [0, 3]"
            );
        }
        let latent_alone = TestBatch::new(4, 0, 2);
        let (elbo, _) = latent_alone.run(&compute, 1.0, Reduction::BatchMean).unwrap();
        assert_eq!(elbo.reconstruction, 0.0);
        assert!(message(latent_alone, Reduction::Mean).starts_with("`outputs`"));
        assert!(message(TestBatch::new(4, 3, 0), Reduction::Mean).starts_with("`mu`"));
    }

    #[test]
    fn rejects_batches_of_different_sizes() {
        let (fits, long) = (TestBatch::new(4, 3, 2), TestBatch::new(5, 3, 2));
        let inputs = Inputs { mu: long.inputs().mu, ..fits.inputs() };
        let error = forward(&Compute::serial(), terms(1.0), inputs, Reduction::Sum).unwrap_err();
        assert_eq!(error.to_string(), "`mu`: expected shape [4, 2], found [5, 2]");
    }

    #[test]
    fn rejects_invalid_beta() {
        let batch = TestBatch::new(1, 1, 1);
        for beta in [-1.0, f32::NAN, f32::INFINITY] {
            let error = batch.run(&Compute::serial(), beta, Reduction::Sum).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`beta`: expected a non-negative finite number, found {beta}")
            );
        }
    }

    #[test]
    fn accepts_minus_zero_as_a_target() {
        let mut batch = TestBatch::new(3, 21, 2);
        batch.0[1].fill(0.0);
        let expected = batch.run(&Compute::serial(), 1.0, Reduction::Sum).unwrap();
        batch.0[1].fill(-0.0);
        assert_eq!(batch.run(&Compute::serial(), 1.0, Reduction::Sum).unwrap(), expected);
        // The next number below it is not.
        batch.0[1][[2, 20]] = -f32::from_bits(1);
        assert!(batch.run(&Compute::serial(), 1.0, Reduction::Sum).is_err());
    }

    #[test]
    fn reports_an_infinite_divergence() {
        let mut batch = TestBatch::new(3, 2, 2);
        batch.0[3][[1, 1]] = 90.0;
        let (elbo, _) = batch.run(&Compute::serial(), 1.0, Reduction::Sum).unwrap();
        assert_eq!((elbo.kl, elbo.loss), (f64::INFINITY, f64::INFINITY));
        assert!(elbo.reconstruction.is_finite());
    }

    /// Totals of `rows` rows of 1,000 against the twins, to a relative 1e-6.
    fn large_total(rows: usize) {
        let batch = TestBatch::new(rows, 1000, 1000);
        let compute = Compute::new(InstructionSet::detect(), 2).unwrap();
        let elbo = forward(&compute, terms(1.0), batch.inputs(), Reduction::Sum).unwrap();
        let Inputs { outputs, targets, mu, logvar, .. } = batch.inputs();
        let sum = |twin: fn([f64; 2]) -> f64, a: ArrayView2<f32>, b: ArrayView2<f32>| -> f64 {
            let rows = a.outer_iter().zip(b.outer_iter());
            rows.map(|(a, b)| -> f64 {
                a.iter().zip(b).map(|(&a, &b)| twin([a.into(), b.into()])).sum()
            })
            .sum()
        };
        let exact = sum(|x| reference::bernoulli(x).0, outputs, targets);
        let error = (elbo.reconstruction / exact - 1.0).abs();
        println!("{rows} rows of 1,000: relative error of the reconstruction {error:.1e}");
        assert!(error < 1e-6, "{} {exact}", elbo.reconstruction);
        let exact = sum(|x| reference::standard_normal_kl(x).0, mu, logvar);
        let error = (elbo.kl / exact - 1.0).abs();
        println!("{rows} rows of 1,000: relative error of the divergence {error:.1e}");
        assert!(error < 1e-6, "{} {exact}", elbo.kl);
    }

    #[test]
    fn totals_of_ten_million_elements() {
        large_total(10_000);
    }

    #[test]
    #[ignore = "1.6 GB of memory"]
    fn totals_of_a_hundred_million_elements() {
        large_total(100_000);
    }
}
