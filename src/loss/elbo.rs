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
use crate::error::expect_non_negative;
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
    expect_non_negative("beta", beta)?;
    if mu.nrows() != logits.nrows() {
        return Err(Error::shape("mu", [logits.nrows(), mu.ncols()], mu.shape()));
    }
    Ok([[("logits", logits), ("targets", targets)], [("mu", mu), ("logvar", logvar)]])
}

fn weigh(sums: [f64; 2], divisors: [f64; 2], beta: f32) -> Elbo {
    let [reconstruction, kl] = [sums[0] / divisors[0], sums[1] / divisors[1]];
    Elbo { loss: reconstruction + f64::from(beta) * kl, reconstruction, kl }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::{bernoulli, kl, probabilities, reference, squared_error};
    use crate::simd::InstructionSet;
    use ndarray::{Array2, s};

    /// A batch whose numbers are spread over their ranges.
    struct Batch([Array2<f32>; 4]);

    impl Batch {
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
            let [logits, targets, mu, logvar] = self.0.each_ref().map(|array| array.view());
            Inputs { logits, targets, mu, logvar }
        }

        fn run(
            &self,
            compute: &Compute,
            beta: f32,
            reduction: Reduction,
        ) -> Result<(Elbo, [Array2<f32>; 3])> {
            let [logits, _, mu, logvar] = &self.0;
            let mut gradients =
                [logits, mu, logvar].map(|array| Array2::from_elem(array.dim(), f32::NAN));
            let [dlogits, dmu, dlogvar] = gradients.each_mut().map(|array| array.view_mut());
            let views = Gradients { dlogits, dmu, dlogvar };
            let elbo = forward_backward(compute, views, self.inputs(), beta, reduction)?;
            Ok((elbo, gradients))
        }
    }

    const REDUCTIONS: [Reduction; 3] = [Reduction::Sum, Reduction::BatchMean, Reduction::Mean];

    #[test]
    fn parts_have_the_bits_of_their_modules() {
        let compute = Compute::serial();
        let batch = Batch::new(130, 37, 5);
        for reduction in REDUCTIONS {
            let (elbo, [dlogits, dmu, dlogvar]) = batch.run(&compute, 1.0, reduction).unwrap();
            assert_eq!(forward(&compute, batch.inputs(), 1.0, reduction).unwrap(), elbo);

            let Inputs { logits, targets, mu, logvar } = batch.inputs();
            let mut expected = Array2::zeros(dlogits.dim());
            let reconstruction = bernoulli::forward_backward(
                &compute,
                expected.view_mut(),
                logits,
                targets,
                reduction,
            );
            assert_eq!(elbo.reconstruction, reconstruction.unwrap());
            assert_eq!(dlogits, expected);

            let (mut da, mut db) = (Array2::zeros(dmu.dim()), Array2::zeros(dmu.dim()));
            let divergence =
                kl::forward_backward(&compute, da.view_mut(), db.view_mut(), mu, logvar, reduction);
            assert_eq!(elbo.kl, divergence.unwrap());
            assert_eq!((dmu, dlogvar), (da, db));
        }
    }

    #[test]
    fn neither_threads_nor_sets_change_a_bit() {
        for (rows, data, latent) in [(0, 3, 2), (1, 784, 20), (129, 37, 3), (700, 5, 1)] {
            let batch = Batch::new(rows, data, latent);
            let scalar = Compute::new(InstructionSet::SCALAR, 1).unwrap();
            let expected = batch.run(&scalar, 0.3, Reduction::Sum).unwrap();
            for set in InstructionSet::available() {
                for threads in [1, 2, 5] {
                    let compute = Compute::new(set, threads).unwrap();
                    let found = batch.run(&compute, 0.3, Reduction::Sum).unwrap();
                    assert_eq!(found, expected, "{rows} rows, {set}, {threads} threads");
                }
            }
        }
    }

    #[test]
    fn beta_weighs_the_divergence_and_its_gradients_alone() {
        let compute = Compute::serial();
        let batch = Batch::new(9, 20, 4);
        let (one, [dlogits, dmu, dlogvar]) =
            batch.run(&compute, 1.0, Reduction::default()).unwrap();
        for beta in [0.0, 0.25, 4.0] {
            let (elbo, gradients) = batch.run(&compute, beta, Reduction::default()).unwrap();
            assert_eq!((elbo.reconstruction, elbo.kl), (one.reconstruction, one.kl));
            assert_eq!(elbo.loss, one.reconstruction + f64::from(beta) * one.kl);
            assert_eq!(gradients[0], dlogits);
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
        let batch = Batch::new(rows, data, latent);
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
    fn views_of_wider_arrays_will_do() {
        let compute = Compute::serial();
        let batch = Batch::new(70, 21, 6);
        let (expected, gradients) = batch.run(&compute, 2.0, Reduction::Mean).unwrap();
        // mu beside logvar, as one layer gives them; every second row of the data, from the last.
        let mut heads = Array2::from_elem((70, 14), f32::NAN);
        heads.slice_mut(s![.., 1..7]).assign(&batch.0[2]);
        heads.slice_mut(s![.., 7..13]).assign(&batch.0[3]);
        let mut logits = Array2::from_elem((140, 21), f32::NAN);
        logits.slice_mut(s![..;-2, ..]).assign(&batch.0[0]);
        let mut dheads = Array2::from_elem((70, 14), f32::NAN);
        let (dmu, dlogvar) = dheads.multi_slice_mut((s![.., 1..7], s![.., 7..13]));
        let mut dlogits = Array2::from_elem((140, 21), f32::NAN);
        let elbo = forward_backward(
            &compute,
            Gradients { dlogits: dlogits.slice_mut(s![..;-2, ..]), dmu, dlogvar },
            Inputs {
                logits: logits.slice(s![..;-2, ..]),
                targets: batch.0[1].view(),
                mu: heads.slice(s![.., 1..7]),
                logvar: heads.slice(s![.., 7..13]),
            },
            2.0,
            Reduction::Mean,
        );
        assert_eq!(elbo.unwrap(), expected);
        assert_eq!(dlogits.slice(s![..;-2, ..]), gradients[0]);
        assert_eq!(dheads.slice(s![.., 1..7]), gradients[1]);
        assert_eq!(dheads.slice(s![.., 7..13]), gradients[2]);
        assert!(dlogits.slice(s![..;2, ..]).iter().all(|v| v.is_nan()));
        assert!(dheads.slice(s![.., ..;13]).iter().all(|v| v.is_nan()));
    }

    #[test]
    fn nothing_to_reduce() {
        let compute = Compute::serial();
        let message =
            |batch: Batch, reduction| batch.run(&compute, 1.0, reduction).unwrap_err().to_string();
        let nothing = Elbo { loss: 0.0, reconstruction: 0.0, kl: 0.0 };
        assert_eq!(Batch::new(0, 3, 2).run(&compute, 1.0, Reduction::Sum).unwrap().0, nothing);
        for reduction in [Reduction::BatchMean, Reduction::Mean] {
            assert_eq!(
                message(Batch::new(0, 3, 2), reduction),
                "`logits`: expected at least one element to take the mean of, found [0, 3]"
            );
        }
        let latent_alone = Batch::new(4, 0, 2);
        let (elbo, _) = latent_alone.run(&compute, 1.0, Reduction::BatchMean).unwrap();
        assert_eq!(elbo.reconstruction, 0.0);
        assert!(message(latent_alone, Reduction::Mean).starts_with("`logits`"));
        assert!(message(Batch::new(4, 3, 0), Reduction::Mean).starts_with("`mu`"));
    }

    #[test]
    fn arrays_that_do_not_fit() {
        let compute = Compute::serial();
        let fits = Batch::new(4, 3, 2);
        let wide = Batch::new(4, 5, 5);
        let long = Batch::new(5, 3, 2);
        let message =
            |inputs| forward(&compute, inputs, 1.0, Reduction::Sum).unwrap_err().to_string();
        for (inputs, expected) in [
            (
                Inputs { targets: wide.inputs().targets, ..fits.inputs() },
                "`targets`: expected shape [4, 3], found [4, 5]",
            ),
            (
                Inputs { mu: long.inputs().mu, ..fits.inputs() },
                "`mu`: expected shape [4, 2], found [5, 2]",
            ),
            (
                Inputs { logvar: wide.inputs().logvar, ..fits.inputs() },
                "`logvar`: expected shape [4, 2], found [4, 5]",
            ),
        ] {
            assert_eq!(message(inputs), expected);
        }
        let square = Batch::new(3, 3, 2);
        let columns =
            Inputs { targets: square.inputs().targets.reversed_axes(), ..square.inputs() };
        assert!(message(columns).starts_with("`targets`: rows must be contiguous"));

        let mut gradients = [(4, 3), (4, 2), (3, 2)].map(Array2::<f32>::zeros);
        let [dlogits, dmu, dlogvar] = gradients.each_mut().map(|array| array.view_mut());
        let views = Gradients { dlogits, dmu, dlogvar };
        let error = forward_backward(&compute, views, fits.inputs(), 1.0, Reduction::Sum);
        assert_eq!(
            error.unwrap_err().to_string(),
            "`dlogvar`: expected shape [4, 2], found [3, 2]"
        );
    }

    #[test]
    fn beta_outside_its_domain() {
        let batch = Batch::new(1, 1, 1);
        for beta in [-1.0, f32::NAN, f32::INFINITY] {
            let error = batch.run(&Compute::serial(), beta, Reduction::Sum).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`beta`: expected a non-negative finite number, found {beta}")
            );
        }
    }

    #[test]
    fn the_first_bad_target_is_named_on_any_number_of_threads() {
        let bad = [
            (
                1.000_000_1,
                "row 90, column 20: 1.0000001 is outside [0, 1]; scale the data into that range",
            ),
            (
                -1e-5,
                "row 90, column 20: -0.00001 is outside [0, 1]; scale the data into that range",
            ),
            (f32::NAN, "row 90, column 20: NaN in the data"),
            (f32::INFINITY, "row 90, column 20: inf in the data"),
        ];
        for (value, message) in bad {
            for threads in [1, 2, 5] {
                let compute = Compute::new(InstructionSet::detect(), threads).unwrap();
                let mut batch = Batch::new(300, 21, 2);
                for place in [[90, 20], [91, 3], [250, 0]] {
                    batch.0[1][place] = value;
                }
                let error = batch.run(&compute, 1.0, Reduction::Sum).unwrap_err();
                assert!(error.to_string().starts_with(message), "{threads} threads: {error}");
                let Inputs { logits, targets, .. } = batch.inputs();
                let error = probabilities::forward(&compute, logits, targets, Reduction::Sum);
                assert!(error.unwrap_err().to_string().starts_with(message));
                let error = squared_error::forward(&compute, logits, targets, Reduction::Sum);
                assert_eq!(error.is_err(), !value.is_finite());
            }
        }
    }

    #[test]
    fn minus_zero_is_a_target() {
        let mut batch = Batch::new(3, 21, 2);
        batch.0[1].fill(0.0);
        let expected = batch.run(&Compute::serial(), 1.0, Reduction::Sum).unwrap();
        batch.0[1].fill(-0.0);
        assert_eq!(batch.run(&Compute::serial(), 1.0, Reduction::Sum).unwrap(), expected);
        // The next number below it is not.
        batch.0[1][[2, 20]] = -f32::from_bits(1);
        assert!(batch.run(&Compute::serial(), 1.0, Reduction::Sum).is_err());
    }

    #[test]
    fn an_infinite_divergence_says_so() {
        let mut batch = Batch::new(3, 2, 2);
        batch.0[3][[1, 1]] = 90.0;
        let (elbo, _) = batch.run(&Compute::serial(), 1.0, Reduction::Sum).unwrap();
        assert_eq!((elbo.kl, elbo.loss), (f64::INFINITY, f64::INFINITY));
        assert!(elbo.reconstruction.is_finite());
    }

    /// Totals of `rows` rows of 1,000 against the twins, to a relative 1e-6.
    fn large_total(rows: usize) {
        let batch = Batch::new(rows, 1000, 1000);
        let compute = Compute::new(InstructionSet::detect(), 2).unwrap();
        let elbo = forward(&compute, batch.inputs(), 1.0, Reduction::Sum).unwrap();
        let Inputs { logits, targets, mu, logvar } = batch.inputs();
        let sum = |twin: fn([f64; 2]) -> f64, a: ArrayView2<f32>, b: ArrayView2<f32>| -> f64 {
            let rows = a.outer_iter().zip(b.outer_iter());
            rows.map(|(a, b)| -> f64 {
                a.iter().zip(b).map(|(&a, &b)| twin([a.into(), b.into()])).sum()
            })
            .sum()
        };
        let exact = sum(|x| reference::bernoulli(x).0, logits, targets);
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
