//! The step of any optimizer, over flat buffers.

use super::bounds::largest_magnitude;
use super::update::{Regularized, SHARE};
use super::{Bounds, adam, adamax, sgd};
use crate::compute::Compute;
use crate::simd::LANES;
use crate::simd::lanes::zip;
use pulp::{Simd, WithSimd};

/// One step of an optimizer with all its constants: maps `[w, m, v]` and the gradient of each weight to
/// the new `[w, m, v]`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UpdateRule {
    /// Adam and AdamW.
    Adam(adam::Constants),
    /// Adam with weight decay.
    AdamL2(Regularized<adam::Constants>),
    /// Leaves the second moment alone.
    Sgd(sgd::Constants),
    Adamax(Regularized<adamax::Constants>),
}

impl UpdateRule {
    /// The constants of Adam and AdamW, the rules that can update weights while the tile of their
    /// gradients is still in registers.
    pub(crate) fn fused(&self) -> Option<adam::Constants> {
        if let Self::Adam(constants) = self { Some(*constants) } else { None }
    }

    /// Bounds on weights and moments after this step, from those before it and from the largest
    /// magnitude in the gradient; `None` if they do not show that all of them stay finite.
    pub(crate) fn bounds_after(&self, bounds: Bounds, gradient: f64) -> Option<Bounds> {
        match self {
            Self::Adam(rule) => rule.bounds_after(bounds, gradient),
            Self::AdamL2(rule) => {
                rule.rule.bounds_after(bounds, rule.gradient_bound(bounds, gradient))
            }
            Self::Sgd(rule) => rule.bounds_after(bounds, gradient),
            Self::Adamax(rule) => {
                rule.rule.bounds_after(bounds, rule.gradient_bound(bounds, gradient))
            }
        }
        .rounded()
    }

    /// Takes the step on copies and returns `true` if all weights and moments are finite after it.
    pub(crate) fn stays_finite(self, compute: &Compute, [w, m, v]: [&[f32]; 3], g: &[f32]) -> bool {
        let mut copies = [[0.0; TRIAL]; 3];
        g.chunks(TRIAL).enumerate().all(|(index, g)| {
            let range = index * TRIAL..index * TRIAL + g.len();
            let [to_w, to_m, to_v] = copies.each_mut().map(|copy| &mut copy[..g.len()]);
            to_w.copy_from_slice(&w[range.clone()]);
            to_m.copy_from_slice(&m[range.clone()]);
            to_v.copy_from_slice(&v[range]);
            // Fewer elements than threads share.
            self.step_flat(compute, [&mut *to_w, &mut *to_m, &mut *to_v], g);
            [to_w, to_m, to_v].iter().all(|copy| largest_magnitude(copy).is_finite())
        })
    }

    /// Updates the weights and both moments in place, all slices of one length.
    ///
    /// The update is element-wise: no bit depends on how the threads share it.
    pub(crate) fn step_flat(self, compute: &Compute, [w, m, v]: [&mut [f32]; 3], g: &[f32]) {
        debug_assert!([w.len(), m.len(), v.len()] == [g.len(); 3]);
        if compute.threads_at_hand() == 1 || g.len() <= SHARE {
            return compute.simd().dispatch(UpdateOp(self, [w, m, v], g));
        }
        // A boundary at whole groups: only the last part has a tail.
        let half = compute.left_share(g.len()).next_multiple_of(LANES).min(g.len());
        let (w, w_right) = w.split_at_mut(half);
        let (m, m_right) = m.split_at_mut(half);
        let (v, v_right) = v.split_at_mut(half);
        let (g, g_right) = g.split_at(half);
        compute.join(
            || self.step_flat(compute, [w, m, v], g),
            || self.step_flat(compute, [w_right, m_right, v_right], g_right),
        );
    }
}

/// Elements of a trial step, three copies of which fit on the stack.
const TRIAL: usize = 1024;

/// The work of one thread.
struct UpdateOp<'a>(UpdateRule, [&'a mut [f32]; 3], &'a [f32]);

impl WithSimd for UpdateOp<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(rule, buffers, g) = self;
        // The rule is matched once per share; each rule has its own loop.
        match rule {
            UpdateRule::Adam(rule) => zip(simd, buffers, [g], rule),
            UpdateRule::AdamL2(rule) => zip(simd, buffers, [g], rule),
            UpdateRule::Sgd(rule) => {
                // v is neither read nor written.
                let [w, m, _] = buffers;
                zip(simd, [w, m], [g], rule);
            }
            UpdateRule::Adamax(rule) => zip(simd, buffers, [g], rule),
        }
    }
}
