//! Tests of the trait: each term alone, and every reconstruction fused with every penalty.

use crate::loss::elbo::{self, Terms};
use crate::loss::{
    Bernoulli, BernoulliProbabilities, Capacity, CapacityPer, ContinuousBernoulli, Elbo, FreeBits,
    FreeBitsPer, Gaussian, Kl, KlGradients, KlInputs, KlPenalty, LossTerm, Prior, Reconstruction,
    ReconstructionInputs, Reduction, SigmoidProbabilities, SquaredError, TanhSquaredError,
    WeightedBernoulli,
};
use crate::simd::InstructionSet;
use crate::{Compute, Result};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use std::fmt::Debug;

const FEATURES: usize = 21;
const LATENT: usize = 6;
const LOGVAR: [f32; FEATURES] = {
    let mut logvar = [0.0; FEATURES];
    let mut j = 0;
    while j < FEATURES {
        logvar[j] = (j % 5) as f32 / 3.0 - 0.7;
        j += 1;
    }
    logvar
};
const REDUCTIONS: [Reduction; 3] = [Reduction::Sum, Reduction::BatchMean, Reduction::Mean];

/// Calls a function with every reconstruction, the range of its data, and more arguments.
macro_rules! each_reconstruction {
    ($check:ident $(, $argument:expr)*) => {
        $check(Bernoulli, "[0, 1]" $(, $argument)*);
        $check(WeightedBernoulli { pos_weight: 2.5 }, "[0, 1]" $(, $argument)*);
        $check(BernoulliProbabilities, "[0, 1]" $(, $argument)*);
        $check(SigmoidProbabilities, "[0, 1]" $(, $argument)*);
        $check(ContinuousBernoulli, "[0, 1]" $(, $argument)*);
        $check(SquaredError, "the finite numbers" $(, $argument)*);
        $check(TanhSquaredError, "[-1, 1]" $(, $argument)*);
        $check(Gaussian::Shared { logvar: -0.4 }, "the finite numbers" $(, $argument)*);
        $check(Gaussian::PerFeature { logvar: &LOGVAR }, "the finite numbers" $(, $argument)*);
        $check(Gaussian::Optimal, "the finite numbers" $(, $argument)*);
    };
}

/// Calls a function with every penalty, whether it has values of single examples, and more arguments.
macro_rules! each_penalty {
    ($check:ident $(, $argument:expr)*) => {
        $check(Kl, true $(, $argument)*);
        for (per, single) in [
            (FreeBitsPer::Element, true),
            (FreeBitsPer::Dimension, false),
            (FreeBitsPer::Sample, true),
        ] {
            let lambda = if per == FreeBitsPer::Sample { 9.0 } else { 1.5 };
            $check(FreeBits { lambda, per }, single $(, $argument)*);
        }
        for (per, single) in [(CapacityPer::Batch, false), (CapacityPer::Sample, true)] {
            $check(Capacity { gamma: 3.0, nats: 9.0, per }, single $(, $argument)*);
        }
    };
}

/// Calls a function with every reconstruction and every penalty, each beside a plain other.
macro_rules! each_term {
    ($check:ident) => {
        fn with_kl<R: Reconstruction + Debug>(reconstruction: R, _: &str) {
            $check(Terms { reconstruction, penalty: Kl, beta: 1.0 }, true);
        }
        fn with_bernoulli<K: KlPenalty + Debug>(penalty: K, single: bool) {
            $check(Terms { reconstruction: Bernoulli, penalty, beta: 1.0 }, single);
        }
        each_reconstruction!(with_kl);
        each_penalty!(with_bernoulli);
    };
}

/// A batch that every term accepts: outputs and targets in [0, 1], and posteriors.
#[derive(Clone)]
struct TestBatch([Array2<f32>; 4]);

impl TestBatch {
    fn new(rows: usize) -> Self {
        let spread = |columns, step: usize, low: f32, high: f32| {
            Array2::from_shape_fn((rows, columns), |(i, j)| {
                let unit = ((i * 7919 + j * step + 13) % 1009) as f32 / 1008.0;
                low + (high - low) * unit
            })
        };
        Self([
            spread(FEATURES, 331, 0.02, 0.98),
            spread(FEATURES, 613, 0.0, 1.0),
            spread(LATENT, 127, -2.0, 2.0),
            spread(LATENT, 419, -4.0, 1.5),
        ])
    }

    fn data(&self) -> ReconstructionInputs<'_> {
        ReconstructionInputs { outputs: self.0[0].view(), targets: self.0[1].view() }
    }

    fn latent(&self) -> KlInputs<'_> {
        let prior = Prior { mean: 0.2, std: 1.5 };
        KlInputs { mu: self.0[2].view(), logvar: self.0[3].view(), prior }
    }

    fn both(&self) -> elbo::Inputs<'_> {
        let ReconstructionInputs { outputs, targets } = self.data();
        let KlInputs { mu, logvar, prior } = self.latent();
        elbo::Inputs { outputs, targets, mu, logvar, prior }
    }
}

fn nan(columns: usize, rows: usize) -> Array2<f32> {
    Array2::from_elem((rows, columns), f32::NAN)
}

/// Value and gradient of a reconstruction.
fn reconstruct(
    term: impl Reconstruction,
    compute: &Compute,
    inputs: ReconstructionInputs<'_>,
    reduction: Reduction,
) -> Result<(f64, Array2<f32>)> {
    let mut doutputs = nan(FEATURES, inputs.outputs.nrows());
    let value = term.forward_backward(compute, doutputs.view_mut(), inputs, reduction)?;
    assert_eq!(value, term.forward(compute, inputs, reduction)?, "forward and backward differ");
    Ok((value, doutputs))
}

/// Value and gradients of a penalty.
fn penalize(
    term: impl KlPenalty,
    compute: &Compute,
    inputs: KlInputs<'_>,
    reduction: Reduction,
) -> Result<(f64, [Array2<f32>; 2])> {
    let mut gradients = [(); 2].map(|()| nan(LATENT, inputs.mu.nrows()));
    let [dmu, dlogvar] = gradients.each_mut().map(|array| array.view_mut());
    let views = KlGradients { dmu, dlogvar };
    let value = term.forward_backward(compute, views, inputs, reduction)?;
    assert_eq!(value, term.forward(compute, inputs, reduction)?, "forward and backward differ");
    Ok((value, gradients))
}

/// The array in the middle of a wider one, and in every second row from the last.
struct Strided(Array2<f32>);

impl Strided {
    fn new(array: &Array2<f32>) -> Self {
        let mut wide = nan(array.ncols() + 4, 2 * array.nrows());
        wide.slice_mut(s![..;-2, 1..array.ncols() + 1]).assign(array);
        Self(wide)
    }

    fn view(&self) -> ArrayView2<'_, f32> {
        self.0.slice(s![..;-2, 1..self.0.ncols() - 3])
    }

    fn view_mut(&mut self) -> ArrayViewMut2<'_, f32> {
        let columns = self.0.ncols();
        self.0.slice_mut(s![..;-2, 1..columns - 3])
    }

    /// Checks that nothing was written beside the view.
    fn check_margins(&self) {
        let columns = self.0.ncols();
        for margin in [s![.., ..1], s![.., columns - 3..]] {
            assert!(self.0.slice(margin).iter().all(|v| v.is_nan()));
        }
        assert!(self.0.slice(s![..;2, ..]).iter().all(|v| v.is_nan()));
    }
}

fn has_same_bits<R: Reconstruction + Debug, K: KlPenalty + Debug>(
    terms: Terms<R, K>,
    single: bool,
) {
    for rows in [1, 64, 130] {
        let batch = TestBatch::new(rows);
        let run = |compute: &Compute| {
            let mut examples = [0.0, 0.0].map(|zero| vec![zero; rows]);
            terms.reconstruction.per_example(compute, &mut examples[0], batch.data()).unwrap();
            let found = terms.penalty.per_example(compute, &mut examples[1], batch.latent());
            assert_eq!(found.is_ok(), single, "{terms:?}");
            (fuse(terms, compute, &batch, Reduction::Sum), examples)
        };
        let expected = run(&Compute::new(InstructionSet::SCALAR, 1).unwrap());
        for set in InstructionSet::available() {
            for threads in [1, 2, 5] {
                let compute = Compute::new(set, threads).unwrap();
                assert_eq!(run(&compute), expected, "{terms:?}, {set}, {threads} threads");
            }
        }
        // The examples add up to the batch.
        let ((elbo, _), examples) = expected;
        let [value, penalty] = examples.map(|values| values.iter().sum::<f64>());
        let close = |a: f64, b: f64| (a - b).abs() < 1e-10 * b.abs();
        assert!(close(value, elbo.reconstruction), "{terms:?}: {value} {elbo:?}");
        assert!(!single || close(value + penalty, elbo.loss), "{terms:?}: {penalty} {elbo:?}");
    }
}

#[test]
fn every_term_has_the_same_bits_on_all_sets_and_threads() {
    each_term!(has_same_bits);
}

fn is_divided<R: Reconstruction + Debug, K: KlPenalty + Debug>(terms: Terms<R, K>, _: bool) {
    let (compute, batch) = (Compute::serial(), TestBatch::new(70));
    let (sum, gradients) = fuse(terms, &compute, &batch, Reduction::Sum);
    let (features, latent) = (70.0 * FEATURES as f64, 70.0 * LATENT as f64);
    for (reduction, by) in
        [(Reduction::BatchMean, [70.0, 70.0]), (Reduction::Mean, [features, latent])]
    {
        let (elbo, scaled) = fuse(terms, &compute, &batch, reduction);
        let penalty = (sum.loss - sum.reconstruction) / by[1];
        assert_eq!(elbo.reconstruction, sum.reconstruction / by[0], "{terms:?}");
        assert!((elbo.loss - elbo.reconstruction - penalty).abs() < 1e-10 * elbo.loss.abs());
        for (divisor, (scaled, gradients)) in
            [by[0], by[1], by[1]].into_iter().zip(scaled.iter().zip(&gradients))
        {
            for (&scaled, &gradient) in scaled.iter().zip(gradients) {
                let exact = f64::from(gradient) / divisor;
                assert!((f64::from(scaled) - exact).abs() <= 4e-7 * exact.abs(), "{terms:?}");
            }
        }
    }
}

#[test]
fn every_term_is_divided_by_its_reduction() {
    each_term!(is_divided);
}

fn accepts_strided<R: Reconstruction + Debug, K: KlPenalty + Debug>(terms: Terms<R, K>, _: bool) {
    let (compute, batch) = (Compute::serial(), TestBatch::new(70));
    let (value, expected) = fuse(terms, &compute, &batch, Reduction::Mean);
    let arrays = batch.0.each_ref().map(Strided::new);
    let [outputs, targets, mu, logvar] = arrays.each_ref().map(Strided::view);
    let inputs = elbo::Inputs { outputs, targets, mu, logvar, ..batch.both() };
    let mut gradients = expected.each_ref().map(|array| Strided::new(&nan(array.ncols(), 70)));
    let [doutputs, dmu, dlogvar] = gradients.each_mut().map(Strided::view_mut);
    let views = elbo::Gradients { doutputs, dmu, dlogvar };
    let found = elbo::forward_backward(&compute, terms, views, inputs, Reduction::Mean).unwrap();
    assert_eq!(found, value, "{terms:?}");
    for (strided, expected) in gradients.iter().zip(expected) {
        assert_eq!(strided.view(), expected, "{terms:?}");
        strided.check_margins();
    }
}

#[test]
fn every_term_accepts_strided_views() {
    each_term!(accepts_strided);
}

fn errors_of_reconstruction(term: impl Reconstruction + Debug, range: &str) {
    let compute = Compute::serial();
    let message = |inputs| term.forward(&compute, inputs, Reduction::Sum).unwrap_err().to_string();
    let (batch, longer) = (TestBatch::new(4), TestBatch::new(5));
    let inputs = ReconstructionInputs { targets: longer.data().targets, ..batch.data() };
    assert_eq!(message(inputs), "`targets`: expected shape [4, 21], found [5, 21]", "{term:?}");
    let square = TestBatch::new(FEATURES);
    let targets = square.data().targets.reversed_axes();
    let inputs = ReconstructionInputs { targets, ..square.data() };
    assert!(message(inputs).starts_with("`targets`: rows must be contiguous"), "{term:?}");
    let mut doutputs = nan(FEATURES, 5);
    let reduction = Reduction::Sum;
    let error = term.forward_backward(&compute, doutputs.view_mut(), batch.data(), reduction);
    let message = error.unwrap_err().to_string();
    assert_eq!(message, "`doutputs`: expected shape [4, 21], found [5, 21]", "{term:?}");
    let error = term.per_example(&compute, &mut [0.0; 3], batch.data()).unwrap_err();
    assert_eq!(error.to_string(), "`out`: expected length 4, found length 3", "{term:?}");
    let empty = TestBatch::new(0);
    let error = term.forward(&compute, empty.data(), Reduction::BatchMean).unwrap_err();
    let expected = "`outputs`: expected at least one element to take the mean of, found [0, 21]";
    assert_eq!(error.to_string(), expected, "{term:?}");

    // The first bad target is named, on any number of threads and in every method.
    let bad = [
        (1.000_000_1, "1.0000001 is outside"),
        (-1.000_01, "-1.00001 is outside"),
        (f32::NAN, "NaN in the data"),
        (f32::INFINITY, "inf in the data"),
    ];
    for (value, what) in bad {
        let mut batch = TestBatch::new(300);
        for place in [[90, 20], [91, 3], [250, 0]] {
            batch.0[1][place] = value;
        }
        for threads in [1, 2, 5] {
            let compute = Compute::new(InstructionSet::detect(), threads).unwrap();
            let mut examples = [0.0; 300];
            let found = [
                reconstruct(term, &compute, batch.data(), Reduction::Sum).map(|_| ()),
                term.per_example(&compute, &mut examples, batch.data()),
            ];
            for found in found {
                if value.is_finite() && range == "the finite numbers" {
                    assert!(found.is_ok(), "{term:?}");
                    continue;
                }
                let message = found.unwrap_err().to_string();
                let expected = format!("row 90, column 20: {what}");
                assert!(message.starts_with(&expected), "{term:?}, {threads}: {message}");
                assert!(!value.is_finite() || message.contains(range), "{term:?}: {message}");
            }
        }
    }
}

fn errors_of_penalty(term: impl KlPenalty + Debug, _: bool) {
    let compute = Compute::serial();
    let message = |inputs| term.forward(&compute, inputs, Reduction::Sum).unwrap_err().to_string();
    let (batch, longer) = (TestBatch::new(4), TestBatch::new(5));
    let inputs = KlInputs { logvar: longer.latent().logvar, ..batch.latent() };
    assert_eq!(message(inputs), "`logvar`: expected shape [4, 6], found [5, 6]", "{term:?}");
    let square = TestBatch::new(LATENT);
    let inputs = KlInputs { mu: square.latent().mu.reversed_axes(), ..square.latent() };
    assert!(message(inputs).starts_with("`mu`: rows must be contiguous"), "{term:?}");
    let prior = Prior { mean: 0.0, std: -1.0 };
    let inputs = KlInputs { prior, ..batch.latent() };
    assert!(message(inputs).starts_with("`prior std`: expected"), "{term:?}");
    let [mut dmu, mut dlogvar] = [nan(LATENT, 4), nan(LATENT, 3)];
    let views = KlGradients { dmu: dmu.view_mut(), dlogvar: dlogvar.view_mut() };
    let error = term.forward_backward(&compute, views, batch.latent(), Reduction::Sum);
    let message = error.unwrap_err().to_string();
    assert_eq!(message, "`dlogvar`: expected shape [4, 6], found [3, 6]", "{term:?}");
    let empty = TestBatch::new(0);
    assert_eq!(term.forward(&compute, empty.latent(), Reduction::Sum).unwrap(), 0.0, "{term:?}");
    let error = term.forward(&compute, empty.latent(), Reduction::BatchMean).unwrap_err();
    assert!(error.to_string().starts_with("`mu`: expected at least one element"), "{term:?}");
}

#[test]
fn every_term_names_the_error() {
    each_reconstruction!(errors_of_reconstruction);
    each_penalty!(errors_of_penalty);
}

/// Value and gradients of the fused objective.
fn fuse<R: Reconstruction, K: KlPenalty>(
    terms: Terms<R, K>,
    compute: &Compute,
    batch: &TestBatch,
    reduction: Reduction,
) -> (Elbo, [Array2<f32>; 3]) {
    let rows = batch.0[0].nrows();
    let mut gradients = [FEATURES, LATENT, LATENT].map(|columns| nan(columns, rows));
    let [doutputs, dmu, dlogvar] = gradients.each_mut().map(|array| array.view_mut());
    let views = elbo::Gradients { doutputs, dmu, dlogvar };
    let elbo = elbo::forward_backward(compute, terms, views, batch.both(), reduction).unwrap();
    assert_eq!(elbo, elbo::forward(compute, terms, batch.both(), reduction).unwrap());
    (elbo, gradients)
}

fn fused_pair<K: KlPenalty + Debug>(
    penalty: K,
    _: bool,
    reconstruction: impl Reconstruction + Debug,
) {
    let batch = TestBatch::new(130);
    let terms = Terms { reconstruction, penalty, beta: 1.0 };
    let serial = Compute::serial();
    for reduction in REDUCTIONS {
        let (elbo, [doutputs, dmu, dlogvar]) = fuse(terms, &serial, &batch, reduction);
        let (value, expected) =
            reconstruct(reconstruction, &serial, batch.data(), reduction).unwrap();
        assert_eq!((elbo.reconstruction, doutputs), (value, expected), "{terms:?}");
        let (value, expected) = penalize(penalty, &serial, batch.latent(), reduction).unwrap();
        assert_eq!((elbo.loss, [dmu, dlogvar]), (elbo.reconstruction + value, expected));
        assert_eq!(elbo.kl, Kl.forward(&serial, batch.latent(), reduction).unwrap(), "{terms:?}");
    }
    let scalar = Compute::new(InstructionSet::SCALAR, 1).unwrap();
    let expected = fuse(terms, &scalar, &batch, Reduction::Sum);
    let threads = Compute::new(InstructionSet::detect(), 3).unwrap();
    assert_eq!(fuse(terms, &threads, &batch, Reduction::Sum), expected, "{terms:?}");
}

fn fused_with_every_penalty(reconstruction: impl Reconstruction + Debug, _: &str) {
    each_penalty!(fused_pair, reconstruction);
}

#[test]
fn fused_parts_have_the_bits_of_their_terms() {
    each_reconstruction!(fused_with_every_penalty);
}
