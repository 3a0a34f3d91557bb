//! The three products of each layer of 784-400-20, by the public functions of `elbo::gemm`.

use super::{Case, Work, check, signed};
use crate::commands::bench::clock::{Clock, Timing};
use crate::commands::bench::limit::Limit;
use crate::failure::Result;
use elbo::Compute;
use elbo::gemm::{Panels, input_gradient, product, weight_gradient};
use ndarray::{Array2, Axis};

const BATCH: usize = 128;
const LAYERS: [[usize; 2]; 4] = [[784, 400], [400, 40], [20, 400], [400, 784]];

#[derive(Clone, Copy)]
enum Product {
    Forward,
    InputGradient,
    WeightGradient,
}

impl Product {
    const ALL: [Self; 3] = [Self::Forward, Self::InputGradient, Self::WeightGradient];

    fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::InputGradient => "input gradient",
            Self::WeightGradient => "weight gradient",
        }
    }
}

pub fn cases(threads: &[usize]) -> Vec<Case> {
    let mut cases = Vec::new();
    for [k, n] in LAYERS {
        for product in Product::ALL {
            cases.extend(threads.iter().map(|&threads| Case {
                group: "product",
                shape: format!("{k}-{n} {}", product.name()),
                batch: Some(BATCH),
                threads,
                work: Work::flop(2 * BATCH * k * n),
                limit: Limit::Peak,
                run: Box::new(move |compute, clock| time(product, [k, n], compute, clock)),
            }));
        }
    }
    cases
}

/// Checks a row or column of the result against chains of scalar multiply-adds, bit for bit, then times.
fn time(which: Product, [k, n]: [usize; 2], compute: &Compute, clock: Clock) -> Result<Timing> {
    let (x, weight, dy) = (signed(BATCH, k, 1)?, signed(n, k, 2)?, signed(BATCH, n, 3)?);
    let bias = signed(1, n, 4)?.into_raw_vec_and_offset().0;
    let mut panels = Panels::pack(weight.view(), &bias)?;
    let last = BATCH - 1;
    match which {
        Product::Forward => {
            let mut y = Array2::from_elem((BATCH, n), f32::NAN);
            product(compute, y.view_mut(), x.view(), &panels)?;
            let right = (0..n).all(|n| y[[last, n]] == chain(bias[n], x.row(last), weight.row(n)));
            check(right, "product, forward")?;
            compute
                .install(|| clock.time(|| Ok(product(compute, y.view_mut(), x.view(), &panels)?)))
        }
        Product::InputGradient => {
            let mut dx = Array2::from_elem((BATCH, k), f32::NAN);
            input_gradient(compute, dx.view_mut(), dy.view(), &panels)?;
            let right = (0..k).all(|k| dx[[last, k]] == chain(0.0, dy.row(last), weight.column(k)));
            check(right, "product, input gradient")?;
            compute.install(|| {
                clock.time(|| Ok(input_gradient(compute, dx.view_mut(), dy.view(), &panels)?))
            })
        }
        Product::WeightGradient => {
            weight_gradient(compute, &mut panels, x.view(), dy.view())?;
            let dweight = panels.weight();
            let dlast = dy.index_axis(Axis(1), n - 1);
            let right = (0..k).all(|k| dweight[[n - 1, k]] == chain(0.0, x.column(k), dlast));
            check(right, "product, weight gradient")?;
            compute.install(|| {
                clock.time(|| Ok(weight_gradient(compute, &mut panels, x.view(), dy.view())?))
            })
        }
    }
}

fn chain<'a>(
    start: f32,
    a: impl IntoIterator<Item = &'a f32>,
    b: impl IntoIterator<Item = &'a f32>,
) -> f32 {
    a.into_iter().zip(b).fold(start, |sum, (&a, &b)| a.mul_add(b, sum))
}
