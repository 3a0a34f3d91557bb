//! Optimizers on flat buffers.

use crate::arguments::{Matrix, Place, Region, expect_apart, shared};
use crate::compute::elbo_compute;
use crate::status::{Failure, Outcome, elbo_status, guard};
use elbo_rust::optim::{Adam, AdamW, Adamax, Optimizer, Sgd, adam, adamax, adamw, sgd};

/// Rule by which weights follow their gradients, with the arithmetic of torch.optim.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum elbo_optimizer_kind {
    /// Adam; weight decay is added to the gradient.
    ELBO_ADAM = 0,
    /// Adam with decoupled weight decay.
    ELBO_ADAMW = 1,
    /// Stochastic gradient descent, with or without momentum.
    ELBO_SGD = 2,
    /// Adam with the maximum norm in place of the second moment.
    ELBO_ADAMAX = 3,
}

/// An optimizer and its settings. `elbo_optimizer_init` sets the defaults of a kind.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elbo_optimizer {
    /// One of `elbo_optimizer_kind`.
    pub kind: i32,
    /// ELBO_SGD: 1 for Nesterov's momentum, otherwise 0.
    pub nesterov: i32,
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the first moment, in [0, 1). Not for ELBO_SGD.
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1). Not for ELBO_SGD.
    pub beta2: f64,
    /// Constant in the denominator, at least 1e-16. Not for ELBO_SGD.
    pub epsilon: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// ELBO_SGD: momentum, in [0, 1).
    pub momentum: f64,
}

impl elbo_optimizer {
    pub(crate) fn of(optimizer: Optimizer) -> Self {
        use elbo_optimizer_kind::*;
        let none = Self {
            kind: ELBO_ADAM as i32,
            nesterov: 0,
            learning_rate: optimizer.learning_rate(),
            beta1: 0.0,
            beta2: 0.0,
            epsilon: 0.0,
            weight_decay: 0.0,
            momentum: 0.0,
        };
        match optimizer {
            Optimizer::Adam(Adam { beta1, beta2, epsilon, weight_decay, .. }) => {
                Self { kind: ELBO_ADAM as i32, beta1, beta2, epsilon, weight_decay, ..none }
            }
            Optimizer::AdamW(AdamW { beta1, beta2, epsilon, weight_decay, .. }) => {
                Self { kind: ELBO_ADAMW as i32, beta1, beta2, epsilon, weight_decay, ..none }
            }
            Optimizer::Sgd(Sgd { momentum, nesterov, weight_decay, .. }) => {
                let nesterov = i32::from(nesterov);
                Self { kind: ELBO_SGD as i32, momentum, nesterov, weight_decay, ..none }
            }
            Optimizer::Adamax(Adamax { beta1, beta2, epsilon, weight_decay, .. }) => {
                Self { kind: ELBO_ADAMAX as i32, beta1, beta2, epsilon, weight_decay, ..none }
            }
        }
    }

    pub(crate) fn read(&self) -> Outcome<Optimizer> {
        use elbo_optimizer_kind::*;
        let Self { kind, nesterov, learning_rate, beta1, beta2, epsilon, weight_decay, momentum } =
            *self;
        let optimizer = match kind {
            _ if kind == ELBO_ADAM as i32 => {
                Adam { learning_rate, beta1, beta2, epsilon, weight_decay }.into()
            }
            _ if kind == ELBO_ADAMW as i32 => {
                AdamW { learning_rate, beta1, beta2, epsilon, weight_decay }.into()
            }
            _ if kind == ELBO_SGD as i32 => {
                let nesterov = flag("nesterov", nesterov)?;
                Sgd { learning_rate, momentum, nesterov, weight_decay }.into()
            }
            _ if kind == ELBO_ADAMAX as i32 => {
                Adamax { learning_rate, beta1, beta2, epsilon, weight_decay }.into()
            }
            _ => return Err(Failure::option("kind", "a value of elbo_optimizer_kind", kind)),
        };
        Ok(optimizer)
    }
}

/// A number that is 0 or 1.
pub(crate) fn flag(setting: &str, value: i32) -> Outcome<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Failure::option(setting, "0 or 1", value)),
    }
}

/// Sets the defaults of `kind` (`elbo_optimizer_kind`): those of torch.optim.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_OPTION for an unknown kind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_optimizer_init(
    optimizer: *mut elbo_optimizer,
    kind: i32,
) -> elbo_status {
    guard("elbo_optimizer_init", || {
        use elbo_optimizer_kind::*;
        let place = Place::new("optimizer", optimizer)?;
        let defaults: Optimizer = match kind {
            _ if kind == ELBO_ADAM as i32 => Adam::default().into(),
            _ if kind == ELBO_ADAMW as i32 => AdamW::default().into(),
            _ if kind == ELBO_SGD as i32 => Sgd::default().into(),
            _ if kind == ELBO_ADAMAX as i32 => Adamax::default().into(),
            _ => return Err(Failure::option("kind", "a value of elbo_optimizer_kind", kind)),
        };
        // SAFETY: memory of the caller, by the contract of the header.
        unsafe { place.put(elbo_optimizer::of(defaults)) };
        Ok(())
    })
}

/// Takes step `t`, counted from 1: updates `length` weights `w` and their moments `m` and `v` in place, from the
/// gradient `g`. The moments are 0 before the first step. ELBO_SGD uses `m` alone; `v` may then be null.
///
/// Runs on the calling thread. Allocates nothing.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_OVERLAP, ELBO_SIZE; ELBO_OPTION for `t` = 0 or a setting outside its
/// domain. Nothing has then changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_optimizer_step(
    compute: *const elbo_compute,
    optimizer: *const elbo_optimizer,
    t: u64,
    w: *mut f32,
    m: *mut f32,
    v: *mut f32,
    g: *const f32,
    length: usize,
) -> elbo_status {
    guard("elbo_optimizer_step", || {
        // SAFETY: structures and handles are the caller's, by the contract of the header.
        let compute = unsafe { shared("compute", compute) }?;
        // SAFETY: as above.
        let optimizer = unsafe { shared("optimizer", optimizer) }?.read()?;
        let simd = compute.simd();
        let has_norm = !matches!(optimizer, Optimizer::Sgd(_));
        let w = Matrix::vector("w", w, length)?;
        let m = Matrix::vector("m", m, length)?;
        let v = Matrix::vector("v", v, if has_norm { length } else { 0 })?;
        let g = Matrix::vector("g", g, length)?;
        let outputs: [Region; 3] = [&w, &m, &v].map(Matrix::region);
        expect_apart(&outputs, &[g.region()])?;
        // SAFETY: memory of the caller, by the contract of the header; what is written is apart.
        let (w, m, v, g) = unsafe { (w.slice_mut(), m.slice_mut(), v.slice_mut(), g.slice()) };
        match optimizer {
            Optimizer::Adam(settings) => adam::step(simd, &settings, t, w, m, v, g)?,
            Optimizer::AdamW(settings) => adamw::step(simd, &settings, t, w, m, v, g)?,
            Optimizer::Adamax(settings) => adamax::step(simd, &settings, t, w, m, v, g)?,
            Optimizer::Sgd(settings) => {
                if t == 0 {
                    return Err(Failure::option("t", "at least 1", t));
                }
                sgd::step(simd, &settings, w, m, g)?;
            }
        }
        Ok(())
    })
}
