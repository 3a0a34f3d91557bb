use super::*;
use crate::simd::InstructionSet;
use ndarray::{Array2, ArrayView1};
use proptest::prelude::*;

/// One row in f64: y, x̂, s.
fn twin(x: &[f64], gain: &[f64], shift: &[f64]) -> (Vec<f64>, Vec<f64>, f64) {
    let columns = x.len() as f64;
    let mean = x.iter().sum::<f64>() / columns;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / columns;
    let inverse_std = 1.0 / (variance + EPSILON).sqrt();
    let normalized: Vec<f64> = x.iter().map(|x| (x - mean) * inverse_std).collect();
    let y = (0..x.len()).map(|i| gain[i] * normalized[i] + shift[i]).collect();
    (y, normalized, inverse_std)
}

/// The gradient of x in f64.
fn twin_backward(dy: &[f64], normalized: &[f64], gain: &[f64], inverse_std: f64) -> Vec<f64> {
    let columns = dy.len() as f64;
    let g: Vec<f64> = dy.iter().zip(gain).map(|(dy, gain)| dy * gain).collect();
    let mean = g.iter().sum::<f64>() / columns;
    let along = g.iter().zip(normalized).map(|(g, n)| g * n).sum::<f64>() / columns;
    g.iter().zip(normalized).map(|(g, n)| inverse_std * (g - mean - n * along)).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

struct Run {
    y: Array2<f32>,
    normalized: Array2<f32>,
    inverse_std: Vec<f32>,
    dx: Array2<f32>,
    dgain: Vec<f32>,
    dshift: Vec<f32>,
}

fn run(set: InstructionSet, x: &Array2<f32>, dy: &Array2<f32>, gain: &[f32], shift: &[f32]) -> Run {
    run_on(&Compute::new(set, 1).unwrap(), x, dy, gain, shift)
}

fn run_on(
    compute: &Compute,
    x: &Array2<f32>,
    dy: &Array2<f32>,
    gain: &[f32],
    shift: &[f32],
) -> Run {
    let array = || Array2::from_elem(x.dim(), f32::NAN);
    let (mut y, mut normalized, mut dx) = (array(), array(), array());
    let mut inverse_std = vec![f32::NAN; x.nrows()];
    let (mut dgain, mut dshift) = (vec![f32::NAN; x.ncols()], vec![f32::NAN; x.ncols()]);
    forward(compute, y.view_mut(), normalized.view_mut(), &mut inverse_std, x.view(), gain, shift)
        .unwrap();
    backward(
        compute,
        dx.view_mut(),
        &mut dgain,
        &mut dshift,
        dy.view(),
        normalized.view(),
        &inverse_std,
        gain,
    )
    .unwrap();
    Run { y, normalized, inverse_std, dx, dgain, dshift }
}

#[test]
fn matches_pytorch() {
    let text = include_str!("../../../tests/golden/layer_norm.json");
    let golden: serde_json::Value = serde_json::from_str(text).unwrap();
    let numbers = |name: &str| -> Vec<f64> {
        let rows = golden[name].as_array().unwrap().iter();
        rows.flat_map(|row| row.as_array().cloned().unwrap_or_else(|| vec![row.clone()]))
            .map(|v| v.as_f64().unwrap())
            .collect()
    };
    let single = |name| numbers(name).into_iter().map(|v| v as f32).collect::<Vec<f32>>();
    let array = |name| Array2::from_shape_vec((3, 7), single(name)).unwrap();
    for set in InstructionSet::available() {
        let found = run(set, &array("x"), &array("dy"), &single("gain"), &single("shift"));
        let close = |found: &[f32], name: &str| {
            for (found, exact) in found.iter().zip(numbers(name)) {
                assert!((f64::from(*found) - exact).abs() < 3e-6, "{set}, {name}: {found} {exact}");
            }
        };
        close(found.y.as_slice().unwrap(), "y");
        close(found.dx.as_slice().unwrap(), "dx");
        close(&found.dgain, "dgain");
        close(&found.dshift, "dshift");
    }
}

#[test]
fn twin_gradient_matches_finite_differences() {
    let x: Vec<f64> = (0..9).map(|i| (f64::from(i) * 1.7).sin() * 2.0 + 0.3).collect();
    let dy: Vec<f64> = (0..9).map(|i| (f64::from(i) * 2.9).cos()).collect();
    let gain: Vec<f64> = (0..9).map(|i| 0.5 + f64::from(i) * 0.2).collect();
    let (_, normalized, inverse_std) = twin(&x, &gain, &[0.0; 9]);
    let dx = twin_backward(&dy, &normalized, &gain, inverse_std);
    let loss = |x: &[f64]| -> f64 {
        twin(x, &gain, &[0.0; 9]).0.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
    };
    for i in 0..9 {
        let at = |h: f64| {
            let mut moved = x.clone();
            moved[i] += h;
            loss(&moved)
        };
        let found = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!((found - dx[i]).abs() < 1e-8, "{i}: {found} {}", dx[i]);
    }
}

/// Largest errors of x̂, y and dx as fractions of the bounds of the module, on every set.
fn shares(x: &Array2<f32>, dy: &Array2<f32>, gain: &[f32], shift: &[f32]) -> [f64; 3] {
    let mut worst = [0.0_f64; 3];
    for set in InstructionSet::available() {
        let found = run(set, x, dy, gain, shift);
        for r in 0..x.nrows() {
            let row = |array: &Array2<f32>| wide(array.row(r).to_slice().unwrap());
            let (x, dy, gain, shift) = (row(x), row(dy), wide(gain), wide(shift));
            let (y, normalized, s) = twin(&x, &gain, &shift);
            let dx = twin_backward(&dy, &normalized, &gain, s);
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let largest = dy.iter().zip(&gain).map(|(d, g)| (d * g).abs()).fold(0.0, f64::max);
            for i in 0..x.len() {
                let size = (1.0 + normalized[i].abs()) * (1.0 + mean.abs() * s);
                let bound = size * 2.0_f64.powi(-21);
                let of_y = bound * gain[i].abs() + 2.0_f64.powi(-24) * y[i].abs();
                let of_dx = size * s * largest * 2.0_f64.powi(-18);
                let errors = [
                    (f64::from(found.normalized[[r, i]]) - normalized[i]).abs() / bound,
                    (f64::from(found.y[[r, i]]) - y[i]).abs() / of_y.max(1e-300),
                    // Below the range of f32 in a row of huge numbers.
                    ((f64::from(found.dx[[r, i]]) - dx[i]).abs() - 1e-44).max(0.0)
                        / of_dx.max(1e-300),
                ];
                for (worst, error) in worst.iter_mut().zip(errors) {
                    assert!(!error.is_nan(), "{set}: {:?}", found.normalized.row(r));
                    *worst = worst.max(error);
                }
            }
        }
    }
    worst
}

#[test]
fn bounds_hold_far_from_0_and_up_to_the_largest_floats() {
    let rows: [&[f32]; 12] = [
        &[1000.0, 1000.01, 1000.03],
        &[1000.0, 1001.0, 1003.0],
        &[-1e6, -1e6 + 0.25, -1e6 + 0.5, -1e6 + 1.0],
        &[1e20, -1e20],
        &[1.9e19, -1.9e19],
        &[f32::MAX, f32::MIN],
        &[f32::MAX, f32::MAX, f32::MAX],
        &[f32::MAX, 0.0, 1.0],
        &[3e38, 2.9e38, 2.95e38, 3.1e38],
        &[1e-30, -1e-30, 3e-45],
        &[5.0],
        &[0.0, -0.0, 1e18, -1e18],
    ];
    let mut all: Vec<Vec<f32>> = rows.iter().map(|row| row.to_vec()).collect();
    // Sums of many large numbers, each of which is within f32.
    all.push((0..17).map(|i| if i % 16 == 0 { 3e38 } else { 0.0 }).collect());
    all.push((0..600).map(|i| 1e18 * (i % 7) as f32).collect());
    for x in all {
        let columns = x.len();
        let x = Array2::from_shape_vec((1, columns), x).unwrap();
        for which in 0..columns.min(3) {
            let dy = Array2::from_shape_fn((1, columns), |(_, i)| f32::from(u8::from(i == which)));
            let worst = shares(&x, &dy, &vec![1.0; columns], &vec![0.0; columns]);
            assert!(worst.iter().all(|&share| share <= 1.0), "{x:?}: {worst:?}");
        }
    }
}

proptest! {
    #[test]
    fn bounds_hold_at_any_distance_from_0(
        values in proptest::collection::vec((-3.0_f32..3.0, -2.0_f32..2.0, -2.0_f32..2.0), 1..300),
        center in -30.0_f32..30.0,
        spread in -20.0_f32..20.0,
    ) {
        let columns = values.len();
        let (center, spread) = (center * center * center, spread.exp());
        let x = Array2::from_shape_fn((1, columns), |(_, i)| center + spread * values[i].0);
        let dy = Array2::from_shape_fn((1, columns), |(_, i)| values[i].1);
        let gain: Vec<f32> = values.iter().map(|v| v.2).collect();
        let worst = shares(&x, &dy, &gain, &vec![0.25; columns]);
        prop_assert!(worst.iter().all(|&share| share <= 1.0), "{:?}", worst);
    }

    #[test]
    fn is_within_its_bounds_with_the_same_bits_everywhere(
        values in proptest::collection::vec((-5.0_f32..5.0, -2.0_f32..2.0, -2.0_f32..2.0), 1..200),
        offset in prop_oneof![Just(0.0_f32), -100.0_f32..100.0],
        spread in prop_oneof![Just(1.0_f32), 1e-3_f32..10.0],
    ) {
        let columns = values.len();
        let x = Array2::from_shape_fn((2, columns), |(r, c)| {
            offset + spread * values[(c + r) % columns].0
        });
        let dy = Array2::from_shape_fn((2, columns), |(r, c)| values[(c + 3 * r) % columns].1);
        let gain: Vec<f32> = values.iter().map(|v| v.2).collect();
        let shift: Vec<f32> = values.iter().map(|v| 0.3 * v.1).collect();
        let reference = run(InstructionSet::SCALAR, &x, &dy, &gain, &shift);
        let row = |row: ArrayView1<f32>| wide(row.to_slice().unwrap());
        for r in 0..2 {
            let x = row(x.row(r));
            let (y, normalized, inverse_std) = twin(&x, &wide(&gain), &wide(&shift));
            let mean = x.iter().sum::<f64>() / columns as f64;
            let scale = 1.0 + mean.abs() * inverse_std;
            for c in 0..columns {
                let bound = 2.0_f64.powi(-22) * (1.0 + normalized[c].abs()) * scale;
                let error = (f64::from(reference.normalized[[r, c]]) - normalized[c]).abs();
                prop_assert!(error <= bound, "x̂ {c}: {error:e} {bound:e}");
                let bound = bound * f64::from(gain[c].abs()) + 2.0_f64.powi(-24) * y[c].abs();
                let error = (f64::from(reference.y[[r, c]]) - y[c]).abs();
                prop_assert!(error <= bound, "y {c}: {error:e} {bound:e}");
            }
            // The error of the backward pass alone, from the x̂ that it is given.
            let normalized = row(reference.normalized.row(r));
            let inverse_std = f64::from(reference.inverse_std[r]);
            let dy = row(dy.row(r));
            let dx = twin_backward(&dy, &normalized, &wide(&gain), inverse_std);
            let largest = dy.iter().zip(&gain).map(|(d, &g)| (d * f64::from(g)).abs());
            let bound = 2.0_f64.powi(-20) * inverse_std * largest.fold(0.0, f64::max) + 1e-44;
            for (c, dx) in dx.iter().enumerate() {
                let error = (f64::from(reference.dx[[r, c]]) - dx).abs();
                prop_assert!(error <= bound, "dx {c}: {error:e} {bound:e}");
            }
        }
        for c in 0..columns {
            let [dgain, dshift] = [
                (0..2).map(|r| f64::from(dy[[r, c]] * reference.normalized[[r, c]])).sum::<f64>(),
                (0..2).map(|r| f64::from(dy[[r, c]])).sum::<f64>(),
            ];
            prop_assert_eq!([reference.dgain[c], reference.dshift[c]], [dgain as f32, dshift as f32]);
        }
        for set in InstructionSet::available() {
            let found = run(set, &x, &dy, &gain, &shift);
            prop_assert_eq!(&found.y, &reference.y);
            prop_assert_eq!(&found.normalized, &reference.normalized);
            prop_assert_eq!(&found.inverse_std, &reference.inverse_std);
            prop_assert_eq!(&found.dx, &reference.dx);
            prop_assert_eq!(&found.dgain, &reference.dgain);
        }
    }
}

#[test]
fn gives_the_same_bits_on_every_thread_count() {
    let value =
        |r: usize, c: usize, salt: usize| ((r * 31 + c * 17 + salt) % 97) as f32 / 20.0 - 2.0;
    let x = Array2::from_shape_fn((150, 331), |(r, c)| value(r, c, 0));
    let dy = Array2::from_shape_fn((150, 331), |(r, c)| value(r, c, 40));
    let [gain, shift] = [7, 70].map(|salt| (0..331).map(|c| value(3, c, salt)).collect::<Vec<_>>());
    let expected = run(InstructionSet::detect(), &x, &dy, &gain, &shift);
    for threads in [2, 3, 5] {
        let compute = Compute::new(InstructionSet::detect(), threads).unwrap();
        let found = run_on(&compute, &x, &dy, &gain, &shift);
        assert_eq!(
            [&found.y, &found.normalized, &found.dx],
            [&expected.y, &expected.normalized, &expected.dx]
        );
        assert_eq!(
            [&found.inverse_std, &found.dgain, &found.dshift],
            [&expected.inverse_std, &expected.dgain, &expected.dshift]
        );
    }
}

#[test]
fn handles_constant_and_non_finite_rows() {
    let x = ndarray::array![[2.5_f32, 2.5, 2.5], [1.0, f32::NAN, 0.0], [1.0, f32::INFINITY, 0.0]];
    let dy = Array2::ones((3, 3));
    for set in InstructionSet::available() {
        let found = run(set, &x, &dy, &[1.0; 3], &[7.0; 3]);
        assert_eq!(found.y.row(0), ndarray::array![7.0, 7.0, 7.0]);
        assert!(found.y.rows().into_iter().skip(1).flatten().all(|y| y.is_nan()), "{set}");
    }
}

#[test]
fn accepts_a_batch_without_rows_or_columns() {
    for (rows, columns) in [(0, 5), (4, 0), (0, 0)] {
        let empty = Array2::zeros((rows, columns));
        let (gain, shift) = (vec![1.0; columns], vec![2.0; columns]);
        let found = run(InstructionSet::detect(), &empty, &empty, &gain, &shift);
        assert_eq!(found.y.dim(), (rows, columns));
        // Sums of no rows.
        assert!(found.dgain.iter().chain(&found.dshift).all(|&sum| sum == 0.0));
    }
}

#[test]
fn rejects_wrong_shapes_and_layouts() {
    let compute = Compute::serial();
    let x = Array2::zeros((2, 3));
    let (mut y, mut n) = (Array2::zeros((2, 3)), Array2::zeros((2, 3)));
    let mut s = [0.0; 2];
    let message =
        forward(&compute, y.view_mut(), n.view_mut(), &mut s, x.view(), &[1.0; 2], &[0.0; 3])
            .unwrap_err()
            .to_string();
    assert_eq!(message, "`gain`: expected length 3, found length 2");
    let mut turned = Array2::zeros((3, 2));
    let turned = turned.view_mut().reversed_axes();
    let message = forward(&compute, turned, n.view_mut(), &mut s, x.view(), &[1.0; 3], &[0.0; 3])
        .unwrap_err()
        .to_string();
    assert!(message.starts_with("`y`: rows must be contiguous"), "{message}");
}
