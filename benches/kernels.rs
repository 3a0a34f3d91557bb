//! Benchmarks of the kernels against ndarray's `dot` (matrixmultiply) and plain scalar loops. Every
//! result is checked before it is timed.
//!
//! ```text
//! cargo bench --bench kernels                       everything, a minute or two
//! cargo bench --bench kernels -- --quick product    a quick look at the products
//! cargo bench --bench kernels -- --test             the checks alone
//! ```
//! Products and elementary functions run on one thread. Criterion's "elements" are floating-point
//! operations for products and array elements for everything else. The training step has no peer
//! here; `benches/peers` compares it with whole frameworks.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group};
use elbo::gemm::{Panels, input_gradient, product, weight_gradient};
use elbo::loss::elbo::{Gradients, Inputs, Terms, forward_backward};
use elbo::loss::{Bernoulli, Kl, Prior, Reduction};
use elbo::random::{Generator, NORMAL_ERROR, Stream, philox4x32};
use elbo::simd::InstructionSet;
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, Vae};
use elbo::{Compute, math};
use ndarray::{Array2, Axis, linalg::general_mat_mul};
use std::hint::black_box;
use std::time::Duration;

/// Rows of a batch.
const BATCH: usize = 128;

/// Returns a matrix of pseudorandom numbers in [−1, 1) that use the full precision of f32.
fn matrix(rows: usize, columns: usize, salt: u64) -> Array2<f32> {
    let mut out = Array2::zeros((rows, columns));
    Generator::new(salt)
        .uniform(InstructionSet::detect(), out.view_mut(), Stream::Noise, 0, 0)
        .unwrap();
    out.mapv_into(|u| 2.0 * u - 1.0)
}

fn group<'c>(
    criterion: &'c mut Criterion,
    name: &str,
    work: usize,
) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group
        .throughput(Throughput::Elements(work as u64))
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    group
}

/// Asserts that two products agree within the worst-case rounding error of two sums of `length`
/// terms, each at most 1 in magnitude.
fn assert_close(found: &Array2<f32>, expected: &Array2<f32>, length: usize, who: &str) {
    let bound = length as f32 * f32::EPSILON * length as f32;
    for (at, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= bound, "{who}, element {at}: found {f}, expected {e}");
    }
}

/// Computes `out[i, j] = start[j] + Σ_l a(i, l)·b(j, l)` with a plain triple loop.
fn scalar_product(
    out: &mut Array2<f32>,
    length: usize,
    start: impl Fn(usize) -> f32,
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
) {
    for ((i, j), out) in out.indexed_iter_mut() {
        *out = (0..length).fold(start(j), |sum, l| sum + a(i, l) * b(j, l));
    }
}

/// Benchmarks the three products of each layer of 784-400-20, batch 128, on one thread.
fn products(criterion: &mut Criterion) {
    let compute = Compute::serial();
    for (k, n) in [(784, 400), (400, 40), (20, 400), (400, 784)] {
        let (x, weight, dy) = (matrix(BATCH, k, 1), matrix(n, k, 2), matrix(BATCH, n, 3));
        let bias: Vec<f32> = matrix(1, n, 4).iter().copied().collect();
        let bias_row = Array2::from_shape_vec((1, n), bias.clone()).unwrap();
        let panels = Panels::pack(weight.view(), &bias).unwrap();
        let shape = format!("{k}-{n}");
        let flop = 2 * BATCH * k * n;

        let mut y = Array2::zeros((BATCH, n));
        let mut y_dot = Array2::zeros((BATCH, n));
        let mut y_scalar = Array2::zeros((BATCH, n));
        let elbo =
            |y: &mut Array2<f32>| product(&compute, y.view_mut(), x.view(), &panels).unwrap();
        let dot = |y: &mut Array2<f32>| {
            y.assign(&bias_row);
            general_mat_mul(1.0, &x, &weight.t(), 1.0, y);
        };
        let scalar = |y: &mut Array2<f32>| {
            scalar_product(y, k, |n| bias[n], |b, k| x[[b, k]], |n, k| weight[[n, k]]);
        };
        elbo(&mut y);
        dot(&mut y_dot);
        scalar(&mut y_scalar);
        let oracle = Array2::from_shape_fn((BATCH, n), |(b, n)| {
            (0..k).fold(bias[n], |sum, k| x[[b, k]].mul_add(weight[[n, k]], sum))
        });
        assert_eq!(y, oracle, "product {shape}");
        assert_close(&y_dot, &oracle, k, "ndarray");
        assert_close(&y_scalar, &oracle, k, "scalar loop");
        let mut benches = group(criterion, "product", flop);
        benches.bench_function(BenchmarkId::new("elbo", &shape), |b| b.iter(|| elbo(&mut y)));
        benches.bench_function(BenchmarkId::new("ndarray", &shape), |b| b.iter(|| dot(&mut y_dot)));
        benches.bench_function(BenchmarkId::new("scalar loop", &shape), |b| {
            b.iter(|| scalar(&mut y_scalar));
        });
        benches.finish();

        let mut dx = Array2::zeros((BATCH, k));
        let mut dx_dot = Array2::zeros((BATCH, k));
        let mut dx_scalar = Array2::zeros((BATCH, k));
        let elbo = |dx: &mut Array2<f32>| {
            input_gradient(&compute, dx.view_mut(), dy.view(), &panels).unwrap();
        };
        let dot = |dx: &mut Array2<f32>| general_mat_mul(1.0, &dy, &weight, 0.0, dx);
        let scalar = |dx: &mut Array2<f32>| {
            scalar_product(dx, n, |_| 0.0, |b, n| dy[[b, n]], |k, n| weight[[n, k]]);
        };
        elbo(&mut dx);
        dot(&mut dx_dot);
        scalar(&mut dx_scalar);
        let oracle = Array2::from_shape_fn((BATCH, k), |(b, k)| {
            (0..n).fold(0.0, |sum, n| dy[[b, n]].mul_add(weight[[n, k]], sum))
        });
        assert_eq!(dx, oracle, "input gradient {shape}");
        assert_close(&dx_dot, &oracle, n, "ndarray");
        assert_close(&dx_scalar, &oracle, n, "scalar loop");
        let mut benches = group(criterion, "input gradient", flop);
        benches.bench_function(BenchmarkId::new("elbo", &shape), |b| b.iter(|| elbo(&mut dx)));
        benches
            .bench_function(BenchmarkId::new("ndarray", &shape), |b| b.iter(|| dot(&mut dx_dot)));
        benches.bench_function(BenchmarkId::new("scalar loop", &shape), |b| {
            b.iter(|| scalar(&mut dx_scalar));
        });
        benches.finish();

        let mut dpanels = Panels::zeros(k, n);
        let mut dweight_dot = Array2::zeros((n, k));
        let mut dweight_scalar = Array2::zeros((n, k));
        let mut dbias = dy.sum_axis(Axis(0));
        let elbo = |dpanels: &mut Panels| {
            weight_gradient(&compute, dpanels, x.view(), dy.view()).unwrap();
        };
        // `weight_gradient` also computes the bias gradient, so the alternatives must too.
        let mut dot = |dweight: &mut Array2<f32>| {
            general_mat_mul(1.0, &dy.t(), &x, 0.0, dweight);
            dbias.assign(&dy.sum_axis(Axis(0)));
        };
        let scalar = |dweight: &mut Array2<f32>| {
            scalar_product(dweight, BATCH, |_| 0.0, |n, b| dy[[b, n]], |k, b| x[[b, k]]);
            black_box(dy.sum_axis(Axis(0)));
        };
        elbo(&mut dpanels);
        dot(&mut dweight_dot);
        scalar(&mut dweight_scalar);
        let oracle = Array2::from_shape_fn((n, k), |(n, k)| {
            (0..BATCH).fold(0.0, |sum, b| x[[b, k]].mul_add(dy[[b, n]], sum))
        });
        assert_eq!(dpanels.weight(), oracle, "weight gradient {shape}");
        assert_close(&dweight_dot, &oracle, BATCH, "ndarray");
        assert_close(&dweight_scalar, &oracle, BATCH, "scalar loop");
        let mut benches = group(criterion, "weight gradient", flop);
        benches.bench_function(BenchmarkId::new("elbo", &shape), |b| b.iter(|| elbo(&mut dpanels)));
        benches.bench_function(BenchmarkId::new("ndarray", &shape), |b| {
            b.iter(|| dot(&mut dweight_dot));
        });
        benches.bench_function(BenchmarkId::new("scalar loop", &shape), |b| {
            b.iter(|| scalar(&mut dweight_scalar));
        });
        benches.finish();
    }
}

/// Computes the objective and its gradients with plain loops, and returns the batch mean of the loss.
fn scalar_objective(
    [dlogits, dmu, dlogvar]: [&mut Array2<f32>; 3],
    [logits, targets, mu, logvar]: [&Array2<f32>; 4],
) -> f64 {
    let scale = 1.0 / logits.nrows() as f32;
    let mut sum = 0.0_f64;
    for ((d, &l), &t) in dlogits.iter_mut().zip(logits).zip(targets) {
        sum += f64::from(l.max(0.0) - l * t + (-l.abs()).exp().ln_1p());
        *d = (1.0 / (1.0 + (-l).exp()) - t) * scale;
    }
    for (((dm, dv), &m), &v) in dmu.iter_mut().zip(dlogvar).zip(mu).zip(logvar) {
        sum += f64::from(0.5 * (m * m + v.exp_m1() - v));
        *dm = m * scale;
        *dv = 0.5 * v.exp_m1() * scale;
    }
    sum * f64::from(scale)
}

/// Benchmarks binary cross-entropy from logits plus KL, with all gradients: 784 features, 20 latent
/// dimensions.
fn loss(criterion: &mut Criterion) {
    for rows in [128, 1024, 16_384] {
        let (d, z) = (784, 20);
        let logits = matrix(rows, d, 1).mapv_into(|l| 6.0 * l);
        let targets = matrix(rows, d, 2).mapv_into(|t| t.max(0.0));
        let (mu, logvar) = (matrix(rows, z, 3), matrix(rows, z, 4));
        let buffers = || [(rows, d), (rows, z), (rows, z)].map(Array2::<f32>::zeros);
        let fused = |compute: &Compute, gradients: &mut [Array2<f32>; 3]| {
            let [doutputs, dmu, dlogvar] = gradients.each_mut().map(|g| g.view_mut());
            let inputs = Inputs {
                outputs: logits.view(),
                targets: targets.view(),
                mu: mu.view(),
                logvar: logvar.view(),
                prior: Prior::default(),
            };
            let gradients = Gradients { doutputs, dmu, dlogvar };
            let terms = Terms { reconstruction: Bernoulli, penalty: Kl, beta: 1.0 };
            forward_backward(compute, terms, gradients, inputs, Reduction::BatchMean).unwrap().loss
        };
        let scalar = |gradients: &mut [Array2<f32>; 3]| {
            scalar_objective(gradients.each_mut(), [&logits, &targets, &mu, &logvar])
        };
        let serial = Compute::serial();
        let parallel = Compute::parallel().unwrap();

        let (mut found, mut expected) = (buffers(), buffers());
        let (value, reference) = (fused(&serial, &mut found), scalar(&mut expected));
        assert!(
            (value - reference).abs() <= 1e-6 * reference,
            "found {value}, expected {reference}"
        );
        for (found, expected) in found.iter().zip(&expected) {
            for (f, e) in found.iter().zip(expected) {
                assert!((f - e).abs() <= 1e-6 / rows as f32, "found {f}, expected {e}");
            }
        }
        let mut on_threads = buffers();
        assert_eq!(fused(&parallel, &mut on_threads), value);
        assert_eq!(on_threads, found);

        let mut benches = group(criterion, "loss and gradients", rows * d);
        benches.bench_function(BenchmarkId::new("elbo", rows), |b| {
            b.iter(|| fused(&serial, &mut found));
        });
        let name = format!("elbo, {} threads", parallel.threads());
        benches.bench_function(BenchmarkId::new(name, rows), |b| {
            parallel.install(|| b.iter(|| fused(&parallel, &mut on_threads)));
        });
        benches.bench_function(BenchmarkId::new("scalar loop", rows), |b| {
            b.iter(|| scalar(&mut expected));
        });
        benches.finish();
    }
}

/// Benchmarks an elementary function over `x` against the standard library's.
fn function(
    criterion: &mut Criterion,
    name: &str,
    x: &[f32],
    elbo: fn(InstructionSet, &mut [f32], &[f32]) -> elbo::Result<()>,
    max_ulp: f64,
    exact: fn(f64) -> f64,
    scalar: fn(f32) -> f32,
) {
    let simd = InstructionSet::detect();
    let mut out = vec![f32::NAN; x.len()];
    elbo(simd, &mut out, x).unwrap();
    for (&x, &found) in x.iter().zip(&out) {
        let exact = exact(f64::from(x));
        // An upper bound of one ULP; it is reached at the lower end of a binade.
        let ulp = f64::from(f32::EPSILON) * exact.abs();
        assert!((f64::from(found) - exact).abs() <= max_ulp * ulp, "{name}({x}) = {found}");
    }
    let mut benches = group(criterion, name, x.len());
    benches.bench_function("elbo", |b| b.iter(|| elbo(simd, &mut out, black_box(x))));
    benches.bench_function("scalar loop", |b| {
        b.iter(|| {
            for (out, &x) in out.iter_mut().zip(black_box(x)) {
                *out = scalar(x);
            }
        });
    });
    benches.finish();
}

/// Benchmarks the elementary functions on 4,096 elements, which stay in cache.
fn mathematics(criterion: &mut Criterion) {
    use math::*;
    let c = criterion;
    let x: Vec<f32> = matrix(1, 4096, 1).iter().map(|x| 8.0 * x).collect();
    let positive: Vec<f32> = x.iter().map(|x| x.abs() + 1e-3).collect();
    function(c, "exp", &x, exp, EXP_MAX_ULP, f64::exp, f32::exp);
    function(c, "expm1", &x, expm1, EXPM1_MAX_ULP, f64::exp_m1, f32::exp_m1);
    function(c, "log", &positive, log, LOG_MAX_ULP, f64::ln, f32::ln);
    function(c, "log1p", &positive, log1p, LOG1P_MAX_ULP, f64::ln_1p, f32::ln_1p);
    let exact = |x: f64| 1.0 / (1.0 + (-x).exp());
    let plain = |x: f32| 1.0 / (1.0 + (-x).exp());
    function(c, "sigmoid", &x, sigmoid, SIGMOID_MAX_ULP, exact, plain);
    let exact = |x: f64| x.exp().ln_1p();
    let plain = |x: f32| x.max(0.0) + (-x.abs()).exp().ln_1p();
    function(c, "softplus", &x, softplus, SOFTPLUS_MAX_ULP, exact, plain);
    function(c, "tanh", &x, tanh, TANH_MAX_ULP, f64::tanh, f32::tanh);
}

/// Benchmarks normal noise for 20 latent dimensions against a plain Box-Muller transform of the
/// same random words.
fn noise(criterion: &mut Criterion) {
    let columns = 20;
    let (seed, step) = (7_u64, 3_u64);
    let draw = |out: &mut Array2<f32>| {
        let simd = InstructionSet::detect();
        Generator::new(seed).normal(simd, out.view_mut(), Stream::Noise, step, 0).unwrap();
    };
    let scalar = |out: &mut Array2<f32>| {
        let row_major = out.as_slice_mut().expect("standard layout");
        for (row, out) in row_major.chunks_exact_mut(columns).enumerate() {
            for block in 0..16 {
                let counter =
                    [block as u32 | (Stream::Noise as u32) << 24, row as u32, step as u32, 0];
                let words = philox4x32(counter, [seed as u32, 0]);
                for pair in 0..2 {
                    let u = (words[2 * pair] | 1) as f32 * 2.0_f32.powi(-32);
                    let turns = words[2 * pair + 1] as f32 * 2.0_f32.powi(-32);
                    let radius = (-2.0 * u.ln()).sqrt();
                    let (sin, cos) = (std::f32::consts::TAU * turns).sin_cos();
                    for (column, value) in [(32 * pair + block, cos), (32 * pair + 16 + block, sin)]
                    {
                        if let Some(out) = out.get_mut(column) {
                            *out = radius * value;
                        }
                    }
                }
            }
        }
    };
    let mut out = Array2::zeros((BATCH, columns));
    let mut plain = Array2::zeros((BATCH, columns));
    draw(&mut out);
    scalar(&mut plain);
    for (found, expected) in out.iter().zip(&plain) {
        // The plain loop rounds the angle to f32 twice, for a total error of 8e-7; the radius is
        // below 6.67.
        let bound = NORMAL_ERROR + 6.67 * 1e-6;
        assert!((found - expected).abs() <= bound, "found {found}, expected {expected}");
    }
    let mut benches = group(criterion, "noise", BATCH * columns);
    benches.bench_function("elbo", |b| b.iter(|| draw(&mut out)));
    benches.bench_function("scalar loop", |b| b.iter(|| scalar(&mut plain)));
    benches.finish();
}

/// Benchmarks a training step of 784-400-20, batch 128: gathering rows, noise, forward pass, loss,
/// backward pass, Adam.
fn training_step(criterion: &mut Criterion) {
    let data = matrix(16 * BATCH, 784, 5).mapv_into(|x| x.max(0.0));
    let trainer = |compute: Compute| {
        let config = Config::builder(784, 20).hidden(&[400]).build().unwrap();
        let options = Options { batch: BATCH, ..Options::default() };
        Trainer::new(Vae::new(config, 1), options, compute).unwrap()
    };
    let mut serial = trainer(Compute::serial());
    let compute = Compute::parallel().unwrap();
    let mut parallel = trainer(compute.clone());
    let mut losses = Vec::new();
    for _ in 0..8 {
        let step = serial.step(&data).unwrap().expect("the epoch has 16 steps");
        assert_eq!(parallel.step(&data).unwrap(), Some(step));
        losses.push(step.loss);
    }
    assert!(losses[7] < losses[0], "training does not reduce the loss: {losses:?}");
    assert!(serial.vae().parameters()[..] == parallel.vae().parameters()[..]);

    // `step` returns `None` at the end of an epoch; that call is not a training step.
    let next = |trainer: &mut Trainer| while trainer.step(&data).unwrap().is_none() {};
    let mut benches = group(criterion, "training step", BATCH);
    benches.bench_function("elbo", |b| b.iter(|| next(&mut serial)));
    benches.bench_function(format!("elbo, {} threads", compute.threads()), |b| {
        compute.install(|| b.iter(|| next(&mut parallel)));
    });
    benches.finish();
}

/// Benchmarks `decode(μ(x))` of 784-400-20 for 1 and 64 rows: elbo with preallocated memory,
/// ndarray's `dot` layer by layer, and plain loops.
fn inference(criterion: &mut Criterion) {
    let config = Config::builder(784, 20).hidden(&[400]).build().unwrap();
    let vae = Vae::new(config, 1);
    let relu = |y: f32| y.max(0.0);
    let activations: [fn(f32) -> f32; 4] = [relu, |y| y, relu, |l| 1.0 / (1.0 + (-l).exp())];
    let layers = ["encoder.0", "mu", "decoder.0", "decoder.1"].map(|name| {
        let parameters = vae.parameters();
        (parameters.weight(name).unwrap(), parameters.bias(name).unwrap())
    });
    let compute = Compute::serial();
    let parallel = Compute::parallel().unwrap();
    for rows in [1, 64] {
        let x = matrix(rows, 784, 1).mapv_into(|x| x.max(0.0));
        let dot = || {
            let mut y = x.clone();
            for ((weight, bias), activation) in layers.iter().zip(activations) {
                y = (y.dot(&weight.t()) + bias).mapv_into(activation);
            }
            y
        };
        let scalar = || {
            let mut y = x.clone();
            for ((weight, bias), activation) in layers.iter().zip(activations) {
                let mut out = Array2::zeros((rows, bias.len()));
                let k = weight.ncols();
                scalar_product(&mut out, k, |n| bias[n], |b, k| y[[b, k]], |n, k| weight[[n, k]]);
                y = out.mapv_into(activation);
            }
            y
        };
        let mut serial = vae.inference(&compute);
        let mut shared = vae.inference(&parallel);
        let mut pixels = Array2::zeros((rows, 784));
        serial.reconstruct(pixels.view_mut(), x.view()).unwrap();
        for (who, other) in [("ndarray", dot()), ("scalar loop", scalar())] {
            for (found, other) in pixels.iter().zip(&other) {
                assert!((found - other).abs() < 1e-5, "{who}: found {other}, expected {found}");
            }
        }
        let mut again = Array2::zeros((rows, 784));
        shared.reconstruct(again.view_mut(), x.view()).unwrap();
        assert_eq!(pixels, again);

        let mut benches = group(criterion, "inference", rows);
        benches.bench_function(BenchmarkId::new("elbo", rows), |b| {
            b.iter(|| serial.reconstruct(pixels.view_mut(), black_box(x.view())).unwrap());
        });
        let name = format!("elbo, {} threads", parallel.threads());
        benches.bench_function(BenchmarkId::new(name, rows), |b| {
            parallel.install(|| {
                b.iter(|| shared.reconstruct(again.view_mut(), black_box(x.view())).unwrap());
            });
        });
        benches.bench_function(BenchmarkId::new("ndarray", rows), |b| b.iter(dot));
        benches.bench_function(BenchmarkId::new("scalar loop", rows), |b| b.iter(scalar));
        benches.finish();
    }
}

criterion_group!(benches, products, loss, mathematics, noise, training_step, inference);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
}
