use super::*;
use crate::math::tests::normal_cdf_twin;
use proptest::prelude::*;

/// Value and derivative in f64, and their error bounds in units of 2⁻²³.
pub(crate) struct Exact {
    pub(crate) value: f64,
    pub(crate) slope: f64,
    pub(crate) value_error: f64,
    pub(crate) slope_error: f64,
}

/// Formulas and bounds of the module's documentation.
pub(crate) fn twin(activation: Activation, x: f64) -> Exact {
    let exact = |value: f64, slope: f64, ulps: f64, slope_error: f64| Exact {
        value,
        slope,
        value_error: ulps * value.abs(),
        slope_error,
    };
    let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
    // A factor that is 0 in the limit times one that is ∞.
    let product = |x: f64, factor: f64| if factor == 0.0 { 0.0 } else { x * factor };
    match activation {
        Activation::Relu => exact(x.max(0.0), f64::from(u8::from(x > 0.0)), 0.0, 0.0),
        Activation::LeakyRelu { slope } => {
            let slope = if x > 0.0 { 1.0 } else { f64::from(slope) };
            exact(x * slope, slope, 0.5, 0.0)
        }
        Activation::Elu { alpha } => {
            let alpha = f64::from(alpha);
            if x > 0.0 {
                exact(x, 1.0, 0.0, 0.0)
            } else {
                // The product with a power of two does not round.
                let units = if alpha.log2().fract() == 0.0 { 1.0 } else { 1.5 };
                exact(alpha * x.exp_m1(), alpha * x.exp(), units, alpha)
            }
        }
        Activation::Gelu => {
            let cdf = normal_cdf_twin(x);
            let spread = product(x, (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt());
            exact(product(x, cdf), cdf + spread, 5.0, 5.0 * (cdf + spread.abs()))
        }
        Activation::GeluTanh => {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            let u = root * (x + 0.044715 * x * x * x);
            let du = root * (1.0 + 3.0 * 0.044715 * x * x);
            let s = sigma(2.0 * u);
            let spread = product(x * 2.0 * du, s * sigma(-2.0 * u));
            let size = 1.0 + if u.abs() < 1e3 { u.abs() } else { 0.0 };
            let slope_error = 4.0 * size * (s + spread.abs());
            exact(product(x, s), s + spread, 3.0 * size, slope_error)
        }
        Activation::Silu => {
            let spread = product(x, sigma(x) * sigma(-x));
            let slope_error = 2.5 * (sigma(x) + spread.abs());
            exact(product(x, sigma(x)), sigma(x) + spread, 2.5, slope_error)
        }
        Activation::Softplus => {
            let value = (-x.abs()).exp().ln_1p() + x.max(0.0);
            exact(value, sigma(x), 1.5, 2.0 * sigma(x))
        }
        Activation::Tanh => exact(x.tanh(), 1.0 / x.cosh().powi(2), 2.0, 1.5),
        Activation::Sigmoid => {
            let slope = sigma(x) * sigma(-x);
            exact(sigma(x), slope, 2.0, 2.5 * slope)
        }
    }
}

pub(crate) fn settings() -> Vec<Activation> {
    let mut all = Activation::all().to_vec();
    all.extend([Activation::LeakyRelu { slope: 0.0 }, Activation::LeakyRelu { slope: 0.3 }]);
    all.extend([Activation::Elu { alpha: 0.25 }, Activation::Elu { alpha: 3.0 }]);
    all
}

/// Every sign and exponent with some 500 mantissas each, and a fine grid between ±20.
fn inputs() -> Vec<f32> {
    let bits = (0..1_u32 << 18).map(|i| i << 14 | i.wrapping_mul(0x9e37_79b9) >> 18);
    let fine = (-200_000..=200_000).map(|i| i as f32 * 1e-4);
    bits.map(f32::from_bits).filter(|x| x.is_finite()).chain(fine).collect()
}

fn run(set: InstructionSet, activation: Activation, x: &[f32]) -> [Vec<f32>; 2] {
    let (mut y, mut slope) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
    forward(set, activation, &mut y, &mut slope, x).unwrap();
    [y, slope]
}

/// Bits, with every NaN mapped to the same one.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| if v.is_nan() { f32::NAN } else { *v }.to_bits()).collect()
}

#[test]
fn values_and_derivatives_are_within_their_bounds() {
    let unit = 2.0_f64.powi(-23);
    let underflow = 2.0_f64.powi(-138);
    let (x, mut failed) = (inputs(), false);
    for activation in settings() {
        let [y, slope] = run(InstructionSet::detect(), activation, &x);
        let mut worst = [(0.0_f64, 0.0); 2];
        for (i, &x) in x.iter().enumerate() {
            let exact = twin(activation, f64::from(x));
            let errors = [
                (f64::from(y[i]) - exact.value, exact.value_error),
                (f64::from(slope[i]) - exact.slope, exact.slope_error),
            ];
            for (worst, (error, bound)) in worst.iter_mut().zip(errors) {
                let share = (error.abs() - underflow) / (bound * unit).max(f64::MIN_POSITIVE);
                if share.is_nan() || share > worst.0 {
                    *worst = (share, x);
                }
            }
        }
        println!("{activation}: {worst:?} of the bounds of value and derivative");
        failed |= !worst.iter().all(|worst| worst.0 <= 1.0);
    }
    assert!(!failed, "a bound is not held: see the output");
}

#[test]
fn twin_derivative_matches_finite_differences() {
    for activation in settings() {
        for i in -400..400 {
            let (x, h) = (f64::from(i) * 0.02 + 0.01, 1e-4);
            let [low, high] = [x - h, x + h].map(|x| twin(activation, x).value);
            let (found, exact) = ((high - low) / (2.0 * h), twin(activation, x).slope);
            assert!((found - exact).abs() < 1e-7, "{activation} at {x}: {found} {exact}");
        }
    }
}

#[test]
fn gives_the_same_bits_on_every_instruction_set() {
    let mut x = inputs();
    x.truncate(1 << 16);
    x.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0]);
    for activation in settings() {
        let expected = run(InstructionSet::SCALAR, activation, &x);
        for set in InstructionSet::available() {
            let found = run(set, activation, &x);
            for (found, expected) in found.iter().zip(&expected) {
                assert!(bits(found) == bits(expected), "{activation} on {set}");
            }
            let mut value = vec![f32::NAN; x.len()];
            apply(set, activation, &mut value, &x).unwrap();
            assert!(bits(&value) == bits(&expected[0]), "{activation} on {set}: the value alone");
        }
    }
}

#[test]
fn infinities_give_the_limits() {
    for set in InstructionSet::available() {
        for activation in settings() {
            let x = [f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -f32::MAX, f32::NAN, 0.0];
            let [y, slope] = run(set, activation, &x);
            let (top, bottom, at_zero) = match activation {
                Activation::Sigmoid => (1.0, 0.0, 0.5),
                Activation::Tanh => (1.0, -1.0, 0.0),
                Activation::Elu { alpha } => (f32::INFINITY, -alpha, 0.0),
                Activation::LeakyRelu { slope } if slope > 0.0 => {
                    (f32::INFINITY, f32::NEG_INFINITY, 0.0)
                }
                Activation::Softplus => (f32::INFINITY, 0.0, std::f32::consts::LN_2),
                _ => (f32::INFINITY, 0.0, 0.0),
            };
            let bounded = matches!(activation, Activation::Sigmoid | Activation::Tanh);
            assert_eq!(y[0], top, "{activation}, {set}");
            assert_eq!(y[2], if bounded { top } else { f32::MAX }, "{activation}, {set}");
            let lowest = match activation {
                Activation::LeakyRelu { slope } => -f32::MAX * slope,
                _ => bottom,
            };
            assert_eq!([y[1], y[3], y[5]], [bottom, lowest, at_zero], "{activation}, {set}");
            assert!(y[4].is_nan(), "{activation}, {set}");
            let below = if let Activation::LeakyRelu { slope } = activation { slope } else { 0.0 };
            let above = if bounded { 0.0 } else { 1.0 };
            assert_eq!(slope[..4], [above, below, above, below], "{activation}, {set}");
            let rectifier = matches!(activation, Activation::Relu | Activation::LeakyRelu { .. });
            assert!(rectifier || slope[4].is_nan(), "{activation}, {set}: {}", slope[4]);
        }
    }
}

proptest! {
    #[test]
    fn handles_every_length_forward_and_backward(
        x in proptest::collection::vec(-30.0_f32..30.0, 0..70),
        which in 0..9_usize,
    ) {
        let activation = Activation::all()[which];
        let dy: Vec<f32> = x.iter().map(|x| 0.5 * x - 1.0).collect();
        let expected = run(InstructionSet::SCALAR, activation, &x);
        for set in InstructionSet::available() {
            let found = run(set, activation, &x);
            prop_assert_eq!(&found, &expected);
            let mut dx = vec![f32::NAN; x.len()];
            backward(set, &mut dx, &dy, &found[1]).unwrap();
            for i in 0..x.len() {
                prop_assert_eq!(dx[i], dy[i] * found[1][i]);
            }
        }
    }
}

#[test]
fn names_and_settings_round_trip() {
    for activation in settings() {
        assert_eq!(activation.to_string().parse::<Activation>().unwrap(), activation);
        assert!(activation.to_string().starts_with(activation.name()));
    }
    let names = "relu, leaky-relu, elu, gelu, gelu-tanh, silu, softplus, tanh or sigmoid";
    for text in ["swish", "relu:1", "elu:x", ""] {
        let message = text.parse::<Activation>().unwrap_err().to_string();
        assert_eq!(message, format!("`activation`: expected {names}, found {text}"));
    }
    for (text, setting) in
        [("leaky-relu:1", "slope"), ("leaky-relu:nan", "slope"), ("elu:0", "alpha")]
    {
        let message = text.parse::<Activation>().unwrap_err().to_string();
        assert!(message.starts_with(&format!("`{setting}`: expected")), "{message}");
    }
}

#[test]
fn rejects_unequal_lengths() {
    let set = InstructionSet::detect();
    let message = forward(set, Activation::Tanh, &mut [0.0; 2], &mut [0.0; 3], &[0.0; 2]);
    assert_eq!(message.unwrap_err().to_string(), "`slope`: expected length 2, found length 3");
    let message = apply(set, Activation::Tanh, &mut [0.0; 2], &[0.0; 3]);
    assert_eq!(message.unwrap_err().to_string(), "`x`: expected length 2, found length 3");
    let message = backward(set, &mut [0.0; 2], &[0.0; 3], &[0.0; 2]);
    assert_eq!(message.unwrap_err().to_string(), "`dy`: expected length 2, found length 3");
    let message = relu_backward(set, &mut [0.0; 2], &[0.0; 2], &[0.0; 3]);
    assert_eq!(message.unwrap_err().to_string(), "`y`: expected length 2, found length 3");
}

#[test]
fn rectifier_is_exact_at_every_length() {
    for set in InstructionSet::available() {
        for n in 0..=67 {
            let x: Vec<f32> = (0..n).map(|i| ((i * 29) % 23) as f32 - 11.0).collect();
            let dy: Vec<f32> = (0..n).map(|i| i as f32 + 0.5).collect();
            let (mut y, mut dx) = (vec![f32::NAN; n], vec![f32::NAN; n]);
            apply(set, Activation::Relu, &mut y, &x).unwrap();
            relu_backward(set, &mut dx, &dy, &y).unwrap();
            for i in 0..n {
                assert_eq!(y[i], if x[i] > 0.0 { x[i] } else { 0.0 }, "{set}, {i} of {n}");
                assert_eq!(dx[i], if x[i] > 0.0 { dy[i] } else { 0.0 }, "{set}, {i} of {n}");
            }
        }
    }
}
