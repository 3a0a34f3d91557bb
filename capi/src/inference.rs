//! A model in the caller's memory: encode, decode, reconstruct, score, sample.
//!
//! # Method
//! 1. The memory of a call is made with the handle: that of the crate's `Inference`, and rows for what a call
//!    passes from one step to the next.
//! 2. Rows of the caller that follow one another are read and written in place, all at once. Others, rows with
//!    conditions, and steps between which something is kept go through the handle's rows, some at a time.

use crate::arguments::{Matrix, Place, expect_apart, expect_memory, shared};
use crate::compute::elbo_compute;
use crate::handle::{Exclusive, end_unless_lent};
use crate::model::elbo_model;
use crate::status::elbo_status::*;
use crate::status::{Failure, Outcome, elbo_status, guard};
use elbo_rust::Error;
use elbo_rust::loss::{Kl, KlInputs, LossTerm, ReconstructionInputs};
use elbo_rust::random::{Generator, Stream};
use elbo_rust::vae::{Inference, Vae};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use std::ops::Range;
use std::sync::Arc;

/// Rows that each thread has memory for; the crate takes as many through the layers at a time.
const ROWS: usize = 64;

/// A model with threads and with memory to run in. A call that follows the set-up allocates nothing. One call at a
/// time uses a handle (ELBO_BUSY otherwise); threads of the caller make one each.
pub struct elbo_inference {
    runner: Exclusive<Runner>,
}

struct Runner {
    /// Borrows from `vae`, and is dropped before it.
    inference: Inference<'static>,
    compute: elbo_compute,
    /// x|c and z|c.
    wide_x: Array2<f32>,
    wide_z: Array2<f32>,
    mu: Array2<f32>,
    logvar: Array2<f32>,
    outputs: Array2<f32>,
    vae: Arc<Vae>,
}

impl Runner {
    fn new(model: &elbo_model, handle: &elbo_compute) -> Outcome<Self> {
        let (vae, compute) = (Arc::clone(&model.vae), handle.here()?);
        let config = vae.config();
        let rows = ROWS.checked_mul(compute.threads());
        let hidden: usize = config.encoder().iter().chain(config.decoder()).sum();
        let columns = 2 * (config.features() + config.conditions()) + 8 * config.latent() + hidden;
        expect_memory("the rows of an inference", rows.and_then(|rows| rows.checked_mul(columns)))?;
        let inference = vae.inference(compute);
        // SAFETY: it borrows from the model behind the `Arc`, which neither moves nor changes nor ends before the
        // `Arc` of the same structure, the last of its fields to be dropped.
        let inference = unsafe { extended(inference) };
        let [features, latent] = [config.features(), config.latent()];
        let rows = ROWS * compute.threads();
        let zeros = |columns| Array2::zeros((rows, columns));
        Ok(Self {
            inference,
            compute: handle.clone(),
            wide_x: zeros(features + config.conditions()),
            wide_z: zeros(latent + config.conditions()),
            mu: zeros(latent),
            logvar: zeros(latent),
            outputs: zeros(features),
            vae: Arc::clone(&vae),
        })
    }

    /// Some rows at a time, as many as there is memory for.
    fn parts(&self, rows: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let most = self.mu.nrows();
        (0..rows).step_by(most).map(move |first| first..rows.min(first + most))
    }

    /// Copies rows, and their conditions to the right of them.
    fn widen(to: &mut Array2<f32>, from: ArrayView2<'_, f32>, conditions: ArrayView2<'_, f32>) {
        let (rows, columns) = from.dim();
        to.slice_mut(s![..rows, ..columns]).assign(&from);
        to.slice_mut(s![..rows, columns..]).assign(&conditions);
    }

    /// Overwrites the first rows of `mu` and `logvar` with the posteriors of some rows.
    fn encode_part(
        &mut self,
        x: ArrayView2<'_, f32>,
        conditions: ArrayView2<'_, f32>,
    ) -> Outcome<()> {
        let rows = x.nrows();
        let (mu, logvar) =
            (self.mu.slice_mut(s![..rows, ..]), self.logvar.slice_mut(s![..rows, ..]));
        if conditions.ncols() == 0 && x.is_standard_layout() {
            self.inference.encode(mu, logvar, x)?;
            return Ok(());
        }
        Self::widen(&mut self.wide_x, x, conditions);
        self.inference.encode(mu, logvar, self.wide_x.slice(s![..rows, ..]))?;
        Ok(())
    }

    /// Overwrites the first rows of `wide_z` with codes and conditions.
    fn decode_part(&mut self, mut out: ArrayViewMut2<'_, f32>, is_mean: bool) -> Outcome<()> {
        let rows = out.nrows();
        let z = self.wide_z.slice(s![..rows, ..]);
        let is_in_place = out.is_standard_layout();
        let to = match is_in_place {
            true => out.view_mut(),
            false => self.outputs.slice_mut(s![..rows, ..]),
        };
        match is_mean {
            true => self.inference.decode(to, z)?,
            false => self.inference.decode_logits(to, z)?,
        }
        if !is_in_place {
            out.assign(&self.outputs.slice(s![..rows, ..]));
        }
        Ok(())
    }

    fn encode(
        &mut self,
        [mut mu, mut logvar]: [ArrayViewMut2<'_, f32>; 2],
        x: ArrayView2<'_, f32>,
        conditions: ArrayView2<'_, f32>,
    ) -> Outcome<()> {
        let is_in_place =
            [mu.view(), logvar.view(), x].iter().all(|view| view.is_standard_layout());
        if is_in_place && conditions.ncols() == 0 {
            self.inference.encode(mu, logvar, x)?;
            return Ok(());
        }
        for part in self.parts(x.nrows()) {
            let of_part = s![part.clone(), ..];
            self.encode_part(x.slice(of_part), conditions.slice(of_part))?;
            mu.slice_mut(of_part).assign(&self.mu.slice(s![..part.len(), ..]));
            logvar.slice_mut(of_part).assign(&self.logvar.slice(s![..part.len(), ..]));
        }
        Ok(())
    }

    fn decode(
        &mut self,
        mut out: ArrayViewMut2<'_, f32>,
        z: ArrayView2<'_, f32>,
        conditions: ArrayView2<'_, f32>,
        is_mean: bool,
    ) -> Outcome<()> {
        if out.is_standard_layout() && z.is_standard_layout() && conditions.ncols() == 0 {
            match is_mean {
                true => self.inference.decode(out, z)?,
                false => self.inference.decode_logits(out, z)?,
            }
            return Ok(());
        }
        for part in self.parts(z.nrows()) {
            let of_part = s![part, ..];
            Self::widen(&mut self.wide_z, z.slice(of_part), conditions.slice(of_part));
            self.decode_part(out.slice_mut(of_part), is_mean)?;
        }
        Ok(())
    }

    fn reconstruct(
        &mut self,
        mut out: ArrayViewMut2<'_, f32>,
        x: ArrayView2<'_, f32>,
        conditions: ArrayView2<'_, f32>,
    ) -> Outcome<()> {
        if out.is_standard_layout() && x.is_standard_layout() && conditions.ncols() == 0 {
            self.inference.reconstruct(out, x)?;
            return Ok(());
        }
        for part in self.parts(x.nrows()) {
            let of_part = s![part, ..];
            let conditions = conditions.slice(of_part);
            self.encode_part(x.slice(of_part), conditions)?;
            let rows = conditions.nrows();
            Self::widen(&mut self.wide_z, self.mu.slice(s![..rows, ..]), conditions);
            self.decode_part(out.slice_mut(of_part), true)?;
        }
        Ok(())
    }

    fn score(
        &mut self,
        [reconstruction, kl]: [&mut [f64]; 2],
        x: ArrayView2<'_, f32>,
        conditions: ArrayView2<'_, f32>,
    ) -> Outcome<()> {
        for part in self.parts(x.nrows()) {
            let (first, rows) = (part.start, part.len());
            let of_part = s![part.clone(), ..];
            let conditions = conditions.slice(of_part);
            if let Some(((row, column), &value)) =
                conditions.indexed_iter().find(|(_, value)| !value.is_finite())
            {
                let row = first + row;
                return Err(Error::NotFiniteCondition { row, column, value, step: None }.into());
            }
            let x = x.slice(of_part);
            self.encode_part(x, conditions)?;
            Self::widen(&mut self.wide_z, self.mu.slice(s![..rows, ..]), conditions);
            let (z, mut outputs) =
                (self.wide_z.slice(s![..rows, ..]), self.outputs.slice_mut(s![..rows, ..]));
            self.inference.decode_logits(outputs.view_mut(), z)?;
            let inputs = ReconstructionInputs { outputs: outputs.view(), targets: x };
            let reconstruction = &mut reconstruction[part.clone()];
            self.vae
                .score_outputs(self.compute.here()?, reconstruction, inputs)
                .map_err(|error| further(error, first))?;
            let (mu, logvar) = (self.mu.slice(s![..rows, ..]), self.logvar.slice(s![..rows, ..]));
            let kl = &mut kl[part];
            let prior = self.vae.config().prior();
            Kl.per_example(self.compute.here()?, kl, KlInputs { mu, logvar, prior })?;
            for (row, values) in reconstruction.iter().zip(kl.iter()).enumerate() {
                let terms = [("reconstruction", values.0), ("KL divergence", values.1)];
                if let Some((term, &value)) =
                    terms.into_iter().find(|(_, value)| !value.is_finite())
                {
                    let row = first + row;
                    return Err(Error::NotFiniteLoss { term, row, value, step: None }.into());
                }
            }
        }
        Ok(())
    }

    fn sample(
        &mut self,
        mut out: ArrayViewMut2<'_, f32>,
        conditions: ArrayView2<'_, f32>,
        seed: u64,
        first_sample: u64,
    ) -> Outcome<()> {
        let prior = self.vae.config().prior();
        for part in self.parts(out.nrows()) {
            let (first, rows) = (part.start, part.len());
            let of_part = s![part, ..];
            let mut z = self.mu.slice_mut(s![..rows, ..]);
            let row = first_sample.checked_add(first as u64).ok_or_else(|| {
                Failure::option("first_sample", "a number below 2^48", first_sample)
            })?;
            Generator::new(seed).normal(
                self.compute.simd(),
                z.view_mut(),
                Stream::Prior,
                0,
                row,
            )?;
            if (prior.mean, prior.std) != (0.0, 1.0) {
                z.mapv_inplace(|epsilon| epsilon.mul_add(prior.std, prior.mean));
            }
            let z = self.mu.slice(s![..rows, ..]);
            Self::widen(&mut self.wide_z, z, conditions.slice(of_part));
            self.decode_part(out.slice_mut(of_part), true)?;
        }
        Ok(())
    }
}

/// The same with a lifetime that the borrow checker does not know to hold.
///
/// # Safety
/// The model behind it outlives it.
unsafe fn extended(inference: Inference<'_>) -> Inference<'static> {
    // SAFETY: the types differ in their lifetime alone, which holds by the contract.
    unsafe { std::mem::transmute::<Inference<'_>, Inference<'static>>(inference) }
}

/// An error in some rows, with the number of the row in all of them.
fn further(mut error: Error, first: usize) -> Error {
    if let Error::TargetOutOfRange { row, .. } | Error::NotFiniteData { row, .. } = &mut error {
        *row += first;
    }
    error
}

/// The conditions of a call, checked against the model.
fn conditions_of(
    vae: &Vae,
    conditions: *const f32,
    stride: usize,
    rows: usize,
) -> Outcome<Matrix<f32>> {
    let width = vae.config().conditions();
    if width == 0 && !conditions.is_null() {
        let message = "`conditions`: the model has none; pass a null pointer";
        return Err(Failure::new(ELBO_SIZE, message));
    }
    if width > 0 && conditions.is_null() && rows > 0 {
        let message =
            format!("`conditions` is a null pointer; the model has {width} conditions a row");
        return Err(Failure::new(ELBO_NULL, message));
    }
    Matrix::new("conditions", conditions, [rows, width], if width == 0 { 0 } else { stride })
}

/// Makes memory to run `model` on the threads of `compute`, both of which it keeps.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_inference_new(
    inference: *mut *mut elbo_inference,
    model: *const elbo_model,
    compute: *const elbo_compute,
) -> elbo_status {
    guard("elbo_inference_new", || {
        let place = Place::new("inference", inference)?;
        // SAFETY: handles and memory are the caller's, by the contract of the header.
        unsafe {
            place.fill(|| {
                let (model, compute) = (shared("model", model)?, shared("compute", compute)?);
                Ok(elbo_inference { runner: Exclusive::new(Runner::new(model, compute)?) })
            })
        }
    })
}

/// Overwrites `mu` and `logvar` [rows, latent] with the posterior N(mu, exp(logvar)) of each row of `x` [rows,
/// features], given `conditions` [rows, conditions], or null if the model has none.
///
/// NaN in a row gives NaN in its posterior.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_STRIDE, ELBO_OVERLAP, ELBO_BUSY; ELBO_SIZE for conditions of a model
/// without.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_encode(
    inference: *mut elbo_inference,
    mu: *mut f32,
    mu_stride: usize,
    logvar: *mut f32,
    logvar_stride: usize,
    x: *const f32,
    x_stride: usize,
    conditions: *const f32,
    conditions_stride: usize,
    rows: usize,
) -> elbo_status {
    guard("elbo_encode", || {
        // SAFETY: a handle of the caller, by the contract of the header.
        unsafe { shared("inference", inference.cast_const()) }?.runner.with(|runner| {
            runner.compute.here()?;
            let config = runner.vae.config();
            let (features, latent) = (config.features(), config.latent());
            let mu = Matrix::new("mu", mu, [rows, latent], mu_stride)?;
            let logvar = Matrix::new("logvar", logvar, [rows, latent], logvar_stride)?;
            let x = Matrix::new("x", x, [rows, features], x_stride)?;
            let conditions = conditions_of(&runner.vae, conditions, conditions_stride, rows)?;
            expect_apart(&[mu.region(), logvar.region()], &[x.region(), conditions.region()])?;
            // SAFETY: memory of the caller, by the contract of the header; what is written is apart.
            unsafe {
                runner.encode([mu.view_mut(), logvar.view_mut()], x.view(), conditions.view())
            }
        })
    })
}

/// Overwrites `x` [rows, features] with the mean of the likelihood for each latent code `z` [rows, latent], given
/// `conditions` [rows, conditions], or null if the model has none.
///
/// Errors: as `elbo_encode`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_decode(
    inference: *mut elbo_inference,
    x: *mut f32,
    x_stride: usize,
    z: *const f32,
    z_stride: usize,
    conditions: *const f32,
    conditions_stride: usize,
    rows: usize,
) -> elbo_status {
    guard("elbo_decode", || {
        let (x, z) = ((x, x_stride), (z, z_stride));
        let conditions = (conditions, conditions_stride);
        // SAFETY: as the contract of the header says.
        unsafe { decode(inference, x, z, conditions, rows, true) }
    })
}

/// As `elbo_decode`, with the decoder's outputs in place of the mean: the logits of a Bernoulli likelihood.
///
/// Errors: as `elbo_encode`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_decode_logits(
    inference: *mut elbo_inference,
    x: *mut f32,
    x_stride: usize,
    z: *const f32,
    z_stride: usize,
    conditions: *const f32,
    conditions_stride: usize,
    rows: usize,
) -> elbo_status {
    guard("elbo_decode_logits", || {
        let (x, z) = ((x, x_stride), (z, z_stride));
        let conditions = (conditions, conditions_stride);
        // SAFETY: as the contract of the header says.
        unsafe { decode(inference, x, z, conditions, rows, false) }
    })
}

/// # Safety
/// Handles and memory are the caller's, by the contract of the header.
unsafe fn decode(
    inference: *const elbo_inference,
    (x, x_stride): (*mut f32, usize),
    (z, z_stride): (*const f32, usize),
    (conditions, conditions_stride): (*const f32, usize),
    rows: usize,
    is_mean: bool,
) -> Outcome<()> {
    // SAFETY: by the contract.
    unsafe { shared("inference", inference) }?.runner.with(|runner| {
        runner.compute.here()?;
        let config = runner.vae.config();
        let (features, latent) = (config.features(), config.latent());
        let x = Matrix::new("x", x, [rows, features], x_stride)?;
        let z = Matrix::new("z", z, [rows, latent], z_stride)?;
        let conditions = conditions_of(&runner.vae, conditions, conditions_stride, rows)?;
        expect_apart(&[x.region()], &[z.region(), conditions.region()])?;
        // SAFETY: by the contract; what is written is apart.
        unsafe { runner.decode(x.view_mut(), z.view(), conditions.view(), is_mean) }
    })
}

/// Overwrites `reconstruction` [rows, features] with the mean of the likelihood at the posterior's mean of each row
/// of `x` [rows, features], given `conditions` [rows, conditions], or null if the model has none.
///
/// Errors: as `elbo_encode`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_reconstruct(
    inference: *mut elbo_inference,
    reconstruction: *mut f32,
    reconstruction_stride: usize,
    x: *const f32,
    x_stride: usize,
    conditions: *const f32,
    conditions_stride: usize,
    rows: usize,
) -> elbo_status {
    guard("elbo_reconstruct", || {
        // SAFETY: a handle of the caller, by the contract of the header.
        unsafe { shared("inference", inference.cast_const()) }?.runner.with(|runner| {
            runner.compute.here()?;
            let shape = [rows, runner.vae.config().features()];
            let out = Matrix::new("reconstruction", reconstruction, shape, reconstruction_stride)?;
            let x = Matrix::new("x", x, shape, x_stride)?;
            let conditions = conditions_of(&runner.vae, conditions, conditions_stride, rows)?;
            expect_apart(&[out.region()], &[x.region(), conditions.region()])?;
            // SAFETY: memory of the caller, by the contract of the header; what is written is apart.
            unsafe { runner.reconstruct(out.view_mut(), x.view(), conditions.view()) }
        })
    })
}

/// Overwrites `reconstruction` and `kl` [rows] with the terms of the negative evidence lower bound of each row of
/// `x` [rows, features], in nats, with the decoder at the posterior's mean. Their sum is the larger, the less likely
/// the row under the model. A row's terms depend on the row alone.
///
/// Errors: as `elbo_encode`; ELBO_DATA for the first row with data that the likelihood does not accept;
/// ELBO_NOT_FINITE; ELBO_OPTION for ELBO_LIKELIHOOD_GAUSSIAN_OPTIMAL. `reconstruction` and `kl` then hold
/// unspecified numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_score(
    inference: *mut elbo_inference,
    reconstruction: *mut f64,
    kl: *mut f64,
    x: *const f32,
    x_stride: usize,
    conditions: *const f32,
    conditions_stride: usize,
    rows: usize,
) -> elbo_status {
    guard("elbo_score", || {
        // SAFETY: a handle of the caller, by the contract of the header.
        unsafe { shared("inference", inference.cast_const()) }?.runner.with(|runner| {
            runner.compute.here()?;
            let features = runner.vae.config().features();
            let reconstruction = Matrix::vector("reconstruction", reconstruction, rows)?;
            let kl = Matrix::vector("kl", kl, rows)?;
            let x = Matrix::new("x", x, [rows, features], x_stride)?;
            let conditions = conditions_of(&runner.vae, conditions, conditions_stride, rows)?;
            let outputs = [reconstruction.region(), kl.region()];
            expect_apart(&outputs, &[x.region(), conditions.region()])?;
            // SAFETY: memory of the caller, by the contract of the header; what is written is apart.
            unsafe {
                let values = [reconstruction.slice_mut(), kl.slice_mut()];
                runner.score(values, x.view(), conditions.view())
            }
        })
    })
}

/// Overwrites `x` [rows, features] with samples: means of the likelihood for codes drawn from the prior, given
/// `conditions` [rows, conditions], or null if the model has none.
///
/// Row i is sample `first_sample` + i of `seed`: a function of the two alone, on any number of threads.
///
/// Errors: as `elbo_encode`; ELBO_OPTION for samples beyond 2^48.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_sample(
    inference: *mut elbo_inference,
    x: *mut f32,
    x_stride: usize,
    conditions: *const f32,
    conditions_stride: usize,
    rows: usize,
    seed: u64,
    first_sample: u64,
) -> elbo_status {
    guard("elbo_sample", || {
        // SAFETY: a handle of the caller, by the contract of the header.
        unsafe { shared("inference", inference.cast_const()) }?.runner.with(|runner| {
            runner.compute.here()?;
            let features = runner.vae.config().features();
            let x = Matrix::new("x", x, [rows, features], x_stride)?;
            let conditions = conditions_of(&runner.vae, conditions, conditions_stride, rows)?;
            expect_apart(&[x.region()], &[conditions.region()])?;
            // SAFETY: memory of the caller, by the contract of the header; what is written is apart.
            unsafe { runner.sample(x.view_mut(), conditions.view(), seed, first_sample) }
        })
    })
}

/// Frees the memory, unless a call is using it. Nothing happens for a null pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_inference_free(inference: *mut elbo_inference) {
    // SAFETY: a handle of the caller, by the contract of the header.
    unsafe { end_unless_lent("elbo_inference_free", inference, |handle| &handle.runner) }
}
