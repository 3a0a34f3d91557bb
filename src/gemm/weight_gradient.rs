//! The weight gradient, `dW = dyᵀ·x`, and the sink that receives it.
//!
//! # Method
//! Each element is one chain over all rows of the batch, so the work is split over the elements of
//! dW. From the outside in:
//!
//! 1. Stretches: [`STRETCH_ROWS`] rows of the batch at a time, so that the rows of `dy` that all tiles
//!    of a strip read stay in the first-level cache. Between stretches the unfinished chains are
//!    stored in a buffer.
//! 2. Strips of the panel; the bias, whose input is 1, comes before the weights.
//! 3. Tiles of inputs (`tile`).
//! 4. Rows of the batch in the stretch (`tile`).
//!
//! A tile that is summed over the whole batch goes to a [`Sink`], which stores it or updates weights
//! with it. An update takes some thirty operations an element, a division and a square root among
//! them, and memory that is not in the first-level cache: done at once it would keep the multipliers
//! waiting. So a finished tile is copied to a buffer, and its rows go to the sink one by one in the
//! pauses of the next tile's loop 4, where out-of-order execution overlaps them with products that do
//! not depend on them. The sink prefetches what it needs one tile ahead.

use super::panels::Panel;
use super::rows::Rows;
use super::tile::{Interleave, MAX_TILE, MAX_WIDTH, Nothing, Operands, TileJob};
use super::tile::{accumulate, bias_strip, cover_strip, pause_steps, strip_width};
use crate::simd::LANES;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Rows of the batch: the inputs of a layer and the gradient of its outputs, whose stride leaves
/// room for whole registers.
#[derive(Clone, Copy)]
pub(crate) struct GradientSource<'a> {
    pub(crate) x: Rows<'a>,
    pub(crate) dy: Rows<'a>,
}

impl<'a> GradientSource<'a> {
    /// The rows from `first` on, at most `length` of them.
    #[inline(always)]
    pub(super) fn part(self, first: usize, length: usize) -> Self {
        let part = |Rows { data, rows, stride }: Rows<'a>| Rows {
            data: &data[first * stride..],
            rows: length.min(rows - first),
            stride,
        };
        Self { x: part(self.x), dy: part(self.dy) }
    }
}

/// Rows of a batch in stretches, then the last one if it lies somewhere else.
///
/// Each register tile asks for them anew: inlined, since a call here costs some percent.
#[derive(Clone)]
pub(super) struct Stretches<'a> {
    pub(super) rows: GradientSource<'a>,
    pub(super) last: Option<GradientSource<'a>>,
    /// Rows so far.
    pub(super) done: usize,
}

impl<'a> Iterator for Stretches<'a> {
    type Item = GradientSource<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<GradientSource<'a>> {
        if self.done >= self.rows.x.rows {
            return self.last.take();
        }
        let stretch = self.rows.part(self.done, STRETCH_ROWS);
        self.done += stretch.x.rows;
        Some(stretch)
    }
}

/// Largest number of inputs in a piece of the weight gradient, which is what one task computes at a
/// time: a multiple of the height of every tile.
const PIECE_INPUTS: usize = 96;

/// Splits the K+1 rows of a panel into pieces of at most [`PIECE_INPUTS`] inputs, or half as many in a layer
/// of which there would be too few to share; the bias, row 0, goes with the first inputs.
pub(crate) fn panel_pieces(inputs: usize) -> impl Iterator<Item = Range<usize>> {
    // Without inputs the bias is all there is.
    let bias_alone = (inputs == 0).then_some(0..1);
    let length = if inputs < 2 * PIECE_INPUTS { PIECE_INPUTS / 2 } else { PIECE_INPUTS };
    let pieces = (0..inputs).step_by(length).map(move |first| {
        let start = if first == 0 { 0 } else { first + 1 };
        start..inputs.min(first + length) + 1
    });
    bias_alone.into_iter().chain(pieces)
}

/// Rows of the batch in a stretch (loop 1), unless a single source has more: 48 columns of them fill
/// half of the first-level cache.
pub(crate) const STRETCH_ROWS: usize = 128;

/// Receiver of the elements of the weight gradient, a register at a time.
pub(crate) trait Sink {
    /// Takes the gradient of the elements from `at` on, counted from the first row of the range
    /// given to [`weight_gradient_rows`].
    fn put<S: Simd>(&mut self, simd: S, at: usize, gradient: S::f32s);

    /// Initial value of the chains of the elements from `at` on; `None` for zero.
    #[inline(always)]
    fn start<S: Simd>(&self, simd: S, at: usize) -> Option<S::f32s> {
        let _ = (simd, at);
        None
    }

    /// Announces that `len` elements from `at` on will be put soon, for a prefetch.
    #[inline(always)]
    fn expect(&self, at: usize, len: usize) {
        let _ = (at, len);
    }
}

/// The sink, and the finished rows that it has not received yet.
struct DeferredSink<'a, K> {
    sink: &'a mut K,
    /// Rows of the finished tile, the last one first.
    finished: TileBuffer,
    /// Rows of the finished tile that the sink still has to receive, and where they go.
    pending: Section,
    /// Rows that go to the sink in a pause, enough to have sent all of them when the loop ends.
    rows_per_pause: usize,
    /// Rows of the current tile that have not been announced to the sink.
    upcoming: Section,
}

/// Unfinished chains between two stretches, on cache lines: those of a piece, with its bias.
#[repr(align(64))]
struct ChainBuffer([f32; (PIECE_INPUTS + 1) * MAX_WIDTH]);

/// Position of a stretch in the batch.
#[derive(Clone, Copy)]
struct Stretch {
    /// Its chains start anew; else they continue those of the stretch before.
    first: bool,
    /// Its chains are complete at the end and go to the sink.
    last: bool,
}

/// The elements of one tile, on cache lines.
#[repr(align(64))]
struct TileBuffer([f32; MAX_TILE]);

/// Consecutive rows of a strip, and their place in the range given to [`weight_gradient_rows`].
#[derive(Clone, Copy, Default)]
struct Section {
    rows: usize,
    /// The first element of the first row.
    at: usize,
    /// Distance from one row to the next.
    stride: usize,
}

impl Section {
    /// Takes the first row off and returns where it starts.
    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.rows == 0 {
            return None;
        }
        let at = self.at;
        self.at += self.stride;
        self.rows -= 1;
        Some(at)
    }
}

impl<'a, K: Sink> DeferredSink<'a, K> {
    fn new(sink: &'a mut K) -> Self {
        let (pending, upcoming) = (Section::default(), Section::default());
        let finished = TileBuffer([0.0; MAX_TILE]);
        Self { sink, finished, pending, rows_per_pause: 1, upcoming }
    }

    /// Gives the next pending row, `width` elements, to the sink.
    #[inline(always)]
    fn send_row<S: Simd>(&mut self, simd: S, width: usize) {
        if let Some(at) = self.pending.next() {
            // The rows are stored last one first, so the number of those left is the index.
            let from = &self.finished.0[self.pending.rows * width..][..width];
            let (from, _) = S::as_simd_f32s(from);
            for (j, &gradient) in from.iter().enumerate() {
                self.sink.put(simd, at + j * S::F32_LANES, gradient);
            }
        }
    }

    /// Gives all pending rows to the sink. There are seldom many, so this is a call that all tiles
    /// share, not code in each of them.
    #[inline(always)]
    fn flush<S: Simd>(&mut self, simd: S, width: usize) {
        struct Op<'a, 'b, K>(&'a mut DeferredSink<'b, K>, usize);
        impl<K: Sink> WithSimd for Op<'_, '_, K> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                while self.0.pending.rows > 0 {
                    self.0.send_row(simd, self.1);
                }
            }
        }
        if self.pending.rows > 0 {
            simd.vectorize(Op(self, width));
        }
    }

    /// Takes over a finished tile: its rows become the pending ones.
    #[inline(always)]
    fn take<S: Simd, const ROWS: usize, const VECTORS: usize>(
        &mut self,
        simd: S,
        tile: &[[S::f32s; VECTORS]; ROWS],
        section: Section,
    ) {
        let width = VECTORS * S::F32_LANES;
        // A short loop 4 has too few pauses to send all rows of the tile before.
        self.flush(simd, width);
        for (i, gradients) in tile.iter().enumerate() {
            let at = (ROWS - 1 - i) * width;
            let (to, _) = S::as_mut_simd_f32s(&mut self.finished.0[at..at + width]);
            to.copy_from_slice(gradients);
        }
        self.pending = section;
    }
}

/// The [`DeferredSink`] as work between the products of a tile `VECTORS` wide.
struct SendRows<'a, 'b, K, const VECTORS: usize>(&'a mut DeferredSink<'b, K>);

impl<S: Simd, K: Sink, const VECTORS: usize> Interleave<S> for SendRows<'_, '_, K, VECTORS> {
    /// The next cache line of each row of x. The hardware prefetchers do not see it coming: it is a
    /// row, not a line, away from the last access.
    const AHEAD: usize = LANES;

    #[inline(always)]
    fn pause(&mut self, simd: S) {
        self.0.send_row(simd, VECTORS * S::F32_LANES);
        // With 16 registers a loop here makes the compiler spill the accumulators.
        if const { S::REGISTER_COUNT == 32 } {
            for _ in 1..self.0.rows_per_pause {
                self.0.send_row(simd, VECTORS * S::F32_LANES);
            }
        }
        if let Some(at) = self.0.upcoming.next() {
            self.0.sink.expect(at, VECTORS * S::F32_LANES);
        }
    }
}

/// One strip of a panel's rows.
struct Strip<'a, 'b, K, I> {
    deferred: &'a mut DeferredSink<'b, K>,
    /// Chains between two stretches; empty if there is only one.
    chains: &'a mut [f32],
    stretch: Stretch,
    /// Rows of the batch from this stretch on. The first `count` sources make up the stretch, `steps` rows
    /// together.
    sources: I,
    count: usize,
    steps: usize,
    panel: Panel,
    /// First column of the strip, counted from the panel's.
    in_panel: usize,
    /// First row of the panel that the sink receives.
    first_row: usize,
}

impl<K: Sink, I> Strip<'_, '_, K, I> {
    #[inline(always)]
    fn section(&self, row: usize, rows: usize) -> Section {
        let stride = self.panel.width;
        Section { rows, at: (row - self.first_row) * stride + self.in_panel, stride }
    }

    /// Initial accumulators of a tile: zeros or the sink's values in the first stretch, else the
    /// chains as the stretch before has stored them.
    #[inline(always)]
    fn load_chains<S: Simd, const ROWS: usize, const VECTORS: usize>(
        &self,
        simd: S,
        section: Section,
    ) -> [[S::f32s; VECTORS]; ROWS] {
        let mut tile = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        if self.stretch.first {
            for (i, chains) in tile.iter_mut().enumerate() {
                for (j, chain) in chains.iter_mut().enumerate() {
                    let at = section.at + i * section.stride + j * S::F32_LANES;
                    if let Some(start) = self.deferred.sink.start(simd, at) {
                        *chain = start;
                    }
                }
            }
        } else {
            for (i, chains) in tile.iter_mut().enumerate() {
                let at = section.at + i * section.stride;
                let (from, _) = S::as_simd_f32s(&self.chains[at..at + VECTORS * S::F32_LANES]);
                chains.copy_from_slice(from);
            }
        }
        tile
    }

    /// Stores a tile: for the sink after the last stretch, else for the next stretch.
    #[inline(always)]
    fn store_chains<S: Simd, const ROWS: usize, const VECTORS: usize>(
        &mut self,
        simd: S,
        tile: &[[S::f32s; VECTORS]; ROWS],
        section: Section,
    ) {
        if self.stretch.last {
            self.deferred.take(simd, tile, section);
            return;
        }
        for (i, chains) in tile.iter().enumerate() {
            let at = section.at + i * section.stride;
            let (to, _) = S::as_mut_simd_f32s(&mut self.chains[at..at + VECTORS * S::F32_LANES]);
            to.copy_from_slice(chains);
        }
    }
}

/// Tiles of weights: the scalars are the inputs of the layer, input k in row k + 1 of the panel.
struct Weights<'a, 'b, K, I>(Strip<'a, 'b, K, I>);

impl<'s, S, K, I> TileJob<S> for Weights<'_, '_, K, I>
where
    S: Simd,
    K: Sink,
    I: Iterator<Item = GradientSource<'s>> + Clone,
{
    #[inline(always)]
    fn tile<const ROWS: usize, const VECTORS: usize>(&mut self, simd: S, row: usize) {
        let section = self.0.section(row, ROWS);
        let mut tile = self.0.load_chains::<S, ROWS, VECTORS>(simd, section);
        let Strip { deferred, sources, count, steps, panel, in_panel, stretch, .. } = &mut self.0;
        // The rows of this tile reach the sink during the next one; the prefetch can start now.
        if stretch.last {
            deferred.upcoming = section;
        }
        // The rows of the tile before, spread evenly over the pauses of this one.
        let pauses = (*steps / pause_steps::<S>()).max(1);
        deferred.rows_per_pause = deferred.pending.rows.div_ceil(pauses);
        // Not by `take`, whose `next` is a call of its own around which the tile is saved.
        let mut sources = sources.clone();
        for _ in 0..*count {
            let Some(source) = sources.next() else { break };
            let steps = source.x.rows;
            if steps == 0 {
                continue;
            }
            // Rows of the tile are neighboring inputs, so their scalars are contiguous in x.
            let x = &source.x.data[row - 1..];
            let dy = &source.dy.data[panel.start + *in_panel..];
            assert!((steps - 1) * source.x.stride + ROWS <= x.len());
            assert!((steps - 1) * source.dy.stride + VECTORS * S::F32_LANES <= dy.len());
            let operands = Operands {
                scalars: x.as_ptr(),
                row_stride: 1,
                scalar_step: source.x.stride,
                vectors: dy.as_ptr(),
                vector_step: source.dy.stride,
                steps,
            };
            // SAFETY: the two assertions bound the last scalar and the last vector read.
            unsafe { accumulate(simd, &mut tile, operands, SendRows::<K, VECTORS>(deferred)) };
        }
        self.0.store_chains(simd, &tile, section);
    }
}

/// The tile of the bias: the scalar is always 1, in row 0 of the panel.
struct Bias<'a, 'b, K, I>(Strip<'a, 'b, K, I>);

impl<'s, S, K, I> TileJob<S> for Bias<'_, '_, K, I>
where
    S: Simd,
    K: Sink,
    I: Iterator<Item = GradientSource<'s>> + Clone,
{
    #[inline(always)]
    fn tile<const ROWS: usize, const VECTORS: usize>(&mut self, simd: S, row: usize) {
        static ONE: f32 = 1.0;
        debug_assert_eq!(ROWS, 1);
        let section = self.0.section(row, ROWS);
        let mut tile = self.0.load_chains::<S, ROWS, VECTORS>(simd, section);
        let Strip { sources, count, panel, in_panel, .. } = &mut self.0;
        for source in sources.clone().take(*count) {
            let steps = source.dy.rows;
            if steps == 0 {
                continue;
            }
            let dy = &source.dy.data[panel.start + *in_panel..];
            assert!((steps - 1) * source.dy.stride + VECTORS * S::F32_LANES <= dy.len());
            // With strides of 0 every row of the batch has the same scalar.
            let operands = Operands {
                scalars: &raw const ONE,
                row_stride: 0,
                scalar_step: 0,
                vectors: dy.as_ptr(),
                vector_step: source.dy.stride,
                steps,
            };
            // SAFETY: the scalar is always `ONE`; the assertion bounds the last vector read.
            unsafe { accumulate(simd, &mut tile, operands, Nothing) };
        }
        self.0.store_chains(simd, &tile, section);
    }
}

/// Computes rows `rows` of one panel of the weight gradient (row 0 is the bias), each element summed
/// over all sources in order, and gives them to the sink.
#[inline(always)]
pub(crate) fn weight_gradient_rows<'s, S: Simd, K: Sink>(
    simd: S,
    sink: &mut K,
    mut sources: impl Iterator<Item = GradientSource<'s>> + Clone,
    panel: Panel,
    rows: Range<usize>,
) {
    debug_assert!(rows.len() <= PIECE_INPUTS + 1);
    let mut deferred = DeferredSink::new(sink);
    // Most batches are a single stretch and do without the buffer.
    let mut chains = None;
    let strip = strip_width::<S>(panel.width);
    let first_row = rows.start;
    // Row 0 is the bias, which has a tile of its own.
    let weights = rows.start.max(1)..rows.end;
    let mut stretch = Stretch { first: true, last: false };
    // Loop 1: sources are taken whole until they make up a stretch.
    while !stretch.last {
        let (stretch_sources, mut count, mut length) = (sources.clone(), 0, 0);
        while length < STRETCH_ROWS
            && let Some(source) = sources.next()
        {
            count += 1;
            length += source.x.rows;
        }
        stretch.last = sources.clone().next().is_none();
        if stretch.first && !stretch.last {
            chains = Some(ChainBuffer([0.0; _]));
        }
        // Loop 2.
        let mut in_panel = 0;
        while in_panel < panel.width {
            let mut part = Strip {
                deferred: &mut deferred,
                chains: chains.as_mut().map_or(&mut [], |chains| &mut chains.0),
                stretch,
                sources: stretch_sources.clone(),
                count,
                steps: length,
                panel,
                in_panel,
                first_row,
            };
            // The bias is in the piece with the first inputs only.
            if rows.start == 0 {
                let mut bias = Bias(part);
                bias_strip(simd, strip, &mut bias);
                part = bias.0;
            }
            // Loops 3 and 4.
            cover_strip(simd, strip, weights.clone(), &mut Weights(part));
            // The last tile of a strip has no successor to be interleaved with.
            deferred.flush(simd, strip);
            in_panel += strip;
        }
        stretch.first = false;
    }
}
