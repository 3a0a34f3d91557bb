//! Sixteen consecutive elements in as many registers as the instruction set needs for them.

use super::{LANES, is_portable};
use pulp::{Simd, WithSimd};

/// Sixteen consecutive `f32`: one register with 16 lanes, two with 8, four with 4.
///
/// Only the first [`Self::VECTORS`] registers are in use. The others are zero, and the compiler removes
/// them when it unrolls the loops, whose bounds are constants.
#[derive(Clone, Copy)]
pub(crate) struct F32x16<S: Simd>(pub(crate) [S::f32s; 4]);

impl<S: Simd> F32x16<S> {
    /// Registers in use.
    pub(crate) const VECTORS: usize = LANES / S::F32_LANES;

    #[inline(always)]
    pub(crate) fn splat(simd: S, value: f32) -> Self {
        Self([simd.splat_f32s(value); 4])
    }

    #[inline(always)]
    pub(crate) fn load(simd: S, from: &[f32; LANES]) -> Self {
        let mut out = Self::splat(simd, 0.0);
        // Sixteen elements are whole registers of every set: there is no rest.
        let (vectors, _) = S::as_simd_f32s(from);
        out.0[..Self::VECTORS].copy_from_slice(&vectors[..Self::VECTORS]);
        out
    }

    #[inline(always)]
    pub(crate) fn store(self, to: &mut [f32; LANES]) {
        let (vectors, _) = S::as_mut_simd_f32s(to);
        vectors[..Self::VECTORS].copy_from_slice(&self.0[..Self::VECTORS]);
    }

    /// Loads the last, short group of a slice (fewer than 16 elements), filled up with zeros.
    ///
    /// A tail goes through the same code as a whole group: results of the zeros are not stored, and
    /// [`Self::first`] removes them from sums.
    #[inline(always)]
    pub(crate) fn load_tail(simd: S, from: &[f32]) -> Self {
        let mut out = Self::splat(simd, 0.0);
        let (vectors, rest) = S::as_simd_f32s(from);
        // Whole registers, then one that is partly filled, then zeros.
        for v in 0..Self::VECTORS {
            if let Some(&whole) = vectors.get(v) {
                out.0[v] = whole;
            } else if v == vectors.len() {
                out.0[v] = simd.partial_load_f32s(rest);
            }
        }
        out
    }

    /// Stores the first elements of the group in the last, short group of a slice.
    #[inline(always)]
    pub(crate) fn store_tail(self, simd: S, to: &mut [f32]) {
        let (vectors, rest) = S::as_mut_simd_f32s(to);
        for v in 0..Self::VECTORS {
            if let Some(whole) = vectors.get_mut(v) {
                // Whole registers first; lanes beyond the end are not written.
                *whole = self.0[v];
            } else if v == vectors.len() {
                simd.partial_store_f32s(rest, self.0[v]);
            }
        }
    }

    /// Returns the first `count` elements of the group and zeros after them.
    #[inline(always)]
    pub(crate) fn first(self, simd: S, count: usize) -> Self {
        // Lane i is kept if i < count: a mask by comparison, without a table of masks.
        const NUMBERS: [u32; LANES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        let mut out = self;
        let (numbers, _) = S::as_simd_u32s(&NUMBERS);
        for (v, &number) in numbers.iter().enumerate() {
            let kept = simd.less_than_u32s(number, simd.splat_u32s(count as u32));
            out.0[v] = simd.select_f32s(kept, self.0[v], simd.splat_f32s(0.0));
        }
        out
    }

    #[inline(always)]
    pub(crate) fn add(self, simd: S, other: Self) -> Self {
        let mut out = self;
        for v in 0..Self::VECTORS {
            out.0[v] = simd.add_f32s(self.0[v], other.0[v]);
        }
        out
    }
}

/// Splits a slice into whole groups of 16 and the rest.
#[inline(always)]
pub(crate) fn groups(slice: &[f32]) -> (&[[f32; LANES]], &[f32]) {
    slice.as_chunks::<LANES>()
}

/// Splits a mutable slice into whole groups of 16 and the rest.
#[inline(always)]
pub(crate) fn groups_mut(slice: &mut [f32]) -> (&mut [[f32; LANES]], &mut [f32]) {
    slice.as_chunks_mut::<LANES>()
}

/// An element-wise function of one argument, generic over the register.
pub(crate) trait Unary: Copy {
    fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s;
}

/// The identity: a product without an activation, a sum of the elements themselves.
#[derive(Clone, Copy)]
pub(crate) struct Identity;

impl Unary for Identity {
    #[inline(always)]
    fn apply<S: Simd>(self, _: S, x: S::f32s) -> S::f32s {
        x
    }
}

/// Overwrites `out[i]` with `f(x[i])`. The slices have equal lengths.
///
/// Four registers at a time: their chains are independent, so the processor overlaps them.
#[inline(always)]
pub(crate) fn map<S: Simd, F: Unary>(simd: S, out: &mut [f32], x: &[f32], f: F) {
    debug_assert_eq!(out.len(), x.len());
    let (out_head, out_tail) = S::as_mut_simd_f32s(out);
    let (x_head, x_tail) = S::as_simd_f32s(x);
    // Portable sets gain nothing from four at a time, and the code would be three times as long.
    let fours = if const { is_portable::<S>() } { 0 } else { x_head.len() / 4 * 4 };
    let (out_fours, out_rest) = out_head.split_at_mut(fours);
    let (x_fours, x_rest) = x_head.split_at(fours);
    let (out_fours, x_fours) = (out_fours.as_chunks_mut::<4>().0, x_fours.as_chunks::<4>().0);
    for (o, &[a, b, c, d]) in out_fours.iter_mut().zip(x_fours) {
        // Four independent calls, whose instructions the compiler interleaves.
        *o = [f.apply(simd, a), f.apply(simd, b), f.apply(simd, c), f.apply(simd, d)];
    }
    for (o, &v) in out_rest.iter_mut().zip(x_rest) {
        *o = f.apply(simd, v);
    }
    // Lanes past the end are loaded as zeros and not stored.
    if !x_tail.is_empty() {
        let value = f.apply(simd, simd.partial_load_f32s(x_tail));
        simd.partial_store_f32s(out_tail, value);
    }
}

/// [`map`] as a piece of work to dispatch: outputs, inputs, function.
pub(crate) struct MapOp<'a, F>(pub(crate) &'a mut [f32], pub(crate) &'a [f32], pub(crate) F);

impl<F: Unary> WithSimd for MapOp<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        map(simd, self.0, self.1, self.2);
    }
}

/// An element-wise function of `IN` inputs that reads and replaces `OUT` outputs, generic over
/// the register.
pub(crate) trait Lanewise<const OUT: usize, const IN: usize>: Copy {
    /// Returns the new outputs.
    fn apply<S: Simd>(self, simd: S, old: [S::f32s; OUT], x: [S::f32s; IN]) -> [S::f32s; OUT];
}

/// Replaces `out[i]` by `f(out[i], x[i])` on several slices of equal length. The old outputs are loaded
/// only if `f` uses them.
#[inline(always)]
pub(crate) fn zip<S: Simd, const OUT: usize, const IN: usize>(
    simd: S,
    out: [&mut [f32]; OUT],
    x: [&[f32]; IN],
    f: impl Lanewise<OUT, IN>,
) {
    let len = out[0].len();
    let zero = simd.splat_f32s(0.0);
    // One length for all slices, so that the loop needs no bounds checks.
    let mut out = out.map(|slice| S::as_mut_simd_f32s(&mut slice[..len]));
    let x = x.map(|slice| S::as_simd_f32s(&slice[..len]));
    for i in 0..len / S::F32_LANES {
        let (mut old, mut inputs) = ([zero; OUT], [zero; IN]);
        for (old, (head, _)) in old.iter_mut().zip(&out) {
            *old = head[i];
        }
        for (input, (head, _)) in inputs.iter_mut().zip(&x) {
            *input = head[i];
        }
        // All outputs are loaded before any is stored: `f` may read one and replace another.
        for ((head, _), new) in out.iter_mut().zip(f.apply(simd, old, inputs)) {
            head[i] = new;
        }
    }
    // The short end, with the same function: zeros are loaded beyond it, and not stored.
    if !len.is_multiple_of(S::F32_LANES) {
        let (mut old, mut inputs) = ([zero; OUT], [zero; IN]);
        for (old, (_, tail)) in old.iter_mut().zip(&out) {
            *old = simd.partial_load_f32s(tail);
        }
        for (input, (_, tail)) in inputs.iter_mut().zip(&x) {
            *input = simd.partial_load_f32s(tail);
        }
        for ((_, tail), new) in out.iter_mut().zip(f.apply(simd, old, inputs)) {
            simd.partial_store_f32s(tail, new);
        }
    }
}

/// [`zip`] as a piece of work to dispatch: outputs, inputs, function.
pub(crate) struct ZipOp<'a, F, const OUT: usize, const IN: usize>(
    pub(crate) [&'a mut [f32]; OUT],
    pub(crate) [&'a [f32]; IN],
    pub(crate) F,
);

impl<F: Lanewise<OUT, IN>, const OUT: usize, const IN: usize> WithSimd for ZipOp<'_, F, OUT, IN> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        zip(simd, self.0, self.1, self.2);
    }
}

/// A function of one argument, in place.
#[derive(Clone, Copy)]
pub(crate) struct Each<F>(pub(crate) F);

impl<F: Unary> Lanewise<1, 0> for Each<F> {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [x]: [S::f32s; 1], _: [S::f32s; 0]) -> [S::f32s; 1] {
        [self.0.apply(simd, x)]
    }
}

/// Multiplies every element by one factor.
#[derive(Clone, Copy)]
pub(crate) struct Scale(pub(crate) f32);

impl Lanewise<1, 0> for Scale {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [x]: [S::f32s; 1], _: [S::f32s; 0]) -> [S::f32s; 1] {
        [simd.mul_f32s(x, simd.splat_f32s(self.0))]
    }
}

/// Multiplies each element by its own factor.
#[derive(Clone, Copy)]
pub(crate) struct Multiply;

impl Lanewise<1, 1> for Multiply {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [x]: [S::f32s; 1], [y]: [S::f32s; 1]) -> [S::f32s; 1] {
        [simd.mul_f32s(x, y)]
    }
}

/// Multiplies every element by `factor`.
#[inline(always)]
pub(crate) fn scale<S: Simd>(simd: S, row: &mut [f32], factor: f32) {
    zip(simd, [row], [], Scale(factor));
}

/// Multiplies each element by its factor.
#[inline(always)]
pub(crate) fn multiply<S: Simd>(simd: S, row: &mut [f32], factors: &[f32]) {
    zip(simd, [row], [factors], Multiply);
}
