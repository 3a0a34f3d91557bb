//! Sums of a batch row by row and column by column.
//!
//! A column is one chain in f64 in row order, so neither threads nor registers change its bits.
//! Columns go sixteen at a time through all rows: nothing is allocated.

use super::batch::{CONTIGUOUS, RowSums, total};
use super::{Careful, StageBuffer, Term};
use crate::simd::LANES;
use crate::simd::lanes::F32x16;
use crate::{Compute, Result};
use ndarray::ArrayView2;
use pulp::{Simd, WithSimd};

/// Elements for each thread that takes part.
const SHARE: usize = 1 << 14;

/// Overwrites `out` with the value of each row; one element a row.
pub(in crate::loss) fn row_values(
    compute: &Compute,
    rows: impl RowSums<2>,
    out: &mut [f64],
) -> Result<()> {
    debug_assert_eq!(rows.len(), out.len());
    total(compute, Listed { rows, out }).map(|[_]| ())
}

/// Rows whose values are also kept one by one.
struct Listed<'a, R> {
    rows: R,
    out: &'a mut [f64],
}

impl<R: RowSums<2>> RowSums<1> for Listed<'_, R> {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn columns(&self) -> usize {
        self.rows.columns()
    }

    fn split_at(self, row: usize) -> (Self, Self) {
        let (above, below) = self.rows.split_at(row);
        let (out_above, out_below) = self.out.split_at_mut(row);
        (Self { rows: above, out: out_above }, Self { rows: below, out: out_below })
    }

    #[inline(always)]
    fn row<S: Simd>(
        &mut self,
        simd: S,
        buffer: &mut StageBuffer,
        row: usize,
        first: usize,
    ) -> Result<[f64; 1]> {
        let [value, _] = self.rows.row(simd, buffer, row, first)?;
        self.out[row] = value;
        Ok([value])
    }
}

/// Overwrites `out` with the sum of a term over each column of views that
/// [`check`](super::batch::check) has accepted. The range of the data is not checked.
pub(in crate::loss) fn column_sums<T: Term<I, 0>, const I: usize>(
    compute: &Compute,
    term: T,
    inputs: [ArrayView2<'_, f32>; I],
    out: &mut [f64],
) {
    debug_assert_eq!(inputs[0].ncols(), out.len());
    let compute = compute.for_work(inputs[0].len(), SHARE);
    Columns { term, inputs, first: 0, out }.halve(&compute);
}

/// Some columns of a batch.
struct Columns<'a, T, const I: usize> {
    term: T,
    inputs: [ArrayView2<'a, f32>; I],
    first: usize,
    out: &'a mut [f64],
}

impl<T: Term<I, 0>, const I: usize> Columns<'_, T, I> {
    fn halve(self, compute: &Compute) {
        let Self { term, inputs, first, out } = self;
        // Whole cache lines of the inputs, and enough of them for a task.
        if compute.threads_at_hand() == 1 || out.len() <= 4 * LANES {
            return compute.simd().dispatch(Columns { term, inputs, first, out });
        }
        // Each column is a chain of its own: where they are cut changes no bit.
        let half = compute.left_share(out.len()).next_multiple_of(LANES).min(out.len());
        let (left, right) = out.split_at_mut(half);
        compute.join(
            || Columns { term, inputs, first, out: left }.halve(compute),
            || Columns { term, inputs, first: first + half, out: right }.halve(compute),
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
            // Sixteen chains, one a column, down all rows.
            let mut sums = [0.0; LANES];
            for row in 0..rows {
                let mut group = [F32x16::splat(simd, 0.0); I];
                for (group, input) in group.iter_mut().zip(&self.inputs) {
                    let input = input.row(row);
                    // Row by row down the same 16 columns: one cache line of each input.
                    let input = input.to_slice().expect(CONTIGUOUS);
                    *group = F32x16::load_tail(simd, &input[first..first + out.len()]);
                }
                let mut values = F32x16::splat(simd, 0.0);
                for v in 0..F32x16::<S>::VECTORS {
                    let inputs = group.map(|input| input.0[v]);
                    // A column has no sum of a row to tell where care is needed: all get it.
                    values.0[v] = Careful(self.term).lane(simd, inputs).0;
                }
                // To f64 before the addition: a column has as many terms as the batch has rows.
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
