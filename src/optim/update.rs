//! Pieces that the optimizers share: their pass over flat buffers, L2 regularization, checks.

use super::Bounds;
use crate::error::{Error, Result, expect_length, fits_f32};
use crate::simd::InstructionSet;
use crate::simd::lanes::{Lanewise, ZipOp};
use pulp::Simd;

/// Weights that a thread updates, clips or measures at once.
pub(super) const SHARE: usize = 1 << 14;

/// An optimizer's step with `wd·w` added to the gradient first: the gradient of `½·wd·w²`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Regularized<R> {
    pub(super) weight_decay: f32,
    pub(super) rule: R,
}

impl<R> Regularized<R> {
    /// Bound on the gradient that the rule sees.
    pub(super) fn gradient_bound(&self, bounds: Bounds, gradient: f64) -> f64 {
        gradient + f64::from(self.weight_decay) * bounds.w
    }
}

impl<R: Lanewise<3, 1>> Lanewise<3, 1> for Regularized<R> {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, old: [S::f32s; 3], [g]: [S::f32s; 1]) -> [S::f32s; 3] {
        // d(½·wd·w²)/dw = wd·w, added to g in one rounding, before the moments see it.
        let g = simd.mul_add_f32s(simd.splat_f32s(self.weight_decay), old[0], g);
        self.rule.apply(simd, old, [g])
    }
}

/// Replaces a moment below the least normal number by 0; NaN stays.
///
/// Without a gradient, as behind a ReLU that is never active, a moment decays exponentially and would
/// end as a subnormal number, with which processors compute many times slower.
#[inline(always)]
pub(super) fn flush_subnormals<S: Simd>(simd: S, moment: S::f32s) -> S::f32s {
    // The comparison is false for NaN.
    let (zero, least) = (simd.splat_f32s(0.0), simd.splat_f32s(f32::MIN_POSITIVE));
    simd.select_f32s(simd.less_than_f32s(simd.abs_f32s(moment), least), zero, moment)
}

/// Checks the lengths of the buffers and that steps count from 1, then takes step `t` on them.
pub(super) fn checked_step(
    simd: InstructionSet,
    t: u64,
    rule: impl Lanewise<3, 1>,
    [w, m, v]: [&mut [f32]; 3],
    g: &[f32],
) -> Result<()> {
    // The bias corrections of step 0 divide by 0.
    if t == 0 {
        return Err(Error::config("t", "at least 1", t));
    }
    expect_length("m", w.len(), m.len())?;
    expect_length("v", w.len(), v.len())?;
    expect_length("g", w.len(), g.len())?;
    simd.dispatch(ZipOp([w, m, v], [g], rule));
    Ok(())
}

/// Returns an error, with what is `expected`, unless ε is an f32 and at least `least`: with 0, a weight
/// without gradient would become 0/0.
pub(super) fn expect_epsilon(epsilon: f64, least: f64, expected: &'static str) -> Result<()> {
    if fits_f32(epsilon) && epsilon >= least {
        return Ok(());
    }
    Err(Error::config("epsilon", expected, epsilon))
}
