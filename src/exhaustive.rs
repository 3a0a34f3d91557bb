//! Every kernel of one f32 argument against an f64 oracle, for all 2³² arguments.
//!
//! ```text
//! cargo test --release --lib exhaustive -- --ignored --nocapture --test-threads 1
//! ```
//!
//! prints, for each result, its largest error as a fraction of the stated bound, and the argument at which
//! it occurs: the figures in the documentation of [`math`](crate::math),
//! [`activation`](crate::layers::activation) and [`loss`](crate::loss). It uses all cores and compares the bits of the two widest instruction
//! sets. The ordinary tests take every 65,537th argument and the special ones, on all sets.
//!
//! The oracles use the functions of the standard library in f64, not those of this crate.

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
use std::sync::atomic::{AtomicU32, Ordering};

/// The exact result, and the error that the documentation allows.
#[derive(Clone, Copy)]
struct Exact {
    value: f64,
    bound: f64,
    /// True if the sign of a zero is part of the contract.
    signed_zero: bool,
}

impl Exact {
    /// A result that may be `units` units in the last place of `size` off, and `slack` besides.
    fn ulps(value: f64, units: f64, size: f64, slack: f64) -> Self {
        Self { value, bound: units * ulp(size) + slack, signed_zero: false }
    }

    /// The error of `found`. What rounding cannot excuse is infinite: NaN for a number, a number for NaN, a
    /// finite number where the exact one rounds to ∞.
    #[inline(always)]
    fn error(self, found: f32) -> f64 {
        // ∞ counts as 2¹²⁸, where the next float would be.
        const OVERFLOW: f64 = f32::MAX as f64 + (1_u128 << 103) as f64;
        if self.value.abs() <= f64::from(f32::MAX) && found.is_finite() {
            let is_other_zero = self.signed_zero && self.value == 0.0 && found == 0.0;
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
type Twin = Box<dyn Fn(f64) -> [Exact; 2] + Sync>;

/// A kernel of one argument with one or two results.
struct Kernel {
    name: String,
    results: &'static [&'static str],
    run: Run,
    twin: Twin,
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
    Kernel { name: name.into(), results: &["value", "gradient"], run, twin: Box::new(twin) }
}

/// The functions of [`math`].
fn functions() -> Vec<Kernel> {
    let kernel = |case: math::tests::Case| Kernel {
        name: format!("`{}`", case.name),
        results: &["value"],
        run: Box::new(move |set, [y, _], x| (case.run)(set, y, x).unwrap()),
        twin: Box::new(move |x| {
            let value = (case.twin)(x);
            let exact = Exact { signed_zero: true, ..Exact::ulps(value, case.bound, value, 0.0) };
            [exact; 2]
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
        run: Box::new(move |set, [y, slope], x| {
            soft_clamp::forward(set, y, slope, x, bounds).unwrap();
        }),
        twin: Box::new(|x| {
            let (middle, half) = (-2.0, 4.0);
            let bent = ((x - middle) / half).tanh();
            let exact = |value, bound| Exact { value, bound, signed_zero: false };
            let bound = 4.0 / 16_777_216.0 * 6.0;
            [exact(middle + half * bent, bound), exact(1.0 - bent * bent, 1e-6)]
        }),
    });
    kernels.push(Kernel {
        name: "σ = e^{v/2} of the reparameterization".into(),
        results: &["value"],
        run: Box::new(|set, [sigma, z], v| {
            let (zeros, ones) = (vec![0.0; v.len()], vec![1.0; v.len()]);
            reparameterize::forward(set, z, sigma, &zeros, v, &ones).unwrap();
        }),
        twin: Box::new(|v| {
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
        run: Box::new(move |set, [y, slope], x| {
            activation::forward(set, activation, y, slope, x).unwrap();
        }),
        twin: Box::new(move |x| {
            let exact = activation::tests::twin(activation, x);
            const UNIT: f64 = f32::EPSILON as f64;
            const UNDERFLOW: f64 = f32::MIN_POSITIVE as f64 / 4096.0;
            let result = |value, error: f64| {
                let slack = if error == 0.0 { 0.0 } else { UNDERFLOW };
                Exact { value, bound: error * UNIT + slack, signed_zero: false }
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

/// The elements of the losses, as functions of one input.
fn losses() -> Vec<Kernel> {
    const TINY: f64 = f32::MIN_POSITIVE as f64;
    // A number whose f32 overflows is ∞.
    let overflow = |x: f64| if x > f64::from(f32::MAX) { f64::INFINITY } else { x };
    let mut kernels = Vec::new();
    for t in [0.0_f32, 0.5, 1.0] {
        let target = f64::from(t);
        let wrong = move |l: f64| if l > 0.0 { 1.0 - target } else { target };
        let away = |l: f64| (-l.abs()).exp() / (1.0 + (-l.abs()).exp());
        kernels.push(term(format!("Bernoulli, t = {t}"), Target(Bernoulli, t), move |l| {
            let (value, [gradient]) = reference::bernoulli([l, target]);
            let size = away(l).max(wrong(l));
            let gradient = Exact::ulps(gradient, 3.0, size, 1.2e-38);
            [Exact::ulps(value, 3.0, value, 1.2e-38), gradient]
        }));
        let weighted = WeightedBernoulli { pos_weight: 2.75 };
        let name = format!("weighted Bernoulli, p = 2.75, t = {t}");
        kernels.push(term(name, Target(weighted, t), move |l| {
            let (value, [gradient]) = weighted_bernoulli(l, target, 2.75);
            let wrong = if l > 0.0 { 1.0 - target } else { 2.75 * target };
            let size = wrong.max((2.75 * target + 1.0 - target) * away(l));
            let slack = 3.0 * TINY;
            [Exact::ulps(value, 4.0, value, slack), Exact::ulps(gradient, 4.0, size, slack)]
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
            let (value, [gradient]) = reference::bernoulli_probability([x, target]);
            let [value, gradient] =
                if inside(x) { [value, gradient] } else { [f64::NAN, f64::NAN] };
            [Exact::ulps(value, 3.0, value, 0.0), Exact::ulps(gradient, 3.0, gradient, 0.0)]
        }));
        let name = format!("squared error, t = {t}");
        kernels.push(term(name, Target(SquaredError, t), move |x| {
            let (value, [gradient]) = reference::squared_error([x, target]);
            [Exact::ulps(value, 2.0, value, 0.0), Exact::ulps(gradient, 1.0, gradient, 0.0)]
        }));
        let name = format!("squared error of tanh, t = {t}");
        kernels.push(term(name, Target(TanhSquaredError, t), move |l| {
            let (value, [gradient]) = reference::tanh_squared_error([l, target]);
            let size = l.tanh().abs().max((l.tanh() - target).abs());
            let of_value = value.max(size * value.sqrt());
            let of_gradient = 2.0 * size / l.cosh().powi(2);
            let gradient = if l.is_infinite() { 0.0 } else { gradient };
            let value = Exact::ulps(value, 4.0, of_value, 2e-14);
            [value, Exact::ulps(gradient, 8.0, of_gradient, 2e-14)]
        }));
    }
    kernels.push(Kernel {
        name: "mean of the continuous Bernoulli".into(),
        results: &["value"],
        run: Box::new(|set, [y, _], x| continuous_bernoulli::mean(set, y, x).unwrap()),
        twin: Box::new(|l| {
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
        let value = if overflow(v.exp_m1()).is_infinite() { f64::INFINITY } else { value };
        let gradient = 2.0 * gradient;
        let gradient = 0.5 * overflow(gradient);
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
        let exact = |value, bound| Exact { value, bound, signed_zero: false };
        [exact(value, of_value), exact(0.5 - scaled, of_gradient)]
    }));
    for t in [0.0_f32, 1.0] {
        let name = format!("Bernoulli of a rounded sigmoid, t = {t}");
        // Its value is that of the rounded sigmoid to the bit, so its twin takes the kernel's sigmoid.
        kernels.push(term(name, Target(SigmoidProbabilities, t), move |l| {
            let mut x = [0.0];
            math::sigmoid(InstructionSet::SCALAR, &mut x, &[l as f32]).unwrap();
            let x = f64::from(x[0]);
            let (value, [gradient]) = reference::bernoulli_probability([x, f64::from(t)]);
            // The floor of the logarithm is no answer to NaN.
            let value = if x.is_nan() { x } else { value };
            let gradient = gradient * x * (1.0 - x);
            [Exact::ulps(value, 3.0, value, 0.0), Exact::ulps(gradient, 5.0, gradient, 1e-38)]
        }));
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

/// The largest error of each result, as a fraction of its bound, with the argument and the result.
type Worst = [(f64, f32, f32); 2];

fn worse(a: (f64, f32, f32), b: (f64, f32, f32)) -> (f64, f32, f32) {
    if b.0 > a.0 { b } else { a }
}

/// Results of one pass over the arguments, and the arguments.
struct Buffers {
    x: Vec<f32>,
    found: [Vec<f32>; 2],
    other: [Vec<f32>; 2],
}

impl Buffers {
    fn new(x: Vec<f32>) -> Self {
        let nan = || [(); 2].map(|()| vec![f32::NAN; x.len()]);
        Self { found: nan(), other: nan(), x }
    }
}

/// Runs a kernel on two or more sets, compares their bits, and returns the worst errors of the last.
fn measure(kernel: &Kernel, sets: &[InstructionSet], buffers: &mut Buffers) -> Worst {
    let Buffers { x, found, other } = buffers;
    let (last, others) = sets.split_last().expect("at least one set");
    (kernel.run)(*last, found.each_mut().map(|out| &mut out[..]), x);
    for &set in others {
        (kernel.run)(set, other.each_mut().map(|out| &mut out[..]), x);
        for (r, result) in kernel.results.iter().enumerate() {
            let differs = found[r]
                .iter()
                .zip(&other[r])
                .position(|(a, b)| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan()));
            assert_eq!(differs.map(|i| x[i]), None, "{} ({result}) on {set}", kernel.name);
        }
    }
    let mut worst = [(0.0, 0.0, 0.0); 2];
    for (i, &x) in x.iter().enumerate() {
        let exact = (kernel.twin)(f64::from(x));
        for r in 0..kernel.results.len() {
            let (exact, y) = (exact[r], found[r][i]);
            let error = exact.error(y);
            // The fraction is only computed where it is the largest so far.
            if error > worst[r].0 * exact.bound || error > 0.0 && exact.bound.is_nan() {
                worst[r] = (error / exact.bound, x, y);
            }
        }
    }
    worst
}

/// All 2³² arguments, on all cores.
fn sweep(kernel: &Kernel) -> Worst {
    const CHUNK: u32 = 1 << 14;
    let sets = InstructionSet::available();
    let sets = &sets[sets.len().saturating_sub(2)..];
    let next = AtomicU32::new(0);
    let worker = || {
        let mut total: Worst = [(0.0, 0.0, 0.0); 2];
        let mut buffers = Buffers::new(vec![0.0; CHUNK as usize]);
        loop {
            let chunk = next.fetch_add(1, Ordering::Relaxed);
            if chunk > u32::MAX / CHUNK {
                return total;
            }
            for (i, x) in (0..).zip(&mut buffers.x) {
                *x = f32::from_bits(chunk * CHUNK + i);
            }
            let worst = measure(kernel, sets, &mut buffers);
            total = [0, 1].map(|r| worse(total[r], worst[r]));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let results = workers.into_iter().map(|worker| worker.join().unwrap());
        results.fold([(0.0, 0.0, 0.0); 2], |a, b| [0, 1].map(|r| worse(a[r], b[r])))
    })
}

/// Prints a row of the table for each result, and returns the rows whose bound does not hold.
fn report(kernel: &Kernel, worst: Worst) -> String {
    let mut beyond = String::new();
    for (result, (share, x, y)) in kernel.results.iter().zip(worst) {
        let row =
            format!("| {} | {result} | {share:.3} | {x:e} ({:#010x}) |", kernel.name, x.to_bits());
        println!("{row}");
        // NaN is no share within the bound either.
        if !matches!(
            share.partial_cmp(&1.0),
            Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)
        ) {
            writeln!(beyond, "{row} gave {y:e}").unwrap();
        }
    }
    beyond
}

fn check(kernels: &[Kernel], measure: impl Fn(&Kernel) -> Worst) {
    let beyond: String = kernels.iter().map(|kernel| report(kernel, measure(kernel))).collect();
    assert!(beyond.is_empty(), "beyond their bounds:\n{beyond}");
}

#[test]
#[ignore = "all 2³² arguments take minutes"]
fn functions_of_all_arguments() {
    check(&functions(), sweep);
}

#[test]
#[ignore = "all 2³² arguments take minutes"]
fn layers_of_all_arguments() {
    check(&layers(), sweep);
}

#[test]
#[ignore = "all 2³² arguments take minutes"]
fn losses_of_all_arguments() {
    check(&losses(), sweep);
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
    let kernels: Vec<Kernel> = functions().into_iter().chain(layers()).chain(losses()).collect();
    check(&kernels, |kernel| measure(kernel, &sets, &mut Buffers::new(sample())));
}
