//! Compares the fused objective with plain f64 arithmetic, and across instruction sets and threads.
//! Outside its domain, it must return the documented error.

#![no_main]

use elbo::loss::elbo::{Gradients, Inputs, Terms, forward, forward_backward};
use elbo::loss::{Bernoulli, Elbo, Kl, Prior, Reduction};
use elbo_fuzz::{COMPUTES, Input, assert_same, word};
use libfuzzer_sys::fuzz_target;
use ndarray::Array2;

/// Bound below which the objective must not overflow; above 4e38 it must.
const SAFE: f64 = 1e38;

/// One unit in the last place of an f32, as a relative error.
const ULP: f64 = f32::EPSILON as f64;

/// Returns the loss of a logit and its gradient, by the formulas.
fn bernoulli(l: f64, t: f64) -> (f64, f64) {
    let away = (-l.abs()).exp();
    let wrong = if l > 0.0 { 1.0 - t } else { t };
    let linear = if wrong == 0.0 { 0.0 } else { l.abs() * wrong };
    let gradient = wrong - away / (1.0 + away);
    (linear + away.ln_1p(), if l > 0.0 { gradient } else { -gradient })
}

/// Returns KL(N(mu, e^v) ‖ N(0, 1)) of one dimension and its gradient with respect to v.
fn kl(mu: f64, v: f64) -> (f64, f64) {
    let spread = if v.abs() < 1e-2 {
        // The series of e^v − 1 − v, because the difference cancels near 0.
        v * v * (0.5 + v / 6.0 * (1.0 + v / 4.0 * (1.0 + v / 5.0 * (1.0 + v / 6.0))))
    } else if v == f64::INFINITY {
        v
    } else {
        v.exp_m1() - v
    };
    (0.5 * (mu * mu + spread), 0.5 * v.exp_m1())
}

fn assert_sum(found: f64, expected: f64, largest: f64, floor: f64, what: &str) {
    if expected.is_nan() || found.is_nan() {
        assert!(expected.is_nan() && found.is_nan(), "{what}: {found:e}, not {expected:e}");
    } else if found.is_infinite() {
        assert!(expected > SAFE, "{what}: {found:e}, not {expected:e}");
    } else {
        assert!(largest < 4e38, "{what}: {found:e}, though an element is {largest:e}");
        let error = (found - expected).abs();
        assert!(error <= 1e-6 * expected + floor, "{what}: {found:e}, not {expected:e}");
    }
}

fn assert_gradient(found: f32, expected: f64, tolerance: f64, what: &str) {
    let found = f64::from(found);
    let close = if expected.is_nan() || found.is_nan() {
        expected.is_nan() && found.is_nan()
    } else if found.is_infinite() {
        expected.abs() > SAFE && found.signum() == expected.signum()
    } else {
        (found - expected).abs() <= tolerance
    };
    assert!(close, "{what}: {found:e}, not {expected:e} to {tolerance:e}");
}

/// Returns the expected error as one word, or `None` for inputs in the domain.
fn expected_error(
    [b, d, z]: [usize; 3],
    targets: &Array2<f32>,
    beta: f32,
    reduction: Reduction,
) -> Option<String> {
    if !(beta.is_finite() && beta >= 0.0) {
        return Some("beta".to_owned());
    }
    let empty = match reduction {
        Reduction::Sum => false,
        Reduction::BatchMean => b == 0,
        Reduction::Mean => b == 0 || d == 0 || z == 0,
    };
    if empty {
        return Some("shape".to_owned());
    }
    let ((row, column), value) =
        targets.indexed_iter().find(|(_, value)| !(0.0..=1.0).contains(*value))?;
    let kind = if value.is_finite() { "range" } else { "finite" };
    Some(format!("{kind} {row} {column}"))
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let (b, d, z) = (input.size(140), input.size(150), input.size(24));
    let reduction = [Reduction::Sum, Reduction::BatchMean, Reduction::Mean][input.size(2)];
    let beta = match input.byte() {
        0..=63 => 1.0,
        64..=95 => 0.0,
        96..=247 => input.size(64) as f32 / 8.0,
        248.. => input.bits(),
    };
    let (logits, targets) = (input.matrix(b, d), input.targets(b, d));
    let (mu, logvar) = (input.matrix(b, z), input.matrix(b, z));
    let inputs = || Inputs {
        outputs: logits.view(),
        targets: targets.view(),
        mu: mu.view(),
        logvar: logvar.view(),
        prior: Prior::default(),
    };
    let terms = Terms { reconstruction: Bernoulli, penalty: Kl, beta };
    let expected_error = expected_error([b, d, z], &targets, beta, reduction);

    let mut first: Option<(Elbo, [Array2<f32>; 3])> = None;
    for compute in COMPUTES.iter() {
        let mut gradients = [(b, d), (b, z), (b, z)].map(|dim| Array2::from_elem(dim, f32::NAN));
        let [doutputs, dmu, dlogvar] = gradients.each_mut().map(|gradient| gradient.view_mut());
        let buffers = Gradients { doutputs, dmu, dlogvar };
        let found = forward_backward(compute, terms, buffers, inputs(), reduction);
        let value = forward(compute, terms, inputs(), reduction);
        let (found, value) = match (found, value) {
            (Ok(found), Ok(value)) => (found, value),
            (found, value) => {
                let words = [found.err(), value.err()].map(|e| e.as_ref().map(word));
                assert_eq!(words, [expected_error.clone(), expected_error.clone()]);
                continue;
            }
        };
        assert_eq!(expected_error, None, "no error ({compute:?})");
        let parts = |elbo: &Elbo| [elbo.loss, elbo.reconstruction, elbo.kl];
        let assert_same_value = |a: &Elbo, b: &Elbo| {
            for (a, b) in parts(a).into_iter().zip(parts(b)) {
                let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                assert!(same, "{a:e}, {b:e} ({compute:?})");
            }
        };
        assert_same_value(&found, &value);
        match &first {
            None => first = Some((found, gradients)),
            Some((first, first_gradients)) => {
                assert_same_value(&found, first);
                for (found, first) in gradients.iter().zip(first_gradients) {
                    assert_same(found, first, "gradient", compute);
                }
            }
        }
    }
    let Some((found, [dlogits, dmu, dlogvar])) = first else { return };

    let divisor = |columns: usize| match reduction {
        Reduction::Sum => 1.0,
        Reduction::BatchMean => b as f64,
        Reduction::Mean => (b * columns) as f64,
    };
    let floor = f64::from(f32::MIN_POSITIVE);
    let scale = 1.0 / divisor(d);
    let (mut sum, mut largest) = (0.0, 0.0_f64);
    for (at, &logit) in logits.indexed_iter() {
        let (l, t) = (f64::from(logit), f64::from(targets[at]));
        let (loss, gradient) = bernoulli(l, t);
        sum += loss;
        largest = largest.max(loss);
        let size = gradient.abs().max((-l.abs()).exp()).max(if l > 0.0 { 1.0 - t } else { t });
        // 4 ULP of the larger term, plus the rounding of the scale and of the product with it.
        let tolerance = 5.0 * ULP * size * scale + floor;
        assert_gradient(dlogits[at], gradient * scale, tolerance, "dlogits");
    }
    let floor_of_sum = (b * d) as f64 * floor;
    assert_sum(found.reconstruction / scale, sum, largest, floor_of_sum, "reconstruction");

    let scale = f64::from(beta) / divisor(z);
    // A small weight rounds to a subnormal f32 or to zero.
    let smallest = f64::from(f32::from_bits(1));
    let scale_error = ULP * scale + smallest;
    let (mut sum, mut largest) = (0.0, 0.0_f64);
    for (at, &mean) in mu.indexed_iter() {
        let (m, v) = (f64::from(mean), f64::from(logvar[at]));
        let (divergence, dv) = kl(m, v);
        sum += divergence;
        largest = largest.max(divergence);
        for (gradient, exact, name) in [(dmu[at], m, "dmu"), (dlogvar[at], dv, "dlogvar")] {
            // The gradient may be ∞ where it overflows before it is scaled.
            if exact.abs() < SAFE {
                // Two ULP before the scaling; for subnormal numbers an ULP is an absolute error.
                let error = 2.0 * (ULP * exact.abs()).max(smallest);
                let tolerance = error * scale + exact.abs() * scale_error + floor;
                assert_gradient(gradient, exact * scale, tolerance, name);
            }
        }
    }
    let floor_of_sum = (b * z) as f64 * floor;
    assert_sum(found.kl * divisor(z), sum, largest, floor_of_sum, "KL");

    let weighed = found.reconstruction + f64::from(beta) * found.kl;
    assert!(found.loss == weighed || (found.loss.is_nan() && weighed.is_nan()));
});
