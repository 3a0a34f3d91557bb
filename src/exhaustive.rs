//! Every kernel of one f32 argument against an f64 oracle, for all 2³² arguments.
//!
//! ```text
//! cargo test --release --lib exhaustive -- --ignored --nocapture --test-threads 1
//! ```
//!
//! prints, for each result, its largest error as a fraction of the stated bound, and the argument at which
//! it occurs: the figures in the documentation of [`math`](crate::math),
//! [`activation`](crate::layers::activation), [`soft_clamp`](crate::layers::soft_clamp),
//! [`reparameterize`](crate::layers::reparameterize) and [`loss`](crate::loss). It uses all cores and compares
//! the bits of the two widest instruction sets. `KERNELS=softplus` before the command chooses the kernels with
//! such a name; each takes about twenty seconds of processor time. The ordinary tests take every 65,537th
//! argument and the special ones, on all sets.
//!
//! The oracles use the functions of the standard library in f64, not those of this crate.
//!
//! # Method
//! 1. The kernel's results for a piece of 1024 consecutive arguments are compared with the oracle's.
//! 2. Where a cubic through four of the oracle's results is within 1/1024 of the bound of twelve others, it
//!    stands for the oracle in the whole piece. The sixteen include both ends of the piece, which lies within
//!    one binade of the argument. So does a constant if all sixteen are the same.
//! 3. An error that comes within 1/512 of the bound of the largest so far is measured again, with the oracle
//!    itself. The figures are therefore the oracle's, as are all results of pieces with a kink, a pole, a
//!    change of sign or a step of the bound.
//! 4. Every 4099th argument is taken first: from then on, few errors are measured twice.

use crate::layers::activation::{self, Activation};
use crate::layers::{reparameterize, soft_clamp};
use crate::loss::continuous_bernoulli;
use crate::loss::gaussian::FeatureGaussian;
use crate::loss::kernel::Term;
use crate::loss::kl::{NormalKl, Prior};
use crate::loss::testing::reference;
use crate::loss::{
    Bernoulli, BernoulliProbabilities, ContinuousBernoulli, SigmoidProbabilities, SquaredError,
    TanhSquaredError, WeightedBernoulli,
};
use crate::simd::InstructionSet;
use crate::simd::lanes::{Lanewise, ZipOp};
use crate::{layers, math};
use pulp::Simd;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// The exact result, and the error that the documentation allows.
#[derive(Clone, Copy, Default)]
struct Exact {
    value: f64,
    bound: f64,
}

impl Exact {
    /// A result that may be `units` units in the last place of `size` off, and `slack` besides.
    fn ulps(value: f64, units: f64, size: f64, slack: f64) -> Self {
        Self { value, bound: units * ulp(size) + slack }
    }

    /// Returns `true` if the [error](Self::error) of `found` is at most this share of the bound.
    #[inline(always)]
    fn is_within(self, share: f64, found: f32, signed_zero: bool) -> bool {
        // No branches, so that the compiler vectorizes the loop around it.
        let nearest = self.value as f32;
        let same = (found.to_bits() == nearest.to_bits()) | (found.is_nan() & nearest.is_nan());
        let rounds =
            (self.value.abs() <= f64::from(f32::MAX)) & (!signed_zero | (self.value != 0.0));
        let error = (f64::from(found) - self.value).abs();
        (rounds & (error <= share * self.bound)) | (!rounds & same)
    }

    /// The error of `found`. What rounding cannot excuse is infinite: NaN for a number, a number for NaN, a
    /// finite number where the exact one rounds to ∞, the other zero if the sign is part of the contract.
    fn error(self, found: f32, signed_zero: bool) -> f64 {
        // ∞ counts as 2¹²⁸, where the next float would be.
        const OVERFLOW: f64 = f32::MAX as f64 + (1_u128 << 103) as f64;
        if self.value.abs() <= f64::from(f32::MAX) && found.is_finite() {
            let is_other_zero = signed_zero && self.value == 0.0 && found == 0.0;
            if is_other_zero && f64::from(found).to_bits() != self.value.to_bits() {
                return f64::INFINITY;
            }
            return (f64::from(found) - self.value).abs();
        }
        let nearest = self.value as f32;
        if nearest.is_finite() && found.is_infinite() {
            return (OVERFLOW.copysign(f64::from(found)) - self.value).abs();
        }
        let same = found.to_bits() == nearest.to_bits() || found.is_nan() && nearest.is_nan();
        if same { 0.0 } else { f64::INFINITY }
    }
}

/// The spacing of f32 in the binade of `size`, 2⁻¹⁴⁹ where that is subnormal or 0.
fn ulp(size: f64) -> f64 {
    let exponent = (size.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    f64::from_bits(((exponent.clamp(-126, 127) - 23 + 1023) as u64) << 52)
}

type Run = Box<dyn Fn(InstructionSet, [&mut [f32]; 2], &[f32]) + Sync>;
type Twin = Box<dyn Fn([&mut [Exact]; 2], &[f32]) + Sync>;

/// A kernel of one argument with one or two results.
struct Kernel {
    name: String,
    results: &'static [&'static str],
    /// True if the sign of a zero is part of the contract.
    signed_zero: bool,
    run: Run,
    twin: Twin,
}

/// The oracle of each argument by itself.
fn each(of_one: impl Fn(f64) -> [Exact; 2] + Sync + 'static) -> Twin {
    Box::new(move |[first, second], x| {
        for ((first, second), &x) in first.iter_mut().zip(second).zip(x) {
            [*first, *second] = of_one(f64::from(x));
        }
    })
}

/// A term of a loss as a function of one of its inputs.
trait OneInput: Copy + Send + Sync {
    /// Value and gradient.
    fn lane<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2];
}

/// Value and gradient with the rule for NaN and ±∞, as a row has them.
#[inline(always)]
fn careful<S: Simd, T: Term<I, G>, const I: usize, const G: usize>(
    simd: S,
    term: T,
    inputs: [S::f32s; I],
) -> (S::f32s, [S::f32s; G]) {
    term.fix_nonfinite(simd, inputs, term.lane(simd, inputs))
}

/// A reconstruction of one target.
#[derive(Clone, Copy)]
struct Target<T>(T, f32);

impl<T: Term<2, 1>> OneInput for Target<T> {
    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        let (value, [gradient]) = careful(simd, self.0, [x, simd.splat_f32s(self.1)]);
        [value, gradient]
    }
}

/// The KL divergence from N(0, 1) of N(x, 1).
#[derive(Clone, Copy)]
struct KlOfMean;

impl OneInput for KlOfMean {
    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        let kl = NormalKl::new(Prior::default());
        let (value, [gradient, _]) = careful(simd, kl, [x, simd.splat_f32s(0.0)]);
        [value, gradient]
    }
}

/// The KL divergence from N(0, 1) of N(0, eˣ).
#[derive(Clone, Copy)]
struct KlOfLogvar;

impl OneInput for KlOfLogvar {
    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        let kl = NormalKl::new(Prior::default());
        let (value, [_, gradient]) = careful(simd, kl, [simd.splat_f32s(0.0), x]);
        [value, gradient]
    }
}

/// The Gaussian of log-variance x, one standard deviation of N(0, 1) from its mean.
#[derive(Clone, Copy)]
struct GaussianOfLogvar;

impl OneInput for GaussianOfLogvar {
    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        let inputs = [simd.splat_f32s(1.0), x, simd.splat_f32s(0.0)];
        let (value, [_, gradient]) = careful(simd, FeatureGaussian, inputs);
        [value, gradient]
    }
}

#[derive(Clone, Copy)]
struct Lanes<T>(T);

impl<T: OneInput> Lanewise<2, 1> for Lanes<T> {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, _: [S::f32s; 2], [x]: [S::f32s; 1]) -> [S::f32s; 2] {
        self.0.lane(simd, x)
    }
}

fn term(
    name: impl Into<String>,
    term: impl OneInput + 'static,
    twin: impl Fn(f64) -> [Exact; 2] + Sync + 'static,
) -> Kernel {
    let run: Run = Box::new(move |set, out, x| set.dispatch(ZipOp(out, [x], Lanes(term))));
    let results = &["value", "gradient"];
    Kernel { name: name.into(), results, signed_zero: false, run, twin: each(twin) }
}

/// The functions of [`math`].
fn functions() -> Vec<Kernel> {
    let kernel = |case: math::tests::Case| Kernel {
        name: format!("`{}`", case.name),
        results: &["value"],
        signed_zero: true,
        run: Box::new(move |set, [y, _], x| (case.run)(set, y, x).unwrap()),
        twin: each(move |x| {
            let value = (case.twin)(x);
            [Exact::ulps(value, case.bound, value, 0.0); 2]
        }),
    };
    math::tests::cases().into_iter().map(kernel).collect()
}

/// All activations, the soft clamp, and the standard deviation of a posterior.
fn layers() -> Vec<Kernel> {
    let mut kernels: Vec<Kernel> =
        layers::activation::tests::settings().into_iter().map(of_activation).collect();
    let bounds = [-6.0_f32, 2.0];
    kernels.push(Kernel {
        name: "soft clamp to [−6, 2]".into(),
        results: &["value", "derivative"],
        signed_zero: false,
        run: Box::new(move |set, [y, slope], x| {
            soft_clamp::forward(set, y, slope, x, bounds).unwrap();
        }),
        twin: each(|x| {
            let (middle, half) = (-2.0, 4.0);
            let bent = ((x - middle) / half).tanh();
            let exact = |value, bound| Exact { value, bound };
            let bound = 4.0 / 16_777_216.0 * 6.0;
            [exact(middle + half * bent, bound), exact(1.0 - bent * bent, 1e-6)]
        }),
    });
    kernels.push(Kernel {
        name: "σ = e^{v/2} of the reparameterization".into(),
        results: &["value"],
        signed_zero: false,
        run: Box::new(|set, [sigma, z], v| {
            let (zeros, ones) = (vec![0.0; v.len()], vec![1.0; v.len()]);
            reparameterize::forward(set, z, sigma, &zeros, v, &ones).unwrap();
        }),
        twin: each(|v| {
            let sigma = (0.5 * v).exp();
            [Exact::ulps(sigma, 2.0, sigma, 0.0); 2]
        }),
    });
    kernels
}

fn of_activation(activation: Activation) -> Kernel {
    let rectifier = matches!(activation, Activation::Relu | Activation::LeakyRelu { .. });
    Kernel {
        name: format!("`{activation}`"),
        results: &["value", "derivative"],
        signed_zero: false,
        run: Box::new(move |set, [y, slope], x| {
            activation::forward(set, activation, y, slope, x).unwrap();
        }),
        twin: each(move |x| {
            let exact = activation::tests::twin(activation, x);
            const UNIT: f64 = f32::EPSILON as f64;
            const UNDERFLOW: f64 = f32::MIN_POSITIVE as f64 / 4096.0;
            let result = |value, error: f64| {
                let slack = if error == 0.0 { 0.0 } else { UNDERFLOW };
                Exact { value, bound: error * UNIT + slack }
            };
            if x.is_nan() {
                let slope = if rectifier { exact.slope } else { f64::NAN };
                return [result(f64::NAN, 0.0), result(slope, 0.0)];
            }
            // 0·∞ of a slope of 0.
            let value = if exact.value.is_nan() { 0.0 } else { exact.value };
            [result(value, exact.value_error), result(exact.slope, exact.slope_error)]
        }),
    }
}

/// The elements of the reconstructions of one target.
fn reconstructions(t: f32, pos_weight: f32) -> Vec<Kernel> {
    const TINY: f64 = f32::MIN_POSITIVE as f64;
    const UNIT: f64 = f32::EPSILON as f64;
    let (target, p) = (f64::from(t), f64::from(pos_weight));
    let mut kernels = Vec::new();
    let wrong = move |l: f64| if l > 0.0 { 1.0 - target } else { target };
    let away = |l: f64| (-l.abs()).exp() / (1.0 + (-l.abs()).exp());
    kernels.push(term(format!("Bernoulli, t = {t}"), Target(Bernoulli, t), move |l| {
        let (value, [gradient]) = reference::bernoulli([l, target]);
        let size = away(l).max(wrong(l));
        let gradient = Exact::ulps(gradient, 3.0, size, 1.2e-38);
        [Exact::ulps(value, 3.0, value, 1.2e-38), gradient]
    }));
    let weighted = WeightedBernoulli { pos_weight };
    let name = format!("weighted Bernoulli, p = {pos_weight}, t = {t}");
    kernels.push(term(name, Target(weighted, t), move |l| {
        let (value, [gradient]) = weighted_bernoulli(l, target, p);
        let wrong = if l > 0.0 { 1.0 - target } else { p * target };
        let size = wrong.max((p * target + 1.0 - target) * away(l));
        let exact = |value, bound: f64| Exact { value, bound: bound * UNIT + 3.0 * TINY };
        [exact(value, 3.5 * value), exact(gradient, 4.0 * size)]
    }));
    let name = format!("continuous Bernoulli, t = {t}");
    kernels.push(term(name, Target(ContinuousBernoulli, t), move |l| {
        let (mut value, [gradient]) = reference::continuous_bernoulli([l, target]);
        let linear = if wrong(l) == 0.0 { 0.0 } else { l.abs() * wrong(l) };
        if l.is_infinite() {
            value = if wrong(l) == 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
        }
        let (normalizer, [mean]) = reference::continuous_bernoulli([-l.abs(), 0.0]);
        let sizes = [linear.max(normalizer.abs()), wrong(l).max(mean.abs())];
        let value = Exact::ulps(value, 4.0, sizes[0], 1e-38);
        [value, Exact::ulps(gradient, 3.0, sizes[1], 1e-38)]
    }));
    let inside = |x: f64| (0.0..=1.0).contains(&x);
    let name = format!("Bernoulli of probabilities, t = {t}");
    kernels.push(term(name, Target(BernoulliProbabilities, t), move |x| {
        let x = if inside(x) { x } else { f64::NAN };
        let (mut value, [gradient]) = reference::bernoulli_probability([x, target]);
        // The floor of the logarithm is no answer to NaN.
        value = if x.is_nan() { x } else { value };
        [Exact::ulps(value, 3.0, value, 0.0), Exact::ulps(gradient, 3.5, gradient, 0.0)]
    }));
    let name = format!("squared error, t = {t}");
    kernels.push(term(name, Target(SquaredError, t), move |x| {
        let (value, [gradient]) = reference::squared_error([x, target]);
        [Exact::ulps(value, 2.0, value, 0.0), Exact::ulps(gradient, 1.0, gradient, 0.0)]
    }));
    let name = format!("squared error of tanh, t = {t}");
    kernels.push(term(name, Target(TanhSquaredError, t), move |l| {
        let (value, [gradient]) = reference::tanh_squared_error([l, target]);
        let tanh = l.tanh();
        let size = tanh.abs().max((tanh - target).abs());
        let of_value = 4.0 * (tanh * (tanh - target)).abs() + 1.5 * value;
        let of_gradient = 2.0 * size / l.cosh().powi(2);
        let gradient = if l.is_infinite() { 0.0 } else { gradient };
        let value = Exact { value, bound: of_value * UNIT + 2e-14 };
        [value, Exact::ulps(gradient, 8.0, of_gradient, 2e-14)]
    }));
    kernels
}

/// The elements of the losses, as functions of one input.
fn losses() -> Vec<Kernel> {
    // A number whose f32 overflows is ∞.
    let overflow = |x: f64| if x > f64::from(f32::MAX) { f64::INFINITY } else { x };
    let mut kernels: Vec<Kernel> =
        [0.0, 0.5, 1.0].into_iter().flat_map(|t| reconstructions(t, 2.75)).collect();
    kernels.push(Kernel {
        name: "mean of the continuous Bernoulli".into(),
        results: &["value"],
        signed_zero: false,
        run: Box::new(|set, [y, _], x| continuous_bernoulli::mean(set, y, x).unwrap()),
        twin: each(|l| {
            let (_, [mean]) = reference::continuous_bernoulli([l, 0.0]);
            [Exact::ulps(mean, 2.0, mean, 1e-38); 2]
        }),
    });
    kernels.push(term("KL of μ, v = 0", KlOfMean, move |mu| {
        let value = 0.5 * overflow(mu * mu);
        [Exact::ulps(value, 3.0, value, 0.0), Exact::ulps(mu, 0.0, mu, 0.0)]
    }));
    kernels.push(term("KL of v, μ = 0", KlOfLogvar, move |v| {
        let (value, [_, gradient]) = reference::standard_normal_kl([0.0, v]);
        // expm1(v), whose half is the gradient.
        let growth = overflow(2.0 * gradient);
        let value = if growth == f64::INFINITY { growth } else { value };
        let gradient = 0.5 * growth;
        [Exact::ulps(value, 3.0, value, 0.0), Exact::ulps(gradient, 1.0, gradient, 0.0)]
    }));
    kernels.push(term("Gaussian of s, |t − m| = 1", GaussianOfLogvar, move |s| {
        let precision = overflow((-s).exp());
        let ln_2_pi = std::f64::consts::TAU.ln();
        let (scaled, spread) = (0.5 * precision, 0.5 * s);
        let bound = 0.5 * f64::from(f32::EPSILON);
        let value = scaled + spread + 0.5 * ln_2_pi;
        let of_value = bound * (7.0 * scaled + 2.0 * spread.abs() + ln_2_pi);
        let of_gradient = bound * (6.0 * scaled + 0.5);
        let exact = |value, bound| Exact { value, bound };
        [exact(value, of_value), exact(0.5 - scaled, of_gradient)]
    }));
    for t in [0.0_f32, 1.0] {
        let of_probability = move |x: f64| {
            let (value, [gradient]) = reference::bernoulli_probability([x, f64::from(t)]);
            // The floor of the logarithm is no answer to NaN.
            let value = if x.is_nan() { x } else { value };
            let gradient = gradient * x * (1.0 - x);
            [Exact::ulps(value, 3.0, value, 0.0), Exact::ulps(gradient, 5.0, gradient, 1e-38)]
        };
        let name = format!("Bernoulli of a rounded sigmoid, t = {t}");
        let kernel = term(name, Target(SigmoidProbabilities, t), of_probability);
        let of_probabilities = kernel.twin;
        // Its value is that of the rounded sigmoid to the bit, so its twin takes the kernel's sigmoid.
        let twin: Twin = Box::new(move |exact, l| {
            let mut x = vec![f32::NAN; l.len()];
            math::sigmoid(InstructionSet::detect(), &mut x, l).unwrap();
            of_probabilities(exact, &x);
        });
        kernels.push(Kernel { twin, ..kernel });
    }
    kernels
}

/// Value and gradient with a weight p of the ones, with the limits at ±∞.
fn weighted_bernoulli(l: f64, t: f64, p: f64) -> (f64, [f64; 1]) {
    let part = |weight: f64, target: f64| {
        let (value, [gradient]) = reference::bernoulli([l, target]);
        if weight == 0.0 { (0.0, 0.0) } else { (weight * value, weight * gradient) }
    };
    let ((ones, down), (zeros, up)) = (part(p * t, 1.0), part(1.0 - t, 0.0));
    (ones + zeros, [down + up])
}

/// The largest error of a result as a fraction of its bound, with the argument and the result.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
struct Worst {
    share: f64,
    x: f32,
    found: f32,
}

impl Worst {
    /// The larger of two; of equal ones that of the lesser bits, so that threads change no figure.
    fn or(self, other: Self) -> Self {
        let is_first = other.share == self.share && other.x.to_bits() < self.x.to_bits();
        // A share is NaN if the bound is: nothing is worse.
        let is_worse = other.share > self.share || other.share.is_nan();
        if !self.share.is_nan() && (is_worse || is_first) { other } else { self }
    }
}

/// Consecutive arguments that are compared at once.
const PIECE: usize = 1 << 10;

/// Arguments of a piece at which the oracle is asked first: the nodes of the cubic, near the extremes of a
/// Chebyshev polynomial, and those at which it is checked.
const POINTS: [usize; 16] =
    [0, 256, 767, 1023, 1, 68, 135, 203, 330, 404, 479, 554, 628, 845, 931, 1022];

/// Error of a cubic that may stand for the oracle, as a fraction of the bound.
const CUBIC_ERROR: f64 = 1.0 / 1024.0;

/// Cubic function of the position in a piece, in Newton's form.
#[derive(Clone, Copy)]
struct Cubic([f64; 4]);

impl Cubic {
    const NODES: [f64; 4] =
        [POINTS[0] as f64, POINTS[1] as f64, POINTS[2] as f64, POINTS[3] as f64];

    fn through(points: &[f64; 16]) -> Self {
        let [y0, y1, y2, y3, ..] = *points;
        let mut differences = [y0, y1, y2, y3];
        for order in 1..4 {
            for k in (order..4).rev() {
                let width = Self::NODES[k] - Self::NODES[k - order];
                differences[k] = (differences[k] - differences[k - 1]) / width;
            }
        }
        Self(differences)
    }

    #[inline(always)]
    fn at(self, position: f64) -> f64 {
        let ([c0, c1, c2, c3], [n0, n1, n2, _]) = (self.0, Self::NODES);
        c0 + (position - n0) * (c1 + (position - n1) * (c2 + (position - n2) * c3))
    }
}

/// A function that may stand for one result of the oracle in a whole piece.
#[derive(Clone, Copy)]
enum Smooth {
    Constant(Exact),
    Cubic { value: Cubic, bound: Cubic },
}

impl Smooth {
    /// The function that agrees with the oracle at all points, if there is one.
    fn through(points: &[Exact; 16]) -> Option<Self> {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        let [first, ..] = *points;
        if points.iter().all(|p| same(p.value, first.value) && same(p.bound, first.bound)) {
            return Some(Self::Constant(first));
        }
        let value = Cubic::through(&points.map(|point| point.value));
        let bound = Cubic::through(&points.map(|point| point.bound));
        let agrees = |(point, position): (&Exact, usize)| {
            let position = position as f64;
            let tolerance = CUBIC_ERROR * point.bound;
            // Zeros have signs, and beyond the largest number there is but one result.
            point.value != 0.0
                && point.value.abs() <= f64::from(f32::MAX)
                && (value.at(position) - point.value).abs() <= tolerance
                && (bound.at(position) - point.bound).abs() <= tolerance
        };
        let agree = points.iter().zip(POINTS).all(agrees);
        agree.then_some(Self::Cubic { value, bound })
    }

    /// Overwrites `exact`, and returns how far off it may be, as a fraction of the bound.
    fn fill(self, exact: &mut [Exact]) -> f64 {
        match self {
            Self::Constant(constant) => {
                exact.fill(constant);
                0.0
            }
            Self::Cubic { value, bound } => {
                for (position, exact) in (0_i32..).zip(exact) {
                    let position = f64::from(position);
                    *exact = Exact { value: value.at(position), bound: bound.at(position) };
                }
                2.0 * CUBIC_ERROR
            }
        }
    }
}

/// Results of one pass over some arguments.
struct Buffers {
    x: Vec<f32>,
    found: [Vec<f32>; 2],
    other: [Vec<f32>; 2],
    exact: [Vec<Exact>; 2],
}

impl Buffers {
    fn new(x: Vec<f32>) -> Self {
        let nan = || [(); 2].map(|()| vec![f32::NAN; x.len()]);
        let exact = || vec![Exact::default(); x.len()];
        Self { found: nan(), other: nan(), exact: [exact(), exact()], x }
    }

    fn take_piece(&mut self, piece: u32) {
        for (i, x) in (0..).zip(&mut self.x) {
            *x = f32::from_bits(piece * PIECE as u32 + i);
        }
    }

    /// Runs a kernel on two or more sets, compares their bits, and keeps the results of the last.
    fn run(&mut self, kernel: &Kernel, sets: &[InstructionSet]) {
        let Self { x, found, other, .. } = self;
        let (last, others) = sets.split_last().expect("at least one set");
        (kernel.run)(*last, found.each_mut().map(|out| &mut out[..]), x);
        let same = |(a, b): (&f32, &f32)| (a.to_bits() == b.to_bits()) | (a.is_nan() & b.is_nan());
        for &set in others {
            (kernel.run)(set, other.each_mut().map(|out| &mut out[..]), x);
            for (r, result) in kernel.results.iter().enumerate() {
                let mut pairs = found[r].iter().zip(&other[r]);
                if !pairs.clone().fold(true, |all, pair| all & same(pair)) {
                    let x = pairs.position(|pair| !same(pair)).map(|i| x[i]);
                    panic!("{} ({result}) on {set}: other bits at {x:?}", kernel.name);
                }
            }
        }
    }

    /// Compares the results with the oracle, argument by argument.
    fn compare(&mut self, kernel: &Kernel, worst: &mut [Worst; 2]) {
        (kernel.twin)(self.exact.each_mut().map(|exact| &mut exact[..]), &self.x);
        self.judge(kernel, [0.0; 2], worst);
    }

    /// Compares the results for a piece of consecutive arguments with the oracle or what stands for it.
    fn compare_piece(&mut self, kernel: &Kernel, worst: &mut [Worst; 2]) {
        // 2.
        let mut points = [[Exact::default(); 16]; 2];
        (kernel.twin)(points.each_mut().map(|p| &mut p[..]), &POINTS.map(|i| self.x[i]));
        let [Some(first), Some(second)] = points.each_ref().map(Smooth::through) else {
            return self.compare(kernel, worst);
        };
        let [exact_first, exact_second] = &mut self.exact;
        let errors = [first.fill(exact_first), second.fill(exact_second)];
        self.judge(kernel, errors, worst);
    }

    /// Looks for errors that are larger than the worst so far. What stands for the oracle may be `errors` of the
    /// bound off; where that matters, the oracle itself is asked.
    fn judge(&self, kernel: &Kernel, errors: [f64; 2], worst: &mut [Worst; 2]) {
        const BLOCK: usize = 64;
        let signed_zero = kernel.signed_zero;
        for r in 0..kernel.results.len() {
            let (found, exact, x) = (&self.found[r], &self.exact[r], &self.x);
            let blocks = found.chunks(BLOCK).zip(exact.chunks(BLOCK)).zip(x.chunks(BLOCK));
            for ((found, exact), x) in blocks {
                let limit = worst[r].share - errors[r];
                let pairs = found.iter().zip(exact);
                let within =
                    |(&found, exact): (&f32, &Exact)| exact.is_within(limit, found, signed_zero);
                if pairs.clone().fold(true, |all, pair| all & within(pair)) {
                    continue;
                }
                for (pair, &x) in pairs.zip(x).filter(|&(pair, _)| !within(pair)) {
                    let (&found, mut exact) = (pair.0, *pair.1);
                    // 3.
                    if errors[r] > 0.0 {
                        let mut one = [[Exact::default()]; 2];
                        (kernel.twin)(one.each_mut().map(|one| &mut one[..]), &[x]);
                        [exact] = one[r];
                    }
                    let error = exact.error(found, signed_zero);
                    if error > 0.0 {
                        // A bound may be infinite too.
                        let share = if error.is_finite() { error / exact.bound } else { error };
                        worst[r] = worst[r].or(Worst { share, x, found });
                    }
                }
            }
        }
    }
}

/// The pieces of the numbers `pieces`, of 2²² in all, on all cores.
fn sweep(kernel: &Kernel, pieces: Range<u32>) -> [Worst; 2] {
    let sets = InstructionSet::available();
    let sets = &sets[sets.len().saturating_sub(2)..];
    let range = u64::from(pieces.start) * PIECE as u64..u64::from(pieces.end) * PIECE as u64;
    // 4.
    let few = range.step_by(4099).map(|bits| f32::from_bits(bits as u32)).collect();
    let mut buffers = Buffers::new(few);
    let mut first = [Worst::default(); 2];
    buffers.run(kernel, sets);
    buffers.compare(kernel, &mut first);
    let next = AtomicU32::new(pieces.start);
    let worker = || {
        let mut worst = first;
        let mut buffers = Buffers::new(vec![0.0; PIECE]);
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces.end {
                return worst;
            }
            // 1.
            buffers.take_piece(piece);
            buffers.run(kernel, sets);
            buffers.compare_piece(kernel, &mut worst);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let results = workers.into_iter().map(|worker| worker.join().unwrap());
        results.fold(first, |a, b| [a[0].or(b[0]), a[1].or(b[1])])
    })
}

/// Prints a row of the table for each result, and returns the rows whose bound does not hold.
fn report(kernel: &Kernel, worst: [Worst; 2]) -> String {
    let mut beyond = String::new();
    for (result, Worst { share, x, found }) in kernel.results.iter().zip(worst) {
        let row =
            format!("| {} | {result} | {share:.3} | {x:e} ({:#010x}) |", kernel.name, x.to_bits());
        println!("{row}");
        // NaN is no share within the bound either.
        if !matches!(
            share.partial_cmp(&1.0),
            Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)
        ) {
            writeln!(beyond, "{row} gave {found:e}").unwrap();
        }
    }
    beyond
}

fn check(kernels: &[Kernel], mut measure: impl FnMut(&Kernel) -> [Worst; 2]) {
    let beyond: String = kernels.iter().map(|kernel| report(kernel, measure(kernel))).collect();
    assert!(beyond.is_empty(), "beyond their bounds:\n{beyond}");
}

/// All arguments of the kernels whose names contain the text of the environment variable `KERNELS`.
fn check_all(mut kernels: Vec<Kernel>) {
    let chosen = std::env::var("KERNELS").unwrap_or_default();
    kernels.retain(|kernel| kernel.name.contains(&chosen));
    check(&kernels, |kernel| sweep(kernel, 0..1 << 22));
}

#[test]
#[ignore = "all 2³² arguments take minutes"]
fn functions_of_all_arguments() {
    check_all(functions());
}

#[test]
#[ignore = "all 2³² arguments take minutes"]
fn layers_of_all_arguments() {
    check_all(layers());
}

#[test]
#[ignore = "all 2³² arguments take minutes"]
fn losses_of_all_arguments() {
    check_all(losses());
}

/// Every 65,537th argument, and those at which formulas, formats and limits change.
fn sample() -> Vec<f32> {
    let mut x: Vec<f32> = (0..65_536_u32).map(|i| f32::from_bits(i * 65_537)).collect();
    let thresholds = [
        0.0,
        f32::MIN_POSITIVE,
        f32::EPSILON,
        0.25,
        0.5,
        0.55,
        0.75,
        1.0,
        1.5,
        2.0,
        4.0,
        6.0,
        10.0,
        12.0,
        18.0,
        36.0,
        86.0,
        87.336_54,
        88.0,
        88.722_84,
        89.0,
        103.278_93,
        104.0,
        105.0,
        177.4,
        1e18,
        1.844_674_4e19,
        2.6e19,
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
    ];
    for t in thresholds {
        for sign in [0, 1 << 31] {
            let near = |d: i32| f32::from_bits(t.to_bits().wrapping_add_signed(d) ^ sign);
            x.extend((-4..=4).map(near));
        }
    }
    x
}

#[test]
fn a_sample_of_arguments_is_within_the_bounds_on_every_set() {
    let mut sets = InstructionSet::available();
    // The errors are those of the last, the bits are compared with all others.
    sets.rotate_left(1);
    check(&all(), |kernel| {
        let (mut buffers, mut worst) = (Buffers::new(sample()), [Worst::default(); 2]);
        buffers.run(kernel, &sets);
        buffers.compare(kernel, &mut worst);
        worst
    });
}

#[test]
fn a_sample_of_targets_is_within_the_bounds() {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as u32
    };
    // From 2⁻⁸ to 2⁶, where nothing is saturated or linear.
    let positive: Vec<f32> = (0..2048)
        .map(|_| f32::from_bits((119 << 23) + random() % 14 * (1 << 23) + random() / 2))
        .collect();
    let mut buffers = Buffers::new(positive.iter().flat_map(|&x| [x, -x]).collect());
    for _ in 0..50 {
        let t = random() as f32 / (1 << 24) as f32;
        let p = f32::from_bits((123 << 23) + random() % 9 * (1 << 23) + random() / 2);
        check(&reconstructions(t, p), |kernel| {
            let mut worst = [Worst::default(); 2];
            buffers.run(kernel, &[InstructionSet::detect()]);
            buffers.compare(kernel, &mut worst);
            worst
        });
    }
}

fn all() -> Vec<Kernel> {
    functions().into_iter().chain(layers()).chain(losses()).collect()
}

/// Pieces with the numbers at which formulas and formats change, and some between.
fn few_pieces() -> impl Iterator<Item = u32> {
    let from = [0.0_f32, 1e-40, 1.2e-38, 1e-30, 1e-12, 3e-8, 1e-4, 0.01, 0.3, 0.55, 0.999, 1.0];
    let to = [1.7, 5.0, 17.3, 87.3, 88.7, 104.0, 1e4, 1.844_674_4e19, f32::INFINITY];
    let piece = |x: f32| x.to_bits() / PIECE as u32;
    from.into_iter().chain(to).flat_map(move |x| [piece(x), piece(-x)])
}

#[test]
fn cubics_change_no_figure() {
    let sets = [InstructionSet::detect()];
    for kernel in all() {
        let mut buffers = Buffers::new(vec![0.0; PIECE]);
        let (mut by_oracle, mut by_cubics) = ([Worst::default(); 2], [Worst::default(); 2]);
        for piece in few_pieces() {
            buffers.take_piece(piece);
            buffers.run(&kernel, &sets);
            buffers.compare(&kernel, &mut by_oracle);
            buffers.compare_piece(&kernel, &mut by_cubics);
            assert_eq!(by_cubics, by_oracle, "{}, from {:e}", kernel.name, buffers.x[0]);
            assert!(
                by_oracle.iter().all(|worst| worst.share <= 1.0),
                "{}: {by_oracle:?}",
                kernel.name
            );
        }
    }
}

#[test]
fn one_result_beyond_its_bound_is_found_in_any_piece() {
    const WRONG: usize = 700;
    let sets = [InstructionSet::detect()];
    for kernel in all() {
        let mut buffers = Buffers::new(vec![0.0; PIECE]);
        for piece in few_pieces() {
            for r in 0..kernel.results.len() {
                buffers.take_piece(piece);
                buffers.run(&kernel, &sets);
                let (mut worst, x) = ([Worst::default(); 2], buffers.x[WRONG]);
                buffers.compare(&kernel, &mut worst);
                let Exact { value, bound } = buffers.exact[r][WRONG];
                let beyond = value.abs() + 1.01 * bound;
                buffers.found[r][WRONG] = if value.is_finite() && beyond < f64::from(f32::MAX) {
                    (beyond as f32).next_up().copysign(value as f32)
                } else {
                    1.0
                };
                buffers.compare_piece(&kernel, &mut worst);
                let share = worst[r].share;
                assert!(share > 1.0 || share.is_nan(), "{}: {worst:?}", kernel.name);
                assert_eq!(worst[r].x.to_bits(), x.to_bits(), "{}: {worst:?}", kernel.name);
            }
        }
    }
}
