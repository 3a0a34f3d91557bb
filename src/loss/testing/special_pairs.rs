//! Kernels of two inputs over all pairs of a grid of special values, as the modules state their outcome.

use crate::loss::bernoulli::Bernoulli;
use crate::loss::gaussian::FeatureGaussian;
use crate::loss::kl::{NormalKl, Prior};
use crate::loss::testing::conformance::{element, ulp};
use crate::loss::testing::reference;
use crate::loss::{LossTerm, ReconstructionInputs, Reduction};
use crate::simd::InstructionSet;
use crate::{Compute, Error};
use ndarray::Array2;

/// 0, the ends of the subnormal and of the normal numbers, ±1, ±∞, NaN, the places where exponentials and
/// squares overflow, and 300 numbers between.
fn grid() -> Vec<f32> {
    let mut values = vec![0.0_f32, f32::INFINITY, f32::NAN, 1.0, 0.5, f32::MAX];
    values.extend([1, 2, 0x007f_ffff, 0x0080_0000, 0x0080_0001].map(f32::from_bits));
    values.extend([87.336_54, 88.722_84, 88.722_85, 89.0, 103.972, 103.973, 104.0, 1.8e19, 1.9e19]);
    values.extend([1.0 - 6e-8, 1.0 + 1.2e-7, 16.6, 17.4]);
    // Every second power of two or so, and a fine grid near 0.
    values.extend((0..120).map(|i| 1.7_f32 * 2.0_f32.powi(2 * i - 125)));
    values.extend((1..=40).map(|i| i as f32 * 0.37));
    let negative: Vec<f32> = values.iter().map(|v| -v).collect();
    values.extend(negative);
    values
}

fn is_within(found: f64, exact: f64, bound: f64) -> bool {
    (found - exact).abs() <= bound
}

/// Calls `check` with value and gradients of each pair on each set.
fn each_set<T, const I: usize, const G: usize>(
    term: T,
    inputs: [f32; I],
    check: impl Fn(InstructionSet, f64, [f64; G]),
) where
    T: crate::loss::kernel::Term<I, G>,
{
    for set in InstructionSet::available() {
        let (value, gradients) = element(set, term, inputs);
        check(set, value, gradients.map(f64::from));
    }
}

#[test]
fn kl_of_special_pairs() {
    let term = NormalKl::new(Prior::default());
    for mu in grid() {
        for v in grid() {
            let (wide_mu, wide_v) = (f64::from(mu), f64::from(v));
            let (exact, [_, dlogvar]) = reference::standard_normal_kl([wide_mu, wide_v]);
            let exponential_overflows = (wide_v.exp() as f32).is_infinite();
            each_set(term, [mu, v], |set, value, [dmu, dv]| {
                let what = format!("{set}: KL({mu:e}, {v:e}) = {value:e}, {dmu:e}, {dv:e}");
                let overflows = mu.is_infinite()
                    || v.is_infinite()
                    || exponential_overflows
                    || ((wide_mu * wide_mu + wide_v.exp_m1() - wide_v) as f32).is_infinite();
                if mu.is_nan() || v.is_nan() {
                    assert!(value.is_nan(), "{what}");
                } else if overflows {
                    assert_eq!(value, f64::INFINITY, "{what}");
                } else {
                    assert!(is_within(value, exact, 3.0 * ulp(exact)), "{what}, not {exact:e}");
                }
                assert!(dmu == wide_mu || mu.is_nan() && dmu.is_nan(), "{what}");
                if v.is_nan() {
                    assert!(dv.is_nan(), "{what}");
                } else if exponential_overflows {
                    assert_eq!(dv, f64::INFINITY, "{what}");
                } else {
                    assert!(is_within(dv, dlogvar, ulp(dlogvar)), "{what}, not {dlogvar:e}");
                }
            });
        }
    }
}

#[test]
fn cross_entropy_of_special_pairs() {
    let targets: Vec<f32> = grid().into_iter().filter(|t| (0.0..=1.0).contains(t)).collect();
    assert!(targets.len() > 60 && targets.iter().any(|t| t.to_bits() == 1 << 31));
    for l in grid() {
        for &t in &targets {
            let (exact, [dexact]) = reference::bernoulli([l.into(), t.into()]);
            each_set(Bernoulli, [l, t], |set, value, [dl]| {
                let what = format!("{set}: loss({l:e}, {t:e}) = {value:e}, {dl:e}");
                if l.is_nan() {
                    assert!(value.is_nan() && dl.is_nan(), "{what}");
                    return;
                }
                if l.is_infinite() {
                    let right = if l > 0.0 { 1.0 } else { 0.0 };
                    let expected = if t == right { 0.0 } else { f64::INFINITY };
                    // 1 − t is rounded to f32.
                    assert_eq!((value, dl), (expected, f64::from(right - t)), "{what}");
                    return;
                }
                let underflow = f64::from(f32::MIN_POSITIVE);
                let away = (-f64::from(l).abs()).exp() / (1.0 + (-f64::from(l).abs()).exp());
                let wrong = f64::from(if l > 0.0 { 1.0 - t } else { t });
                assert!(is_within(value, exact, 3.0 * ulp(exact) + underflow), "{what}, {exact:e}");
                let bound = 3.0 * ulp(away.max(wrong)) + underflow;
                assert!(is_within(dl, dexact, bound), "{what}, {dexact:e}");
            });
        }
    }
}

#[test]
fn cross_entropy_rejects_every_other_target() {
    let outside = grid().into_iter().filter(|t| !(0.0..=1.0).contains(t));
    for t in outside {
        let (logits, targets) = (Array2::zeros((1, 1)), Array2::from_elem((1, 1), t));
        let inputs = ReconstructionInputs { outputs: logits.view(), targets: targets.view() };
        let error = Bernoulli.forward(&Compute::serial(), inputs, Reduction::Sum).unwrap_err();
        if t.is_finite() {
            assert!(matches!(error, Error::TargetOutOfRange { row: 0, column: 0, .. }), "{error}");
        } else {
            assert!(matches!(error, Error::NotFiniteData { row: 0, column: 0, .. }), "{error}");
        }
    }
}

#[test]
fn gaussian_of_special_pairs() {
    let most = f64::from(f32::MAX);
    // The prediction for a target of 0: m is the difference.
    for d in grid() {
        for s in grid() {
            let (wide_d, wide_s) = (f64::from(d), f64::from(s));
            let spread = 0.5 * (wide_s + std::f64::consts::TAU.ln());
            let precision = (-wide_s).exp();
            let in_f32 = precision as f32;
            let (precision_overflows, precision_vanishes) = (in_f32.is_infinite(), in_f32 == 0.0);
            each_set(FeatureGaussian, [d, s, 0.0], |set, value, [_, ds]: [f64; 2]| {
                let what = format!("{set}: loss({d:e}, {s:e}) = {value:e}, {ds:e}");
                if d.is_nan() || s.is_nan() || s == f32::NEG_INFINITY {
                    assert!(value.is_nan(), "{what}");
                } else if d == 0.0 {
                    assert_eq!(value.is_nan(), precision_overflows, "{what}");
                } else if d.is_infinite() {
                    assert_eq!(value.is_nan(), precision_vanishes, "{what}");
                    assert!(value.is_nan() || value == f64::INFINITY, "{what}");
                } else if precision_overflows
                    || s == f32::INFINITY
                    || wide_d.abs() * precision > most
                    || wide_d * wide_d * precision > 2.0 * most
                {
                    assert_eq!(value, f64::INFINITY, "{what}");
                } else if s < 87.3 && wide_d * wide_d * precision < most {
                    let a = 0.5 * wide_d * wide_d * precision;
                    let size = 7.0 * a + wide_s.abs() + std::f64::consts::TAU.ln();
                    let bound = size / 16_777_216.0 + 1e-38;
                    assert!(is_within(value, a + spread, bound), "{what}, not {:e}", a + spread);
                    let bound = (6.0 * a + 0.5) / 16_777_216.0 + 1e-38;
                    assert!(is_within(ds, 0.5 - a, bound), "{what}, not {:e}", 0.5 - a);
                } else {
                    assert!(!value.is_nan(), "{what}");
                }
            });
        }
    }
}
