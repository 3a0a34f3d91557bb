//! Products of dense layers, on weights in panels.

use crate::arguments::{Matrix, Place, Region, expect_apart, expect_memory, shared};
use crate::compute::elbo_compute;
use crate::handle::{Exclusive, end_unless_lent};
use crate::status::{Outcome, elbo_status, guard};
use elbo_rust::gemm::{self, PanelLayout, Panels};
use ndarray::{Array2, Axis, s};
use std::ops::Range;

/// Rows that go through a copy at a time, where the rows of a result do not follow one another.
const COPIED_ROWS: usize = 256;

/// The weights [outputs, inputs] and biases [outputs] of one dense layer, or their gradients, in panels: the order
/// in which the products read them. One call at a time uses a handle (ELBO_BUSY otherwise).
pub struct elbo_panels {
    panels: Exclusive<Panels>,
}

/// Makes panels of zeros.
///
/// Errors: ELBO_NULL, ELBO_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_panels_new(
    panels: *mut *mut elbo_panels,
    outputs: usize,
    inputs: usize,
) -> elbo_status {
    guard("elbo_panels_new", || {
        let place = Place::new("panels", panels)?;
        let make = || {
            let rows = inputs.checked_add(1);
            let columns = outputs.checked_next_multiple_of(64);
            let elements = rows.zip(columns).and_then(|(rows, columns)| rows.checked_mul(columns));
            expect_memory("the weights of the layer", elements)?;
            Ok(elbo_panels { panels: Exclusive::new(Panels::zeros(inputs, outputs)) })
        };
        // SAFETY: memory of the caller, by the contract of the header.
        unsafe { place.fill(make) }
    })
}

/// Overwrites the panels with `weight` [outputs, inputs] and `bias` [outputs], as torch.nn.Linear stores them.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_STRIDE, ELBO_OVERLAP, ELBO_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_panels_set(
    panels: *mut elbo_panels,
    weight: *const f32,
    weight_stride: usize,
    bias: *const f32,
) -> elbo_status {
    guard("elbo_panels_set", || {
        // SAFETY: handles and memory are the caller's, by the contract of the header; what is written is apart.
        unsafe { shared("panels", panels.cast_const()) }?.panels.with(|panels| {
            let PanelLayout { outputs, inputs } = panels.layout();
            let weight = Matrix::new("weight", weight, [outputs, inputs], weight_stride)?;
            let bias = Matrix::vector("bias", bias, outputs)?;
            let own = Region::of_slice("panels", panels);
            expect_apart(&[own], &[weight.region(), bias.region()])?;
            // SAFETY: as above.
            let packed = unsafe { Panels::pack(weight.view(), bias.slice()) }?;
            // In place: a pointer of `elbo_panels_data` stays valid.
            panels.copy_from_slice(&packed);
            Ok(())
        })
    })
}

/// Overwrites `weight` [outputs, inputs] and `bias` [outputs] with what the panels hold.
///
/// Errors: as `elbo_panels_set`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_panels_get(
    panels: *const elbo_panels,
    weight: *mut f32,
    weight_stride: usize,
    bias: *mut f32,
) -> elbo_status {
    guard("elbo_panels_get", || {
        // SAFETY: handles and memory are the caller's, by the contract of the header; what is written is apart.
        unsafe { shared("panels", panels) }?.panels.with(|panels| {
            let PanelLayout { outputs, inputs } = panels.layout();
            let weight = Matrix::new("weight", weight, [outputs, inputs], weight_stride)?;
            let bias = Matrix::vector("bias", bias, outputs)?;
            let own = Region::of_slice("panels", panels);
            expect_apart(&[weight.region(), bias.region()], &[own])?;
            // SAFETY: as above.
            unsafe {
                weight.view_mut().assign(&panels.weight());
                bias.slice_mut().iter_mut().zip(panels.bias()).for_each(|(to, from)| *to = from);
            }
            Ok(())
        })
    })
}

/// Writes the address and the number of the elements of the panels, padding included, for optimizers, which take
/// weights in any order. The padding must stay 0, as it does with a gradient of 0. Valid until
/// `elbo_panels_free`; no call may use the panels while the caller writes there.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_panels_data(
    panels: *mut elbo_panels,
    data: *mut *mut f32,
    length: *mut usize,
) -> elbo_status {
    guard("elbo_panels_data", || {
        let (data, length) = (Place::new("data", data)?, Place::new("length", length)?);
        // SAFETY: handles and memory are the caller's, by the contract of the header.
        unsafe { shared("panels", panels.cast_const()) }?.panels.with(|panels| {
            // SAFETY: as above.
            unsafe {
                data.put(panels.as_mut_ptr());
                length.put(panels.len());
            }
            Ok(())
        })
    })
}

/// Frees the panels, unless a call is using them. Nothing happens for a null pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_panels_free(panels: *mut elbo_panels) {
    // SAFETY: a handle of the caller, by the contract of the header.
    unsafe { end_unless_lent("elbo_panels_free", panels, |handle| &handle.panels) }
}

/// Forward product: overwrites `y` [rows, outputs] with x W^T + b; `x` is [rows, inputs].
///
/// Each element is one chain of fused multiply-adds over the inputs, ascending, from the bias. Allocates a list of
/// the threads' tasks, and copies where rows do not follow one another.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_STRIDE, ELBO_OVERLAP, ELBO_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_product(
    compute: *const elbo_compute,
    y: *mut f32,
    y_stride: usize,
    x: *const f32,
    x_stride: usize,
    panels: *const elbo_panels,
    rows: usize,
) -> elbo_status {
    guard("elbo_product", || {
        // SAFETY: handles are the caller's, by the contract of the header.
        let (compute, panels) = unsafe { (shared("compute", compute)?, shared("panels", panels)?) };
        let compute = compute.here()?;
        panels.panels.with(|panels| {
            let PanelLayout { outputs, inputs } = panels.layout();
            let y = Matrix::new("y", y, [rows, outputs], y_stride)?;
            let x = Matrix::new("x", x, [rows, inputs], x_stride)?;
            expect_apart(&[y.region()], &[x.region(), Region::of_slice("panels", panels)])?;
            // SAFETY: memory of the caller, by the contract of the header; what is written is apart.
            let (mut to, x) = unsafe { (y.view_mut(), x.view()) };
            let product = |y: ndarray::ArrayViewMut2<'_, f32>, rows: Range<usize>| {
                gemm::product(compute, y, x.slice(s![rows, ..]), panels)
            };
            by_rows(y.is_contiguous(), &mut to, product)
        })
    })
}

/// Input gradient: overwrites `dx` [rows, inputs] with dy W; `dy` is [rows, outputs]. Allocates transposed copies
/// of some rows.
///
/// Errors: as `elbo_product`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_input_gradient(
    compute: *const elbo_compute,
    dx: *mut f32,
    dx_stride: usize,
    dy: *const f32,
    dy_stride: usize,
    panels: *const elbo_panels,
    rows: usize,
) -> elbo_status {
    guard("elbo_input_gradient", || {
        // SAFETY: handles are the caller's, by the contract of the header.
        let (compute, panels) = unsafe { (shared("compute", compute)?, shared("panels", panels)?) };
        let compute = compute.here()?;
        panels.panels.with(|panels| {
            let PanelLayout { outputs, inputs } = panels.layout();
            let dx = Matrix::new("dx", dx, [rows, inputs], dx_stride)?;
            let dy = Matrix::new("dy", dy, [rows, outputs], dy_stride)?;
            expect_apart(&[dx.region()], &[dy.region(), Region::of_slice("panels", panels)])?;
            // SAFETY: memory of the caller, by the contract of the header; what is written is apart.
            let (mut to, dy) = unsafe { (dx.view_mut(), dy.view()) };
            let product = |dx: ndarray::ArrayViewMut2<'_, f32>, rows: Range<usize>| {
                gemm::input_gradient(compute, dx, dy.slice(s![rows, ..]), panels)
            };
            by_rows(dx.is_contiguous(), &mut to, product)
        })
    })
}

/// Weight gradient: overwrites `dpanels` with dy^T x and the column sums of dy; `x` is [rows, inputs], `dy`
/// [rows, outputs]. Allocates a list of the threads' tasks and copies of some rows.
///
/// Errors: as `elbo_product`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_weight_gradient(
    compute: *const elbo_compute,
    dpanels: *mut elbo_panels,
    x: *const f32,
    x_stride: usize,
    dy: *const f32,
    dy_stride: usize,
    rows: usize,
) -> elbo_status {
    guard("elbo_weight_gradient", || {
        // SAFETY: handles are the caller's, by the contract of the header.
        let compute = unsafe { shared("compute", compute) }?;
        // SAFETY: as above.
        let dpanels = unsafe { shared("dpanels", dpanels.cast_const()) }?;
        let compute = compute.here()?;
        dpanels.panels.with(|dpanels| {
            let PanelLayout { outputs, inputs } = dpanels.layout();
            let x = Matrix::new("x", x, [rows, inputs], x_stride)?;
            let dy = Matrix::new("dy", dy, [rows, outputs], dy_stride)?;
            let own = Region::of_slice("dpanels", dpanels);
            expect_apart(&[own], &[x.region(), dy.region()])?;
            // SAFETY: memory of the caller, by the contract of the header; what is written is apart.
            let (x, dy) = unsafe { (x.view(), dy.view()) };
            gemm::weight_gradient(compute, dpanels, x, dy)?;
            Ok(())
        })
    })
}

/// Calls `product` for all rows of `to`, or, if they do not follow one another, for some at a time in a copy.
fn by_rows(
    is_contiguous: bool,
    to: &mut ndarray::ArrayViewMut2<'_, f32>,
    product: impl Fn(ndarray::ArrayViewMut2<'_, f32>, Range<usize>) -> elbo_rust::Result<()>,
) -> Outcome<()> {
    let (rows, columns) = to.dim();
    if is_contiguous {
        product(to.view_mut(), 0..rows)?;
        return Ok(());
    }
    let mut copy = Array2::zeros((COPIED_ROWS.min(rows), columns));
    let mut first = 0;
    for mut to in to.axis_chunks_iter_mut(Axis(0), COPIED_ROWS) {
        let count = to.nrows();
        product(copy.slice_mut(s![..count, ..]), first..first + count)?;
        to.assign(&copy.slice(s![..count, ..]));
        first += count;
    }
    Ok(())
}
