use super::pairs::{FirstPass, Prepare};
use super::*;
use crate::loss::kl::NormalKl;
use crate::loss::testing::reference;
use crate::simd::InstructionSet;
use ndarray::Array2;

/// Samples near their means, whose means lie on a line, as in a model that has learned something.
fn batch(rows: usize, latent: usize, sigma: f32) -> [Array2<f32>; 3] {
    let wave = |i: usize, d: usize| ((i * 37 + d * 11 + i * d) % 101) as f32 / 50.0 - 1.0;
    let mu = Array2::from_shape_fn((rows, latent), |(i, d)| wave(i, d) * 1.5);
    let logvar = Array2::from_shape_fn((rows, latent), |(i, d)| {
        2.0 * sigma.ln() + 0.7 * wave(i + 13, d + 3)
    });
    let z = Array2::from_shape_fn((rows, latent), |(i, d)| {
        mu[[i, d]] + (logvar[[i, d]] / 2.0).exp() * 1.4 * wave(i * 5 + 1, d + 7)
    });
    [z, mu, logvar]
}

fn run(
    compute: &Compute,
    [z, mu, logvar]: &[Array2<f32>; 3],
    weights: TcWeights,
    prior: Prior,
) -> (Decomposition, [Array2<f32>; 3]) {
    let mut gradients = [z, z, z].map(|z| Array2::from_elem(z.dim(), f32::NAN));
    let [dz, dmu, dlogvar] = gradients.each_mut().map(|g| g.view_mut());
    let views = Gradients { dz, dmu, dlogvar };
    let inputs = Inputs { z: z.view(), mu: mu.view(), logvar: logvar.view(), prior };
    let parts = forward_backward(compute, views, inputs, weights, 1000).unwrap();
    let alone = forward(compute, inputs, 1000).unwrap();
    assert_eq!(parts, alone, "forward and backward differ");
    (parts, gradients)
}

const WEIGHTS: TcWeights = TcWeights { alpha: 0.7, beta: 6.0, gamma: 1.3 };
const PRIOR: Prior = Prior { mean: 0.25, std: 1.5 };

#[test]
fn agrees_with_the_twin() {
    let compute = Compute::serial();
    for (rows, latent, sigma) in [
        (1, 1, 0.5),
        (2, 3, 0.5),
        (15, 1, 0.1),
        (16, 5, 1.0),
        (17, 4, 0.02),
        (64, 3, 0.3),
        (65, 10, 0.5),
        (130, 7, 1e-4),
        (200, 20, 0.8),
    ] {
        let inputs = batch(rows, latent, sigma);
        let (parts, gradients) = run(&compute, &inputs, WEIGHTS, PRIOR);
        let twin = reference::total_correlation(&inputs, WEIGHTS, 1000, PRIOR);
        let what = format!("{rows}x{latent}, sigma {sigma}");
        let found = [parts.mutual_information, parts.total_correlation, parts.dimension_wise_kl];
        for (found, exact) in found.into_iter().zip(twin.parts) {
            let error = (found - exact).abs() / twin.magnitude;
            assert!(error < 1e-6, "{what}: {found} {exact}, off by {error:e}");
        }
        for (which, (found, exact)) in gradients.iter().zip(&twin.gradients).enumerate() {
            for ((i, d), &found) in found.indexed_iter() {
                let (exact, size) = (exact.0[[i, d]], exact.1[[i, d]]);
                let error = (f64::from(found) - exact).abs() / f64::max(size, 1e-30);
                assert!(error < 1e-5, "{what}, {which}[{i}, {d}]: {found} {exact} {error:e}");
            }
        }
    }
}

#[test]
fn twin_has_the_gradient_of_its_value() {
    let inputs = batch(9, 3, 0.5);
    let twin = reference::total_correlation(&inputs, WEIGHTS, 1000, PRIOR);
    for (which, (gradients, _)) in twin.gradients.iter().enumerate() {
        for ((i, d), &exact) in gradients.indexed_iter() {
            let at = |step: f32| {
                let mut moved = inputs.clone();
                moved[which][[i, d]] += step;
                let width = f64::from(moved[which][[i, d]]) - f64::from(inputs[which][[i, d]]);
                let parts = reference::total_correlation(&moved, WEIGHTS, 1000, PRIOR).parts;
                (0.7_f32.into(), 6.0, 1.3_f32.into(), parts, width)
            };
            let value = |(a, b, c, parts, _): (f64, f64, f64, [f64; 3], f64)| {
                a * parts[0] + b * parts[1] + c * parts[2]
            };
            let (above, below) = (at(1e-3), at(-1e-3));
            let slope = (value(above) - value(below)) / (above.4 - below.4);
            assert!((slope - exact).abs() < 3e-5, "{which}[{i}, {d}]: {slope} {exact}");
        }
    }
}

#[test]
fn has_the_same_bits_on_all_threads_and_sets() {
    for (rows, latent) in [(1, 1), (31, 2), (128, 10), (201, 5)] {
        let inputs = batch(rows, latent, 0.4);
        let scalar = Compute::new(InstructionSet::SCALAR, 1).unwrap();
        let expected = run(&scalar, &inputs, WEIGHTS, PRIOR);
        for set in InstructionSet::available() {
            for threads in [1, 2, 5] {
                let compute = Compute::new(set, threads).unwrap();
                let found = run(&compute, &inputs, WEIGHTS, PRIOR);
                assert_eq!(found, expected, "{rows}x{latent}, {set}, {threads} threads");
            }
        }
    }
}

/// With equal weights the two unknown densities cancel: what is left is ln q(z|x) − ln p(z).
#[test]
fn equal_weights_give_the_divergence() {
    let compute = Compute::serial();
    let inputs = batch(40, 4, 0.3);
    let [z, mu, logvar] = &inputs;
    let (parts, [dz, dmu, dlogvar]) =
        run(&compute, &inputs, TcWeights::default(), Prior::default());
    let mut sum = 0.0;
    for ((i, d), &z) in z.indexed_iter() {
        let (z, mu, v) = (f64::from(z), f64::from(mu[[i, d]]), f64::from(logvar[[i, d]]));
        let u = (z - mu) * (-v).exp();
        sum += 0.5 * (z * z - v - (z - mu) * u);
        assert!((f64::from(dz[[i, d]]) - (z - u) / 40.0).abs() < 2e-6);
        assert!((f64::from(dmu[[i, d]]) - u / 40.0).abs() < 2e-6);
        assert!((f64::from(dlogvar[[i, d]]) - 0.5 * ((z - mu) * u - 1.0) / 40.0).abs() < 2e-6);
    }
    let whole = parts.weighted(TcWeights::default());
    assert!((whole - sum / 40.0).abs() < 1e-4, "{whole} {}", sum / 40.0);
}

/// Parts and gradients of half the rows at z = μ = 0 and half at `distance`, with v = 0, Z = 1 and N = 1, in
/// closed form: two distinct rows stand for all. With each gradient the magnitude of its terms.
fn of_two_values(rows: f64, distance: f64, weights: TcWeights) -> ([f64; 3], [[f64; 2]; 3]) {
    let [alpha, beta, gamma] = [weights.alpha, weights.beta, weights.gamma].map(f64::from);
    let ln_2_pi = std::f64::consts::TAU.ln();
    // ln N(z; μ_j, 1) of the own value and of the other one.
    let (own, other) = (-0.5 * ln_2_pi, -0.5 * (distance * distance + ln_2_pi));
    let mixture = (0.5 * own.exp() + 0.5 * other.exp()).ln();
    let prior = -0.5 * (0.5 * distance * distance + ln_2_pi);
    // For Z = 1 the joint is the marginal: no total correlation.
    let parts = [own - mixture, 0.0, mixture - prior];
    // a = b: of each of the B/2 rows of the other value.
    let a = (other - mixture).exp() / rows;
    let far = 0.5 * rows * a;
    let near = 1.0 - far;
    let weight = (beta - alpha) + (gamma - beta);
    // Of the row at `distance`: u = 0 of its own value, `distance` of the other one.
    let dz = (-weight * far * distance + gamma * distance) / rows;
    let dmu = -weight * far * distance / rows;
    let dlogvar = 0.5 * (weight * (far * (distance * distance - 1.0) - near) - alpha) / rows;
    let spread = (beta - alpha).abs() + (gamma - beta).abs();
    let of_dz = (spread * far * distance + gamma * distance) / rows;
    let of_dmu = spread * far * distance / rows;
    let of_dlogvar = (spread * (far * (distance * distance + 1.0) + near) + alpha) / rows;
    (parts, [[dz, of_dz], [dmu, of_dmu], [dlogvar, of_dlogvar]])
}

/// Rows repeated thousands of times, whose terms all round alike.
#[test]
fn bounds_hold_for_many_rows_of_few_values() {
    let compute = Compute::new(InstructionSet::detect(), 2).unwrap();
    for (rows, distance) in [(1024, 1.0_f32), (4096, 1.0), (4096, 2.0), (6000, 0.7)] {
        let z =
            Array2::from_shape_fn((rows, 1), |(i, _)| if 2 * i < rows { 0.0 } else { distance });
        let logvar = Array2::zeros((rows, 1));
        let mut gradients = [(); 3].map(|()| Array2::from_elem((rows, 1), f32::NAN));
        let [dz, dmu, dlogvar] = gradients.each_mut().map(|g| g.view_mut());
        let prior = Prior::default();
        let inputs = Inputs { z: z.view(), mu: z.view(), logvar: logvar.view(), prior };
        let views = Gradients { dz, dmu, dlogvar };
        let parts = forward_backward(&compute, views, inputs, WEIGHTS, 1).unwrap();
        let (exact, of_gradients) = of_two_values(rows as f64, distance.into(), WEIGHTS);
        let found = [parts.mutual_information, parts.total_correlation, parts.dimension_wise_kl];
        for (found, exact) in found.into_iter().zip(exact) {
            assert!((found - exact).abs() < 1e-5, "{rows}, {distance}: {found} {exact}");
        }
        for (which, (found, [exact, size])) in gradients.iter().zip(of_gradients).enumerate() {
            for &found in found.iter().skip(rows / 2) {
                let error = (f64::from(found) - exact).abs() / size;
                assert!(error < 1e-5, "{rows}, {distance}, {which}: {found} {exact}, {error:e}");
            }
        }
    }
    let rows = 20_000;
    let z = Array2::from_shape_fn((rows, 1), |(i, _)| (i % 2) as f32);
    let logvar = Array2::zeros((rows, 1));
    let prior = Prior::default();
    let inputs = Inputs { z: z.view(), mu: z.view(), logvar: logvar.view(), prior };
    let parts = over_data_set(&compute, inputs).unwrap();
    let (exact, _) = of_two_values(rows as f64, 1.0, WEIGHTS);
    assert!((parts.mutual_information - exact[0]).abs() < 1e-5, "{parts:?} {exact:?}");
}

/// Sixteen of 65,536 rows: the sums over j are as long as for all of them. Repeated rows, and rows that
/// come nearer to z from tile to tile.
#[test]
fn sums_over_many_rows_stay_accurate() {
    let rows = 65_536;
    let repeated = |j: usize| (j % 2) as f32 * 1.5;
    let nearer = |j: usize| 6.0 - 6.0 * j as f32 / rows as f32;
    let nearer_by_tiles = |j: usize| 12.0 - 12.0 * (j / 64) as f32 / 1024.0;
    let far = |j: usize| 20.0 + (j % 7) as f32 * 0.1;
    let all: [&dyn Fn(usize) -> f32; 4] = [&repeated, &nearer, &nearer_by_tiles, &far];
    for (which, mean) in all.into_iter().enumerate() {
        let mut scratch = TotalCorrelation::default();
        scratch.reserve(rows, 1);
        // v rounds to a tenth, so the densities have all digits.
        let logvar = |j: usize| (j % 3) as f32 * 0.1;
        for j in 0..rows {
            // Only the first sixteen z are looked at.
            scratch.set_row(j, &[(j % 16) as f32 * 0.02], &[mean(j)], &[logvar(j)]);
        }
        let ln_weight = ln_weight(1, rows).unwrap();
        let coefficients = Some(WEIGHTS.coefficients(1.0));
        for set in InstructionSet::available() {
            let dimension = &mut scratch.dimensions[0];
            set.dispatch(Prepare { dimension, rows });
            let (group, dimensions) = (&mut scratch.groups[0], &scratch.dimensions[..1]);
            group.reserve_weights(rows);
            let (index, prior) = (0, NormalKl::new(Prior::default()));
            set.dispatch(FirstPass {
                group,
                index,
                dimensions,
                rows,
                ln_weight,
                prior,
                coefficients,
            });
            for i in 0..16 {
                let z = f64::from(i as f32 * 0.02);
                let density = |j: usize| {
                    let v = f64::from(logvar(j));
                    -0.5 * ((z - f64::from(mean(j))).powi(2) * (-v).exp() + v + 1.837_877_066)
                };
                let highest = (0..rows).map(density).fold(f64::MIN, f64::max);
                let sum: f64 = (0..rows).map(|j| (density(j) - highest).exp()).sum();
                let exact = highest + sum.ln() - ln_weight;
                // ln q(z) and ln Π q(z_d), which are the same for Z = 1.
                let [_, joint, product, _] = scratch.groups[0].logs.map(|lanes| lanes[i]);
                for found in [joint, product] {
                    let size = highest.abs() + sum.ln() + ln_weight;
                    let error = (found - exact).abs() / size;
                    assert!(error < 2e-6, "{set}, {which}, row {i}: {found} {exact} {error:e}");
                }
            }
        }
    }
}

/// Means so far apart that every density but a row's own vanishes, and that one too in f32.
#[test]
fn handles_densities_below_the_range_of_floats() {
    let compute = Compute::serial();
    let rows = 20;
    let mu = Array2::from_shape_fn((rows, 2), |(i, _)| i as f32 * 50.0);
    // Row 0 is so narrow that its density at its mean is e^42 times that of the others at theirs,
    // and the square of their distance in its units beyond f32.
    let logvar = Array2::from_shape_fn((rows, 2), |(i, _)| if i == 0 { -84.0 } else { 0.0 });
    let inputs = [mu.clone(), mu, logvar];
    let (parts, gradients) = run(&compute, &inputs, WEIGHTS, Prior::default());
    let twin = reference::total_correlation(&inputs, WEIGHTS, 1000, Prior::default());
    for (found, exact) in [
        (parts.mutual_information, twin.parts[0]),
        (parts.total_correlation, twin.parts[1]),
        (parts.dimension_wise_kl, twin.parts[2]),
    ] {
        assert!((found - exact).abs() < 1e-6 * twin.magnitude, "{found} {exact}");
    }
    assert!(gradients.iter().all(|g| g.iter().all(|v| v.is_finite())));
}

#[test]
fn shows_inputs_that_are_not_finite() {
    let compute = Compute::serial();
    for which in 0..3 {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut inputs = batch(20, 3, 0.5);
            inputs[which][[7, 1]] = bad;
            let [z, mu, logvar] = &inputs;
            let prior = Prior::default();
            let views = Inputs { z: z.view(), mu: mu.view(), logvar: logvar.view(), prior };
            let parts = forward(&compute, views, 100).unwrap();
            let sum = parts.weighted(TcWeights::default());
            assert!(!sum.is_finite(), "{which} {bad}: {parts:?}");
        }
    }
}

#[test]
fn warm_scratch_has_the_bits_of_a_new_one() {
    let compute = Compute::new(InstructionSet::detect(), 2).unwrap();
    let mut warm = TotalCorrelation::default();
    for (rows, latent) in [(100, 6), (33, 6), (7, 2), (100, 6)] {
        let inputs = batch(rows, latent, 0.4);
        let [z, mu, logvar] = &inputs;
        warm.reserve(rows, latent);
        for i in 0..rows {
            let row = |a: &Array2<f32>| a.row(i).to_vec();
            warm.set_row(i, &row(z), &row(mu), &row(logvar));
        }
        let scale = (1.0 / rows as f64) as f32;
        let ln_weight = ln_weight(1000, rows).unwrap();
        let parts = warm.forward_backward(&compute, WEIGHTS, ln_weight, PRIOR, scale);
        let (expected, gradients) = run(&compute, &inputs, WEIGHTS, PRIOR);
        assert_eq!(parts, expected);
        for i in 0..rows {
            let mut row = vec![[1.0; 3]; latent].concat();
            let (dz, rest) = row.split_at_mut(latent);
            let (dmu, dlogvar) = rest.split_at_mut(latent);
            warm.gradient_row(i, dz, dmu, dlogvar);
            for (k, &found) in row.iter().enumerate() {
                assert_eq!(found, 1.0 + gradients[k / latent][[i, k % latent]]);
            }
        }
    }
}

#[test]
fn rejects_arguments_that_do_not_fit() {
    let compute = Compute::serial();
    let [z, mu, logvar] = batch(4, 3, 0.5);
    let [_, other, _] = batch(4, 2, 0.5);
    let prior = Prior::default();
    let inputs = Inputs { z: z.view(), mu: mu.view(), logvar: logvar.view(), prior };
    let wrong = Inputs { mu: other.view(), ..inputs };
    let message = forward(&compute, wrong, 10).unwrap_err().to_string();
    assert_eq!(message, "`mu`: expected shape [4, 3], found [4, 2]");
    let message = forward(&compute, inputs, 0).unwrap_err().to_string();
    assert!(message.starts_with("`dataset_size`: expected at least 1"));
    let empty = Array2::zeros((0, 3));
    let nothing = Inputs { z: empty.view(), mu: empty.view(), logvar: empty.view(), prior };
    assert!(forward(&compute, nothing, 10).unwrap_err().to_string().starts_with("`z`"));
    assert!(TcWeights { beta: -1.0, ..WEIGHTS }.validate().is_err());
}

/// `cargo test --release --lib total_correlation::tests::speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn speed() {
    use std::time::Instant;
    for threads in [1, 2] {
        let compute = Compute::new(InstructionSet::detect(), threads).unwrap();
        for rows in [128, 1024] {
            for latent in [10, 20, 64] {
                let [z, mu, logvar] = batch(rows, latent, 0.5);
                let mut scratch = TotalCorrelation::default();
                scratch.reserve(rows, latent);
                let mut seconds = Vec::new();
                for _ in 0..(30_000_000 / (rows * rows * latent)).clamp(5, 50) {
                    for i in 0..rows {
                        let row = |a: &Array2<f32>| a.row(i).to_vec();
                        scratch.set_row(i, &row(&z), &row(&mu), &row(&logvar));
                    }
                    let start = Instant::now();
                    scratch.forward_backward(&compute, WEIGHTS, 10.0, PRIOR, 1.0);
                    seconds.push(start.elapsed().as_secs_f64());
                }
                seconds.sort_by(f64::total_cmp);
                let (best, median) = (seconds[0], seconds[seconds.len() / 2]);
                // Each pair has its exponential in both passes.
                let exps = (2 * rows * rows * latent) as f64;
                println!(
                    "{threads} threads, B={rows}, Z={latent}: best {:.3} ms, median {:.3} ms, \
                     {:.2} G exponentials/s",
                    best * 1e3,
                    median * 1e3,
                    exps / best / 1e9
                );
            }
        }
    }
}
