//! Compares the three products, bit for bit, with the chain of fused multiply-adds that defines them.

#![no_main]

use elbo::gemm::{Panels, input_gradient, product, weight_gradient};
use elbo_fuzz::{COMPUTES, Input, assert_same};
use libfuzzer_sys::fuzz_target;
use ndarray::Array2;

/// Maximum number of multiply-adds of a product; the inner dimension is reduced to stay below it.
const LIMIT: usize = 48_000;

fn chain(start: f32, terms: impl Iterator<Item = (f32, f32)>) -> f32 {
    terms.fold(start, |sum, (a, b)| a.mul_add(b, sum))
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    // The sizes exceed the blocks of 128 rows, 96 inputs and 144 outputs.
    let (m, n) = (input.size(300), input.size(320));
    let k = input.size(200).min(LIMIT / (m * n).max(1));
    let columns_first = input.flag();
    let (x, weight, dy) = (input.matrix(m, k), input.matrix(n, k), input.matrix(m, n));
    let bias = input.matrix(1, n).into_raw_vec_and_offset().0;

    let y_oracle = Array2::from_shape_fn((m, n), |(b, n)| {
        chain(bias[n], (0..k).map(|k| (x[[b, k]], weight[[n, k]])))
    });
    let dx_oracle = Array2::from_shape_fn((m, k), |(b, k)| {
        chain(0.0, (0..n).map(|n| (dy[[b, n]], weight[[n, k]])))
    });
    let dweight_oracle =
        Array2::from_shape_fn((n, k), |(n, k)| chain(0.0, (0..m).map(|b| (x[[b, k]], dy[[b, n]]))));
    let dbias_oracle =
        Array2::from_shape_fn((1, n), |(_, n)| chain(0.0, (0..m).map(|b| (1.0, dy[[b, n]]))));

    let panels = Panels::pack(weight.view(), &bias).unwrap();
    assert_same(&panels.weight(), &weight, "packed weight", &COMPUTES[0]);
    // Inputs may have any memory layout.
    let [x_columns, dy_columns] =
        [&x, &dy].map(|matrix| matrix.t().as_standard_layout().into_owned());
    let (x, dy) =
        if columns_first { (x_columns.t(), dy_columns.t()) } else { (x.view(), dy.view()) };
    for compute in COMPUTES.iter() {
        let mut y = Array2::from_elem((m, n), f32::NAN);
        product(compute, y.view_mut(), x, &panels).unwrap();
        assert_same(&y, &y_oracle, "y", compute);

        let mut dx = Array2::from_elem((m, k), f32::NAN);
        input_gradient(compute, dx.view_mut(), dy, &panels).unwrap();
        assert_same(&dx, &dx_oracle, "dx", compute);

        let mut dpanels = Panels::zeros(k, n);
        dpanels.fill(f32::NAN);
        weight_gradient(compute, &mut dpanels, x, dy).unwrap();
        assert_same(&dpanels.weight(), &dweight_oracle, "dW", compute);
        let dbias = dpanels.bias().insert_axis(ndarray::Axis(0));
        assert_same(&dbias, &dbias_oracle, "dbias", compute);
    }
});
