//! Dense layer `y = x·Wᵀ + b`, with the weights in [`Panels`].
//!
//! Shapes: x `[B, K]`, W `[N, K]`, b `[N]`, y `[B, N]`. Every element of every result is one chain of fused
//! multiply-adds (see [`gemm`] for order and error), so the bits depend neither on the instruction set nor
//! on the number of threads.

use crate::compute::Compute;
use crate::error::Result;
use crate::gemm::{self, Panels};
use ndarray::{ArrayView2, ArrayViewMut2};

/// Overwrites `y` with `x·Wᵀ + b`.
///
/// # Errors
/// As [`gemm::product`].
pub fn forward(
    compute: &Compute,
    y: ArrayViewMut2<'_, f32>,
    x: ArrayView2<'_, f32>,
    panels: &Panels,
) -> Result<()> {
    gemm::product(compute, y, x, panels)
}

/// Overwrites `dpanels` with `dW = dyᵀ·x` and `db = Σ_b dy`, and `dx`, if given, with `dy·W`.
///
/// The first layer of a network needs no `dx`: passing `None` saves a third of the work.
///
/// ```
/// use elbo::{Compute, gemm::Panels, layers::dense};
/// use ndarray::{Array2, array};
///
/// let panels = Panels::pack(array![[2.0, -1.0]].view(), &[0.0])?; // one output, two inputs
/// let x = array![[3.0, 4.0], [5.0, 6.0]];
/// let dy = array![[1.0], [10.0]];
/// let (mut dx, mut dpanels) = (Array2::zeros((2, 2)), Panels::zeros(2, 1));
/// dense::backward(
///     &Compute::serial(), Some(dx.view_mut()), &mut dpanels, dy.view(), x.view(), &panels,
/// )?;
/// assert_eq!(dx, array![[2.0, -1.0], [20.0, -10.0]]);
/// assert_eq!(dpanels.weight(), array![[53.0, 64.0]]);
/// assert_eq!(dpanels.bias(), array![11.0]);
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// As [`gemm::input_gradient`] and [`gemm::weight_gradient`].
pub fn backward(
    compute: &Compute,
    dx: Option<ArrayViewMut2<'_, f32>>,
    dpanels: &mut Panels,
    dy: ArrayView2<'_, f32>,
    x: ArrayView2<'_, f32>,
    panels: &Panels,
) -> Result<()> {
    // y = x·Wᵀ + b, so dW = dyᵀ·x, db = Σ dy and dx = dy·W.
    gemm::weight_gradient(compute, dpanels, x, dy)?;
    dx.map_or(Ok(()), |dx| gemm::input_gradient(compute, dx, dy, panels))
}
