//! Terms over a batch whose rows count one by one: a sum for each, or a weight that depends on it.

use super::batch::{CONTIGUOUS, Rows, TermRows, total};
use super::term::{Firsts, Term};
use crate::{Compute, Result};
use pulp::Simd;

/// Overwrites `out` with the sums of the rows, as many as there are.
pub(super) fn row_sums(compute: &Compute, rows: impl Rows<1>, out: &mut [f64]) -> Result<()> {
    debug_assert_eq!(rows.len(), out.len());
    total(compute, Listed { rows, out }).map(|[_]| ())
}

struct Listed<'a, R> {
    rows: R,
    out: &'a mut [f64],
}

impl<R: Rows<1>> Rows<1> for Listed<'_, R> {
    fn len(&self) -> usize {
        self.rows.len()
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
        firsts: &mut Firsts,
        row: usize,
        first: usize,
    ) -> Result<[f64; 1]> {
        let [sum] = self.rows.row(simd, firsts, row, first)?;
        self.out[row] = sum;
        Ok([sum])
    }
}

/// From a row's sum to its value, and to the derivative of that by the sum.
#[derive(Clone, Copy)]
pub(super) struct RowFunction {
    pub(super) parameters: [f64; 2],
    pub(super) function: fn(sum: f64, parameters: [f64; 2]) -> (f64, f64),
}

/// A function of each row's sum, in place of the sum, and of its gradients.
pub(super) struct FunctionOfRows<R> {
    pub(super) rows: R,
    pub(super) of: RowFunction,
}

impl<T: Term<I, G>, const I: usize, const G: usize> Rows<1>
    for FunctionOfRows<TermRows<'_, T, I, G>>
{
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn split_at(self, row: usize) -> (Self, Self) {
        let (above, below) = self.rows.split_at(row);
        (Self { rows: above, of: self.of }, Self { rows: below, of: self.of })
    }

    #[inline(always)]
    fn row<S: Simd>(
        &mut self,
        simd: S,
        firsts: &mut Firsts,
        row: usize,
        first: usize,
    ) -> Result<[f64; 1]> {
        let [sum] = self.rows.row(simd, firsts, row, first)?;
        let (value, slope) = (self.of.function)(sum, self.of.parameters);
        for gradient in &mut self.rows.gradients {
            let mut gradient = gradient.row_mut(row);
            for g in gradient.as_slice_mut().expect(CONTIGUOUS) {
                *g *= slope as f32;
            }
        }
        Ok([value])
    }
}
