//! The forward product, `y = f(x·Wᵀ + b)`.
//!
//! # Method
//! Each element is one chain over the inputs, from the bias. From the outside in:
//!
//! 1. Panels, from left to right.
//! 2. Strips of a panel: the part of its columns that a tile is wide.
//! 3. Tiles of rows of the batch (`tile`). The strip of weights that they share stays in cache.
//! 4. Inputs (`tile`). The weights are read in the order in which the panel holds them. In its pauses the next panel
//!    is prefetched.

use super::panels::{Panel, PanelLayout};
use super::rows::{Rows, RowsMut};
use super::tile::{MAX_WIDTH, Operands, TILE_ROWS, TileJob};
use super::tile::{PrefetchAhead, accumulate, cover_strip, pause_steps, strip_width};
use crate::simd::lanes::Unary;
use pulp::Simd;

/// Overwrites `y` with `f(x·Wᵀ + b)`.
#[inline(always)]
pub(super) fn product<S: Simd, F: Unary>(
    simd: S,
    y: &mut RowsMut<'_>,
    x: Rows<'_>,
    panels: &[f32],
    layout: PanelLayout,
    activation: F,
) {
    struct Job<'a, 'b, F> {
        y: &'a mut RowsMut<'b>,
        x: Rows<'a>,
        inputs: usize,
        panel: &'a [f32],
        width: usize,
        /// First column of the strip, in the panel and in y.
        in_panel: usize,
        column: usize,
        activation: F,
        /// The next panel.
        ahead: PrefetchAhead,
    }
    impl<S: Simd, F: Unary> TileJob<S> for Job<'_, '_, F> {
        #[inline(always)]
        fn tile<const ROWS: usize, const VECTORS: usize>(&mut self, simd: S, row: usize) {
            let width = VECTORS * S::F32_LANES;
            // The chains start from the bias, row 0 of the panel.
            let (bias, _) = S::as_simd_f32s(&self.panel[self.in_panel..self.in_panel + width]);
            let mut tile = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
            for accumulators in &mut tile {
                accumulators.copy_from_slice(bias);
            }
            if self.inputs > 0 {
                let x = &self.x.data[row * self.x.stride..];
                let weights = &self.panel[self.width + self.in_panel..];
                assert!((ROWS - 1) * self.x.stride + self.inputs <= x.len());
                assert!((self.inputs - 1) * self.width + width <= weights.len());
                let operands = Operands {
                    scalars: x.as_ptr(),
                    row_stride: self.x.stride,
                    scalar_step: 1,
                    vectors: weights.as_ptr(),
                    vector_step: self.width,
                    steps: self.inputs,
                };
                // SAFETY: the two assertions bound the last scalar and the last vector read.
                unsafe { accumulate(simd, &mut tile, operands, &mut self.ahead) };
            }
            // The activation while the sums are still in registers. Where the rows of y end inside the
            // strip, they go through a buffer of whole registers.
            let columns = width.min(self.y.columns() - self.column);
            for (i, accumulators) in tile.iter().enumerate() {
                let y = self.y.part(row + i, self.column, columns);
                if columns == width {
                    let (y, _) = S::as_mut_simd_f32s(y);
                    for (y, &accumulator) in y.iter_mut().zip(accumulators) {
                        *y = self.activation.apply(simd, accumulator);
                    }
                } else {
                    let mut whole = [0.0; MAX_WIDTH];
                    let (vectors, _) = S::as_mut_simd_f32s(&mut whole);
                    for (vector, &accumulator) in vectors.iter_mut().zip(accumulators) {
                        *vector = self.activation.apply(simd, accumulator);
                    }
                    y.copy_from_slice(&whole[..columns]);
                }
            }
        }
    }

    debug_assert_eq!(panels.len(), layout.len());
    let rows = y.rows();
    debug_assert!(rows <= x.rows);
    // Loop 1.
    for index in 0..layout.panel_count() {
        let Panel { start, width, offset, .. } = layout.panel(index);
        let panel = &panels[offset..offset + (layout.inputs + 1) * width];
        let strip = strip_width::<S>(width);
        // Panels, and the layers of a model, follow each other in memory.
        let tiles = rows.div_ceil(TILE_ROWS) * (width / strip);
        let pauses = tiles * (layout.inputs / pause_steps::<S>());
        let mut ahead = PrefetchAhead::behind(panel, pauses);
        // Loop 2. A strip that is all padding is skipped unless y has room for it.
        let mut in_panel = 0;
        while in_panel < width && start + in_panel < y.columns() {
            let column = start + in_panel;
            let inputs = layout.inputs;
            let y = &mut *y;
            let mut job = Job { y, x, inputs, panel, width, in_panel, column, activation, ahead };
            // Loops 3 and 4.
            cover_strip(simd, strip, 0..rows, &mut job);
            ahead = job.ahead;
            in_panel += strip;
        }
    }
}
