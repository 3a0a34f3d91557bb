//! Every loss against PyTorch's automatic differentiation in float64: `tests/golden/losses.py` wrote
//! the inputs, values and gradients.

use elbo::layers::reparameterize;
use elbo::loss::capacity::{self, Capacity, CapacityPer};
use elbo::loss::importance::{self, Estimator};
use elbo::loss::kl::{self, Prior};
use elbo::loss::total_correlation::{self, TcWeights};
use elbo::loss::{
    Reduction, bernoulli, continuous_bernoulli, free_bits, gaussian, probabilities, squared_error,
};
use elbo::simd::InstructionSet;
use elbo::{Compute, Result};
use ndarray::{Array1, Array2};
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

#[test]
fn likelihoods_of_logits() {
    let document = Document::read();
    let compute = Compute::serial();
    let rows = document.size("rows");
    let sum = Reduction::Sum;
    for case in [
        "bernoulli",
        "weighted_bernoulli",
        "sigmoid_probabilities",
        "continuous_bernoulli",
        "tanh_squared_error",
    ] {
        let [logits, targets] = ["logits", "targets"].map(|name| document.input(case, name, rows));
        let mut dlogits = Array2::from_elem(logits.dim(), f32::NAN);
        let (d, l, t) = (dlogits.view_mut(), logits.view(), targets.view());
        let value = match case {
            "bernoulli" => bernoulli::forward_backward(&compute, d, l, t, sum),
            "weighted_bernoulli" => {
                let weight = document.number(case, "weight");
                bernoulli::forward_backward_weighted(&compute, d, l, t, weight, sum)
            }
            "sigmoid_probabilities" => {
                probabilities::forward_backward_sigmoid(&compute, d, l, t, sum)
            }
            "continuous_bernoulli" => {
                continuous_bernoulli::forward_backward(&compute, d, l, t, sum)
            }
            _ => squared_error::forward_backward_tanh(&compute, d, l, t, sum),
        };
        document.check(case, value.unwrap(), &[("logits", wide(&dlogits))]);
    }
}

#[test]
fn gaussians() -> Result<()> {
    let document = Document::read();
    let compute = Compute::serial();
    let (rows, columns) = (document.size("rows"), document.size("features"));
    let mut dm = Array2::from_elem((rows, columns), f32::NAN);
    let inputs = |case: &str| {
        ["predictions", "targets"].map(|name| Document::read().input(case, name, rows))
    };
    let sum = Reduction::Sum;

    let [m, t] = inputs("gaussian");
    let s = document.input("gaussian", "logvar", 1)[[0, 0]];
    let found = gaussian::forward_backward(&compute, dm.view_mut(), m.view(), t.view(), s, sum)?;
    let gradients = [("predictions", wide(&dm)), ("logvar", vec![found.dlogvar])];
    document.check("gaussian", found.loss, &gradients);

    let [m, t] = inputs("feature_gaussian");
    let s: Array1<f32> = document.input("feature_gaussian", "logvar", 1).row(0).to_owned();
    let mut ds = vec![f64::NAN; columns];
    let (views, s) = ((m.view(), t.view()), s.view());
    let value = gaussian::forward_backward_features(
        &compute,
        dm.view_mut(),
        &mut ds,
        views.0,
        views.1,
        s,
        sum,
    )?;
    document.check("feature_gaussian", value, &[("predictions", wide(&dm)), ("logvar", ds)]);

    let [m, t] = inputs("optimal_gaussian");
    let found =
        gaussian::forward_backward_optimal(&compute, dm.view_mut(), m.view(), t.view(), sum)?;
    document.check("optimal_gaussian", found.loss, &[("predictions", wide(&dm))]);
    Ok(())
}

#[test]
fn divergences() {
    let document = Document::read();
    let compute = Compute::serial();
    let (rows, prior, sum) = (document.size("rows"), document.prior(), Reduction::Sum);
    for case in [
        "kl",
        "prior_kl",
        "free_bits_elements",
        "free_bits_dimensions",
        "free_bits_samples",
        "capacity_batch",
        "capacity_samples",
    ] {
        let [mu, logvar] = ["mu", "logvar"].map(|name| document.input(case, name, rows));
        let mut gradients = [&mu, &logvar].map(|array| Array2::from_elem(array.dim(), f32::NAN));
        let [dmu, dlogvar] = gradients.each_mut().map(|g| g.view_mut());
        let (mu, logvar) = (mu.view(), logvar.view());
        let limit = || document.number(case, "limit");
        let capacity = || Capacity { gamma: 7.0, nats: limit(), per: CapacityPer::Batch };
        let value = match case {
            "kl" => kl::forward_backward(&compute, dmu, dlogvar, mu, logvar, sum),
            "prior_kl" => {
                kl::forward_backward_prior(&compute, dmu, dlogvar, mu, logvar, prior, sum)
            }
            "free_bits_elements" => free_bits::forward_backward_elements(
                &compute,
                dmu,
                dlogvar,
                mu,
                logvar,
                limit(),
                prior,
                sum,
            ),
            "free_bits_dimensions" => free_bits::forward_backward_dimensions(
                &compute,
                dmu,
                dlogvar,
                &mut vec![f64::NAN; document.size("latent")],
                mu,
                logvar,
                limit(),
                prior,
            ),
            "free_bits_samples" => free_bits::forward_backward_samples(
                &compute,
                dmu,
                dlogvar,
                mu,
                logvar,
                limit(),
                prior,
                sum,
            ),
            "capacity_batch" => capacity::forward_backward_batch(
                &compute,
                dmu,
                dlogvar,
                mu,
                logvar,
                capacity(),
                prior,
            ),
            _ => capacity::forward_backward_samples(
                &compute,
                dmu,
                dlogvar,
                mu,
                logvar,
                capacity(),
                prior,
            ),
        };
        let [dmu, dlogvar] = gradients.each_ref().map(wide);
        document.check(case, value.unwrap(), &[("mu", dmu), ("logvar", dlogvar)]);
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
        total_correlation::Inputs { z, mu, logvar },
        weights,
        document.number(case, "dataset") as usize,
        document.prior(),
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
            let (zs, vs) = (z.view(), logvars.view());
            importance::log_weights(&compute, &mut weights, &likelihoods, zs, vs, epsilon, prior)?;
            loss -= importance::normalize(&mut weights);
            for (k, weight) in weights.into_iter().enumerate() {
                let weight = weight as f32;
                let dz: Vec<f32> =
                    z.row(k).iter().zip(&c).map(|(z, c)| weight * stiffness * (z - c)).collect();
                importance::backward(
                    set,
                    estimator,
                    dmu.row_mut(row).into_slice().unwrap(),
                    dlogvar.row_mut(row).into_slice().unwrap(),
                    &dz,
                    z.row(k).to_slice().unwrap(),
                    &v,
                    noise.row(k).to_slice().unwrap(),
                    weight,
                    1.0,
                    prior,
                )?;
            }
        }
        document.check(case, loss, &[("mu", wide(&dmu)), ("logvar", wide(&dlogvar))]);
    }
    Ok(())
}
