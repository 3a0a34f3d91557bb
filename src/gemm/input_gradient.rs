//! The input gradient, `dx = dy·W`, of rows of the batch that lie side by side: `dxᵀ = Wᵀ·dyᵀ`.

use super::panels::{Panel, PanelLayout};
use super::tile::{MAX_WIDTH, Nothing, TileJob, Walk, accumulate, cover_strip, strip_width};
use crate::simd::LANES;
use pulp::Simd;
use std::ops::Range;

/// Panels that a chain runs through before it is set down in `dxᵀ`, to be taken up again.
///
/// A tile reads a few rows of every panel: of all of them at once, they would be as many places
/// far apart, and `dyᵀ` would not stay in the first-level cache. Three panels are three streams,
/// and 144 rows of `dyᵀ`.
const GROUP: usize = 3;

/// `dxᵀ = Wᵀ·dyᵀ`: for each group of panels, for each strip of rows of the batch, for each tile
/// of inputs. The chain runs through the panels from left to right, so it is over all outputs in
/// ascending order.
#[inline(always)]
pub(super) fn input_gradient<S: Simd>(
    simd: S,
    dxt: &mut [f32],
    dyt: &[f32],
    lanes: usize,
    panels: &[f32],
    layout: PanelLayout,
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
    }
    impl<S: Simd> TileJob<S> for Job<'_> {
        #[inline(always)]
        fn tile<const ROWS: usize, const VECTORS: usize>(&mut self, simd: S, input: usize) {
            let strip = VECTORS * S::F32_LANES;
            let mut tile = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
            if self.group.start > 0 {
                for (i, accumulators) in tile.iter_mut().enumerate() {
                    let at = (input + i) * self.lanes + self.lane;
                    let (dxt, _) = S::as_simd_f32s(&self.dxt[at..at + strip]);
                    accumulators.copy_from_slice(dxt);
                }
            }
            for index in self.group.clone() {
                let Panel { start, width, outputs, offset } = self.layout.panel(index);
                let weights = &self.panels[offset + (input + 1) * width..];
                let dyt = &self.dyt[start * self.lanes + self.lane..];
                assert!((ROWS - 1) * width + outputs <= weights.len());
                assert!((outputs - 1) * self.lanes + strip <= dyt.len());
                let walk = Walk {
                    scalars: weights.as_ptr(),
                    row_stride: width,
                    scalar_step: 1,
                    vectors: dyt.as_ptr(),
                    vector_step: self.lanes,
                    steps: outputs,
                };
                // SAFETY: the two assertions bound the last scalar and the last vector read.
                unsafe { accumulate(simd, &mut tile, walk, Nothing) };
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
    if panel_count == 0 {
        dxt.fill(0.0);
    }
    for first in (0..panel_count).step_by(GROUP) {
        let group = first..panel_count.min(first + GROUP);
        let mut lane = 0;
        while lane < lanes {
            // Whole registers of rows, cut like the outputs: no strip of one vector but a lone one.
            let strip = match (lanes - lane) / LANES {
                _ if strip_width::<S>(MAX_WIDTH) == LANES => LANES,
                1 => LANES,
                2 | 4 => 2 * LANES,
                _ => 3 * LANES,
            };
            let group = group.clone();
            let mut job = Job { dxt: &mut *dxt, dyt, lanes, lane, panels, layout, group };
            cover_strip(simd, strip, 0..layout.inputs, &mut job);
            lane += strip;
        }
    }
}
