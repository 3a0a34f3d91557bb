//! Measures matrix products: faer, and ndarray with matrixmultiply.

use elbo_peers::networks::{PRODUCT_ROWS, PRODUCTS};
use elbo_peers::{Peer, uniform};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, linalg::general_mat_mul};

fn matrix(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
    Array2::from_shape_vec((rows, columns), uniform(rows * columns, seed)).expect("its length")
}

fn faer_view(a: &Array2<f32>) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(a.as_slice().expect("row-major"), a.nrows(), a.ncols())
}

fn check(c: &Array2<f32>, a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) {
    let (i, j) = (c.nrows() - 1, c.ncols() / 2);
    let exact: f64 =
        a.row(i).iter().zip(b.column(j)).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    assert!(
        (f64::from(c[[i, j]]) - exact).abs() < 1e-4 * exact,
        "found {}, expected {exact}",
        c[[i, j]]
    );
}

fn main() {
    let faer = Peer::from_args("faer", "faer");
    let matrixmultiply = faer.and("matrixmultiply", "matrixmultiply");
    if !faer.wants("product") {
        return;
    }
    let parallelism = if faer.threads == 1 { Par::Seq } else { Par::rayon(faer.threads) };
    for [k, n] in PRODUCTS {
        let (x, weight) = (matrix(PRODUCT_ROWS, k, 1), matrix(n, k, 2));
        let dy = matrix(PRODUCT_ROWS, n, 3);
        let [fx, fweight, fdy] = [&x, &weight, &dy].map(faer_view);
        for (kind, a, b, fa, fb) in [
            ("forward", x.view(), weight.t(), fx, fweight.transpose()),
            ("input gradient", dy.view(), weight.view(), fdy, fweight),
            ("weight gradient", dy.t(), x.view(), fdy.transpose(), fx),
        ] {
            let shape = format!("{k}-{n} {kind}");
            let mut c = Array2::zeros((a.nrows(), b.ncols()));
            let by_faer = |mut c: ArrayViewMut2<'_, f32>| {
                let (rows, columns) = c.dim();
                let c = c.as_slice_mut().expect("row-major");
                let c = MatMut::from_row_major_slice_mut(c, rows, columns);
                matmul(c, Accum::Replace, fa, fb, 1.0, parallelism);
            };
            by_faer(c.view_mut());
            check(&c, a, b);
            faer.time("product", &shape, PRODUCT_ROWS, || by_faer(c.view_mut()));

            c.fill(0.0);
            general_mat_mul(1.0, &a, &b, 0.0, &mut c);
            check(&c, a, b);
            matrixmultiply.time("product", &shape, PRODUCT_ROWS, || {
                general_mat_mul(1.0, &a, &b, 0.0, &mut c);
            });
        }
    }
}
