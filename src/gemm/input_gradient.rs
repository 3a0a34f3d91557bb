//! The input gradient, `dx = dy·W`, on transposed matrices: `dxᵀ = Wᵀ·dyᵀ`.
//!
//! With rows of the batch as columns, W is read as it lies in its panels: its elements are the
//! scalars, and the vectors are rows of the batch.
//!
//! # Method
//! Each element is one chain over the outputs, from 0. From the outside in:
//!
//! 1. Groups of [`GROUP`] panels, from left to right. Between groups the chains are stored in `dxᵀ`.
//! 2. Strips of rows of the batch, as wide as a tile.
//! 3. Tiles of inputs (`tile`).
//! 4. The panels of the group, and in each its outputs (`tile`), so that the chain is in ascending
//!    order.

use super::panels::{Panel, PanelLayout};
use super::tile::{MAX_WIDTH, Operands, TileJob};
use super::tile::{PrefetchAhead, accumulate, cover_strip, pause_steps, strip_width};
use crate::simd::LANES;
use pulp::Simd;
use std::ops::Range;

/// Panels in a group (loop 1).
///
/// A tile reads a few rows of each panel. With all panels in one group these would be as many streams
/// far apart in memory, and `dyᵀ` would not stay in the first-level cache. Three panels are three
/// streams and 144 rows of `dyᵀ`.
const GROUP: usize = 3;

/// Overwrites `dxt` with the rows of `Wᵀ·dyᵀ` (`[K, lanes]`) from input `first` on, as many as it has room for;
/// `dyt` is `[N, lanes]`.
#[inline(always)]
pub(super) fn input_gradient<S: Simd>(
    simd: S,
    dxt: &mut [f32],
    dyt: &[f32],
    lanes: usize,
    panels: &[f32],
    layout: PanelLayout,
    first: usize,
) {
    struct Job<'a> {
        dxt: &'a mut [f32],
        dyt: &'a [f32],
        lanes: usize,
        /// First row of the batch in the strip.
        lane: usize,
        panels: &'a [f32],
        layout: PanelLayout,
        group: Range<usize>,
        /// The input of row 0 of `dxt`.
        first: usize,
    }
    impl<S: Simd> TileJob<S> for Job<'_> {
        #[inline(always)]
        fn tile<const ROWS: usize, const VECTORS: usize>(&mut self, simd: S, input: usize) {
            let strip = VECTORS * S::F32_LANES;
            let mut tile = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
            // The chains of the group before, or zeros.
            if self.group.start > 0 {
                for (i, accumulators) in tile.iter_mut().enumerate() {
                    let at = (input + i) * self.lanes + self.lane;
                    let (dxt, _) = S::as_simd_f32s(&self.dxt[at..at + strip]);
                    accumulators.copy_from_slice(dxt);
                }
            }
            // Loop 4.
            for index in self.group.clone() {
                let Panel { start, width, outputs, offset } = self.layout.panel(index);
                let weights = &self.panels[offset + (self.first + input + 1) * width..];
                let dyt = &self.dyt[start * self.lanes + self.lane..];
                assert!(ROWS * width <= weights.len());
                assert!((outputs - 1) * self.lanes + strip <= dyt.len());
                let operands = Operands {
                    scalars: weights.as_ptr(),
                    row_stride: width,
                    scalar_step: 1,
                    vectors: dyt.as_ptr(),
                    vector_step: self.lanes,
                    steps: outputs,
                };
                // The same outputs of the next tile's inputs lie behind those of this one.
                let ahead = &weights[..ROWS * width];
                let pauses = if self.lane == 0 { outputs / pause_steps::<S>() } else { 0 };
                let mut ahead = PrefetchAhead::behind(ahead, pauses);
                // SAFETY: the two assertions bound the last scalar and the last vector read.
                unsafe { accumulate(simd, &mut tile, operands, &mut ahead) };
            }
            for (i, accumulators) in tile.iter().enumerate() {
                let at = (input + i) * self.lanes + self.lane;
                let (dxt, _) = S::as_mut_simd_f32s(&mut self.dxt[at..at + strip]);
                dxt.copy_from_slice(accumulators);
            }
        }
    }

    debug_assert!(lanes.is_multiple_of(LANES));
    let panel_count = layout.panel_count();
    // Without outputs no group would write anything.
    if panel_count == 0 {
        dxt.fill(0.0);
    }
    // Loop 1.
    for start in (0..panel_count).step_by(GROUP) {
        let group = start..panel_count.min(start + GROUP);
        // Loop 2.
        let mut lane = 0;
        while lane < lanes {
            // Cut like the outputs into panels: a strip of one vector only where there is just one.
            let strip = match (lanes - lane) / LANES {
                _ if strip_width::<S>(MAX_WIDTH) == LANES => LANES,
                1 => LANES,
                2 | 4 => 2 * LANES,
                _ => 3 * LANES,
            };
            let group = group.clone();
            let inputs = 0..dxt.len() / lanes;
            let mut job = Job { dxt: &mut *dxt, dyt, lanes, lane, panels, layout, group, first };
            // Loops 3 and 4.
            cover_strip(simd, strip, inputs, &mut job);
            lane += strip;
        }
    }
}
