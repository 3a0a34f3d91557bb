//! Normal random numbers on one thread: for a batch of 20 latent dimensions, and for 784.

use super::{Case, Work, check};
use crate::commands::bench::clock::{Clock, Timing};
use crate::commands::bench::limit::Limit;
use crate::failure::Result;
use elbo::Compute;
use elbo::random::{Generator, Stream};
use ndarray::Array2;

const BATCH: usize = 128;

pub fn cases() -> Vec<Case> {
    [20, 784]
        .map(|columns| Case {
            group: "noise",
            shape: columns.to_string(),
            batch: Some(BATCH),
            threads: 1,
            work: Work::elements(BATCH * columns),
            limit: Limit::None,
            run: Box::new(move |compute, clock| time(columns, compute, clock)),
        })
        .into()
}

fn time(columns: usize, compute: &Compute, clock: Clock) -> Result<Timing> {
    let mut noise = Array2::from_elem((BATCH, columns), f32::NAN);
    let draw = |noise: &mut Array2<f32>, step| {
        Generator::new(1).normal(compute.simd(), noise.view_mut(), Stream::Noise, step, 0)
    };
    draw(&mut noise, 0)?;
    let n = noise.len() as f64;
    let moment = |power| noise.iter().map(|&e| f64::from(e).powi(power)).sum::<f64>() / n;
    // Mean and second moment, within six standard deviations.
    let right =
        moment(1).abs() < 6.0 / n.sqrt() && (moment(2) - 1.0).abs() < 6.0 * (2.0 / n).sqrt();
    check(right, "noise")?;
    let mut step = 0;
    clock.time(|| {
        step += 1;
        Ok(draw(&mut noise, step)?)
    })
}
