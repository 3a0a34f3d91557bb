//! One term of a loss, an element at a time, and the loop that takes it along a row.
//!
//! A likelihood or a divergence is a [`Term`]: a lane function from its inputs to its value and
//! its gradients, and the range of data that it accepts. Everything else (groups of 16, the short
//! last group, the sum, the scaling, the check of the data) is written once, in [`row`].
//!
//! # Method
//! 1. Whole groups of 16 elements, in tiles of [`STAGE_GROUPS`]: with a two-stage term first stage 1 of
//!    the whole tile, then stage 2; otherwise the lane function.
//! 2. The terms go into a [`LaneSum`], the gradients are scaled and stored, and the largest data bits
//!    so far are kept.
//! 3. The short last group is filled up with zeros; its padding is taken out of the sum.
//! 4. A row whose sum is NaN goes through the loop again with [`Term::fix_nonfinite`].

pub(crate) mod batch;
pub(crate) mod short_rows;
pub(super) mod sums;

use crate::simd::lanes::{F32x16, groups, groups_mut};
use crate::simd::sum::LaneSum;
use crate::simd::{LANES, apart};
use pulp::{Simd, WithSimd};

/// A loss of `I` inputs an element, with the gradients of the first `G` of them.
///
/// Where there is data among the inputs it comes last. A term has either [`Self::lane`], or, with
/// [`Self::TWO_STAGE`], both stages.
pub trait Term<const I: usize, const G: usize>: Copy + Send + Sync {
    /// The data that the term accepts; `None` where no input is data.
    const ACCEPTS: Option<Range>;

    /// The value (in nats) and the gradients of one register of elements.
    ///
    /// It may ignore inputs that are NaN or infinite, as long as its value is NaN wherever value
    /// or gradients are wrong: [`Self::fix_nonfinite`] corrects them.
    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, inputs: [S::f32s; I]) -> (S::f32s, [S::f32s; G]) {
        self.stage2(simd, inputs, self.stage1(simd, inputs))
    }

    /// True if [`row`] is to run the lane function in two stages, each over a tile of groups.
    ///
    /// An out-of-order core runs ahead by some 100 to 150 vector operations. A lane function
    /// that is a long chain of them stalls it; two loops over chains of half the length
    /// overlap twice as many elements.
    const TWO_STAGE: bool = false;

    /// The first stage, whose result is handed over to the second.
    #[inline(always)]
    fn stage1<S: Simd>(self, _: S, inputs: [S::f32s; I]) -> S::f32s {
        inputs[0]
    }

    /// The second stage: value and gradients from the inputs and the first stage's result.
    #[inline(always)]
    fn stage2<S: Simd>(self, simd: S, inputs: [S::f32s; I], _: S::f32s) -> (S::f32s, [S::f32s; G]) {
        self.lane(simd, inputs)
    }

    /// True if [`Self::fix_nonfinite`] does anything.
    const FIXES_NONFINITE: bool = false;

    /// Corrects the result of [`Self::lane`] for inputs that are NaN or infinite. Only rows whose sum is
    /// NaN come here, so ordinary rows do not pay for it.
    #[inline(always)]
    fn fix_nonfinite<S: Simd>(
        self,
        _: S,
        _: [S::f32s; I],
        lane: (S::f32s, [S::f32s; G]),
    ) -> (S::f32s, [S::f32s; G]) {
        lane
    }
}

/// A term without its gradients, which the compiler then leaves out: the value is computed by
/// the same operations, so evaluation and training see the same bits.
#[derive(Clone, Copy)]
pub(crate) struct ValueOf<T, const G: usize>(pub(crate) T);

impl<T: Term<I, G>, const I: usize, const G: usize> Term<I, 0> for ValueOf<T, G> {
    const ACCEPTS: Option<Range> = T::ACCEPTS;

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, inputs: [S::f32s; I]) -> (S::f32s, [S::f32s; 0]) {
        // The gradients are not used, so the compiler removes their operations.
        (self.0.lane(simd, inputs).0, [])
    }

    const TWO_STAGE: bool = T::TWO_STAGE;
    const FIXES_NONFINITE: bool = T::FIXES_NONFINITE;

    #[inline(always)]
    fn stage1<S: Simd>(self, simd: S, inputs: [S::f32s; I]) -> S::f32s {
        self.0.stage1(simd, inputs)
    }

    #[inline(always)]
    fn stage2<S: Simd>(
        self,
        simd: S,
        inputs: [S::f32s; I],
        first: S::f32s,
    ) -> (S::f32s, [S::f32s; 0]) {
        (self.0.stage2(simd, inputs, first).0, [])
    }

    #[inline(always)]
    fn fix_nonfinite<S: Simd>(
        self,
        simd: S,
        inputs: [S::f32s; I],
        _: (S::f32s, [S::f32s; 0]),
    ) -> (S::f32s, [S::f32s; 0]) {
        (self.0.fix_nonfinite(simd, inputs, self.0.lane(simd, inputs)).0, [])
    }
}

/// An interval of data that starts at 0 or is symmetric about it.
///
/// Bit patterns of floats of one sign are ordered as the floats are, and those of NaN and of
/// negative numbers lie above all others: one integer maximum a register finds out whether a row
/// holds anything that is too large, negative or NaN.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The bits to compare: all of them, or all but the sign.
    mask: u32,
    largest: f32,
    /// The range as error messages print it.
    pub(crate) name: &'static str,
}

impl Range {
    /// From 0 to 1.
    pub(crate) const UNIT: Self = Self { mask: u32::MAX, largest: 1.0, name: "[0, 1]" };
    /// From −1 to 1.
    pub(crate) const SYMMETRIC: Self = Self { mask: u32::MAX >> 1, largest: 1.0, name: "[-1, 1]" };
    /// Anything but NaN and ±∞.
    pub(crate) const FINITE: Self =
        Self { mask: u32::MAX >> 1, largest: f32::MAX, name: "the finite numbers" };

    /// Returns whether `value` lies in the range.
    pub(crate) fn contains(self, value: f32) -> bool {
        // −0 is 0, though its bits are not: with the sign in the mask they are the largest.
        f32::from_bits(value.to_bits() & self.mask) <= self.largest && {
            self.mask != u32::MAX || value >= 0.0
        }
    }
}

/// The result of [`row`].
#[derive(Clone, Copy)]
pub struct RowLoss {
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
    row_with(simd, term, &mut StageBuffer::new(), gradients, inputs, scale)
}

/// [`row`] with memory that many rows can share.
#[inline(always)]
pub(crate) fn row_with<S: Simd, T: Term<I, G>, const I: usize, const G: usize>(
    simd: S,
    term: T,
    buffer: &mut StageBuffer,
    gradients: [&mut [f32]; G],
    inputs: [&[f32]; I],
    scale: f32,
) -> RowLoss {
    apart(simd, Row { term, buffer, gradients, inputs, scale })
}

/// [`row_with`] as a function of its own, compiled once: a term is long, and many places call it.
struct Row<'a, T, const I: usize, const G: usize> {
    term: T,
    buffer: &'a mut StageBuffer,
    gradients: [&'a mut [f32]; G],
    inputs: [&'a [f32]; I],
    scale: f32,
}

impl<T: Term<I, G>, const I: usize, const G: usize> WithSimd for Row<'_, T, I, G> {
    type Output = RowLoss;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> RowLoss {
        let Self { term, buffer, mut gradients, inputs, scale } = self;
        let outputs = gradients.each_mut().map(|slice| &mut **slice);
        let loss = pass(simd, term, buffer, outputs, inputs, scale);
        // 4. The rare row with ∞·0 or a NaN in it.
        if T::FIXES_NONFINITE && loss.sum.is_nan() {
            let term = Careful(term);
            return apart(simd, CarefulRow(Row { term, buffer, gradients, inputs, scale }));
        }
        loss
    }
}

/// A row whose values and gradients go through [`Term::fix_nonfinite`].
struct CarefulRow<'a, T, const I: usize, const G: usize>(Row<'a, T, I, G>);

impl<T: Term<I, G>, const I: usize, const G: usize> WithSimd for CarefulRow<'_, T, I, G> {
    type Output = RowLoss;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> RowLoss {
        let Row { term, buffer, gradients, inputs, scale } = self.0;
        pass(simd, term, buffer, gradients, inputs, scale)
    }
}

/// Results of [`Term::stage1`] for [`Term::stage2`], for a tile of `GROUPS` groups, on cache lines.
#[repr(align(64))]
pub struct StageBuffer<const GROUPS: usize = STAGE_GROUPS>([[f32; LANES]; GROUPS]);

/// Groups in a tile between the two stages: enough to keep the core busy, few enough for the
/// first-level cache.
const STAGE_GROUPS: usize = 32;

impl<const GROUPS: usize> StageBuffer<GROUPS> {
    pub(crate) fn new() -> Self {
        Self([[0.0; LANES]; GROUPS])
    }
}

/// A term whose lanes go through [`Term::fix_nonfinite`].
#[derive(Clone, Copy)]
pub(super) struct Careful<T>(pub(super) T);

impl<T: Term<I, G>, const I: usize, const G: usize> Term<I, G> for Careful<T> {
    const ACCEPTS: Option<Range> = T::ACCEPTS;

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, inputs: [S::f32s; I]) -> (S::f32s, [S::f32s; G]) {
        self.0.fix_nonfinite(simd, inputs, self.0.lane(simd, inputs))
    }
}

#[inline(always)]
fn pass<S: Simd, T: Term<I, G>, const I: usize, const G: usize>(
    simd: S,
    term: T,
    buffer: &mut StageBuffer,
    gradients: [&mut [f32]; G],
    inputs: [&[f32]; I],
    scale: f32,
) -> RowLoss {
    // Shapes were checked on entry; here they are assumed.
    let columns = inputs[0].len();
    debug_assert!(inputs.iter().all(|slice| slice.len() == columns));
    debug_assert!(gradients.iter().all(|slice| slice.len() == columns));
    let whole = columns / LANES;
    let inputs = inputs.map(groups);
    let heads = inputs.map(|(head, _)| head);
    let gradients = gradients.map(groups_mut);
    // Broadcast once a row.
    let scale = simd.splat_f32s(scale);
    // Largest data bits so far, and the sum, both lane by lane.
    let mut sum = LaneSum::new(simd);
    let mut largest = simd.splat_u32s(0);

    // 1.
    let mut start = 0;
    while start < whole {
        let tile = start..whole.min(start + STAGE_GROUPS);
        if T::TWO_STAGE {
            for (g, staged) in tile.clone().zip(&mut buffer.0) {
                stage1(simd, term, load(simd, heads, g)).store(staged);
            }
        }
        for (g, staged) in tile.clone().zip(&buffer.0) {
            let group = load(simd, heads, g);
            // Known when this is compiled: a term of one stage has no branch here.
            let staged = T::TWO_STAGE.then(|| F32x16::load(simd, staged));
            let (terms, dgroup) = lanes(simd, term, group, staged, scale, &mut largest);
            // 2.
            sum.add(simd, terms);
            for i in 0..G {
                dgroup[i].store(&mut gradients[i].0[g]);
            }
        }
        start = tile.end;
    }

    // 3.
    let rest = columns % LANES;
    if rest > 0 {
        let mut group = [F32x16::splat(simd, 0.0); I];
        for i in 0..I {
            group[i] = F32x16::load_tail(simd, inputs[i].1);
        }
        // Without stages: one group has nothing to overlap with.
        let (terms, dgroup) = lanes(simd, term, group, None, scale, &mut largest);
        // The loss of the padding is not zero in general (softplus(0) = ln 2).
        sum.add(simd, terms.first(simd, rest));
        for i in 0..G {
            // The gradients of the padding are not stored.
            dgroup[i].store_tail(simd, gradients[i].1);
        }
    }

    RowLoss { sum: sum.total(simd), accepted: accepted::<S, T, I, G>(largest) }
}

/// Returns whether the term accepts data whose bits are at most these.
#[inline(always)]
pub(super) fn accepted<S: Simd, T: Term<I, G>, const I: usize, const G: usize>(
    largest: S::u32s,
) -> bool {
    T::ACCEPTS.is_none_or(|range| {
        // Positive floats are ordered as their bits: one comparison a lane, once a row.
        let lanes = [largest];
        let lanes: &[u32] = pulp::bytemuck::cast_slice(&lanes);
        lanes.iter().all(|&bits| bits <= range.largest.to_bits())
    })
}

/// Group `g` of every input.
#[inline(always)]
pub(super) fn load<S: Simd, const I: usize>(
    simd: S,
    inputs: [&[[f32; LANES]]; I],
    g: usize,
) -> [F32x16<S>; I] {
    let mut group = [F32x16::splat(simd, 0.0); I];
    for i in 0..I {
        group[i] = F32x16::load(simd, &inputs[i][g]);
    }
    group
}

/// The first stage of one group of 16.
#[inline(always)]
pub(super) fn stage1<S: Simd, T: Term<I, G>, const I: usize, const G: usize>(
    simd: S,
    term: T,
    group: [F32x16<S>; I],
) -> F32x16<S> {
    let mut out = F32x16::splat(simd, 0.0);
    for v in 0..F32x16::<S>::VECTORS {
        out.0[v] = term.stage1(simd, group.map(|input| input.0[v]));
    }
    out
}

/// One group of 16: the terms, the scaled gradients, and the largest data bits so far.
#[inline(always)]
pub(super) fn lanes<S: Simd, T: Term<I, G>, const I: usize, const G: usize>(
    simd: S,
    term: T,
    group: [F32x16<S>; I],
    staged: Option<F32x16<S>>,
    scale: S::f32s,
    largest: &mut S::u32s,
) -> (F32x16<S>, [F32x16<S>; G]) {
    let mut terms = F32x16::splat(simd, 0.0);
    let mut dgroup = [F32x16::splat(simd, 0.0); G];
    for v in 0..F32x16::<S>::VECTORS {
        // Register v of each input.
        let mut inputs = [simd.splat_f32s(0.0); I];
        for i in 0..I {
            inputs[i] = group[i].0[v];
        }
        let (value, gradients) = match staged {
            Some(staged) => term.stage2(simd, inputs, staged.0[v]),
            None => term.lane(simd, inputs),
        };
        // The value stays unscaled: rows are added in f64 and divided once.
        terms.0[v] = value;
        for i in 0..G {
            dgroup[i].0[v] = simd.mul_f32s(gradients[i], scale);
        }
        // NaN and negative numbers have the largest bits of all.
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
        for value in [0.0, -0.0, f32::from_bits(1), -0.5, 1.0, -1.0] {
            assert!(Range::SYMMETRIC.contains(value), "{value}");
        }
        for value in [next, -next, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN] {
            assert!(!Range::SYMMETRIC.contains(value), "{value}");
        }
        for value in [0.0, -0.0, f32::MAX, f32::MIN, -1.0] {
            assert!(Range::FINITE.contains(value), "{value}");
        }
        for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN] {
            assert!(!Range::FINITE.contains(value), "{value}");
        }
    }
}
