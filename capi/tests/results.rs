//! Results through the C interface against those of the crate: the same bits.

// Every block calls functions of the header, or looks at arrays that the test has made.
#![allow(clippy::undocumented_unsafe_blocks)]

mod common;

use common::{Memory, datum, fill_row, message, status_name};
use elbo::elbo_status::*;
use elbo::*;
use elbo_rust::gemm::{self, Panels};
use elbo_rust::loss::{
    Bernoulli, Capacity, CapacityPer, FreeBits, FreeBitsPer, Gaussian, Kl, KlGradients, KlInputs,
    LossTerm, Prior, ReconstructionInputs, Reduction, SquaredError, TanhSquaredError,
    elbo as fused,
};
use elbo_rust::train::{Options, Trainer};
use elbo_rust::vae::{Config, EvaluationOptions, Likelihood, Vae, Variance};
use elbo_rust::{Compute, Conditioned};
use ndarray::{Array2, ArrayView2, ShapeBuilder, s};
use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

fn ok(status: elbo_status) {
    assert_eq!(status, ELBO_OK, "{}: {}", status_name(status), message());
}

fn compute(threads: usize) -> *mut elbo_compute {
    let mut compute = null_mut();
    ok(unsafe { elbo_compute_new(&mut compute, threads) });
    assert_eq!(unsafe { elbo_compute_threads(compute) }, threads);
    compute
}

const KL: elbo_penalty = elbo_penalty {
    kind: elbo_penalty_kind::ELBO_KL as i32,
    per: 0,
    lambda: 0.0,
    gamma: 0.0,
    nats: 0.0,
    prior_mean: 0.0,
    prior_std: 1.0,
};

const BERNOULLI: elbo_reconstruction = elbo_reconstruction {
    kind: elbo_reconstruction_kind::ELBO_BERNOULLI as i32,
    pos_weight: 0.0,
    logvar: 0.0,
    logvars: null(),
};

/// Memory of the caller seen as an array.
unsafe fn view<'a>(data: *const f32, shape: (usize, usize), stride: usize) -> ArrayView2<'a, f32> {
    if shape.0 * shape.1 == 0 {
        return ArrayView2::from_shape(shape, &[]).unwrap();
    }
    let stride = if shape.0 == 1 { shape.1 } else { stride };
    unsafe { ArrayView2::from_shape_ptr(shape.strides((stride, 1)), data) }
}

#[test]
fn reconstructions_have_the_bits_of_the_crate() {
    use elbo_reconstruction_kind::*;
    let mut memory = Memory::default();
    let (rows, d) = (9, 21);
    let (outputs, targets) = (memory.floats(9 * 30), memory.floats(9 * 21));
    let (doutputs, logvars) = (memory.floats(9 * 25), memory.floats(21));
    let (handle, serial) = (compute(2), Compute::serial());
    let inputs = unsafe {
        ReconstructionInputs {
            outputs: view(outputs, (rows, d), 30),
            targets: view(targets, (rows, d), 21),
        }
    };
    let logvar = unsafe { std::slice::from_raw_parts(logvars, d) };
    let check = |term: elbo_reconstruction,
                 of_crate: &dyn Fn(Reduction, &mut Array2<f32>) -> f64| {
        let reductions = [(0, Reduction::BatchMean), (1, Reduction::Sum), (2, Reduction::Mean)];
        for (code, reduction) in reductions {
            let mut gradient = Array2::zeros((rows, d));
            let expected = of_crate(reduction, &mut gradient);
            let (mut value, mut with_gradient) = (f64::NAN, f64::NAN);
            unsafe {
                ok(elbo_reconstruction_forward(
                    handle, &term, &mut value, outputs, 30, targets, 21, rows, d, code,
                ));
                ok(elbo_reconstruction_forward_backward(
                    handle,
                    &term,
                    &mut with_gradient,
                    doutputs,
                    25,
                    outputs,
                    30,
                    targets,
                    21,
                    rows,
                    d,
                    code,
                ));
                assert_eq!(view(doutputs, (rows, d), 25), gradient, "{term:?}");
            }
            assert_eq!((value, with_gradient), (expected, expected), "{term:?}");
        }
        let mut values = [f64::NAN; 9];
        unsafe {
            let values = values.as_mut_ptr();
            let status = elbo_reconstruction_per_example(
                handle, &term, values, outputs, 30, targets, 21, rows, d,
            );
            let is_optimal = term.kind == ELBO_GAUSSIAN_OPTIMAL as i32;
            assert!(status == ELBO_OK || is_optimal, "{term:?}: {}", message());
        }
        if term.kind != ELBO_GAUSSIAN_OPTIMAL as i32 {
            let sum: f64 = values.iter().sum();
            let expected = of_crate(Reduction::Sum, &mut Array2::zeros((rows, d)));
            assert!((sum - expected).abs() < 1e-9 * expected.abs(), "{term:?}");
        }
    };
    let term =
        |kind: elbo_reconstruction_kind| elbo_reconstruction { kind: kind as i32, ..BERNOULLI };
    macro_rules! check {
        ($term:expr, $of_crate:expr) => {
            check($term, &|reduction, gradient| {
                $of_crate.forward_backward(&serial, gradient.view_mut(), inputs, reduction).unwrap()
            })
        };
    }
    use elbo_rust::loss::{
        BernoulliProbabilities, ContinuousBernoulli, SigmoidProbabilities, WeightedBernoulli,
    };
    check!(term(ELBO_BERNOULLI), Bernoulli);
    let weighted = elbo_reconstruction { pos_weight: 3.0, ..term(ELBO_WEIGHTED_BERNOULLI) };
    check!(weighted, WeightedBernoulli { pos_weight: 3.0 });
    check!(term(ELBO_BERNOULLI_PROBABILITIES), BernoulliProbabilities);
    check!(term(ELBO_SIGMOID_PROBABILITIES), SigmoidProbabilities);
    check!(term(ELBO_CONTINUOUS_BERNOULLI), ContinuousBernoulli);
    check!(term(ELBO_SQUARED_ERROR), SquaredError);
    check!(term(ELBO_TANH_SQUARED_ERROR), TanhSquaredError);
    check!(
        elbo_reconstruction { logvar: -0.5, ..term(ELBO_GAUSSIAN) },
        Gaussian::Shared { logvar: -0.5 }
    );
    check!(
        elbo_reconstruction { logvars, ..term(ELBO_GAUSSIAN_PER_FEATURE) },
        Gaussian::PerFeature { logvar }
    );
    check!(term(ELBO_GAUSSIAN_OPTIMAL), Gaussian::Optimal);

    let per_feature = elbo_reconstruction { logvars, ..term(ELBO_GAUSSIAN_PER_FEATURE) };
    let (mut found, mut expected) = ([f64::NAN; 21], [f64::NAN; 21]);
    unsafe {
        ok(elbo_gaussian_backward_logvar(
            handle,
            &per_feature,
            found.as_mut_ptr(),
            outputs,
            30,
            targets,
            21,
            rows,
            d,
            0,
        ));
        let gaussian = Gaussian::PerFeature { logvar };
        gaussian.backward_logvar(&serial, &mut expected, inputs, Reduction::BatchMean).unwrap();
        elbo_compute_free(handle);
    }
    assert_eq!(found, expected);
}

#[test]
fn penalties_and_objectives_have_the_bits_of_the_crate() {
    let mut memory = Memory::default();
    let (rows, d, z) = (7, 10, 3);
    let (outputs, targets) = (memory.floats(70), memory.floats(70));
    let (mu, logvar) = (memory.floats(7 * 8), memory.floats(21));
    let (doutputs, dmu, dlogvar) = (memory.floats(70), memory.floats(21), memory.floats(7 * 4));
    let (handle, serial) = (compute(1), Compute::serial());
    let prior = Prior { mean: 0.5, std: 2.0 };
    let (mu_view, logvar_view) = unsafe { (view(mu, (rows, z), 8), view(logvar, (rows, z), 3)) };
    let inputs = KlInputs { mu: mu_view, logvar: logvar_view, prior };
    let base = elbo_penalty { prior_mean: 0.5, prior_std: 2.0, ..KL };
    macro_rules! check {
        ($penalty:expr, $of_crate:expr) => {{
            let (penalty, of_crate) = ($penalty, $of_crate);
            let (mut of_mu, mut of_logvar) = (Array2::zeros((rows, z)), Array2::zeros((rows, z)));
            let gradients = KlGradients { dmu: of_mu.view_mut(), dlogvar: of_logvar.view_mut() };
            let expected = of_crate
                .forward_backward(&serial, gradients, inputs, Reduction::BatchMean)
                .unwrap();
            let (mut value, mut with_gradient) = (f64::NAN, f64::NAN);
            unsafe {
                ok(elbo_penalty_forward(
                    handle, &penalty, &mut value, mu, 8, logvar, 3, rows, z, 0,
                ));
                ok(elbo_penalty_forward_backward(
                    handle,
                    &penalty,
                    &mut with_gradient,
                    dmu,
                    3,
                    dlogvar,
                    4,
                    mu,
                    8,
                    logvar,
                    3,
                    rows,
                    z,
                    0,
                ));
                assert_eq!((value, with_gradient), (expected, expected), "{penalty:?}");
                assert_eq!(view(dmu, (rows, z), 3), of_mu);
                assert_eq!(view(dlogvar, (rows, z), 4), of_logvar);
            }
            let terms = fused::Terms { reconstruction: Bernoulli, penalty: of_crate, beta: 0.7 };
            let mut of_outputs = Array2::zeros((rows, d));
            let gradients = fused::Gradients {
                doutputs: of_outputs.view_mut(),
                dmu: of_mu.view_mut(),
                dlogvar: of_logvar.view_mut(),
            };
            let (outputs_view, targets_view) =
                unsafe { (view(outputs, (rows, d), d), view(targets, (rows, d), d)) };
            let (outputs_inputs, targets_inputs) = (outputs_view, targets_view);
            let inputs = fused::Inputs {
                outputs: outputs_inputs,
                targets: targets_inputs,
                mu: mu_view,
                logvar: logvar_view,
                prior,
            };
            let expected =
                fused::forward_backward(&serial, terms, gradients, inputs, Reduction::Sum).unwrap();
            unsafe {
                let mut value = std::mem::zeroed();
                ok(elbo_objective_forward(
                    handle, &BERNOULLI, &penalty, 0.7, &mut value, outputs, d, targets, d, mu, 8,
                    logvar, 3, rows, d, z, 1,
                ));
                assert_eq!(value, expected.into(), "{penalty:?}");
                let mut value = std::mem::zeroed();
                ok(elbo_objective_forward_backward(
                    handle, &BERNOULLI, &penalty, 0.7, &mut value, doutputs, d, dmu, 3, dlogvar, 4,
                    outputs, d, targets, d, mu, 8, logvar, 3, rows, d, z, 1,
                ));
                assert_eq!(value, expected.into(), "{penalty:?}");
                assert_eq!(view(doutputs, (rows, d), d), of_outputs);
                assert_eq!(view(dmu, (rows, z), 3), of_mu);
                assert_eq!(view(dlogvar, (rows, z), 4), of_logvar);
            }
        }};
    }
    check!(base, Kl);
    let free_bits = [
        (elbo_per::ELBO_PER_ELEMENT, FreeBitsPer::Element),
        (elbo_per::ELBO_PER_DIMENSION, FreeBitsPer::Dimension),
        (elbo_per::ELBO_PER_SAMPLE, FreeBitsPer::Sample),
    ];
    for (code, per) in free_bits {
        let kind = elbo_penalty_kind::ELBO_FREE_BITS as i32;
        let penalty = elbo_penalty { kind, per: code as i32, lambda: 0.3, ..base };
        check!(penalty, FreeBits { lambda: 0.3, per });
    }
    let capacity = [
        (elbo_per::ELBO_PER_SAMPLE, CapacityPer::Sample),
        (elbo_per::ELBO_PER_BATCH, CapacityPer::Batch),
    ];
    for (code, per) in capacity {
        let kind = elbo_penalty_kind::ELBO_CAPACITY as i32;
        let penalty = elbo_penalty { kind, per: code as i32, gamma: 2.0, nats: 1.5, ..base };
        check!(penalty, Capacity { gamma: 2.0, nats: 1.5, per });
    }
    unsafe { elbo_compute_free(handle) };
}

#[test]
fn products_have_the_bits_of_the_crate_in_any_stride() {
    let mut memory = Memory::default();
    let (outputs, inputs) = (50, 9);
    let (weight, bias) = (memory.floats(50 * 11), memory.floats(50));
    let serial = Compute::serial();
    let handle = compute(2);
    unsafe {
        let bias_slice = std::slice::from_raw_parts(bias, outputs);
        let expected = Panels::pack(view(weight, (outputs, inputs), 11), bias_slice).unwrap();
        let (mut panels, mut dpanels) = (null_mut(), null_mut());
        ok(elbo_panels_new(&mut panels, outputs, inputs));
        ok(elbo_panels_new(&mut dpanels, outputs, inputs));
        ok(elbo_panels_set(panels, weight, 11, bias));
        let (mut data, mut length) = (null_mut(), 0);
        ok(elbo_panels_data(panels, &mut data, &mut length));
        assert_eq!(std::slice::from_raw_parts(data, length), &expected[..]);
        // The product may not write to the weights.
        let status = elbo_product(handle, data, 50, weight, 9, panels, 5);
        assert_eq!(status, ELBO_OVERLAP, "{}", message());
        // More rows than a copy has.
        for (rows, stride) in [(0, 50), (1, 50), (300, 50), (300, 60), (600, 55)] {
            let (x, y) = (memory.floats(rows * 12), memory.floats(rows * stride));
            let (dx, dy) = (memory.floats(rows * 12), memory.floats(rows * stride));
            let (x_view, dy_view) =
                (view(x, (rows, inputs), 12), view(dy, (rows, outputs), stride));
            ok(elbo_product(handle, y, stride, x, 12, panels, rows));
            let mut y_expected = Array2::zeros((rows, outputs));
            gemm::product(&serial, y_expected.view_mut(), x_view, &expected).unwrap();
            assert_eq!(view(y, (rows, outputs), stride), y_expected);
            ok(elbo_input_gradient(handle, dx, 12, dy, stride, panels, rows));
            let mut dx_expected = Array2::zeros((rows, inputs));
            gemm::input_gradient(&serial, dx_expected.view_mut(), dy_view, &expected).unwrap();
            assert_eq!(view(dx, (rows, inputs), 12), dx_expected);
            ok(elbo_weight_gradient(handle, dpanels, x, 12, dy, stride, rows));
            let mut gradient = Panels::zeros(inputs, outputs);
            gemm::weight_gradient(&serial, &mut gradient, x_view, dy_view).unwrap();
            let (dweight, dbias) = (memory.floats(50 * 11), memory.floats(50));
            ok(elbo_panels_get(dpanels, dweight, 11, dbias));
            assert_eq!(view(dweight, (outputs, inputs), 11), gradient.weight());
            assert_eq!(view(dbias, (1, outputs), outputs).row(0), gradient.bias());
        }
        elbo_panels_free(panels);
        elbo_panels_free(dpanels);
        elbo_compute_free(handle);
    }
}

#[test]
fn optimizers_have_the_bits_of_the_crate() {
    use elbo_rust::optim::{Adam, AdamW, Adamax, Sgd, adam, adamax, adamw, sgd};
    let handle = compute(1);
    let simd = elbo_rust::simd::InstructionSet::detect();
    for kind in 0..4 {
        let mut memory = Memory::default();
        let [w, m, v, g] = [(); 4].map(|()| memory.floats(37));
        let copy = |data: *mut f32| unsafe { std::slice::from_raw_parts(data, 37) }.to_vec();
        let (mut w1, mut m1, mut v1, g1) = (copy(w), copy(m), copy(v), copy(g));
        unsafe {
            let mut optimizer = std::mem::zeroed();
            ok(elbo_optimizer_init(&mut optimizer, kind));
            let v = if kind == elbo_optimizer_kind::ELBO_SGD as i32 { null_mut() } else { v };
            for t in 1..=3 {
                ok(elbo_optimizer_step(handle, &optimizer, t, w, m, v, g, 37));
                match kind {
                    0 => adam::step(simd, &Adam::default(), t, &mut w1, &mut m1, &mut v1, &g1),
                    1 => adamw::step(simd, &AdamW::default(), t, &mut w1, &mut m1, &mut v1, &g1),
                    2 => sgd::step(simd, &Sgd::default(), &mut w1, &mut m1, &g1),
                    _ => adamax::step(simd, &Adamax::default(), t, &mut w1, &mut m1, &mut v1, &g1),
                }
                .unwrap();
            }
            assert_eq!(elbo_optimizer_step(handle, &optimizer, 0, w, m, v, g, 37), ELBO_OPTION);
        }
        assert_eq!((copy(w), copy(m)), (w1, m1), "{kind}");
    }
    unsafe { elbo_compute_free(handle) };
}

fn likelihoods() -> Vec<(i32, f32, Likelihood)> {
    use elbo_likelihood::*;
    vec![
        (ELBO_LIKELIHOOD_BERNOULLI as i32, 0.0, Likelihood::Bernoulli),
        (
            ELBO_LIKELIHOOD_WEIGHTED_BERNOULLI as i32,
            2.0,
            Likelihood::WeightedBernoulli { pos_weight: 2.0 },
        ),
        (ELBO_LIKELIHOOD_BERNOULLI_PROBABILITIES as i32, 0.0, Likelihood::BernoulliProbabilities),
        (ELBO_LIKELIHOOD_CONTINUOUS_BERNOULLI as i32, 0.0, Likelihood::ContinuousBernoulli),
        (ELBO_LIKELIHOOD_SQUARED_ERROR as i32, 0.0, Likelihood::SquaredError),
        (ELBO_LIKELIHOOD_TANH_SQUARED_ERROR as i32, 0.0, Likelihood::TanhSquaredError),
        (ELBO_LIKELIHOOD_GAUSSIAN as i32, 0.3, Likelihood::Gaussian(Variance::Fixed(0.3))),
        (ELBO_LIKELIHOOD_GAUSSIAN_LEARNED as i32, 0.0, Likelihood::Gaussian(Variance::Shared)),
        (
            ELBO_LIKELIHOOD_GAUSSIAN_PER_FEATURE as i32,
            0.0,
            Likelihood::Gaussian(Variance::PerFeature),
        ),
    ]
}

#[test]
fn inference_has_the_bits_of_the_crate_in_any_stride_with_and_without_conditions() {
    const D: usize = 14;
    const Z: usize = 3;
    let mut memory = Memory::default();
    for ((code, parameter, likelihood), conditions) in
        likelihoods().into_iter().flat_map(|likelihood| [(likelihood, 0), (likelihood, 4)])
    {
        let prior = Prior { mean: 0.25, std: 1.5 };
        let builder = Config::builder(D, Z).hidden(&[20, 9]).likelihood(likelihood).prior(prior);
        let vae = Vae::new(builder.conditions(conditions).build().unwrap(), 7);
        let layers = [20, 9];
        let mut model = null_mut();
        unsafe {
            let mut config = std::mem::zeroed();
            ok(elbo_config_init(&mut config, D, Z));
            (config.encoder, config.encoder_layers) = (layers.as_ptr(), 2);
            (config.likelihood, config.likelihood_parameter) = (code, parameter);
            (config.prior_mean, config.prior_std, config.conditions) = (0.25, 1.5, conditions);
            ok(elbo_model_new(&mut model, &config, 7));
            let sizes = [
                elbo_model_features(model),
                elbo_model_latent(model),
                elbo_model_conditions(model),
                elbo_model_parameters(model),
            ];
            assert_eq!(sizes, [D, Z, conditions, vae.config().parameters()]);
        }
        for threads in [1, 3] {
            let (handle, serial) = (compute(threads), Compute::serial());
            let mut inference = null_mut();
            ok(unsafe { elbo_inference_new(&mut inference, model, handle) });
            // One row, fewer and more than there is memory for; rows that follow one another, and others.
            for (rows, gap) in [(0, 0), (1, 0), (1, 5), (7, 0), (7, 3), (300, 0), (300, 2)] {
                let (stride, z_stride) = (D + gap, Z + gap);
                let x = memory.floats(rows * stride);
                let out = memory.floats(rows * stride);
                let [mu, logvar] = [(); 2].map(|()| memory.floats(rows * z_stride));
                let c = if conditions == 0 { null() } else { memory.floats(rows * (4 + gap)) };
                let c_stride = 4 + gap;
                let [reconstruction, kl] = [(); 2].map(|()| memory.doubles(rows));
                let x_view = unsafe { view(x, (rows, D), stride) }.to_owned();
                let x_view = x_view.view();
                let given = match conditions {
                    0 => Array2::zeros((rows, 0)),
                    width => unsafe { view(c, (rows, width), c_stride) }.to_owned(),
                };
                let what = format!("{likelihood:?}, {conditions}, {threads}, {rows}, {gap}");
                unsafe {
                    ok(elbo_encode(
                        inference, mu, z_stride, logvar, z_stride, x, stride, c, c_stride, rows,
                    ));
                    let code = vae.encode_given(&serial, x_view, given.view()).unwrap();
                    assert_eq!(view(mu, (rows, Z), z_stride), code.mu, "{what}");
                    assert_eq!(view(logvar, (rows, Z), z_stride), code.logvar, "{what}");

                    ok(elbo_decode(inference, out, stride, mu, z_stride, c, c_stride, rows));
                    let mean = vae.decode_given(&serial, code.mu.view(), given.view()).unwrap();
                    assert_eq!(view(out, (rows, D), stride), mean, "{what}");

                    ok(elbo_decode_logits(inference, out, stride, mu, z_stride, c, c_stride, rows));
                    let wide = ndarray::concatenate![ndarray::Axis(1), code.mu, given];
                    let logits = vae.decode_logits(&serial, wide.view()).unwrap();
                    assert_eq!(view(out, (rows, D), stride), logits, "{what}");

                    ok(elbo_reconstruct(inference, out, stride, x, stride, c, c_stride, rows));
                    let found = vae.reconstruct_given(&serial, x_view, given.view()).unwrap();
                    assert_eq!(view(out, (rows, D), stride), found, "{what}");

                    // In two calls: the second goes on where the first ended.
                    let first = rows / 3;
                    ok(elbo_sample(inference, out, stride, c, c_stride, first, 5, 0));
                    let rest = out.wrapping_add(first * stride);
                    let c_rest = if c.is_null() { c } else { c.wrapping_add(first * c_stride) };
                    ok(elbo_sample(
                        inference,
                        rest,
                        stride,
                        c_rest,
                        c_stride,
                        rows - first,
                        5,
                        first as u64,
                    ));
                    let found = vae.sample_given(&serial, given.view(), 5).unwrap();
                    assert_eq!(view(out, (rows, D), stride), found, "{what}");

                    ok(elbo_score(inference, reconstruction, kl, x, stride, c, c_stride, rows));
                    if rows > 0 {
                        let plain = vae.score(&serial, &x_view);
                        let data = Conditioned::new(&x_view, given.view());
                        let scores = match conditions {
                            0 => plain.unwrap(),
                            _ => vae.score(&serial, &data.unwrap()).unwrap(),
                        };
                        let found = std::slice::from_raw_parts(reconstruction, rows);
                        assert_eq!(found, &scores.reconstruction[..], "{what}");
                        assert_eq!(std::slice::from_raw_parts(kl, rows), &scores.kl[..], "{what}");
                    }
                }
            }
            unsafe {
                elbo_inference_free(inference);
                elbo_compute_free(handle);
            }
        }
        unsafe { elbo_model_free(model) };
    }
}

#[test]
fn scores_name_the_faulty_row_and_models_without_conditions_take_none() {
    let mut memory = Memory::default();
    let (model, handle) = (common::model(6, 2, 0), compute(2));
    unsafe {
        let mut inference = null_mut();
        ok(elbo_inference_new(&mut inference, model, handle));
        let (x, [reconstruction, kl]) =
            (memory.floats(500 * 6), [(); 2].map(|()| memory.doubles(500)));
        for (value, expected) in [(f32::NAN, "NaN in the data"), (1.5, "1.5 is outside [0, 1]")] {
            // In a part after the first, and after a fault in a later row.
            *x.add(400 * 6 + 1) = f32::NAN;
            *x.add(301 * 6 + 4) = value;
            let status = elbo_score(inference, reconstruction, kl, x, 6, null(), 0, 500);
            assert_eq!(status, ELBO_DATA);
            assert!(
                message().starts_with(&format!("elbo_score: row 301, column 4: {expected}")),
                "{}",
                message()
            );
        }
        let status = elbo_score(inference, reconstruction, kl, x, 6, x, 6, 1);
        assert_eq!(status, ELBO_SIZE);
        assert_eq!(message(), "elbo_score: `conditions`: the model has none; pass a null pointer");
        elbo_inference_free(inference);
        elbo_compute_free(handle);
        elbo_model_free(model);
    }
}

struct Counted {
    calls: AtomicUsize,
    /// Row that fails.
    fails: usize,
}

unsafe extern "C" fn counted_row(
    context: *mut c_void,
    row: usize,
    out: *mut f32,
    columns: usize,
) -> i32 {
    let counted = unsafe { &*context.cast::<Counted>() };
    counted.calls.fetch_add(1, Ordering::Relaxed);
    if row == counted.fails {
        return 42;
    }
    unsafe { fill_row(null_mut(), row, out, columns) }
}

unsafe extern "C" fn stop_at_second_step(context: *mut c_void, step: *const elbo_step) -> i32 {
    unsafe {
        *context.cast::<usize>() += 1;
        i32::from((*step).step == 2)
    }
}

#[test]
fn training_from_a_callback_has_the_bits_of_the_crate() {
    let data = Array2::from_shape_fn((100, 12), |(row, column)| datum(row, column));
    let folder = std::env::temp_dir().join(format!("elbo-capi-training-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| CString::new(folder.join(name).to_str().unwrap()).unwrap();
    for threads in [1, 2] {
        let (model, handle) = (common::model(12, 3, 0), compute(threads));
        let config = Config::builder(12, 3).hidden(&[20, 9]).build().unwrap();
        let of_crate = Options { batch: 16, ..Options::default() };
        let mut expected = Trainer::new(Vae::new(config, 1), of_crate, Compute::serial()).unwrap();
        let context = Counted { calls: AtomicUsize::new(0), fails: usize::MAX };
        let mut failing = Counted { calls: AtomicUsize::new(0), fails: 37 };
        let rows = |context: &Counted| elbo_dataset {
            rows: 100,
            read_row: Some(counted_row),
            read_condition: None,
            context: (&raw const *context).cast_mut().cast(),
        };
        unsafe {
            let mut options = std::mem::zeroed();
            ok(elbo_train_options_init(&mut options));
            options.batch = 16;
            let mut trainer = null_mut();
            ok(elbo_trainer_new(&mut trainer, model, handle, &options));

            // A step, the rest of the epoch, an epoch whose step stops it, and the rest of that.
            let mut step = std::mem::zeroed();
            ok(elbo_trainer_step(trainer, &mut step, &rows(&context)));
            let first = expected.step(&data).unwrap().unwrap();
            assert_eq!((step.step, step.rows, step.loss), (1, 16, first.loss));
            assert_eq!(context.calls.load(Ordering::Relaxed), 16);
            let (mut seen, mut epoch) = (0_usize, std::mem::zeroed());
            let see = Some(stop_at_second_step as unsafe extern "C" fn(_, _) -> _);
            let seen_pointer = (&raw mut seen).cast();
            let status =
                elbo_trainer_epoch(trainer, &mut epoch, &rows(&context), see, seen_pointer);
            assert_eq!((status, seen), (ELBO_CALLBACK, 1));
            assert_eq!(message(), "elbo_trainer_epoch: `on_step` returned 1 after step 2");
            ok(elbo_trainer_epoch(trainer, &mut epoch, &rows(&context), see, seen_pointer));
            assert_eq!(seen, 6);
            let first = expected.epoch(&data, |_| ()).unwrap();
            assert_eq!((epoch.epoch, epoch.rows, epoch.loss), (1, 100, first.loss));

            // A row that fails: the weights are those before the step, and the same batch comes next.
            let weights = expected.vae().parameters().to_vec();
            let mut status = ELBO_OK;
            let mut steps = 0;
            while status == ELBO_OK {
                status = elbo_trainer_step(trainer, &mut step, &rows(&failing));
                if status == ELBO_OK {
                    expected.step(&data).unwrap();
                    steps += 1;
                }
            }
            assert!(steps < 7);
            assert_eq!(status, ELBO_CALLBACK);
            assert_eq!(message(), "elbo_trainer_step: `read_row` returned 42 for row 37");
            let mut copy = null_mut();
            ok(elbo_trainer_model(trainer, &mut copy));
            ok(elbo_model_save(copy, path("failed").as_ptr()));
            elbo_model_free(copy);
            let after = Vae::load(folder.join("failed")).unwrap();
            assert_eq!(after.parameters()[..], expected.vae().parameters()[..]);
            assert!(steps == 0 || after.parameters()[..] != weights[..]);
            failing.fails = usize::MAX;

            // Through a checkpoint.
            ok(elbo_trainer_epoch(trainer, null_mut(), &rows(&failing), None, null_mut()));
            ok(elbo_trainer_save_checkpoint(trainer, path("checkpoint").as_ptr()));
            elbo_trainer_free(trainer);
            ok(elbo_trainer_resume(&mut trainer, path("checkpoint").as_ptr(), handle));
            ok(elbo_trainer_epoch(trainer, &mut epoch, &rows(&failing), None, null_mut()));
            expected.epoch(&data, |_| ()).unwrap();
            let third = expected.epoch(&data, |_| ()).unwrap();
            assert_eq!((epoch.epoch, epoch.loss, epoch.kl), (3, third.loss, third.kl));
            ok(elbo_trainer_model(trainer, &mut copy));
            ok(elbo_model_save(copy, path("model").as_ptr()));
            expected.vae().save(folder.join("expected")).unwrap();
            let read = |name| std::fs::read(folder.join(name)).unwrap();
            assert!(read("model") == read("expected"), "the files differ");

            // The evaluations of the model, of a loaded one and of the trainer.
            let mut loaded = null_mut();
            ok(elbo_model_load(&mut loaded, path("model").as_ptr()));
            let mut evaluations: [elbo_evaluation; 3] = std::mem::zeroed();
            let [of_copy, of_loaded, of_trainer] = evaluations.each_mut();
            ok(elbo_model_evaluate(copy, handle, of_copy, &rows(&failing), 3));
            ok(elbo_model_evaluate(loaded, handle, of_loaded, &rows(&failing), 3));
            ok(elbo_trainer_evaluate(trainer, of_trainer, &rows(&failing), 3));
            let of_crate = EvaluationOptions { seed: 3, ..EvaluationOptions::default() };
            let found = expected.vae().evaluate(&Compute::serial(), &data, &of_crate).unwrap();
            for evaluation in evaluations {
                assert_eq!((evaluation.rows, evaluation.loss), (100, found.loss));
                assert_eq!(
                    (evaluation.reconstruction, evaluation.kl),
                    (found.reconstruction, found.kl)
                );
                assert_eq!(evaluation.active_units, found.active_units());
            }
            failing.fails = 50;
            let status = elbo_model_evaluate(copy, handle, &mut evaluations[0], &rows(&failing), 3);
            assert_eq!(status, ELBO_CALLBACK);
            elbo_model_free(loaded);
            elbo_model_free(copy);
            elbo_trainer_free(trainer);
            elbo_model_free(model);
            elbo_compute_free(handle);
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

unsafe extern "C" fn row_that_trains(
    context: *mut c_void,
    row: usize,
    out: *mut f32,
    columns: usize,
) -> i32 {
    let trainer = context.cast::<elbo_trainer>();
    let data = elbo_dataset {
        rows: 1,
        read_row: Some(fill_row),
        read_condition: None,
        context: null_mut(),
    };
    unsafe {
        assert_eq!(elbo_trainer_step(trainer, null_mut(), &data), ELBO_BUSY);
        // Nothing happens.
        elbo_trainer_free(trainer);
        assert!(message().starts_with("elbo_trainer_free: the handle is in use"), "{}", message());
        fill_row(null_mut(), row, out, columns)
    }
}

#[test]
fn a_callback_cannot_use_the_trainer_that_calls_it() {
    let (model, handle) = (common::model(12, 3, 0), compute(1));
    unsafe {
        let mut options = std::mem::zeroed();
        ok(elbo_train_options_init(&mut options));
        let mut trainer = null_mut();
        ok(elbo_trainer_new(&mut trainer, model, handle, &options));
        let mut data = elbo_dataset {
            rows: 8,
            read_row: Some(row_that_trains),
            read_condition: None,
            context: trainer.cast(),
        };
        ok(elbo_trainer_step(trainer, null_mut(), &data));
        data.read_row = None;
        assert_eq!(elbo_trainer_step(trainer, null_mut(), &data), ELBO_NULL);
        assert!(message().contains("`read_row` is a null pointer"));
        elbo_trainer_free(trainer);
        elbo_model_free(model);
        elbo_compute_free(handle);
    }
}

#[test]
fn handles_that_are_shared_among_threads_give_the_same_bits() {
    let (model, handle) = (common::model(12, 3, 0) as usize, compute(2) as usize);
    let run = move || unsafe {
        let mut memory = Memory::default();
        let (x, out) = (memory.floats(200 * 12), memory.floats(200 * 12));
        let mut inference = null_mut();
        ok(elbo_inference_new(&mut inference, model as _, handle as _));
        for _ in 0..20 {
            ok(elbo_reconstruct(inference, out, 12, x, 12, null(), 0, 200));
        }
        // A message of this thread alone.
        assert_eq!(elbo_reconstruct(null_mut(), out, 12, x, 12, null(), 0, 200), ELBO_NULL);
        elbo_inference_free(inference);
        (view(out, (200, 12), 12).to_owned(), message())
    };
    let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(run)).collect();
    let expected = run().0;
    for thread in threads {
        let (found, message) = thread.join().unwrap();
        assert_eq!(found.slice(s![.., ..]), expected);
        assert_eq!(message, "elbo_reconstruct: `inference` is a null pointer");
    }
    unsafe {
        elbo_model_free(model as _);
        elbo_compute_free(handle as _);
    }
}

#[cfg(unix)]
#[test]
fn the_child_of_a_fork_does_not_wait_for_threads_that_it_does_not_have() {
    unsafe extern "C" {
        safe fn fork() -> i32;
        safe fn _exit(status: i32) -> !;
        fn waitpid(process: i32, status: *mut i32, options: i32) -> i32;
    }
    let (model, handle, alone) = (common::model(12, 3, 0), compute(2), compute(1));
    let mut memory = Memory::default();
    let (x, out) = (memory.floats(200 * 12), memory.floats(200 * 12));
    unsafe {
        let mut inferences = [null_mut(), null_mut()];
        ok(elbo_inference_new(&mut inferences[0], model, handle));
        ok(elbo_inference_new(&mut inferences[1], model, alone));
        let run = |inference| elbo_reconstruct(inference, out, 12, x, 12, null(), 0, 200);
        assert_eq!(inferences.map(run), [ELBO_OK; 2]);
        let child = fork();
        if child == 0 {
            let mut value = 0.0;
            let statuses = [
                run(inferences[0]),
                elbo_reconstruction_forward(
                    handle, &BERNOULLI, &mut value, x, 12, x, 12, 200, 12, 0,
                ),
                run(inferences[1]),
                elbo_reconstruction_forward(
                    alone, &BERNOULLI, &mut value, x, 12, x, 12, 200, 12, 0,
                ),
            ];
            elbo_inference_free(inferences[0]);
            elbo_compute_free(handle);
            _exit(i32::from(statuses != [ELBO_THREADS, ELBO_THREADS, ELBO_OK, ELBO_OK]));
        }
        let mut status = -1;
        assert_eq!(waitpid(child, &mut status, 0), child);
        assert_eq!(status, 0);
        assert_eq!(inferences.map(run), [ELBO_OK; 2]);
        for inference in inferences {
            elbo_inference_free(inference);
        }
        elbo_compute_free(alone);
        elbo_compute_free(handle);
        elbo_model_free(model);
    }
}
