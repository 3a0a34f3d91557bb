//! Compares every loss term alone with its formula in f64, within the documented bounds, and across
//! instruction sets and threads. Outside its domain, a term must return the documented error.

#![no_main]

use elbo::Compute;
use elbo::loss::{
    BernoulliProbabilities, Capacity, CapacityPer, ContinuousBernoulli, FreeBits, FreeBitsPer,
    Gaussian, Kl, KlGradients, KlInputs, KlPenalty, LossTerm, Prior, Reconstruction,
    ReconstructionInputs, Reduction, SigmoidProbabilities, SquaredError, TanhSquaredError,
    WeightedBernoulli,
};
use elbo::simd::InstructionSet;
use elbo_fuzz::{COMPUTES, Input, assert_same, word};
use libfuzzer_sys::fuzz_target;
use ndarray::Array2;

/// Bound below which a result must not overflow.
const SAFE: f64 = 1e38;

/// One unit in the last place of an f32, as a relative error.
const ULP: f64 = f32::EPSILON as f64;

/// Result that rounds to a subnormal number, or to 0.
const TINY: f64 = f32::MIN_POSITIVE as f64;

/// Exact result and its largest error.
#[derive(Clone, Copy, Debug)]
struct Exact(f64, f64);

impl Exact {
    fn assert(self, found: f64, what: &str) {
        let Self(exact, error) = self;
        let close = if exact.is_nan() || found.is_nan() {
            exact.is_nan() && found.is_nan() || error == f64::INFINITY
        } else if found.is_infinite() || exact.is_infinite() {
            error == f64::INFINITY || (exact.abs() > SAFE && found.signum() == exact.signum())
        } else {
            (found - exact).abs() <= error
        };
        assert!(close, "{what}: {found:e}, not {exact:e} to {error:e}");
    }

    /// The sum of elements, whose rounding is within 1e-6 of their magnitudes.
    fn sum(elements: impl IntoIterator<Item = Self>) -> Self {
        elements.into_iter().fold(Self(0.0, 0.0), |Self(sum, error), Self(exact, own)| {
            // Overflow, or ∞ − ∞ after one, may come from any element near the limit of f32.
            let overflows = exact.is_finite() && exact.abs() > SAFE / 1e4;
            let own = if overflows { f64::INFINITY } else { own };
            let rounding = if exact.is_finite() { 1e-6 * exact.abs() } else { 0.0 };
            Self(sum + exact, error + own + rounding)
        })
    }

    /// The same, but anything is accepted if the result passes through numbers beyond f32.
    fn unless(self, overflows: bool) -> Self {
        Self(self.0, if overflows { f64::INFINITY } else { self.1 })
    }
}

/// Value and gradient of an element.
type Element = [Exact; 2];

fn softplus_of_minus(a: f64) -> f64 {
    (-a).exp().ln_1p()
}

/// Returns the part of a target on the wrong side of a logit.
fn wrong(l: f64, t: f64) -> f64 {
    if l > 0.0 { 1.0 - t } else { t }
}

/// Returns |l|·w, 0 for an infinite logit on the right side.
fn linear(l: f64, wrong: f64) -> f64 {
    if wrong == 0.0 && !l.is_nan() { 0.0 } else { l.abs() * wrong }
}

fn signed(l: f64, gradient: f64) -> f64 {
    if l > 0.0 { gradient } else { -gradient }
}

fn weighted_bernoulli(l: f64, t: f64, p: f64) -> Element {
    let c = p * t + 1.0 - t;
    let w = if l > 0.0 { 1.0 - t } else { p * t };
    let value = linear(l, w) + c * softplus_of_minus(l.abs());
    let away = c * (-l.abs()).exp() / (1.0 + (-l.abs()).exp());
    let floor = TINY * (1.0 + p);
    [
        Exact(value, 4.0 * ULP * value + floor),
        Exact(signed(l, w - away), 4.0 * ULP * w.max(away) + floor),
    ]
}

fn bernoulli_probabilities(x: f64, t: f64) -> Element {
    if !(0.0..=1.0).contains(&x) {
        return [Exact(f64::NAN, 0.0); 2];
    }
    let value = -(t * x.ln().max(-100.0) + (1.0 - t) * (-x).ln_1p().max(-100.0));
    let gradient = (x - t) / (x * (1.0 - x)).max(1e-12);
    // Near the floor of the denominator, a rounding chooses the side.
    let floor = 100.0 * TINY;
    [
        Exact(value, 3.0 * ULP * value + floor),
        Exact(gradient, 3.0 * ULP * gradient.abs() + 1e12 * TINY),
    ]
}

fn continuous_bernoulli(l: f64, t: f64) -> Element {
    let (a, w) = (l.abs(), wrong(l, t));
    let (normalizer, mean) = if a < 0.05 {
        let square = a * a;
        (
            -a / 2.0 + square * (1.0 / 24.0 - square * (1.0 / 2880.0 - square / 181_440.0)),
            0.5 - a * (1.0 / 12.0 - square * (1.0 / 720.0 - square / 30_240.0)),
        )
    } else if a == f64::INFINITY {
        (f64::NEG_INFINITY, 0.0)
    } else {
        ((-(-a).exp_m1() / a).ln(), 1.0 / a - 1.0 / a.exp_m1())
    };
    let value = match (a == f64::INFINITY, w == 0.0) {
        (true, true) => f64::NEG_INFINITY,
        (true, false) => f64::INFINITY,
        _ => a * w + normalizer,
    };
    [
        Exact(value, 4.0 * ULP * (a * w).max(normalizer.abs()) + TINY),
        Exact(signed(l, w - mean), 3.0 * ULP * w.max(mean) + TINY),
    ]
    .map(|Exact(exact, error)| Exact(exact, if error.is_nan() { TINY } else { error }))
}

fn squared_error(x: f64, t: f64) -> Element {
    let (value, gradient) = ((x - t).powi(2), 2.0 * (x - t));
    [Exact(value, 2.0 * ULP * value + TINY), Exact(gradient, ULP * gradient.abs() + TINY)]
}

fn tanh_squared_error(l: f64, t: f64) -> Element {
    let x = l.tanh();
    let size = (x - t).abs().max(x.abs());
    let slope = (1.0 / l.cosh()).powi(2);
    let value = (x - t).powi(2);
    // The square of the error of x, as in the unit test.
    let underflow = 2e-14;
    [
        Exact(value, 4.0 * ULP * value.max(size * value.sqrt()) + underflow),
        Exact(2.0 * (x - t) * slope, 8.0 * ULP * 2.0 * size * slope + underflow),
    ]
}

fn gaussian(m: f64, t: f64, s: f64) -> Element {
    let inverse = (-s).exp();
    let square = (m - t).powi(2);
    let constant = std::f64::consts::TAU.ln();
    let largest = (0.5 * square * inverse).max(0.5 * s.abs()).max(0.5 * constant);
    let floor = TINY * (1.0 + inverse);
    let value = 0.5 * (square * inverse + s + constant);
    let gradient = (m - t) * inverse;
    let overflows = square.max(gradient.abs()) > SAFE / 4.0;
    [
        Exact(value, 4.0 * ULP * largest + floor).unless(overflows),
        Exact(gradient, 3.0 * ULP * gradient.abs() + floor).unless(overflows),
    ]
}

/// Arrays of a reconstruction, and the range of its targets.
struct Data<'a> {
    outputs: &'a Array2<f32>,
    targets: &'a Array2<f32>,
    range: [f32; 2],
}

fn assert_same_values(found: &[f64], expected: &[f64], what: &str) {
    let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    assert!(found.iter().zip(expected).all(same), "{what}: {found:?}, {expected:?}");
}

/// Checks a reconstruction; `twin` takes output, target and column.
fn reconstruction<R: Reconstruction + std::fmt::Debug>(
    term: R,
    data: &Data,
    twin: impl Fn(f64, f64, usize) -> Element,
) {
    let Data { outputs, targets, range: [low, high] } = *data;
    let (rows, _) = outputs.dim();
    let fault = targets.indexed_iter().find(|(_, t)| !(t.is_finite() && (low..=high).contains(*t)));
    let expected_error = fault.map(|((row, column), t)| {
        format!("{} {row} {column}", if t.is_finite() { "range" } else { "finite" })
    });
    let inputs = || ReconstructionInputs { outputs: outputs.view(), targets: targets.view() };
    let mut first: Option<(Array2<f32>, Vec<f64>)> = None;
    for compute in COMPUTES.iter() {
        let mut doutputs = Array2::from_elem(outputs.dim(), f32::NAN);
        let mut values = vec![f64::NAN; rows];
        let outcomes = [
            term.forward_backward(compute, doutputs.view_mut(), inputs(), Reduction::Sum),
            term.forward(compute, inputs(), Reduction::Sum),
            term.per_example(compute, &mut values, inputs()).map(|()| 0.0),
        ];
        if expected_error.is_some() {
            for outcome in outcomes {
                let error = outcome.err().as_ref().map(word);
                assert_eq!(error, expected_error, "{term:?} on {compute:?}");
            }
            continue;
        }
        let [backward, forward, _] = outcomes.map(|outcome| outcome.expect("data in the domain"));
        assert_same_values(&[backward], &[forward], "forward and backward");
        values.push(forward);
        match &first {
            None => first = Some((doutputs, values)),
            Some((gradient, expected)) => {
                assert_same_values(&values, expected, "values");
                assert_same(&doutputs, gradient, "gradient", compute);
            }
        }
    }
    let Some((doutputs, values)) = first else { return };
    let element = |(row, column)| {
        let (x, t) = (outputs[[row, column]], targets[[row, column]]);
        twin(f64::from(x), f64::from(t), column)
    };
    for (at, &found) in doutputs.indexed_iter() {
        let what = format!("{term:?} gradient of {:e}, {:e}", outputs[at], targets[at]);
        element(at)[1].assert(found.into(), &what);
    }
    let row = |row| Exact::sum((0..outputs.ncols()).map(|column| element((row, column))[0]));
    for (i, &found) in values[..rows].iter().enumerate() {
        row(i).assert(found, &format!("{term:?} row {:?}, {:?}", outputs.row(i), targets.row(i)));
    }
    Exact::sum((0..rows).map(row)).assert(values[rows], &format!("{term:?}"));
}

/// KL divergence of an element from the prior, and its gradients.
fn kl(mu: f64, v: f64, prior: Prior) -> [Exact; 3] {
    let std = f64::from(prior.std);
    let [inverse, log] = [1.0 / (std * std), 2.0 * std.ln()].map(|x| f64::from(x as f32));
    let (d, u) = (mu - f64::from(prior.mean), v - log);
    let spread = if u.abs() < 1e-2 {
        u * u * (0.5 + u / 6.0 * (1.0 + u / 4.0 * (1.0 + u / 5.0 * (1.0 + u / 6.0))))
    } else if u == f64::INFINITY {
        u
    } else {
        u.exp_m1() - u
    };
    let value = 0.5 * (d * d * inverse + spread);
    let (dmu, dlogvar) = (d * inverse, 0.5 * u.exp_m1());
    let more = if prior == Prior::default() { 0.0 } else { u.abs() };
    let floor = TINY * (1.0 + inverse);
    let overflows = d.is_finite() && (d * d).max(dmu.abs()) > SAFE / 4.0;
    let result = [
        Exact(value, (3.0 + more) * ULP * value + floor),
        Exact(dmu, 2.0 * ULP * dmu.abs() + floor),
        Exact(dlogvar, (2.0 + more) * ULP * dlogvar.abs() + floor),
    ];
    result.map(|Exact(exact, error)| {
        Exact(exact, if error.is_nan() { 0.0 } else { error }).unless(overflows)
    })
}

/// Posterior means and log-variances, and the prior.
struct Posterior<'a> {
    mu: &'a Array2<f32>,
    logvar: &'a Array2<f32>,
    prior: Prior,
}

/// Checks a penalty: its bits, and value and gradients against those of `twin`, which is given the divergences
/// of all elements and returns the value and the slope of each element, `None` near a kink.
fn penalty<K: KlPenalty + std::fmt::Debug>(
    term: K,
    posterior: &Posterior,
    twin: impl FnOnce(&Array2<Exact>) -> (Exact, Array2<Option<f64>>),
) {
    let Posterior { mu, logvar, prior } = *posterior;
    let inputs = || KlInputs { mu: mu.view(), logvar: logvar.view(), prior };
    let mut first: Option<(f64, [Array2<f32>; 2])> = None;
    for compute in COMPUTES.iter() {
        let mut gradients = [(); 2].map(|()| Array2::from_elem(mu.dim(), f32::NAN));
        let [dmu, dlogvar] = gradients.each_mut().map(|gradient| gradient.view_mut());
        let views = KlGradients { dmu, dlogvar };
        let value = term.forward_backward(compute, views, inputs(), Reduction::Sum).unwrap();
        let forward = term.forward(compute, inputs(), Reduction::Sum).unwrap();
        assert_same_values(&[value], &[forward], "forward and backward");
        match &first {
            None => first = Some((value, gradients)),
            Some((expected, [dmu, dlogvar])) => {
                assert_same_values(&[value], &[*expected], "value");
                assert_same(&gradients[0], dmu, "dmu", compute);
                assert_same(&gradients[1], dlogvar, "dlogvar", compute);
            }
        }
    }
    let (found, gradients) = first.expect("an instruction set");
    let exact = Array2::from_shape_fn(mu.dim(), |at| kl(mu[at].into(), logvar[at].into(), prior));
    let (value, slopes) = twin(&exact.mapv(|[value, ..]| value));
    value.assert(found, &format!("{term:?} {prior:?}"));
    for (at, &slope) in slopes.indexed_iter() {
        let Some(slope) = slope else { continue };
        for (gradient, Exact(exact, error)) in gradients.iter().zip(&exact[at][1..]) {
            let what = format!("{term:?} gradient of {:e}, {:e}", mu[at], logvar[at]);
            // A slope of 0 is a selection or a factor; the factor of an overflow is NaN.
            if slope != 0.0 || exact.abs() < SAFE {
                let error = (error + ULP * exact.abs()) * slope.abs() + TINY;
                let exact = Exact(exact * slope, error);
                exact.unless(exact.0.abs() > SAFE / 4.0).assert(gradient[at].into(), &what);
            }
        }
    }
}

/// `max(lambda, kl)` and its slope; `None` if the error decides.
fn free(Exact(kl, error): Exact, lambda: f64) -> (Exact, Option<f64>) {
    let clear = kl.is_nan() || (kl - lambda).abs() > error;
    let slope = if kl <= lambda { 0.0 } else { 1.0 };
    (Exact(if kl <= lambda { lambda } else { kl }, error), clear.then_some(slope))
}

/// `gamma·|kl − nats|` and its slope.
fn held(Exact(kl, error): Exact, [gamma, nats]: [f64; 2]) -> (Exact, Option<f64>) {
    let distance = kl - nats;
    let clear = distance.abs() > error + 1e-6 * nats;
    let value = Exact(gamma * distance.abs(), gamma * error + 1e-12);
    (value, clear.then_some(gamma * distance.signum()))
}

fn scaled(Exact(exact, error): Exact, by: f64) -> Exact {
    Exact(exact * by, error * by)
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let kind = input.byte() % 16;
    let (b, d) = (input.size(70), input.size(70));
    if kind < 9 {
        let outputs = match kind {
            1 | 2 if input.flag() => input.targets(b, d),
            _ => input.matrix(b, d),
        };
        let unit = [0.0, 1.0];
        let wide = [f32::MIN, f32::MAX];
        let range =
            [unit, unit, unit, unit, wide, [-1.0, 1.0], wide, wide, wide][usize::from(kind)];
        let targets = if range == unit { input.targets(b, d) } else { input.matrix(b, d) };
        let data = Data { outputs: &outputs, targets: &targets, range };
        let logvar: Vec<f32> =
            (0..d).map(|_| f32::from(input.byte().cast_signed()) / 2.0).collect();
        match kind {
            0 => {
                let pos_weight = [0.0, 0.5, 1.0, 2.5, 1e-3, 1000.0, 1e30][input.size(6)];
                let twin = |l, t, _| weighted_bernoulli(l, t, f64::from(pos_weight));
                reconstruction(WeightedBernoulli { pos_weight }, &data, twin);
            }
            1 => {
                reconstruction(BernoulliProbabilities, &data, |x, t, _| {
                    bernoulli_probabilities(x, t)
                });
            }
            2 => {
                let set = InstructionSet::detect();
                let twin = |l: f64, t, _| {
                    let mut x = [0.0];
                    elbo::math::sigmoid(set, &mut x, &[l as f32]).unwrap();
                    let x = f64::from(x[0]);
                    let [value, Exact(gradient, error)] = bernoulli_probabilities(x, t);
                    let slope = x * (1.0 - x);
                    [
                        value,
                        Exact(
                            gradient * slope,
                            (error + 2.0 * ULP * gradient.abs()) * slope + TINY,
                        ),
                    ]
                };
                reconstruction(SigmoidProbabilities, &data, twin);
            }
            3 => reconstruction(ContinuousBernoulli, &data, |l, t, _| continuous_bernoulli(l, t)),
            4 => reconstruction(SquaredError, &data, |x, t, _| squared_error(x, t)),
            5 => reconstruction(TanhSquaredError, &data, |l, t, _| tanh_squared_error(l, t)),
            6 => {
                let logvar = logvar.first().copied().unwrap_or(0.0);
                let twin = |m, t, _| gaussian(m, t, f64::from(logvar));
                reconstruction(Gaussian::Shared { logvar }, &data, twin);
            }
            7 => {
                let twin = |m, t, column: usize| gaussian(m, t, f64::from(logvar[column]));
                reconstruction(Gaussian::PerFeature { logvar: &logvar }, &data, twin);
            }
            _ => {
                // Value and gradient follow from the mean of the squared errors.
                let compute = Compute::serial();
                let inputs =
                    || ReconstructionInputs { outputs: outputs.view(), targets: targets.view() };
                let mut found = Array2::from_elem((b, d), f32::NAN);
                let value = Gaussian::Optimal.forward_backward(
                    &compute,
                    found.view_mut(),
                    inputs(),
                    Reduction::Sum,
                );
                let usable = targets.iter().all(|t| t.is_finite()) && !targets.is_empty();
                assert_eq!(value.is_ok(), usable);
                let Ok(value) = value else { return };
                let squares = outputs.iter().zip(&targets);
                let Exact(sum, error) =
                    Exact::sum(squares.map(|(&x, &t)| squared_error(x.into(), t.into())[0]));
                let (n, variance) = ((b * d) as f64, sum / (b * d) as f64);
                if error.is_finite() && variance > 1e-30 {
                    let exact = n / 2.0 * ((std::f64::consts::TAU * variance).ln() + 1.0);
                    let error = n / 2.0 * error / sum + 1e-6 * exact.abs();
                    Exact(exact, error).assert(value, "optimal variance");
                }
                for compute in COMPUTES.iter() {
                    let mut gradient = Array2::from_elem((b, d), f32::NAN);
                    let views = gradient.view_mut();
                    let again = Gaussian::Optimal.forward_backward(
                        compute,
                        views,
                        inputs(),
                        Reduction::Sum,
                    );
                    assert_same_values(&[again.unwrap()], &[value], "optimal variance");
                    assert_same(&gradient, &found, "gradient", compute);
                }
            }
        }
        return;
    }

    let (mu, logvar) = (input.matrix(b, d), input.matrix(b, d));
    let prior = [
        Prior::default(),
        Prior { mean: 0.4, std: 1.7 },
        Prior { mean: -3.0, std: 1e-3 },
        Prior { mean: 1000.0, std: 50.0 },
    ][input.size(3)];
    let posterior = Posterior { mu: &mu, logvar: &logvar, prior };
    let number = f32::from(input.byte()) / 16.0;
    let exact = f64::from(number);
    let sums = |rows: &Array2<Exact>| -> Vec<Exact> {
        rows.rows().into_iter().map(|row| Exact::sum(row.iter().copied())).collect()
    };
    let total = |values: &[Exact]| Exact::sum(values.iter().copied());
    match kind {
        9 | 10 => penalty(Kl, &posterior, |kl| (total(&sums(kl)), kl.mapv(|_| Some(1.0)))),
        11 => {
            let term = FreeBits { lambda: number, per: FreeBitsPer::Element };
            penalty(term, &posterior, |kl| {
                let of_each = kl.mapv(|kl| free(kl, exact));
                (Exact::sum(of_each.iter().map(|each| each.0)), of_each.mapv(|each| each.1))
            });
        }
        12 => {
            let term = FreeBits { lambda: number, per: FreeBitsPer::Sample };
            penalty(term, &posterior, |kl| {
                let of_each: Vec<_> = sums(kl).into_iter().map(|kl| free(kl, exact)).collect();
                let slopes = Array2::from_shape_fn(kl.dim(), |(row, _)| of_each[row].1);
                (Exact::sum(of_each.iter().map(|each| each.0)), slopes)
            });
        }
        13 if b > 0 => {
            let term = FreeBits { lambda: number, per: FreeBitsPer::Dimension };
            penalty(term, &posterior, |kl| {
                let rows = b as f64;
                let means = sums(&kl.t().to_owned()).into_iter().map(|sum| scaled(sum, 1.0 / rows));
                let of_each: Vec<_> = means.map(|mean| free(mean, exact)).collect();
                let slopes = Array2::from_shape_fn(kl.dim(), |(_, column)| of_each[column].1);
                (Exact::sum(of_each.iter().map(|each| scaled(each.0, rows))), slopes)
            });
        }
        14 => {
            let term = Capacity { gamma: 3.0, nats: number, per: CapacityPer::Sample };
            penalty(term, &posterior, |kl| {
                let of_each: Vec<_> =
                    sums(kl).into_iter().map(|kl| held(kl, [3.0, exact])).collect();
                let slopes = Array2::from_shape_fn(kl.dim(), |(row, _)| of_each[row].1);
                (Exact::sum(of_each.iter().map(|each| each.0)), slopes)
            });
        }
        15 if b > 0 => {
            let term = Capacity { gamma: 3.0, nats: number, per: CapacityPer::Batch };
            penalty(term, &posterior, |kl| {
                let mean = scaled(total(&sums(kl)), 1.0 / b as f64);
                let (value, slope) = held(mean, [3.0, exact]);
                (scaled(value, b as f64), Array2::from_elem(kl.dim(), slope))
            });
        }
        _ => {}
    }
});
