//! Terms over a batch: shapes checked once, rows spread over threads, totals by a fixed tree.
//!
//! Rows are added as [`sum_rows`](crate::simd::sum::sum_rows) adds them: leaves of 64 in row
//! order, leaves joined by halving. The tree depends on the number of rows alone, so neither
//! threads nor instruction sets reach the total. It is walked by `rayon::join`, whose jobs live
//! on the stack, and each leaf is dispatched once: nothing is allocated.

use super::Reduction;
use super::term::{Firsts, Term, row_with};
use crate::simd::InstructionSet;
use crate::simd::sum::{is_leaf, split_point};
use crate::{Compute, Error, Result};
use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use pulp::{Simd, WithSimd};

/// Rows that each give `N` sums.
pub(crate) trait Rows<const N: usize>: Send + Sized {
    /// How many there are.
    fn len(&self) -> usize;

    /// The rows before `row` and those from it on.
    fn split_at(self, row: usize) -> (Self, Self);

    /// The sums of one row. `first` is the number, in the whole batch, of row 0 here.
    fn row<S: Simd>(
        &mut self,
        simd: S,
        firsts: &mut Firsts,
        row: usize,
        first: usize,
    ) -> Result<[f64; N]>;
}

/// One term over the rows of views that fit together.
pub(crate) struct TermRows<'a, T, const I: usize, const G: usize> {
    pub(super) term: T,
    pub(super) gradients: [ArrayViewMut2<'a, f32>; G],
    pub(super) inputs: [ArrayView2<'a, f32>; I],
    /// By what a sum over these rows is divided in the end.
    divisor: f64,
    /// By what gradients are multiplied.
    scale: f32,
}

impl<'a, T: Term<I, G>, const I: usize, const G: usize> TermRows<'a, T, I, G> {
    /// Checks that all arrays have the shape of the first input and contiguous rows, and that
    /// the reduction has something to reduce. Gradients are those of `weight · term`.
    pub(crate) fn new(
        term: T,
        gradients: [(&'static str, ArrayViewMut2<'a, f32>); G],
        inputs: [(&'static str, ArrayView2<'a, f32>); I],
        weight: f32,
        reduction: Reduction,
    ) -> Result<Self> {
        let (rows, columns) = inputs[0].1.dim();
        let expected = [rows, columns];
        for (argument, view) in &gradients {
            check(argument, expected, view.shape(), view.strides())?;
        }
        for (argument, view) in &inputs {
            check(argument, expected, view.shape(), view.strides())?;
        }
        let divisor = reduction.divisor(rows, columns).ok_or_else(|| Error::Shape {
            argument: inputs[0].0,
            expected: "at least one element to take the mean of".to_owned(),
            found: format!("{expected:?}"),
        })?;
        Ok(Self {
            term,
            gradients: gradients.map(|(_, view)| view),
            inputs: inputs.map(|(_, view)| view),
            divisor,
            scale: (f64::from(weight) / divisor) as f32,
        })
    }

    /// By what a sum over all these rows is divided.
    pub(crate) fn divisor(&self) -> f64 {
        self.divisor
    }

    /// The reduced term; the gradients are written.
    pub(crate) fn reduced(self, compute: &Compute) -> Result<f64> {
        let divisor = self.divisor;
        Ok(self.sum(compute)? / divisor)
    }

    /// The sum over all rows, not divided by anything; the gradients are written.
    pub(crate) fn sum(self, compute: &Compute) -> Result<f64> {
        total(compute, self).map(|[sum]| sum)
    }
}

fn check(
    argument: &'static str,
    expected: [usize; 2],
    shape: &[usize],
    strides: &[isize],
) -> Result<()> {
    if shape != expected {
        return Err(Error::shape(argument, expected, shape));
    }
    if shape[0] > 0 && shape[1] > 1 && strides[1] != 1 {
        return Err(Error::Layout { argument, strides: strides.to_vec() });
    }
    Ok(())
}

/// What unwraps the rows of views that were checked.
pub(super) const CONTIGUOUS: &str = "rows were found contiguous on entry";

impl<T: Term<I, G>, const I: usize, const G: usize> Rows<1> for TermRows<'_, T, I, G> {
    fn len(&self) -> usize {
        self.inputs[0].nrows()
    }

    fn split_at(self, row: usize) -> (Self, Self) {
        let Self { term, gradients, inputs, divisor, scale } = self;
        let (above, below) = unzip(gradients.map(|view| view.split_at(Axis(0), row)));
        let (inputs_above, inputs_below) = unzip(inputs.map(|view| view.split_at(Axis(0), row)));
        (
            Self { term, gradients: above, inputs: inputs_above, divisor, scale },
            Self { term, gradients: below, inputs: inputs_below, divisor, scale },
        )
    }

    #[inline(always)]
    fn row<S: Simd>(
        &mut self,
        simd: S,
        firsts: &mut Firsts,
        index: usize,
        first: usize,
    ) -> Result<[f64; 1]> {
        let gradients = self
            .gradients
            .each_mut()
            .map(|view| view.row_mut(index).into_slice().expect(CONTIGUOUS));
        let inputs =
            self.inputs.each_ref().map(|view| view.row(index).to_slice().expect(CONTIGUOUS));
        let loss = row_with(simd, self.term, firsts, gradients, inputs, self.scale);
        if !loss.accepted {
            reject::<T, I, G>(inputs[I - 1], first + index)?;
        }
        Ok([loss.sum])
    }
}

/// Two rows' sums side by side: terms over different columns of the same batch.
impl<A: Rows<1>, B: Rows<1>> Rows<2> for (A, B) {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn split_at(self, row: usize) -> (Self, Self) {
        let (a_above, a_below) = self.0.split_at(row);
        let (b_above, b_below) = self.1.split_at(row);
        ((a_above, b_above), (a_below, b_below))
    }

    #[inline(always)]
    fn row<S: Simd>(
        &mut self,
        simd: S,
        firsts: &mut Firsts,
        row: usize,
        first: usize,
    ) -> Result<[f64; 2]> {
        let [a] = self.0.row(simd, firsts, row, first)?;
        let [b] = self.1.row(simd, firsts, row, first)?;
        Ok([a, b])
    }
}

fn unzip<A, const N: usize>(pairs: [(A, A); N]) -> ([A; N], [A; N]) {
    let mut above = [const { None }; N];
    let mut below = [const { None }; N];
    for (i, (a, b)) in pairs.into_iter().enumerate() {
        above[i] = Some(a);
        below[i] = Some(b);
    }
    (above.map(Option::unwrap), below.map(Option::unwrap))
}

/// Names the first element of a row that the term does not accept, if there is one.
#[cold]
pub(crate) fn reject<T: Term<I, G>, const I: usize, const G: usize>(
    data: &[f32],
    row: usize,
) -> Result<()> {
    let Some(range) = T::ACCEPTS else { return Ok(()) };
    match data.iter().copied().enumerate().find(|&(_, value)| !range.contains(value)) {
        None => Ok(()),
        Some((column, value)) if value.is_finite() => {
            Err(Error::TargetOutOfRange { row, column, value, accepted: range.name })
        }
        Some((column, value)) => Err(Error::NotFiniteData { row, column, value, step: None }),
    }
}

/// The sums over all rows.
///
/// # Errors
/// The first row's, in row order, whose data is not accepted; rows after it may then be left
/// as they were.
pub(crate) fn total<R: Rows<N>, const N: usize>(compute: &Compute, rows: R) -> Result<[f64; N]> {
    let parallel = compute.threads() > 1;
    // A single leaf is not worth waking a thread.
    if parallel && !is_leaf(rows.len()) {
        compute.install(|| tree(compute.simd(), rows, 0, true))
    } else {
        tree(compute.simd(), rows, 0, false)
    }
}

fn tree<R: Rows<N>, const N: usize>(
    set: InstructionSet,
    rows: R,
    first: usize,
    parallel: bool,
) -> Result<[f64; N]> {
    if is_leaf(rows.len()) {
        return set.dispatch(Leaf { rows, first });
    }
    let split = split_point(rows.len());
    let (above, below) = rows.split_at(split);
    let (above, below) = if parallel {
        rayon::join(
            || tree(set, above, first, parallel),
            || tree(set, below, first + split, parallel),
        )
    } else {
        (tree(set, above, first, parallel), tree(set, below, first + split, parallel))
    };
    let (mut sums, below) = (above?, below?);
    for i in 0..N {
        sums[i] += below[i];
    }
    Ok(sums)
}

/// At most 64 rows, in row order: what is dispatched at once.
struct Leaf<R, const N: usize> {
    rows: R,
    first: usize,
}

impl<R: Rows<N>, const N: usize> WithSimd for Leaf<R, N> {
    type Output = Result<[f64; N]>;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> Self::Output {
        let mut sums = [0.0; N];
        let mut firsts = Firsts::new();
        for index in 0..self.rows.len() {
            let row = self.rows.row(simd, &mut firsts, index, self.first)?;
            for i in 0..N {
                sums[i] += row[i];
            }
        }
        Ok(sums)
    }
}
