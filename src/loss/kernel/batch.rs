//! Losses over a batch: shapes checked once, rows spread over threads, totals by a fixed tree.
//!
//! Rows are added as [`sum_rows`](crate::simd::sum::sum_rows) adds them: leaves of 64 in row
//! order, leaves joined by halving. The tree depends on the number of rows alone, so neither
//! threads nor instruction sets change the total. It is walked by [`Compute::join`], whose
//! jobs live on the stack: nothing is allocated. Threads share the rows of a leaf as well; their sums wait
//! in a list on the stack to be added in order.

use super::{Range, RowLoss, StageBuffer, Term, ValueOf, row_with};
use crate::simd::sum::{LEAF, is_leaf, split_point};
use crate::{Compute, Error, Result};
use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use pulp::{Simd, WithSimd};

/// Elements for each thread that takes part. In tests, small batches are shared too.
const SHARE: usize = if cfg!(test) { 16 } else { 1 << 11 };

/// A loss of one row, and with places for them its gradients.
///
/// Every [`Term`] is one; others look at the sum of the whole row, or hold numbers for its columns.
pub trait RowKernel<const I: usize, const G: usize>: Copy + Send + Sync {
    /// The data that the loss accepts; `None` where no input is data.
    const ACCEPTS: Option<Range>;

    /// The value of a row, and the sum of the term that it is made of. The gradients, if asked for,
    /// are overwritten with `scale · ∂value`.
    fn row<S: Simd>(
        self,
        simd: S,
        buffer: &mut StageBuffer,
        gradients: Option<[&mut [f32]; G]>,
        inputs: [&[f32]; I],
        scale: f32,
    ) -> (f64, RowLoss);
}

impl<T: Term<I, G>, const I: usize, const G: usize> RowKernel<I, G> for T {
    const ACCEPTS: Option<Range> = T::ACCEPTS;

    #[inline(always)]
    fn row<S: Simd>(
        self,
        simd: S,
        buffer: &mut StageBuffer,
        gradients: Option<[&mut [f32]; G]>,
        inputs: [&[f32]; I],
        scale: f32,
    ) -> (f64, RowLoss) {
        // Two kernels of the same operations: the one without gradients computes fewer of them.
        let loss = match gradients {
            Some(gradients) => row_with(simd, self, buffer, gradients, inputs, scale),
            None => row_with(simd, ValueOf(self), buffer, [], inputs, 1.0),
        };
        (loss.sum, loss)
    }
}

/// Rows that each give `N` sums.
pub trait RowSums<const N: usize>: Send + Sized {
    /// Number of rows.
    fn len(&self) -> usize;

    /// Elements of a row.
    fn columns(&self) -> usize;

    /// The rows before `row` and those from it on.
    fn split_at(self, row: usize) -> (Self, Self);

    /// The sums of one row. `first` is the number, in the whole batch, of row 0 here.
    fn row<S: Simd>(
        &mut self,
        simd: S,
        buffer: &mut StageBuffer,
        row: usize,
        first: usize,
    ) -> Result<[f64; N]>;
}

/// One loss over the rows of views of one shape: for each row its value and the term's sum.
pub struct KernelRows<'g, 'i, K, const I: usize, const G: usize> {
    kernel: K,
    gradients: Option<[ArrayViewMut2<'g, f32>; G]>,
    inputs: [ArrayView2<'i, f32>; I],
    /// Multiplies the gradients.
    scale: f32,
}

/// An argument and its name, for error messages.
pub(in crate::loss) type Named<V> = (&'static str, V);

impl<'g, 'i, K: RowKernel<I, G>, const I: usize, const G: usize> KernelRows<'g, 'i, K, I, G> {
    /// Checks the views and takes them up. Gradients are those of `scale · value`.
    pub(in crate::loss) fn new(
        kernel: K,
        gradients: Option<[Named<ArrayViewMut2<'g, f32>>; G]>,
        inputs: [Named<ArrayView2<'i, f32>>; I],
        scale: f32,
    ) -> Result<Self> {
        // The first input gives the shape that all others must have.
        let shape = inputs[0].1.dim();
        for (argument, view) in gradients.iter().flatten() {
            check(argument, shape, view.view())?;
        }
        check_all(&inputs)?;
        let gradients = gradients.map(|named| named.map(|(_, view)| view));
        Ok(Self { kernel, gradients, inputs: inputs.map(|(_, view)| view), scale })
    }
}

/// Checks that all inputs have the shape of the first, and contiguous rows.
pub(in crate::loss) fn check_all(inputs: &[Named<ArrayView2<'_, f32>>]) -> Result<()> {
    inputs.iter().try_for_each(|(argument, view)| check(argument, inputs[0].1.dim(), *view))
}

/// Checks that a view has this shape and contiguous rows.
pub(in crate::loss) fn check(
    argument: &'static str,
    (rows, columns): (usize, usize),
    view: ArrayView2<'_, f32>,
) -> Result<()> {
    if view.dim() != (rows, columns) {
        return Err(Error::shape(argument, [rows, columns], view.shape()));
    }
    // One column, or none, is contiguous whatever its stride.
    if rows > 0 && columns > 1 && view.strides()[1] != 1 {
        return Err(Error::Layout { argument, strides: view.strides().to_vec() });
    }
    Ok(())
}

/// Message for rows that turn out not to be contiguous although [`check`] accepted them.
pub(in crate::loss) const CONTIGUOUS: &str = "rows were found contiguous on entry";

impl<K: RowKernel<I, G>, const I: usize, const G: usize> RowSums<2>
    for KernelRows<'_, '_, K, I, G>
{
    fn len(&self) -> usize {
        self.inputs[0].nrows()
    }

    fn columns(&self) -> usize {
        self.inputs[0].ncols()
    }

    fn split_at(self, row: usize) -> (Self, Self) {
        let Self { kernel, gradients, inputs, scale } = self;
        let (gradients_above, gradients_below) =
            gradients.map(|views| unzip(views.map(|view| view.split_at(Axis(0), row)))).unzip();
        let (inputs_above, inputs_below) = unzip(inputs.map(|view| view.split_at(Axis(0), row)));
        (
            Self { kernel, gradients: gradients_above, inputs: inputs_above, scale },
            Self { kernel, gradients: gradients_below, inputs: inputs_below, scale },
        )
    }

    #[inline(always)]
    fn row<S: Simd>(
        &mut self,
        simd: S,
        buffer: &mut StageBuffer,
        index: usize,
        first: usize,
    ) -> Result<[f64; 2]> {
        let gradients = self.gradients.as_mut().map(|views| {
            views.each_mut().map(|view| view.row_mut(index).into_slice().expect(CONTIGUOUS))
        });
        let inputs =
            self.inputs.each_ref().map(|view| view.row(index).to_slice().expect(CONTIGUOUS));
        // One call a row: the loop over elements is a function of its own behind it.
        let (value, loss) = self.kernel.row(simd, buffer, gradients, inputs, self.scale);
        // The flag may be a false alarm (−0), so the row is searched.
        if let (false, Some(range)) = (loss.accepted, K::ACCEPTS) {
            reject_data(range, inputs[I - 1], first + index)?;
        }
        Ok([value, loss.sum])
    }
}

/// Two losses side by side, over different columns of the same rows.
pub(in crate::loss) struct BothRows<A, B>(pub(in crate::loss) A, pub(in crate::loss) B);

impl<A: RowSums<2>, B: RowSums<2>> RowSums<4> for BothRows<A, B> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn columns(&self) -> usize {
        self.0.columns() + self.1.columns()
    }

    fn split_at(self, row: usize) -> (Self, Self) {
        let (a_above, a_below) = self.0.split_at(row);
        let (b_above, b_below) = self.1.split_at(row);
        (Self(a_above, b_above), Self(a_below, b_below))
    }

    #[inline(always)]
    fn row<S: Simd>(
        &mut self,
        simd: S,
        buffer: &mut StageBuffer,
        row: usize,
        first: usize,
    ) -> Result<[f64; 4]> {
        // The same row of both, one after the other: they share the buffer.
        let [a, b] = self.0.row(simd, buffer, row, first)?;
        let [c, d] = self.1.row(simd, buffer, row, first)?;
        Ok([a, b, c, d])
    }
}

fn unzip<A, const N: usize>(pairs: [(A, A); N]) -> ([A; N], [A; N]) {
    let mut above = [const { None }; N];
    let mut below = [const { None }; N];
    for (i, (a, b)) in pairs.into_iter().enumerate() {
        // Arrays have no `unzip`; the options vanish when this is compiled.
        above[i] = Some(a);
        below[i] = Some(b);
    }
    (above.map(Option::unwrap), below.map(Option::unwrap))
}

/// Names the first element of a row that lies outside the range, if there is one.
#[cold]
pub(crate) fn reject_data(range: Range, data: &[f32], row: usize) -> Result<()> {
    match data.iter().copied().enumerate().find(|&(_, value)| !range.contains(value)) {
        None => Ok(()),
        // A finite value out of range is reported differently from NaN or ±∞.
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
pub(in crate::loss) fn total<R: RowSums<N>, const N: usize>(
    compute: &Compute,
    rows: R,
) -> Result<[f64; N]> {
    let compute = compute.for_work(rows.len() * rows.columns(), SHARE);
    tree(&compute, rows, 0)
}

/// The sums over rows of which the first has the number `first`.
fn tree<R: RowSums<N>, const N: usize>(
    compute: &Compute,
    rows: R,
    first: usize,
) -> Result<[f64; N]> {
    if is_leaf(rows.len()) {
        let mut list = [[0.0; N]; LEAF];
        let list = &mut list[..rows.len()];
        each_row(compute, rows, first, list)?;
        let mut sums = [0.0; N];
        for row in list {
            for i in 0..N {
                sums[i] += row[i];
            }
        }
        return Ok(sums);
    }
    let split = split_point(rows.len());
    let (above, below) = rows.split_at(split);
    let (above, below) =
        compute.join(|| tree(compute, above, first), || tree(compute, below, first + split));
    // The error of the upper half comes first, whichever thread was faster.
    let (mut sums, below) = (above?, below?);
    for i in 0..N {
        sums[i] += below[i];
    }
    Ok(sums)
}

/// Overwrites `out` with the sums of each row of a leaf.
fn each_row<R: RowSums<N>, const N: usize>(
    compute: &Compute,
    rows: R,
    first: usize,
    out: &mut [[f64; N]],
) -> Result<()> {
    if compute.threads_at_hand() == 1 || out.len() <= 1 {
        return compute.simd().dispatch(EachRow { rows, first, out });
    }
    let half = compute.left_share(out.len());
    let ((above, below), (out_above, out_below)) = (rows.split_at(half), out.split_at_mut(half));
    let (above, below) = compute.join(
        || each_row(compute, above, first, out_above),
        || each_row(compute, below, first + half, out_below),
    );
    // The error of the upper half comes first here too.
    above.and(below)
}

/// Some rows of a leaf, which are dispatched at once.
struct EachRow<'a, R, const N: usize> {
    rows: R,
    first: usize,
    out: &'a mut [[f64; N]],
}

impl<R: RowSums<N>, const N: usize> WithSimd for EachRow<'_, R, N> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> Self::Output {
        // 2 KiB on the stack, once for all rows.
        let mut buffer = StageBuffer::new();
        for (index, out) in self.out.iter_mut().enumerate() {
            *out = self.rows.row(simd, &mut buffer, index, self.first)?;
        }
        Ok(())
    }
}
