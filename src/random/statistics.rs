//! Statistical tests of the generator. Seeds are fixed, so a result never changes; an ideal generator
//! would exceed each bound less than once in a thousand seeds.

use super::{Generator, Stream};
use crate::simd::InstructionSet;
use ndarray::{Array3, ArrayView3, Axis, s};

/// Draws of the large tests.
const N: usize = 10_000_000;

/// Steps × rows × columns, both indices starting at 0.
fn draw(seed: u64, stream: Stream, shape: [usize; 3], normal: bool) -> Array3<f32> {
    let (generator, set) = (Generator::new(seed), InstructionSet::detect());
    let mut out = Array3::from_elem(shape, f32::NAN);
    for (step, rows) in out.axis_iter_mut(Axis(0)).enumerate() {
        if normal {
            generator.normal(set, rows, stream, step as u64, 0).unwrap();
        } else {
            generator.uniform(set, rows, stream, step as u64, 0).unwrap();
        }
    }
    out
}

/// Φ(x) by Marsaglia's series `½ + φ(x)·(x + x³/3 + x⁵/15 + …)`, to 1e-15 for |x| < 7.
fn normal_cdf(x: f64) -> f64 {
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while sum + term != sum {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

#[test]
fn the_reference_normal_cdf_has_known_values() {
    for (x, expected) in [
        (0.0, 0.5),
        (1.0, 0.841_344_746_068_542_9),
        (-3.0, 0.001_349_898_031_630_094_6),
        (6.0, 0.999_999_999_013_412_4),
    ] {
        assert!((normal_cdf(x) - expected).abs() < 1e-15, "{x}");
    }
}

/// √n times the largest distance between the sample's distribution and `cdf` (Kolmogorov and
/// Smirnov). Above 1.95 once in a thousand.
fn kolmogorov_smirnov(mut sample: Vec<f32>, cdf: impl Fn(f64) -> f64) -> f64 {
    sample.sort_unstable_by(f32::total_cmp);
    // The empirical distribution jumps at each number: both sides of the jump count.
    let n = sample.len() as f64;
    let mut worst = 0.0_f64;
    for (i, &x) in sample.iter().enumerate() {
        let expected = cdf(f64::from(x));
        worst = worst.max(expected - i as f64 / n).max((i as f64 + 1.0) / n - expected);
    }
    worst * n.sqrt()
}

#[test]
fn ten_million_normal_numbers_are_normal() {
    let sample =
        draw(2024, Stream::Noise, [100, 100, N / 10_000], true).into_raw_vec_and_offset().0;

    // The powers of a normal number have these means and variances.
    let moments = [(0.0, 1.0), (1.0, 2.0), (0.0, 15.0), (3.0, 96.0)];
    for (power, (mean, variance)) in (1..).zip(moments) {
        let sum: f64 = sample.iter().map(|&x| f64::from(x).powi(power)).sum();
        let z = (sum / N as f64 - mean) / f64::sqrt(variance / N as f64);
        assert!(z.abs() < 3.3, "power {power}: z = {z}");
    }

    for (bound, probability) in [(3.0, 2.699_796e-3), (4.0, 6.334_248e-5), (5.0, 5.733_031e-7)] {
        // Counts of rare events are Poisson, with the variance of their mean.
        let beyond = sample.iter().filter(|x| x.abs() > bound).count() as f64;
        let expected = probability * N as f64;
        let z = (beyond - expected) / expected.sqrt();
        assert!(z.abs() < 3.3, "{beyond} beyond {bound}, {expected} expected");
    }

    let ks = kolmogorov_smirnov(sample, normal_cdf);
    assert!(ks < 1.95, "{ks}");
}

#[test]
fn ten_million_uniform_numbers_are_uniform() {
    let sample = draw(2025, Stream::Initialize, [10, 1000, N / 10_000], false);
    let sample = sample.into_raw_vec_and_offset().0;
    assert!(sample.iter().all(|u| (0.0..1.0).contains(u)));

    // Each of the three bytes: χ² with 255 degrees of freedom, standard deviation √510 = 22.6.
    for shift in [0, 8, 16] {
        let mut counts = [0_u32; 256];
        for &u in &sample {
            counts[((u * 16_777_216.0) as usize >> shift) & 255] += 1;
        }
        let expected = N as f64 / 256.0;
        let chi2: f64 = counts.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
        assert!((chi2 - 255.0).abs() < 3.3 * 22.6, "byte at bit {shift}: {chi2}");
    }

    let ks = kolmogorov_smirnov(sample, |u| u);
    assert!(ks < 1.95, "{ks}");
}

#[test]
fn first_numbers_of_neighboring_seeds_are_uniform() {
    let mut out = ndarray::Array2::zeros((1, 1));
    let mut first = Vec::new();
    for seed in 0..100_000 {
        let generator = Generator::new(seed);
        generator.uniform(InstructionSet::SCALAR, out.view_mut(), Stream::Noise, 0, 0).unwrap();
        first.push(out[[0, 0]]);
    }
    let ks = kolmogorov_smirnov(first, |u| u);
    assert!(ks < 1.95, "{ks}");
}

/// The means of `x·y` and of `(x²−1)(y²−1)` over all pairs, in standard deviations: the first
/// sees correlation, the second also a common radius.
fn check_independent(what: &str, x: ArrayView3<f32>, y: ArrayView3<f32>) {
    let (mut product, mut squares) = (0.0, 0.0);
    for (&x, &y) in x.iter().zip(&y) {
        let (x, y) = (f64::from(x), f64::from(y));
        product += x * y;
        squares += (x * x - 1.0) * (y * y - 1.0);
    }
    let n = x.len() as f64;
    // Variances under independence: 1 of xy, and 2·2 of (x²−1)(y²−1).
    let z = [product / n.sqrt(), squares / (2.0 * n.sqrt())];
    assert!(z.iter().all(|z| z.abs() < 3.3), "{what}: {z:?}");
}

#[test]
fn neighboring_numbers_are_independent() {
    let x = draw(31, Stream::Noise, [5, 300, 640], true);
    for lag in [1, 2, 16, 32, 48, 64, 128] {
        let (left, right) = (x.slice(s![.., .., ..-lag]), x.slice(s![.., .., lag..]));
        check_independent(&format!("columns {lag} apart"), left, right);
    }
    check_independent("rows", x.slice(s![.., ..-1, ..]), x.slice(s![.., 1.., ..]));
    check_independent("steps", x.slice(s![..-1, .., ..]), x.slice(s![1.., .., ..]));
    let transposed = x.slice(s![.., .., ..300]).permuted_axes([0, 2, 1]);
    let first_column = x.slice(s![.., 1.., ..1]);
    check_independent(
        "the first column and the first row",
        first_column,
        transposed.slice(s![.., 1.., ..1]),
    );
    for (what, seed, stream) in [("seeds", 32, Stream::Noise), ("streams", 31, Stream::Evaluate)] {
        check_independent(what, x.view(), draw(seed, stream, [5, 300, 640], true).view());
    }
}
