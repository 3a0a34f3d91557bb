//! One step of an optimizer as a function on registers, and the pass over flat buffers.

use super::{adam, adamax, sgd};
use crate::compute::Compute;
use crate::error::{Error, Result, expect_length};
use crate::simd::InstructionSet;
use crate::simd::lanes::{Lanewise, zip};
use pulp::{Simd, WithSimd};

/// What one step does to every weight: `[w, m, v]` and the gradient to the new `[w, m, v]`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rule {
    /// Adam and AdamW: the one rule that can run on a weight gradient still in registers.
    Adam(adam::Constants),
    AdamL2(Regularized<adam::Constants>),
    /// Leaves the second moment alone, which may be empty.
    Sgd(sgd::Constants),
    Adamax(Regularized<adamax::Constants>),
}

/// A rule whose gradient has the weight decay `wd·w` added to it: the gradient of `½·wd·w²`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Regularized<R> {
    pub(super) weight_decay: f32,
    pub(super) rule: R,
}

impl<R: Lanewise<3, 1>> Lanewise<3, 1> for Regularized<R> {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, old: [S::f32s; 3], [g]: [S::f32s; 1]) -> [S::f32s; 3] {
        let g = simd.mul_add_f32s(simd.splat_f32s(self.weight_decay), old[0], g);
        self.rule.apply(simd, old, [g])
    }
}

/// 0 in place of a moment below the least normal number: with subnormal numbers processors compute
/// many times slower.
#[inline(always)]
pub(super) fn without_subnormals<S: Simd>(simd: S, moment: S::f32s) -> S::f32s {
    let (zero, least) = (simd.splat_f32s(0.0), simd.splat_f32s(f32::MIN_POSITIVE));
    simd.select_f32s(simd.less_than_f32s(simd.abs_f32s(moment), least), zero, moment)
}

/// Weights that a thread takes at once.
const SHARE: usize = 1 << 14;

impl Rule {
    /// The rule, if it can run on a weight gradient that is still in registers.
    pub(crate) fn fused(&self) -> Option<adam::Constants> {
        if let Self::Adam(constants) = self { Some(*constants) } else { None }
    }

    /// Updates the weights and both moments in place, all slices of one length.
    pub(super) fn step(self, simd: InstructionSet, outputs: [&mut [f32]; 3], g: &[f32]) {
        struct Op<'a>(Rule, [&'a mut [f32]; 3], &'a [f32]);
        impl WithSimd for Op<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self(rule, outputs, g) = self;
                match rule {
                    Rule::Adam(rule) => zip(simd, outputs, [g], rule),
                    Rule::AdamL2(rule) => zip(simd, outputs, [g], rule),
                    Rule::Sgd(rule) => {
                        let [w, m, _] = outputs;
                        zip(simd, [w, m], [g], rule);
                    }
                    Rule::Adamax(rule) => zip(simd, outputs, [g], rule),
                }
            }
        }
        simd.dispatch(Op(self, outputs, g));
    }

    /// [`Self::step`], after a check of the arguments of the public functions.
    pub(super) fn checked_step(
        self,
        simd: InstructionSet,
        w: &mut [f32],
        m: &mut [f32],
        v: &mut [f32],
        g: &[f32],
    ) -> Result<()> {
        expect_length("m", w.len(), m.len())?;
        expect_length("v", w.len(), v.len())?;
        expect_length("g", w.len(), g.len())?;
        self.step(simd, [w, m, v], g);
        Ok(())
    }

    /// [`Self::step`], shared among the threads: element-wise, so no bit depends on how.
    pub(crate) fn step_flat(
        self,
        compute: &Compute,
        w: &mut [f32],
        m: &mut [f32],
        v: &mut [f32],
        g: &[f32],
    ) {
        fn halve(rule: Rule, simd: InstructionSet, [w, m, v]: [&mut [f32]; 3], g: &[f32]) {
            if g.len() <= SHARE {
                return rule.step(simd, [w, m, v], g);
            }
            let half = (g.len() / 2).next_multiple_of(crate::simd::LANES);
            let (w, w_right) = w.split_at_mut(half);
            let (m, m_right) = m.split_at_mut(half);
            let (v, v_right) = v.split_at_mut(half);
            let (g, g_right) = g.split_at(half);
            rayon::join(
                || halve(rule, simd, [w, m, v], g),
                || halve(rule, simd, [w_right, m_right, v_right], g_right),
            );
        }
        debug_assert!([w.len(), m.len(), v.len()] == [g.len(); 3]);
        if compute.threads() == 1 || g.len() <= SHARE {
            self.step(compute.simd(), [w, m, v], g);
        } else {
            compute.install(|| halve(self, compute.simd(), [w, m, v], g));
        }
    }
}

/// Steps are counted from 1: the bias corrections of step 0 would divide by 0.
pub(super) fn expect_step(t: u64) -> Result<()> {
    if t == 0 { Err(Error::config("t", "at least 1", t)) } else { Ok(()) }
}
