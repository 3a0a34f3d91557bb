//! Every function against the f64 functions of the standard library.

use super::*;

/// One function: its slices, its twin in f64, its bound.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(InstructionSet, &mut [f32], &[f32]) -> Result<()>,
    pub(crate) twin: fn(f64) -> f64,
    pub(crate) bound: f64,
}

pub(crate) fn cases() -> [Case; 8] {
    let case = |name, run, twin, bound| Case { name, run, twin, bound };
    [
        case("exp", exp, f64::exp, EXP_MAX_ULP),
        case("expm1", expm1, f64::exp_m1, EXPM1_MAX_ULP),
        case("log", log, f64::ln, LOG_MAX_ULP),
        case("log1p", log1p, f64::ln_1p, LOG1P_MAX_ULP),
        case("sigmoid", sigmoid, |x| 1.0 / (1.0 + (-x).exp()), SIGMOID_MAX_ULP),
        case("softplus", softplus, |x| (-x.abs()).exp().ln_1p() + x.max(0.0), SOFTPLUS_MAX_ULP),
        case("tanh", tanh, f64::tanh, TANH_MAX_ULP),
        case("normal_cdf", normal_cdf, normal_cdf_twin, NORMAL_CDF_MAX_ULP),
    ]
}

/// `Φ(x)` in f64, to a few parts in 10¹⁴ above −2.5 and better below.
///
/// `½ + φ(x)·(x + x³/3 + x⁵/(3·5) + …)` near 0; Laplace's continued fraction
/// `φ(x)/(a + 1/(a + 2/(a + 3/…)))`, `a = |x|`, further out.
pub(crate) fn normal_cdf_twin(x: f64) -> f64 {
    let a = x.abs();
    let density = (-0.5 * a * a).exp() / std::f64::consts::TAU.sqrt();
    let tail = if a < 2.5 {
        let (mut term, mut sum, mut n) = (a, a, 3.0);
        while term > 1e-18 * sum {
            term *= a * a / n;
            sum += term;
            n += 2.0;
        }
        0.5 - density * sum
    } else if a > 50.0 {
        0.0
    } else {
        density / (1..=80).rev().fold(a, |fraction, n| a + f64::from(n) / fraction)
    };
    if x > 0.0 { 1.0 - tail } else { tail }
}

/// The error of `found` in units of the last place of `exact`: the spacing of f32 in the binade
/// of the exact value, 2⁻¹⁴⁹ for subnormals and 0. ∞ counts as 2¹²⁸, where the next float
/// would be. What cannot be excused by rounding is an infinite error: NaN for a number, a number
/// for NaN, a finite value where the exact one rounds to ∞, the wrong sign of an exact zero.
fn ulp_error(found: f32, exact: f64) -> f64 {
    if found.is_nan() || exact.is_nan() {
        return if found.is_nan() == exact.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let nearest = exact as f32;
    if nearest.is_infinite() || exact == 0.0 {
        return if found.to_bits() == nearest.to_bits() { 0.0 } else { f64::INFINITY };
    }
    let value = match found {
        f32::INFINITY => 2.0_f64.powi(128),
        f32::NEG_INFINITY => -2.0_f64.powi(128),
        _ => f64::from(found),
    };
    let exponent = (exact.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    (value - exact).abs() / f64::from_bits(((exponent.max(-126) - 23 + 1023) as u64) << 52)
}

/// Some two million inputs: every sign and exponent with thousands of mantissas each, the
/// neighborhood of every threshold of every function, and all special values.
fn inputs() -> Vec<f32> {
    let mut x: Vec<f32> = (0..1_u32 << 21)
        .map(|i| f32::from_bits((i << 11) | (i.wrapping_mul(0x9e37_79b9) >> 21)))
        .collect();
    let format = [0.0, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY];
    let near_zero = [f32::EPSILON, f32::EPSILON / 2.0, f32::EPSILON / 4.0];
    let exponent_changes = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0];
    let far_out = [10.0, 18.0, 86.0, 89.0, 104.0, 105.0];
    // eˣ: half an ulp of 1, overflow, the first subnormal, the last one, 0.
    let exponential = [17.328_68, 88.722_84, 87.336_54, 103.278_93, 103.972_08];
    // Where 1 + e⁻ˣ and tanh round to 1, and where tanh changes its formula.
    let one = [16.635_532, 15.942_385, 9.010_914, 0.55];
    // Where the sweeps over all inputs found the largest errors: 1 ULP functions, 2 ULP functions.
    let worst_of_one = [-5.861_629_5, 0.356_880_66, 0.714_074_3, -0.287_277_37];
    let worst_of_two = [-5.156_873_7, 0.014_532_715, 0.551_047_15];
    // Φ: the subnormal tail, the least result, where 1 − Φ(−x) rounds to 1, the largest error.
    let normal = [12.9, 13.22, 14.17, 15.0, 5.42, 0.684_257_15];
    let thresholds = [
        &format[..],
        &near_zero,
        &exponent_changes,
        &far_out,
        &exponential,
        &one,
        &worst_of_one,
        &worst_of_two,
        &normal,
    ];
    let halves = (-302..=260).map(|n| n as f32 * (0.5 * std::f32::consts::LN_2));
    for t in thresholds.concat().into_iter().chain(halves) {
        for sign in [0, 1 << 31] {
            x.extend((-16..=16).map(|d| f32::from_bits(t.to_bits().wrapping_add_signed(d) ^ sign)));
        }
    }
    x
}

/// Bits, with all NaN as one.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| if v.is_nan() { f32::NAN } else { *v }.to_bits()).collect()
}

fn apply(case: &Case, set: InstructionSet, x: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len()];
    (case.run)(set, &mut out, x).unwrap();
    out
}

/// The worst error of `found` for `x`, the input and the output.
fn worst(case: &Case, x: &[f32], found: &[f32]) -> (f64, f32, f32) {
    let errors =
        x.iter().zip(found).map(|(&x, &y)| (ulp_error(y, (case.twin)(f64::from(x))), x, y));
    errors.fold((0.0, 0.0, 0.0), |a, b| if a.0 >= b.0 { a } else { b })
}

fn check(case: &Case, (error, x, y): (f64, f32, f32)) {
    let message =
        format!("{}: {error:.4} ULP at {x:e} ({:#010x}), which gave {y:e}", case.name, x.to_bits());
    println!("{message}");
    assert!(error <= case.bound, "{message}");
}

#[test]
fn errors_are_within_the_bounds() {
    let x = inputs();
    for case in cases() {
        check(&case, worst(&case, &x, &apply(&case, InstructionSet::detect(), &x)));
    }
}

#[test]
fn instruction_sets_agree_to_the_bit() {
    let x = inputs();
    for case in cases() {
        let expected = bits(&apply(&case, InstructionSet::SCALAR, &x));
        for set in InstructionSet::available() {
            let found = bits(&apply(&case, set, &x));
            let differs = (0..x.len()).find(|&i| found[i] != expected[i]);
            assert_eq!(differs.map(|i| x[i]), None, "{} on {set}", case.name);
        }
    }
}

#[test]
fn special_values_follow_the_documentation() {
    const INF: f32 = f32::INFINITY;
    let tiny = f32::from_bits(1);
    let x = [0.0, -0.0, INF, -INF, f32::NAN, -1.0, -2.0, tiny, -tiny];
    let pole = f32::NAN;
    let e = std::f32::consts::E;
    let table: [(&str, [f32; 9]); 8] = [
        ("exp", [1.0, 1.0, INF, 0.0, f32::NAN, 1.0 / e, 1.0 / (e * e), 1.0, 1.0]),
        ("expm1", [0.0, -0.0, INF, -1.0, f32::NAN, -0.632_120_55, -0.864_664_7, tiny, -tiny]),
        ("log", [-INF, -INF, INF, pole, f32::NAN, pole, pole, -103.278_93, pole]),
        ("log1p", [0.0, -0.0, INF, pole, f32::NAN, -INF, pole, tiny, -tiny]),
        ("sigmoid", [0.5, 0.5, 1.0, 0.0, f32::NAN, 0.268_941_43, 0.119_202_92, 0.5, 0.5]),
        (
            "softplus",
            [
                std::f32::consts::LN_2,
                std::f32::consts::LN_2,
                INF,
                0.0,
                f32::NAN,
                0.313_261_7,
                0.126_928_02,
                std::f32::consts::LN_2,
                std::f32::consts::LN_2,
            ],
        ),
        ("tanh", [0.0, -0.0, 1.0, -1.0, f32::NAN, -0.761_594_2, -0.964_027_6, tiny, -tiny]),
        ("normal_cdf", [0.5, 0.5, 1.0, 0.0, f32::NAN, 0.158_655_25, 0.022_750_132, 0.5, 0.5]),
    ];
    for (case, (name, expected)) in cases().iter().zip(table) {
        assert_eq!(case.name, name);
        for set in InstructionSet::available() {
            let found = apply(case, set, &x);
            for i in 0..x.len() {
                let (y, want) = (found[i], expected[i]);
                let exact = want == 0.0 || want.is_infinite() || want.abs() == tiny;
                let right = if want.is_nan() {
                    y.is_nan()
                } else if exact {
                    y.to_bits() == want.to_bits()
                } else {
                    (y - want).abs() <= 2.0 * f32::EPSILON * want.abs()
                };
                assert!(right, "{name}({:e}) = {y:e}, not {want:e}, on {set}", x[i]);
            }
        }
    }
}

#[test]
fn accepts_every_length_and_alignment() {
    let x: Vec<f32> = (0..96).map(|i| (i as f32 - 40.0) * 0.37).collect();
    for case in cases() {
        let expected = bits(&apply(&case, InstructionSet::SCALAR, &x));
        for set in InstructionSet::available() {
            for length in 0..=67 {
                for shift in 0..16 {
                    let mut out = vec![f32::MAX; x.len()];
                    let range = shift..shift + length;
                    out[range.clone()].fill(f32::NAN);
                    (case.run)(set, &mut out[range.clone()], &x[range.clone()]).unwrap();
                    assert_eq!(bits(&out[range.clone()]), expected[range.clone()], "{}", case.name);
                    out.drain(range);
                    assert!(out.iter().all(|&v| v == f32::MAX), "{} wrote outside", case.name);
                }
            }
        }
    }
}

#[test]
fn rejects_slices_of_different_lengths() {
    for case in cases() {
        let mut out = [7.0; 3];
        let message = (case.run)(InstructionSet::detect(), &mut out, &[0.0; 4]).unwrap_err();
        assert_eq!(message.to_string(), "`out`: expected shape [1, 4], found [1, 3]");
        assert_eq!(out, [7.0; 3]);
    }
}

#[test]
fn tanh_is_odd_to_the_bit() {
    let x = inputs();
    let negated: Vec<f32> = x.iter().map(|x| -x).collect();
    let case = &cases()[6];
    let set = InstructionSet::detect();
    let odd: Vec<f32> = apply(case, set, &negated).iter().map(|y| -y).collect();
    assert_eq!(bits(&apply(case, set, &x)), bits(&odd));
}

#[test]
fn a_sigmoid_and_its_mirror_image_sum_to_one() {
    let x = inputs();
    let negated: Vec<f32> = x.iter().map(|x| -x).collect();
    let case = &cases()[4];
    let set = InstructionSet::detect();
    for (y, mirror) in apply(case, set, &x).iter().zip(apply(case, set, &negated)) {
        let sum = f64::from(*y) + f64::from(mirror);
        assert!((sum - 1.0).abs() <= 1.2e-7 || y.is_nan() && mirror.is_nan(), "{y} {mirror}");
    }
}
