//! Every loss against PyTorch's automatic differentiation in float64: `tests/golden/losses.py` wrote
//! the inputs, values and gradients.

use elbo::layers::reparameterize;
use elbo::loss::importance::{self, Estimator};
use elbo::loss::total_correlation::{self, TcWeights};
use elbo::loss::{
    Bernoulli, Capacity, CapacityPer, ContinuousBernoulli, FreeBits, FreeBitsPer, Gaussian, Kl,
    KlGradients, KlInputs, KlPenalty, Prior, Reconstruction, ReconstructionInputs, Reduction,
    SigmoidProbabilities, TanhSquaredError, WeightedBernoulli,
};
use elbo::simd::InstructionSet;
use elbo::{Compute, Result};
use ndarray::Array2;
use serde_json::Value;

/// The largest error of a value, relative to it, and of a gradient, relative to its own size or the
/// root mean square of its array, whichever is larger: some ten roundings of f32.
const TOLERANCE: f64 = 2e-6;

struct Document(Value);

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(|v| v.as_f64().expect("a number")).collect()
}

impl Document {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/losses.json");
        Self(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    }

    fn size(&self, name: &str) -> usize {
        self.0[name].as_u64().expect("a size") as usize
    }

    fn prior(&self) -> Prior {
        let prior = numbers(&self.0["prior"]);
        Prior { mean: prior[0] as f32, std: prior[1] as f32 }
    }

    /// A parameter of a case.
    fn number(&self, case: &str, name: &str) -> f32 {
        self.0["cases"][case][name].as_f64().expect("a number") as f32
    }

    /// An input of a case, with as many columns as it has for so many rows.
    fn input(&self, case: &str, name: &str, rows: usize) -> Array2<f32> {
        let values = numbers(&self.0["cases"][case]["inputs"][name]);
        let exact: Vec<f32> = values.iter().map(|&v| v as f32).collect();
        assert!(exact.iter().zip(&values).all(|(&a, &b)| f64::from(a) == b), "{case}: {name}");
        Array2::from_shape_vec((rows, values.len() / rows), exact).unwrap()
    }

    fn check(&self, case: &str, value: f64, gradients: &[(&str, Vec<f64>)]) {
        let golden = &self.0["cases"][case];
        let exact = golden["value"].as_f64().expect("a number");
        let mut worst = (value - exact).abs() / exact.abs();
        assert!(worst <= TOLERANCE, "{case}: {value}, PyTorch has {exact}");
        let wanted = golden["gradients"].as_object().expect("an object");
        assert_eq!(wanted.len(), gradients.len(), "{case}");
        for (name, found) in gradients {
            let exact = numbers(&wanted[*name]);
            assert_eq!(exact.len(), found.len(), "{case}: d{name}");
            let squares: f64 = exact.iter().map(|v| v * v).sum();
            let typical = (squares / exact.len() as f64).sqrt();
            for (i, (&found, &exact)) in found.iter().zip(&exact).enumerate() {
                let error = (found - exact).abs() / exact.abs().max(typical);
                assert!(error <= TOLERANCE, "{case}: d{name}[{i}] {found}, PyTorch has {exact}");
                worst = worst.max(error);
            }
        }
        println!("{case}: largest error {worst:.1e}");
    }
}

fn wide(array: &Array2<f32>) -> Vec<f64> {
    array.iter().map(|&v| v.into()).collect()
}

/// Value and gradient of a reconstruction.
fn reconstruct(
    document: &Document,
    case: &str,
    outputs: &str,
    term: impl Reconstruction,
) -> (f64, Vec<f64>) {
    let rows = document.size("rows");
    let [outputs, targets] = [outputs, "targets"].map(|name| document.input(case, name, rows));
    let mut doutputs = Array2::from_elem(outputs.dim(), f32::NAN);
    let inputs = ReconstructionInputs { outputs: outputs.view(), targets: targets.view() };
    let value =
        term.forward_backward(&Compute::serial(), doutputs.view_mut(), inputs, Reduction::Sum);
    (value.unwrap(), wide(&doutputs))
}

#[test]
fn likelihoods_of_logits() {
    fn check(document: &Document, case: &str, term: impl Reconstruction) {
        let (value, dlogits) = reconstruct(document, case, "logits", term);
        document.check(case, value, &[("logits", dlogits)]);
    }
    let document = Document::read();
    let pos_weight = document.number("weighted_bernoulli", "weight");
    check(&document, "bernoulli", Bernoulli);
    check(&document, "weighted_bernoulli", WeightedBernoulli { pos_weight });
    check(&document, "sigmoid_probabilities", SigmoidProbabilities);
    check(&document, "continuous_bernoulli", ContinuousBernoulli);
    check(&document, "tanh_squared_error", TanhSquaredError);
}

#[test]
fn gaussians() {
    let document = Document::read();
    let rows = document.size("rows");
    let row = |case| document.input(case, "logvar", 1).into_raw_vec_and_offset().0;
    let (shared, each) = (row("gaussian"), row("feature_gaussian"));
    for (case, term, count) in [
        ("gaussian", Gaussian::Shared { logvar: shared[0] }, 1),
        ("feature_gaussian", Gaussian::PerFeature { logvar: &each }, each.len()),
        ("optimal_gaussian", Gaussian::Optimal, 0),
    ] {
        let (value, dm) = reconstruct(&document, case, "predictions", term);
        let [m, t] = ["predictions", "targets"].map(|name| document.input(case, name, rows));
        let inputs = ReconstructionInputs { outputs: m.view(), targets: t.view() };
        let mut ds = vec![f64::NAN; count];
        term.backward_logvar(&Compute::serial(), &mut ds, inputs, Reduction::Sum).unwrap();
        let mut gradients = vec![("predictions", dm)];
        gradients.extend((count > 0).then_some(("logvar", ds)));
        document.check(case, value, &gradients);
    }
}

#[test]
fn divergences() {
    fn check(
        document: &Document,
        case: &str,
        prior: Prior,
        reduction: Reduction,
        term: impl KlPenalty,
    ) {
        let rows = document.size("rows");
        let [mu, logvar] = ["mu", "logvar"].map(|name| document.input(case, name, rows));
        let mut gradients = [&mu, &logvar].map(|array| Array2::from_elem(array.dim(), f32::NAN));
        let [dmu, dlogvar] = gradients.each_mut().map(|g| g.view_mut());
        let (gradients_to, compute) = (KlGradients { dmu, dlogvar }, Compute::serial());
        let inputs = KlInputs { mu: mu.view(), logvar: logvar.view(), prior };
        let value = term.forward_backward(&compute, gradients_to, inputs, reduction);
        let [dmu, dlogvar] = gradients.each_ref().map(wide);
        document.check(case, value.unwrap(), &[("mu", dmu), ("logvar", dlogvar)]);
    }
    let document = Document::read();
    let (prior, sum, mean) = (document.prior(), Reduction::Sum, Reduction::BatchMean);
    check(&document, "kl", Prior::default(), sum, Kl);
    check(&document, "prior_kl", prior, sum, Kl);
    for (case, per, reduction) in [
        ("free_bits_elements", FreeBitsPer::Element, sum),
        ("free_bits_dimensions", FreeBitsPer::Dimension, mean),
        ("free_bits_samples", FreeBitsPer::Sample, sum),
    ] {
        let term = FreeBits { lambda: document.number(case, "limit"), per };
        check(&document, case, prior, reduction, term);
    }
    for (case, per) in
        [("capacity_batch", CapacityPer::Batch), ("capacity_samples", CapacityPer::Sample)]
    {
        let term = Capacity { gamma: 7.0, nats: document.number(case, "limit"), per };
        check(&document, case, prior, mean, term);
    }
}

#[test]
fn total_correlations() -> Result<()> {
    let document = Document::read();
    let case = "total_correlation";
    let rows = document.size("rows");
    let arrays = ["z", "mu", "logvar"].map(|name| document.input(case, name, rows));
    let [z, mu, logvar] = arrays.each_ref().map(|array| array.view());
    let mut gradients = arrays.each_ref().map(|array| Array2::from_elem(array.dim(), f32::NAN));
    let [dz, dmu, dlogvar] = gradients.each_mut().map(|g| g.view_mut());
    let weights = numbers(&document.0["cases"][case]["weights"]);
    let weights =
        TcWeights { alpha: weights[0] as f32, beta: weights[1] as f32, gamma: weights[2] as f32 };
    let parts = total_correlation::forward_backward(
        &Compute::serial(),
        total_correlation::Gradients { dz, dmu, dlogvar },
        total_correlation::Inputs { z, mu, logvar, prior: document.prior() },
        weights,
        document.number(case, "dataset") as usize,
    )?;
    let [dz, dmu, dlogvar] = gradients.each_ref().map(wide);
    let gradients = [("z", dz), ("mu", dmu), ("logvar", dlogvar)];
    document.check(case, parts.weighted(weights), &gradients);
    Ok(())
}

#[test]
fn importance_weighted_bounds() -> Result<()> {
    let document = Document::read();
    let (compute, set) = (Compute::serial(), InstructionSet::detect());
    let (rows, samples) = (document.size("rows"), document.size("samples"));
    let (latent, prior) = (document.size("latent"), document.prior());
    for (case, estimator) in [("iwae", Estimator::Iwae), ("dreg", Estimator::Dreg)] {
        let [mu, logvar, center] =
            ["mu", "logvar", "center"].map(|name| document.input(case, name, rows));
        let epsilon = document.input(case, "epsilon", rows * samples);
        let stiffness = document.number(case, "stiffness");
        let (mut dmu, mut dlogvar) = (Array2::zeros(mu.dim()), Array2::zeros(mu.dim()));
        let mut loss = 0.0;
        for row in 0..rows {
            let mut z = Array2::from_elem((samples, latent), f32::NAN);
            let mut noise = z.clone();
            let of_row = |array: &Array2<f32>| array.row(row).to_vec();
            let (m, v, c) = (of_row(&mu), of_row(&logvar), of_row(&center));
            let logvars = Array2::from_shape_fn((samples, latent), |(_, d)| v[d]);
            let first = row * samples;
            let epsilon = epsilon.slice(ndarray::s![first..first + samples, ..]);
            let mut likelihoods = vec![0.0; samples];
            for (k, likelihood) in likelihoods.iter_mut().enumerate() {
                reparameterize::forward(
                    set,
                    z.row_mut(k).into_slice().unwrap(),
                    noise.row_mut(k).into_slice().unwrap(),
                    &m,
                    &v,
                    epsilon.row(k).to_slice().unwrap(),
                )?;
                for (&z, &c) in z.row(k).iter().zip(&c) {
                    *likelihood -= 0.5 * f64::from(stiffness) * f64::from(z - c).powi(2);
                }
            }
            let mut weights = vec![f64::NAN; samples];
            let samples = importance::Samples {
                log_likelihoods: &likelihoods,
                z: z.view(),
                logvar: logvars.view(),
                epsilon,
                prior,
            };
            importance::log_weights(&compute, &mut weights, samples)?;
            loss -= importance::normalize(&mut weights);
            for (k, weight) in weights.into_iter().enumerate() {
                let weight = weight as f32;
                let dz: Vec<f32> =
                    z.row(k).iter().zip(&c).map(|(z, c)| weight * stiffness * (z - c)).collect();
                let gradients = importance::Gradients {
                    dmu: dmu.row_mut(row).into_slice().unwrap(),
                    dlogvar: dlogvar.row_mut(row).into_slice().unwrap(),
                };
                let sample = importance::Sample {
                    dz: &dz,
                    z: z.row(k).to_slice().unwrap(),
                    logvar: &v,
                    sigma_epsilon: noise.row(k).to_slice().unwrap(),
                    weight,
                    scale: 1.0,
                    prior,
                };
                importance::backward(set, estimator, gradients, sample)?;
            }
        }
        document.check(case, loss, &[("mu", wide(&dmu)), ("logvar", wide(&dlogvar))]);
    }
    Ok(())
}
