//! Stated bounds over random shapes and sizes: the largest error of each kernel as a fraction of its bound.

use super::conformance::{element, ulp};
use super::reference;
use crate::Compute;
use crate::loss::gaussian::FeatureGaussian;
use crate::loss::importance::{self, Estimator, Gradients, LogRatio, Sample};
use crate::loss::kl::{NormalKl, Prior};
use crate::loss::total_correlation::{self, TcWeights};
use crate::loss::{
    Bernoulli, ContinuousBernoulli, Gaussian, Reconstruction, ReconstructionInputs, Reduction,
    SquaredError,
};
use crate::simd::InstructionSet;
use ndarray::Array2;
use std::collections::BTreeMap;

/// Uniform numbers by a 64-bit linear congruence; not the generator of the crate, which is under test
/// elsewhere.
struct Draw(u64);

impl Draw {
    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    fn count(&mut self, most: usize) -> usize {
        1 + (self.unit() * most as f64) as usize
    }

    /// About normal, by the sum of twelve.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    fn normals(&mut self, count: usize, scale: f64) -> Vec<f32> {
        (0..count).map(|_| (scale * self.normal()) as f32).collect()
    }
}

/// The largest fraction of each bound, and the input.
#[derive(Default)]
struct Shares(BTreeMap<&'static str, (f64, String)>);

impl Shares {
    fn add(
        &mut self,
        kernel: &'static str,
        error: f64,
        bound: f64,
        input: impl FnOnce() -> String,
    ) {
        let share = if error == 0.0 { 0.0 } else { error / bound };
        let worst = self.0.entry(kernel).or_default();
        // A NaN stays.
        if share > worst.0 || share.is_nan() && !worst.0.is_nan() {
            *worst = (share, input());
        }
    }

    fn check(&self) {
        for (kernel, (share, input)) in &self.0 {
            println!("{kernel:45} {share:.3}  {input}");
        }
        let held = self.0.values().all(|(share, _)| *share <= 1.0);
        assert!(held, "a bound does not hold: see the output");
    }
}

/// A unit of the bounds that are fractions of magnitudes.
const ROUNDING: f64 = 1.0 / 16_777_216.0;

#[test]
fn elements_are_within_their_bounds() {
    let (mut draw, mut shares) = (Draw(1), Shares::default());
    let set = InstructionSet::detect();
    for _ in 0..20_000 {
        let scale = 10.0_f64.powf(draw.between(-3.0, 1.0));
        let [m, s, t] = [scale, 1.0, scale].map(|scale| (scale * draw.normal()) as f32);
        let s = s * 3.0;
        let wide = [m, s, t].map(f64::from);
        let (value, gradients) = element(set, FeatureGaussian, [m, s, t]);
        let (exact, dexact) = reference::gaussian(wide);
        let a = 0.5 * (wide[0] - wide[2]).powi(2) * (-wide[1]).exp();
        let size = 7.0 * a + wide[1].abs() + std::f64::consts::TAU.ln();
        let input = || format!("m {m} s {s} t {t}");
        shares.add("gaussian: element", (value - exact).abs(), size * ROUNDING, input);
        let error = (f64::from(gradients[0]) - dexact[0]).abs();
        shares.add("gaussian: dm", error, 3.0 * ulp(dexact[0]), input);
        let error = (f64::from(gradients[1]) - dexact[1]).abs();
        shares.add("gaussian: ds", error, (6.0 * a + 0.5) * ROUNDING, input);

        let prior = Prior { mean: draw.normal() as f32, std: draw.between(0.2, 5.0) as f32 };
        let kl = NormalKl::new(prior);
        let numbers = [kl.mean, kl.inverse_variance, kl.log_variance].map(f64::from);
        let (mu, v) = (m, s);
        let input = || format!("mu {mu} v {v} {prior:?}");
        let u = (f64::from(v) - numbers[2]).abs();
        let (value, gradients) = element(set, kl, [mu, v]);
        let (exact, dexact) = reference::normal_kl([mu.into(), v.into()], numbers);
        shares.add("kl: element", (value - exact).abs(), (3.0 + u) * ulp(exact), input);
        for (g, (name, units)) in
            [("kl: dmu", 2.0), ("kl: dlogvar", 2.0 + u)].into_iter().enumerate()
        {
            let error = (f64::from(gradients[g]) - dexact[g]).abs();
            shares.add(name, error, units * ulp(dexact[g]), input);
        }

        let (z, epsilon) = (m, draw.normal() as f32);
        let input = || format!("z {z} v {v} epsilon {epsilon} {prior:?}");
        let (value, []) = element(set, LogRatio::new(prior), [z, v, epsilon]);
        let std = f64::from(prior.std);
        let terms = [
            ((f64::from(z) - f64::from(prior.mean)) / std).powi(2),
            2.0 * std.ln(),
            -f64::from(v),
            -f64::from(epsilon).powi(2),
        ];
        let exact = 0.5 * terms.iter().sum::<f64>();
        let size = 0.5 * terms.iter().map(|term| term.abs()).sum::<f64>();
        shares.add("log ratio: element", (value - exact).abs(), 6.0 * ROUNDING * size, input);
    }
    shares.check();
}

/// g, dμ and dv of one sample, and the sums of the magnitudes of their terms.
fn encoder_gradient(
    estimator: Estimator,
    [dz, z, noise, v]: [f64; 4],
    [dmu, dlogvar]: [f64; 2],
    [weight, scale]: [f64; 2],
    prior: Prior,
) -> [[f64; 2]; 2] {
    let w = scale * weight;
    let (mean, std) = (f64::from(prior.mean), f64::from(prior.std));
    let pull = w * (z - mean) / (std * std);
    let score = w * noise * (-v).exp();
    let (g, size, own) = match estimator {
        Estimator::Iwae => (dz + pull, dz.abs() + pull.abs(), 0.5 * w),
        Estimator::Dreg => {
            (weight * (dz + pull - score), weight * (dz.abs() + pull.abs() + score.abs()), 0.0)
        }
    };
    let through = 0.5 * noise * g;
    [
        [dmu + g, dmu.abs() + size],
        [dlogvar + through - own, dlogvar.abs() + 0.5 * noise.abs() * size + own],
    ]
}

fn check_encoder_gradient(
    shares: &mut Shares,
    estimator: Estimator,
    arrays: &[Vec<f32>; 6],
    [weight, scale]: [f32; 2],
    prior: Prior,
) {
    let [dz, z, noise, v, before_mu, before_logvar] = arrays;
    let names = match estimator {
        Estimator::Iwae => ["importance: IWAE dmu", "importance: IWAE dlogvar"],
        Estimator::Dreg => ["importance: DReG dmu", "importance: DReG dlogvar"],
    };
    for set in InstructionSet::available() {
        let (mut dmu, mut dlogvar) = (before_mu.clone(), before_logvar.clone());
        let gradients = Gradients { dmu: &mut dmu, dlogvar: &mut dlogvar };
        let sample = Sample { dz, z, logvar: v, sigma_epsilon: noise, weight, scale, prior };
        importance::backward(set, estimator, gradients, sample).unwrap();
        for i in 0..z.len() {
            let exact = encoder_gradient(
                estimator,
                [dz[i], z[i], noise[i], v[i]].map(f64::from),
                [before_mu[i], before_logvar[i]].map(f64::from),
                [weight, scale].map(f64::from),
                prior,
            );
            for (which, found) in [dmu[i], dlogvar[i]].into_iter().enumerate() {
                let [exact, size] = exact[which];
                let error = (f64::from(found) - exact).abs();
                shares.add(names[which], error, 8.0 * ROUNDING * size + 1e-44, || {
                    format!("dz {} z {} noise {} v {} w {weight}", dz[i], z[i], noise[i], v[i])
                });
            }
        }
    }
}

#[test]
fn encoder_gradients_are_within_their_bounds() {
    let (mut draw, mut shares) = (Draw(2), Shares::default());
    for case in 0..300 {
        let columns = draw.count(130);
        let scale = 10.0_f64.powf(draw.between(-2.0, 1.5));
        let zeros = vec![0.0; columns];
        let before = |draw: &mut Draw| draw.normals(columns, 0.3);
        let arrays = [
            draw.normals(columns, scale),
            draw.normals(columns, 1.0),
            draw.normals(columns, 1.0),
            draw.normals(columns, 2.0),
            if case % 2 == 0 { zeros.clone() } else { before(&mut draw) },
            if case % 2 == 0 { zeros } else { before(&mut draw) },
        ];
        let factors = [draw.unit() as f32, draw.between(1e-3, 1.0) as f32];
        let prior = if case % 3 == 0 {
            Prior::default()
        } else {
            Prior { mean: draw.normal() as f32, std: draw.between(0.2, 5.0) as f32 }
        };
        for estimator in [Estimator::Iwae, Estimator::Dreg] {
            check_encoder_gradient(&mut shares, estimator, &arrays, factors, prior);
        }
    }
    // Inputs whose error is above 4 ULP of the largest term.
    for [dz, z, noise, v, weight] in [
        [0.383_808_14_f32, 0.561_015_1, -0.644_477_2, -0.064_872_38, 0.500_435_1],
        [0.187_333_64, 0.286_543_6, -0.958_527, 0.590_809_6, 0.482_917_67],
    ] {
        let arrays = [dz, z, noise, v, 0.0, 0.0].map(|number| vec![number]);
        let factors = [weight, 1.0];
        check_encoder_gradient(&mut shares, Estimator::Dreg, &arrays, factors, Prior::default());
    }
    shares.check();
}

fn check_total(
    shares: &mut Shares,
    name: &'static str,
    term: impl Reconstruction,
    [outputs, targets]: [&Array2<f32>; 2],
    twin: impl Fn(f64, usize, f64) -> (f64, f64),
) {
    let inputs = ReconstructionInputs { outputs: outputs.view(), targets: targets.view() };
    let (mut exact, mut size) = (0.0, 0.0);
    for ((place, &x), &t) in outputs.indexed_iter().zip(targets) {
        let (value, magnitude) = twin(x.into(), place.1, t.into());
        (exact, size) = (exact + value, size + magnitude);
    }
    let found = term.forward(&Compute::serial(), inputs, Reduction::Sum).unwrap();
    shares.add(name, (found - exact).abs(), 1e-6 * size, || format!("{:?}", outputs.dim()));
}

#[test]
fn totals_are_within_a_millionth_of_the_magnitudes() {
    let (mut draw, mut shares) = (Draw(3), Shares::default());
    for case in 0..300 {
        let (rows, columns) =
            if case < 40 { (1, 1 + case / 10) } else { (draw.count(70), draw.count(300)) };
        let scale = 10.0_f64.powf(draw.between(-2.0, 1.0));
        let array = |values: Vec<f32>| Array2::from_shape_vec((rows, columns), values).unwrap();
        let outputs = array(draw.normals(rows * columns, scale));
        let targets = array(draw.normals(rows * columns, scale));
        let units = array((0..rows * columns).map(|_| draw.unit() as f32).collect());
        let logvar = draw.normals(columns, 1.5);
        let plain = |(value, _): (f64, [f64; 1])| (value, value.abs());
        check_total(&mut shares, "bernoulli: total", Bernoulli, [&outputs, &units], |l, _, t| {
            plain(reference::bernoulli([l, t]))
        });
        let both = [&outputs, &targets];
        check_total(&mut shares, "squared error: total", SquaredError, both, |x, _, t| {
            plain(reference::squared_error([x, t]))
        });
        let both = [&outputs, &units];
        check_total(
            &mut shares,
            "continuous bernoulli: total",
            ContinuousBernoulli,
            both,
            |l, _, t| {
                let (value, _) = reference::continuous_bernoulli([l, t]);
                let wrong = if l > 0.0 { 1.0 - t } else { t };
                // |l|·w and the logarithm.
                (value, 2.0 * (l * wrong).abs() + value.abs())
            },
        );
        let gaussian = |m: f64, s: f64, t: f64| {
            let (value, _) = reference::gaussian([m, s, t]);
            let ln_2_pi = std::f64::consts::TAU.ln();
            (value, 0.5 * ((m - t).powi(2) * (-s).exp() + s.abs() + ln_2_pi))
        };
        let both = [&outputs, &targets];
        let per_feature = Gaussian::PerFeature { logvar: &logvar };
        check_total(&mut shares, "gaussian: total by feature", per_feature, both, |m, j, t| {
            gaussian(m, logvar[j].into(), t)
        });
        let shared = Gaussian::Shared { logvar: logvar[0] };
        check_total(&mut shares, "gaussian: total of one variance", shared, both, |m, _, t| {
            gaussian(m, logvar[0].into(), t)
        });
    }
    // Elements of both signs that all but cancel.
    let (m, s) = (Array2::from_elem((1, 2), 0.3), [0.504_285_7_f32, -4.180_04]);
    let term = Gaussian::PerFeature { logvar: &s };
    check_total(&mut shares, "gaussian: total by feature", term, [&m, &m], |_, j, _| {
        let (s, ln_2_pi) = (f64::from(s[j]), std::f64::consts::TAU.ln());
        (0.5 * (s + ln_2_pi), 0.5 * (s.abs() + ln_2_pi))
    });
    shares.check();
}

#[test]
fn total_correlations_are_within_their_bounds() {
    let (mut draw, mut shares) = (Draw(4), Shares::default());
    for case in 0..40 {
        let (rows, latent) = (draw.count(200), draw.count(12));
        let spread = 10.0_f64.powf(draw.between(-1.5, 1.0));
        let array = |values: Vec<f32>| Array2::from_shape_vec((rows, latent), values).unwrap();
        let mu = array(draw.normals(rows * latent, spread));
        let logvar = array(draw.normals(rows * latent, 1.0));
        // Every fifth case with codes far from all posteriors.
        let far = if case % 5 == 4 { draw.between(1.0, 20.0) } else { 1.0 };
        let mut z = mu.clone();
        for (z, v) in z.iter_mut().zip(&logvar) {
            *z += (f64::from(v / 2.0).exp() * far * draw.normal()) as f32;
        }
        let prior = Prior { mean: 0.3, std: 1.5 };
        let weights = TcWeights { alpha: 0.7, beta: 6.0, gamma: 1.3 };
        let mut gradients = [(); 3].map(|()| Array2::from_elem(mu.dim(), f32::NAN));
        let [dz, dmu, dlogvar] = gradients.each_mut().map(|gradient| gradient.view_mut());
        let inputs =
            total_correlation::Inputs { z: z.view(), mu: mu.view(), logvar: logvar.view(), prior };
        let views = total_correlation::Gradients { dz, dmu, dlogvar };
        let parts = total_correlation::forward_backward(
            &Compute::serial(),
            views,
            inputs,
            weights,
            1 + 100 * case,
        )
        .unwrap();
        // The exponent of the nearest posterior, the farthest of all rows.
        let exponent = |i: usize, j: usize| -> f64 {
            let least = |d: usize| logvar.column(d).iter().copied().fold(f32::INFINITY, f32::min);
            (0..latent)
                .map(|d| {
                    let v = f64::from(logvar[[j, d]]);
                    let distance = f64::from(z[[i, d]]) - f64::from(mu[[j, d]]);
                    0.5 * (distance * distance * (-v).exp() + v - f64::from(least(d)))
                })
                .sum()
        };
        let nearest = (0..rows)
            .map(|i| (0..rows).map(|j| exponent(i, j)).fold(f64::INFINITY, f64::min))
            .fold(0.0, f64::max);
        let inputs = [z, mu, logvar];
        let twin = reference::total_correlation(&inputs, weights, 1 + 100 * case, prior);
        let found = [parts.mutual_information, parts.total_correlation, parts.dimension_wise_kl];
        let input = || format!("{rows} x {latent}, spread {spread:.3}, nearest {nearest:.1}");
        for (found, exact) in found.into_iter().zip(twin.parts) {
            let bound = 1e-5 * twin.magnitude;
            shares.add("total correlation: parts", (found - exact).abs(), bound, input);
        }
        let relative = 1e-5 + 2.0 * ROUNDING * (latent as f64 + 6.0) * (nearest + 16.0);
        for (found, (exact, size)) in gradients.iter().zip(&twin.gradients) {
            for (place, &found) in found.indexed_iter() {
                let error = (f64::from(found) - exact[place]).abs();
                let bound = relative * size[place] + 1e-40;
                shares.add("total correlation: gradients", error, bound, input);
            }
        }
    }
    shares.check();
}
