//! Compares the layers other than products with formulas in f64, within the documented bounds, and across
//! instruction sets: activations, layer normalization, dropout, reparameterization, the soft clamp. NaN stays
//! in its element, or in its row.

#![no_main]

use elbo::layers::activation::{self, Activation};
use elbo::layers::{dropout, layer_norm, reparameterize, soft_clamp};
use elbo::random::{Generator, Stream};
use elbo::simd::InstructionSet;
use elbo_fuzz::{COMPUTES, Input, assert_same, same};
use libfuzzer_sys::fuzz_target;
use ndarray::Array2;

/// One unit in the last place of an f32, as a relative error.
const ULP: f64 = f32::EPSILON as f64;

/// Error where a factor is subnormal: 2⁻¹³⁸.
const SUBNORMAL: f64 = 3e-42;

/// Magnitude above which an f32 may overflow.
const SAFE: f64 = 1e38;

fn assert_close(found: f32, exact: f64, error: f64, what: &str) {
    let wide = f64::from(found);
    let close = if exact.is_nan() || wide.is_nan() {
        exact.is_nan() && wide.is_nan()
    } else if wide.is_infinite() {
        exact.abs() > SAFE && wide.signum() == exact.signum()
    } else {
        (wide - exact).abs() <= error
    };
    assert!(close, "{what}: {found:e}, not {exact:e} to {error:e}");
}

/// Runs a function of slices on every instruction set, asserts that the bits are the same, and returns them.
fn on_all_sets<const N: usize>(
    length: usize,
    mut run: impl FnMut(InstructionSet, [&mut [f32]; N]),
) -> [Vec<f32>; N] {
    let mut first: Option<[Vec<f32>; N]> = None;
    for set in InstructionSet::available() {
        let mut outputs: [Vec<f32>; N] = std::array::from_fn(|_| vec![f32::NAN; length]);
        run(set, outputs.each_mut().map(|output| &mut output[..]));
        match &first {
            None => first = Some(outputs),
            Some(first) => {
                for (found, expected) in outputs.iter().zip(first) {
                    let mut pairs = found.iter().zip(expected);
                    assert!(pairs.all(|(&a, &b)| same(a, b)), "{set}: {found:?}, {expected:?}");
                }
            }
        }
    }
    first.expect("an instruction set")
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Value and slope of an activation, and the size that each error is relative to, in units of 2⁻²³; `None`
/// where the normal distribution would need a reference of its own.
fn exact(activation: Activation, x: f64) -> Option<[(f64, f64); 2]> {
    let positive = x > 0.0;
    Some(match activation {
        Activation::Relu => {
            [(if x < 0.0 { 0.0 } else { x }, 0.0), (f64::from(u8::from(positive)), 0.0)]
        }
        Activation::LeakyRelu { slope } => {
            let slope = if positive { 1.0 } else { f64::from(slope) };
            // −∞·0 is 0.
            let value = if slope == 0.0 && !x.is_nan() { 0.0 } else { slope * x };
            [(value, 0.5 * value.abs()), (slope, 0.0)]
        }
        Activation::Elu { alpha } => {
            let alpha = f64::from(alpha);
            let value = if positive { x } else { alpha * x.exp_m1() };
            if x.is_nan() {
                return Some([(x, 0.0); 2]);
            }
            let slope = if positive { (1.0, 0.0) } else { (alpha * x.exp(), alpha) };
            [(value, value.abs()), slope]
        }
        Activation::Gelu => return None,
        Activation::GeluTanh => {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            let bounded = x.clamp(-20.0, 20.0);
            let u = root * (bounded + 0.044_715 * bounded.powi(3));
            let du = root * (1.0 + 3.0 * 0.044_715 * bounded * bounded);
            let (s, other) = (sigmoid(2.0 * u), sigmoid(-2.0 * u));
            let value = if x > 20.0 { x } else { bounded * s };
            let product = 2.0 * du * bounded * s * other;
            [
                (value, (3.0 + 3.0 * u.abs()) * value.abs()),
                (s + product, (4.0 + 4.0 * u.abs()) * (s + product.abs())),
            ]
        }
        Activation::Silu => {
            let (s, bounded) = (sigmoid(x), x.clamp(-700.0, 700.0));
            let value = if x == f64::NEG_INFINITY { 0.0 } else { x * s };
            let product = bounded * s * sigmoid(-x);
            [(value, 2.5 * value.abs()), (s + product, 2.5 * (s + product.abs()))]
        }
        Activation::Softplus => {
            let value = x.max(0.0) + (-x.abs()).exp().ln_1p();
            let value = if x.is_nan() { x } else { value };
            [(value, 1.5 * value), (sigmoid(x), 2.0 * sigmoid(x))]
        }
        Activation::Tanh => [(x.tanh(), 2.0 * x.tanh().abs()), (x.cosh().powi(-2), 1.5)],
        Activation::Sigmoid => {
            let slope = sigmoid(x) * sigmoid(-x);
            [(sigmoid(x), 2.0 * sigmoid(x)), (slope, 2.5 * slope)]
        }
    })
}

fn activations(input: &mut Input, x: &[f32]) {
    let setting = input.bits();
    let activation = match Activation::all()[input.size(8)] {
        Activation::LeakyRelu { .. } if (0.0..1.0).contains(&setting) => {
            Activation::LeakyRelu { slope: setting }
        }
        Activation::Elu { .. } if setting > 0.0 && setting < 1e30 => {
            Activation::Elu { alpha: setting }
        }
        activation => activation,
    };
    let [y, slope] = on_all_sets(x.len(), |set, [y, slope]| {
        activation::forward(set, activation, y, slope, x).unwrap();
    });
    let [again] =
        on_all_sets(x.len(), |set, [y]| activation::apply(set, activation, y, x).unwrap());
    for (i, &x) in x.iter().enumerate() {
        assert!(same(y[i], again[i]), "{activation} of {x:e}: {:e}, {:e}", y[i], again[i]);
        let found = [y[i], slope[i]];
        let Some(exact) = exact(activation, f64::from(x)) else {
            assert!(found.iter().all(|f| f.is_nan() == x.is_nan()), "{activation} of {x:e}");
            assert!(
                x.is_nan()
                    || (y[i] >= -0.171 && y[i] <= x.max(0.0) && (-0.13..=1.13).contains(&slope[i]))
            );
            continue;
        };
        for (name, found, (exact, size)) in
            [("f", found[0], exact[0]), ("slope", found[1], exact[1])]
        {
            let what = format!("{name} of {activation} at {x:e}");
            assert_close(found, exact, size * ULP + SUBNORMAL, &what);
        }
    }
    // The backward pass is one product.
    let [dx] = on_all_sets(x.len(), |set, [dx]| activation::backward(set, dx, x, &slope).unwrap());
    assert!(dx.iter().zip(x).zip(&slope).all(|((&dx, &dy), &slope)| same(dx, dy * slope)));
}

fn normalization(input: &mut Input, x: &Array2<f32>) {
    let (rows, columns) = x.dim();
    let [gain, shift] = [(); 2].map(|()| input.matrix(1, columns).into_raw_vec_and_offset().0);
    let dy = input.matrix(rows, columns);
    let mut first: Option<[[Array2<f32>; 3]; 2]> = None;
    for compute in COMPUTES.iter() {
        let mut matrices = [(); 3].map(|()| Array2::from_elem((rows, columns), f32::NAN));
        let [y, normalized, dx] = &mut matrices;
        let [mut inverse_std, mut dgain, mut dshift] =
            [rows, columns, columns].map(|n| Array2::from_elem((1, n), f32::NAN));
        let std = inverse_std.as_slice_mut().unwrap();
        layer_norm::forward(
            compute,
            y.view_mut(),
            normalized.view_mut(),
            std,
            x.view(),
            &gain,
            &shift,
        )
        .unwrap();
        layer_norm::backward(
            compute,
            dx.view_mut(),
            dgain.as_slice_mut().unwrap(),
            dshift.as_slice_mut().unwrap(),
            dy.view(),
            normalized.view(),
            std,
            &gain,
        )
        .unwrap();
        let vectors = [inverse_std, dgain, dshift];
        match &first {
            None => first = Some([matrices, vectors]),
            Some([expected, expected_vectors]) => {
                for (found, expected) in matrices.iter().zip(expected) {
                    assert_same(found, expected, "layer norm", compute);
                }
                for (found, expected) in vectors.iter().zip(expected_vectors) {
                    assert_same(found, expected, "layer norm", compute);
                }
            }
        }
    }
    let [[y, normalized, _], [inverse_std, ..]] = first.expect("an instruction set");
    for (i, row) in x.rows().into_iter().enumerate() {
        if row.iter().any(|x| !x.is_finite()) {
            assert!(normalized.row(i).iter().chain(y.row(i)).all(|y| y.is_nan()), "{row}");
            continue;
        }
        // Squares must stay within f32.
        if columns == 0 || row.iter().any(|x| x.abs() > 1e15) {
            continue;
        }
        let n = columns as f64;
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        let s = 1.0 / (variance + layer_norm::EPSILON).sqrt();
        assert_close(inverse_std[[0, i]], s, 1e-6 * s * (1.0 + mean.abs() * s), "1/std");
        for (j, &x) in row.iter().enumerate() {
            let exact = (f64::from(x) - mean) * s;
            let error = 2.0 * ULP * (1.0 + exact.abs()) * (1.0 + mean.abs() * s);
            assert_close(
                normalized[[i, j]],
                exact,
                error,
                &format!("normalized [{i}, {j}] of {row}"),
            );
            let (gain, shift) = (f64::from(gain[j]), f64::from(shift[j]));
            let value = gain * exact + shift;
            if value.is_finite() && value.abs() < SAFE {
                let error = error * gain.abs() + ULP / 2.0 * value.abs() + SUBNORMAL;
                // y is rounded from the normalized x, not from the exact one.
                assert_close(
                    y[[i, j]],
                    value,
                    error * (1.0 + ULP),
                    &format!("y [{i}, {j}] of {row}"),
                );
            }
        }
    }
}

fn masks(input: &mut Input, x: &[f32]) {
    let probability = match input.byte() {
        0..=199 => f32::from(input.byte()) / 256.0,
        _ => input.bits(),
    };
    let [seed, step, row] =
        [(); 3].map(|()| u64::from_le_bytes(std::array::from_fn(|_| input.byte())));
    let (step, row) = (step >> input.size(40), row >> input.size(40));
    let slope: Vec<f32> = x.iter().rev().copied().collect();
    let valid = (0.0..1.0).contains(&probability) && step < 1 << 48 && row < 1 << 48;
    let [y, masked] = on_all_sets(x.len(), |set, [y, masked]| {
        y.copy_from_slice(x);
        masked.copy_from_slice(&slope);
        let result = dropout::mask(set, y, masked, probability, seed, step, row);
        assert_eq!(result.is_ok(), valid, "{probability} {step} {row}");
    });
    if !valid {
        return;
    }
    let mut uniform = Array2::zeros((1, x.len()));
    let scalar = InstructionSet::SCALAR;
    Generator::new(seed).uniform(scalar, uniform.view_mut(), Stream::Dropout, step, row).unwrap();
    let scale = (1.0 / (1.0 - f64::from(probability))) as f32;
    for (i, &u) in uniform.iter().enumerate() {
        let factor = if u < probability { 0.0 } else { scale };
        assert!(same(y[i], x[i] * factor) && same(masked[i], slope[i] * factor), "{i}: {factor}");
    }
}

fn samples(mu: &[f32], logvar: &[f32], epsilon: &[f32]) {
    let [z, spread] = on_all_sets(mu.len(), |set, [z, spread]| {
        reparameterize::forward(set, z, spread, mu, logvar, epsilon).unwrap();
    });
    for i in 0..mu.len() {
        let [m, v, e] = [mu[i], logvar[i], epsilon[i]].map(f64::from);
        // From 177.4 on sigma overflows, from −174.7 on it is subnormal.
        if (-170.0..177.0).contains(&v) {
            let exact = (v / 2.0).exp() * e;
            let what = format!("sigma·epsilon of {v:e}, {e:e}");
            assert_close(spread[i], exact, 2.0 * ULP * exact.abs() + SUBNORMAL, &what);
        }
        assert!(same(z[i], mu[i] + spread[i]), "z of {m:e}");
    }
    // Accumulates onto what is there.
    let [dmu, dlogvar] = on_all_sets(mu.len(), |set, [dmu, dlogvar]| {
        dmu.copy_from_slice(logvar);
        dlogvar.copy_from_slice(mu);
        reparameterize::backward(set, dmu, dlogvar, epsilon, &spread).unwrap();
    });
    for i in 0..mu.len() {
        assert!(same(dmu[i], logvar[i] + epsilon[i]));
        assert!(same(dlogvar[i], (0.5 * epsilon[i]).mul_add(spread[i], mu[i])));
    }
}

fn clamp(input: &mut Input, x: &[f32]) {
    let bounds = match input.byte() {
        0..=199 => [-f32::from(input.byte()) / 4.0, f32::from(input.byte()) / 4.0],
        _ => [input.bits(), input.bits()],
    };
    let [low, high] = bounds;
    let valid = low >= -1e37 && low < high && high <= 1e37;
    let [y, slope] = on_all_sets(x.len(), |set, [y, slope]| {
        let result = soft_clamp::forward(set, y, slope, x, bounds);
        assert_eq!(result.is_ok(), valid, "{bounds:?}");
    });
    let [low, high] = bounds.map(f64::from);
    let (m, h) = ((low + high) / 2.0, (high - low) / 2.0);
    // The middle is rounded, and in these bounds nothing over- or underflows.
    if !valid || m.abs() + h > 1e30 || h < 1e-3 * m.abs().max(1e-20) {
        return;
    }
    for (i, &x) in x.iter().enumerate() {
        let bent = ((f64::from(x) - m) / h).tanh();
        let error = 4.0 * ULP / 2.0 * (m.abs() + h);
        assert_close(y[i], m + h * bent, error, &format!("{x:e} in {bounds:?}"));
        assert_close(slope[i], 1.0 - bent * bent, 1e-6, &format!("slope of {x:e} in {bounds:?}"));
    }
}

fn row(input: &mut Input, length: usize) -> Vec<f32> {
    input.matrix(1, length).into_raw_vec_and_offset().0
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let kind = input.size(4);
    let length = input.size(150);
    let x = row(&mut input, length);
    match kind {
        0 => activations(&mut input, &x),
        1 => {
            let rows = input.size(12);
            let x = input.matrix(rows, length);
            normalization(&mut input, &x);
        }
        2 => masks(&mut input, &x),
        3 => {
            let (logvar, epsilon) = (row(&mut input, length), row(&mut input, length));
            samples(&x, &logvar, &epsilon);
        }
        _ => clamp(&mut input, &x),
    }
});
