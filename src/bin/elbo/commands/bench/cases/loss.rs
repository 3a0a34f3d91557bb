//! The fused loss, binary cross-entropy from logits plus KL, with all gradients.
//!
//! Each element of the reconstruction reads a logit and a target and writes a gradient: the same bytes as an
//! element of the triad.

use super::{Case, Work, check, fill_uniform, machine, signed};
use crate::commands::bench::clock::{Clock, Timing};
use crate::commands::bench::limit::Limit;
use crate::failure::Result;
use elbo::Compute;
use elbo::loss::elbo::{Gradients, Inputs, Terms, forward_backward};
use elbo::loss::{Bernoulli, Kl, Prior, Reduction};
use elbo::simd::AlignedBuffer;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};

const FEATURES: usize = 784;
const LATENT: usize = 20;

pub fn cases(threads: &[usize]) -> Vec<Case> {
    let each = machine::ROWS.iter().flat_map(|rows| threads.iter().map(move |&n| (*rows, n)));
    each.map(|(rows, threads)| Case {
        group: "loss",
        shape: format!("{FEATURES}-{LATENT}"),
        batch: Some(rows),
        threads,
        work: Work::elements(rows * FEATURES),
        limit: Limit::Triad { elements: rows * FEATURES },
        run: Box::new(move |compute, clock| time(rows, compute, clock)),
    })
    .collect()
}

fn time(rows: usize, compute: &Compute, clock: Clock) -> Result<Timing> {
    let shape = (rows, FEATURES);
    let [mut logits, mut targets, mut dlogits] =
        [f32::NAN; 3].map(|nan| AlignedBuffer::filled(rows * FEATURES, nan));
    let fill = |to: &mut [f32], salt| fill_uniform(view_mut(to, shape), salt);
    fill(&mut logits, 1)?;
    logits.iter_mut().for_each(|l| *l = 12.0 * *l - 6.0);
    fill(&mut targets, 2)?;
    let (mu, logvar) = (signed(rows, LATENT, 3)?, signed(rows, LATENT, 4)?);
    let [mut dmu, mut dlogvar] = [(); 2].map(|()| Array2::zeros((rows, LATENT)));
    let mut call = |dlogits: &mut [f32]| -> Result<f64> {
        let gradients = Gradients {
            doutputs: view_mut(dlogits, shape),
            dmu: dmu.view_mut(),
            dlogvar: dlogvar.view_mut(),
        };
        let inputs = Inputs {
            outputs: view(&logits, shape),
            targets: view(&targets, shape),
            mu: mu.view(),
            logvar: logvar.view(),
            prior: Prior::default(),
        };
        let terms = Terms { reconstruction: Bernoulli, penalty: Kl, beta: 1.0 };
        Ok(forward_backward(compute, terms, gradients, inputs, Reduction::BatchMean)?.loss)
    };
    let loss = call(&mut dlogits)?;
    let of_last = |x: &[f32]| f64::from(x[rows * FEATURES - 1]);
    let expected = 1.0 / (1.0 + (-of_last(&logits)).exp()) - of_last(&targets);
    let found = of_last(&dlogits) * rows as f64;
    check(loss.is_finite() && (found - expected).abs() < 1e-6, "loss")?;
    compute.install(|| clock.time(|| call(&mut dlogits).map(drop)))
}

fn view(numbers: &[f32], shape: (usize, usize)) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape(shape, numbers).expect("rows × features")
}

fn view_mut(numbers: &mut [f32], shape: (usize, usize)) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape(shape, numbers).expect("rows × features")
}
