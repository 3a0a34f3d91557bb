//! Sums of a term over the rows of a batch, one for each column.
//!
//! A column is one chain in f64 in row order, so neither threads nor registers reach its bits.
//! Columns go sixteen at a time through all rows: nothing is allocated.

use super::batch::{CONTIGUOUS, TermRows};
use super::term::{Mended, Term};
use crate::Compute;
use crate::simd::InstructionSet;
use crate::simd::LANES;
use crate::simd::lanes::F32x16;
use ndarray::ArrayView2;
use pulp::{Simd, WithSimd};

/// Elements below which the calling thread does it alone.
const PARALLEL: usize = 1 << 15;

impl<T: Term<I, 0>, const I: usize> TermRows<'_, T, I, 0> {
    /// Overwrites `out` with the sum of each column. Whether the data is accepted is not looked at.
    pub(super) fn column_sums(&self, compute: &Compute, out: &mut [f64]) {
        debug_assert_eq!(self.inputs[0].ncols(), out.len());
        let columns = Columns { term: self.term, inputs: self.inputs, first: 0, out };
        if compute.threads() > 1 && self.inputs[0].len() >= PARALLEL {
            compute.install(|| columns.halve(compute.simd()));
        } else {
            compute.simd().dispatch(columns);
        }
    }
}

/// Some columns of a batch.
struct Columns<'a, T, const I: usize> {
    term: T,
    inputs: [ArrayView2<'a, f32>; I],
    first: usize,
    out: &'a mut [f64],
}

impl<T: Term<I, 0>, const I: usize> Columns<'_, T, I> {
    fn halve(self, set: InstructionSet) {
        let Self { term, inputs, first, out } = self;
        // Whole cache lines of the inputs, and enough of them for a task.
        if out.len() <= 4 * LANES {
            return set.dispatch(Columns { term, inputs, first, out });
        }
        let half = (out.len() / 2).next_multiple_of(LANES);
        let (left, right) = out.split_at_mut(half);
        rayon::join(
            || Columns { term, inputs, first, out: left }.halve(set),
            || Columns { term, inputs, first: first + half, out: right }.halve(set),
        );
    }
}

impl<T: Term<I, 0>, const I: usize> WithSimd for Columns<'_, T, I> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.inputs[0].nrows();
        for (g, out) in self.out.chunks_mut(LANES).enumerate() {
            let first = self.first + g * LANES;
            let mut sums = [0.0; LANES];
            for row in 0..rows {
                let mut group = [F32x16::splat(simd, 0.0); I];
                for (group, input) in group.iter_mut().zip(&self.inputs) {
                    let input = input.row(row);
                    let input = input.to_slice().expect(CONTIGUOUS);
                    *group = F32x16::load_tail(simd, &input[first..first + out.len()]);
                }
                let mut values = F32x16::splat(simd, 0.0);
                for v in 0..F32x16::<S>::VECTORS {
                    let mut inputs = [simd.splat_f32s(0.0); I];
                    for i in 0..I {
                        inputs[i] = group[i].0[v];
                    }
                    values.0[v] = Mended(self.term).lane(simd, inputs).0;
                }
                let mut lanes = [0.0; LANES];
                values.store(&mut lanes);
                for (sum, lane) in sums.iter_mut().zip(lanes) {
                    *sum += f64::from(lane);
                }
            }
            out.copy_from_slice(&sums[..out.len()]);
        }
    }
}
