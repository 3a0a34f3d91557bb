//! One term of a loss, an element at a time, and the loop that takes it along a row.
//!
//! A likelihood or a divergence is a [`Term`]: a lane function from its inputs to its value and
//! its gradients, and the range of data that it accepts. Everything else, the groups of 16, the
//! short last group, the sum, the scaling and the check of the data, is [`row`], once for all.

use crate::simd::LANES;
use crate::simd::lanes::{F32x16, groups, groups_mut, padded};
use crate::simd::sum::LaneSum;
use pulp::Simd;

/// A loss of `I` inputs an element, with the gradients of the first `G` of them.
///
/// Where there is data among the inputs it comes last.
pub(crate) trait Term<const I: usize, const G: usize>: Copy + Send + Sync {
    /// What the data may be; `None` where no input is data.
    const ACCEPTS: Option<Range>;

    /// The value (in nats) and the gradients of one register of elements.
    fn lane<S: Simd>(self, simd: S, inputs: [S::f32s; I]) -> (S::f32s, [S::f32s; G]);
}

/// A term without its gradients, which the compiler then leaves out: the value is computed by
/// the same operations, so evaluation and training see the same bits.
#[derive(Clone, Copy)]
pub(crate) struct ValueOf<T, const G: usize>(pub(crate) T);

impl<T: Term<I, G>, const I: usize, const G: usize> Term<I, 0> for ValueOf<T, G> {
    const ACCEPTS: Option<Range> = T::ACCEPTS;

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, inputs: [S::f32s; I]) -> (S::f32s, [S::f32s; 0]) {
        (self.0.lane(simd, inputs).0, [])
    }
}

/// An interval of data that starts at 0 or is symmetric about it.
///
/// Bit patterns of floats of one sign are ordered as the floats are, and those of NaN and of
/// negative numbers lie above all others: one integer maximum a register finds out whether a row
/// holds anything that is too large, negative or NaN.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// The bits to compare: all of them, or all but the sign.
    mask: u32,
    largest: f32,
    /// As error messages print it.
    pub(crate) name: &'static str,
}

impl Range {
    /// From 0 to 1.
    pub(crate) const UNIT: Self = Self { mask: u32::MAX, largest: 1.0, name: "[0, 1]" };
    /// Anything but NaN and ±∞.
    pub(crate) const FINITE: Self =
        Self { mask: u32::MAX >> 1, largest: f32::MAX, name: "the finite numbers" };

    /// Whether `value` lies in the range.
    pub(crate) fn contains(self, value: f32) -> bool {
        // −0 is 0, though its bits are not.
        f32::from_bits(value.to_bits() & self.mask) <= self.largest && {
            self.mask != u32::MAX || value >= 0.0
        }
    }
}

/// What [`row`] returns.
#[derive(Clone, Copy)]
pub(crate) struct RowLoss {
    /// The sum of the term over the row, unscaled.
    pub(crate) sum: f64,
    /// `false` where some data may lie outside [`Term::ACCEPTS`]: look again with
    /// [`Range::contains`], since −0 raises this flag too.
    pub(crate) accepted: bool,
}

/// A term over one row: `gradients = scale · ∂term`, overwritten, and the unscaled sum.
///
/// All slices have one length. The sum runs over the canonical lanes ([`LaneSum`]), so its bits
/// do not depend on the instruction set.
#[inline(always)]
pub(crate) fn row<S: Simd, T: Term<I, G>, const I: usize, const G: usize>(
    simd: S,
    term: T,
    gradients: [&mut [f32]; G],
    inputs: [&[f32]; I],
    scale: f32,
) -> RowLoss {
    let columns = inputs[0].len();
    debug_assert!(inputs.iter().all(|slice| slice.len() == columns));
    debug_assert!(gradients.iter().all(|slice| slice.len() == columns));
    let whole = columns / LANES;
    let inputs = inputs.map(groups);
    let mut gradients = gradients.map(groups_mut);
    let scale = simd.splat_f32s(scale);
    let mut sum = LaneSum::new(simd);
    let mut largest = simd.splat_u32s(0);

    for g in 0..whole {
        let mut group = [F32x16::splat(simd, 0.0); I];
        for i in 0..I {
            group[i] = F32x16::load(simd, &inputs[i].0[g]);
        }
        let (terms, dgroup) = lanes(simd, term, group, scale, &mut largest);
        sum.add(simd, terms);
        for i in 0..G {
            dgroup[i].store(&mut gradients[i].0[g]);
        }
    }

    let rest = columns % LANES;
    if rest > 0 {
        let mut group = [F32x16::splat(simd, 0.0); I];
        for i in 0..I {
            group[i] = F32x16::load(simd, &padded(inputs[i].1, 0.0));
        }
        let (terms, dgroup) = lanes(simd, term, group, scale, &mut largest);
        // The loss of the padding is not zero in general (softplus(0) = ln 2).
        let mut masked = [0.0; LANES];
        terms.store(&mut masked);
        masked[rest..].fill(0.0);
        sum.add(simd, F32x16::load(simd, &masked));
        for i in 0..G {
            let mut dtail = [0.0; LANES];
            dgroup[i].store(&mut dtail);
            gradients[i].1.copy_from_slice(&dtail[..rest]);
        }
    }

    let accepted = T::ACCEPTS.is_none_or(|range| {
        let lanes = [largest];
        let lanes: &[u32] = pulp::bytemuck::cast_slice(&lanes);
        lanes.iter().all(|&bits| bits <= range.largest.to_bits())
    });
    RowLoss { sum: sum.total(simd), accepted }
}

/// One group of 16: the terms, the scaled gradients, and the largest data bits so far.
#[inline(always)]
fn lanes<S: Simd, T: Term<I, G>, const I: usize, const G: usize>(
    simd: S,
    term: T,
    group: [F32x16<S>; I],
    scale: S::f32s,
    largest: &mut S::u32s,
) -> (F32x16<S>, [F32x16<S>; G]) {
    let mut terms = F32x16::splat(simd, 0.0);
    let mut dgroup = [F32x16::splat(simd, 0.0); G];
    for v in 0..F32x16::<S>::VECTORS {
        let mut inputs = [simd.splat_f32s(0.0); I];
        for i in 0..I {
            inputs[i] = group[i].0[v];
        }
        let (value, gradients) = term.lane(simd, inputs);
        terms.0[v] = value;
        for i in 0..G {
            dgroup[i].0[v] = simd.mul_f32s(gradients[i], scale);
        }
        if let Some(range) = T::ACCEPTS {
            let bits = simd.transmute_u32s_f32s(inputs[I - 1]);
            let bits = simd.and_u32s(bits, simd.splat_u32s(range.mask));
            *largest = simd.max_u32s(*largest, bits);
        }
    }
    (terms, dgroup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_what_their_names_say() {
        for value in [0.0, -0.0, f32::from_bits(1), 0.5, 1.0] {
            assert!(Range::UNIT.contains(value), "{value}");
        }
        let next = f32::from_bits(1.0_f32.to_bits() + 1);
        for value in [next, -f32::from_bits(1), -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert!(!Range::UNIT.contains(value), "{value}");
        }
        for value in [0.0, -0.0, f32::MAX, f32::MIN, -1.0] {
            assert!(Range::FINITE.contains(value), "{value}");
        }
        for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN] {
            assert!(!Range::FINITE.contains(value), "{value}");
        }
    }
}
