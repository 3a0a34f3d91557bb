//! The weight gradient, `dW = dyᵀ·x`, and what becomes of it.
//!
//! A tile that is summed over the whole batch is given to a [`Sink`], which stores
//! it or updates weights with it. An update needs some thirty operations an element, a division
//! and a root among them, and memory that is not in the first-level cache: done at once it would
//! keep the multipliers waiting. So a finished tile is set down in a buffer, and its rows go to
//! the sink one by one in the pauses of the next tile's walk, where the processor's
//! out-of-order window mixes them with products that do not depend on them. What the sink will
//! want of memory is asked for a whole tile earlier.
//!
//! A large batch is taken in stretches, so that the rows of `dy` that all tiles of a strip read
//! stay in the first-level cache. From one stretch to the next the chains wait in a buffer.

use super::Rows;
use super::panels::Panel;
use super::tile::{Aside, MAX_TILE, MAX_WIDTH, Nothing, TileJob, Walk};
use super::tile::{accumulate, aside_steps, bias_strip, cover_strip, strip_width};
use crate::simd::LANES;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Rows of the batch that take part in a weight gradient: the inputs of a layer and the
/// gradient of its outputs, whose stride leaves room for whole registers.
#[derive(Clone, Copy)]
pub(crate) struct GradientSource<'a> {
    pub(crate) x: Rows<'a>,
    pub(crate) dy: Rows<'a>,
}

impl<'a> GradientSource<'a> {
    /// The same rows, at most `length` at a time.
    pub(super) fn stretches(self, length: usize) -> impl Iterator<Item = Self> + Clone {
        let part = move |Rows { data, rows, stride }: Rows<'a>, first: usize| Rows {
            data: &data[first * stride..],
            rows: length.min(rows - first),
            stride,
        };
        (0..self.x.rows)
            .step_by(length)
            .map(move |first| Self { x: part(self.x, first), dy: part(self.dy, first) })
    }
}

/// Inputs of a piece of the weight gradient at most: a multiple of the height of every tile.
const PIECE_INPUTS: usize = 96;

/// Pieces of at most [`PIECE_INPUTS`] inputs of a panel's K+1 rows; the bias, row 0, goes with the
/// first inputs.
pub(crate) fn panel_pieces(inputs: usize) -> impl Iterator<Item = Range<usize>> {
    let bias_alone = (inputs == 0).then_some(0..1);
    let pieces = (0..inputs).step_by(PIECE_INPUTS).map(move |first| {
        let start = if first == 0 { 0 } else { first + 1 };
        start..inputs.min(first + PIECE_INPUTS) + 1
    });
    bias_alone.into_iter().chain(pieces)
}

/// Rows of the batch in a stretch, unless a source has more: 48 columns of them are half of the
/// first-level cache.
pub(crate) const STRETCH_ROWS: usize = 128;

/// What is done with the elements of the weight gradient, a register at a time.
pub(crate) trait Sink {
    /// Takes the gradient of the elements from `at` on, counted from the first row of the range
    /// given to [`weight_gradient_rows`].
    fn put<S: Simd>(&mut self, simd: S, at: usize, gradient: S::f32s);

    /// Where the chains of the elements from `at` on start, if not from zero.
    #[inline(always)]
    fn start<S: Simd>(&self, simd: S, at: usize) -> Option<S::f32s> {
        let _ = (simd, at);
        None
    }

    /// Takes note that `len` elements from `at` on will be put before long.
    #[inline(always)]
    fn expect(&self, at: usize, len: usize) {
        let _ = (at, len);
    }
}

/// Rows of tiles on their way to the sink.
struct Deferred<'a, K> {
    sink: &'a mut K,
    /// Rows of the finished tile, one after the other, and where they go.
    done: Gradients,
    leaving: Section,
    /// How many of them leave in a pause, so that all have left at the end of the walk.
    pace: usize,
    /// Rows of the tile under way that the sink has not been told of.
    coming: Section,
}

/// Chains that wait for the next stretch, on cache lines: those of a piece, with its bias.
#[repr(align(64))]
struct Waiting([f32; (PIECE_INPUTS + 1) * MAX_WIDTH]);

/// Where chains come from and where they go at the ends of a stretch.
#[derive(Clone, Copy)]
struct Stretch {
    /// They start from zero.
    first: bool,
    /// They go to the sink.
    last: bool,
}

/// The elements of one tile, on cache lines.
#[repr(align(64))]
struct Gradients([f32; MAX_TILE]);

/// Some rows of a strip.
#[derive(Clone, Copy, Default)]
struct Section {
    rows: usize,
    /// The first element of the first row.
    at: usize,
    /// From one row to the next.
    stride: usize,
}

impl Section {
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

impl<'a, K: Sink> Deferred<'a, K> {
    fn new(sink: &'a mut K) -> Self {
        let nothing = Section::default();
        let done = Gradients([0.0; MAX_TILE]);
        Self { sink, done, leaving: nothing, pace: 1, coming: nothing }
    }

    /// Gives the next row of the finished tile, `width` elements, to the sink. Rows leave from the
    /// last one of the buffer, so that the number of those left says where the next one lies.
    #[inline(always)]
    fn send<S: Simd>(&mut self, simd: S, width: usize) {
        if let Some(at) = self.leaving.next() {
            let from = &self.done.0[self.leaving.rows * width..][..width];
            let (from, _) = S::as_simd_f32s(from);
            for (j, &gradient) in from.iter().enumerate() {
                self.sink.put(simd, at + j * S::F32_LANES, gradient);
            }
        }
    }

    /// Sends what is left of the finished tile: seldom much, so all tiles share one function.
    #[inline(always)]
    fn flush<S: Simd>(&mut self, simd: S, width: usize) {
        struct Op<'a, 'b, K>(&'a mut Deferred<'b, K>, usize);
        impl<K: Sink> WithSimd for Op<'_, '_, K> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                while self.0.leaving.rows > 0 {
                    self.0.send(simd, self.1);
                }
            }
        }
        if self.leaving.rows > 0 {
            simd.vectorize(Op(self, width));
        }
    }

    /// Takes over a tile that is finished.
    #[inline(always)]
    fn set_down<S: Simd, const ROWS: usize, const VECTORS: usize>(
        &mut self,
        simd: S,
        tile: &[[S::f32s; VECTORS]; ROWS],
        section: Section,
    ) {
        let width = VECTORS * S::F32_LANES;
        self.flush(simd, width);
        for (i, gradients) in tile.iter().enumerate() {
            let at = (ROWS - 1 - i) * width;
            let (to, _) = S::as_mut_simd_f32s(&mut self.done.0[at..at + width]);
            to.copy_from_slice(gradients);
        }
        self.leaving = section;
    }
}

/// [`Deferred`] on a walk in a strip of `VECTORS` vectors.
struct Rest<'a, 'b, K, const VECTORS: usize>(&'a mut Deferred<'b, K>);

impl<S: Simd, K: Sink, const VECTORS: usize> Aside<S> for Rest<'_, '_, K, VECTORS> {
    /// The next cache line of each row of x: no prefetcher of the processor sees it coming, a
    /// row and not a line away from the last one.
    const AHEAD: usize = LANES;

    #[inline(always)]
    fn pause(&mut self, simd: S) {
        self.0.send(simd, VECTORS * S::F32_LANES);
        // A loop here costs the accumulators their registers where there are only 16.
        if const { S::REGISTER_COUNT == 32 } {
            for _ in 1..self.0.pace {
                self.0.send(simd, VECTORS * S::F32_LANES);
            }
        }
        if let Some(at) = self.0.coming.next() {
            self.0.sink.expect(at, VECTORS * S::F32_LANES);
        }
    }
}

/// One strip of a panel's rows.
struct Strip<'a, 'b, K, I> {
    deferred: &'a mut Deferred<'b, K>,
    /// Chains between two stretches; empty if there is only one.
    waiting: &'a mut [f32],
    stretch: Stretch,
    sources: I,
    panel: Panel,
    in_panel: usize,
    first_row: usize,
}

impl<K: Sink, I> Strip<'_, '_, K, I> {
    #[inline(always)]
    fn section(&self, row: usize, rows: usize) -> Section {
        let stride = self.panel.width;
        Section { rows, at: (row - self.first_row) * stride + self.in_panel, stride }
    }

    /// The chains of a tile as they were left.
    #[inline(always)]
    fn take_up<S: Simd, const ROWS: usize, const VECTORS: usize>(
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
                let (from, _) = S::as_simd_f32s(&self.waiting[at..at + VECTORS * S::F32_LANES]);
                chains.copy_from_slice(from);
            }
        }
        tile
    }

    /// Sets a tile down: for the sink, or for the next stretch.
    #[inline(always)]
    fn set_down<S: Simd, const ROWS: usize, const VECTORS: usize>(
        &mut self,
        simd: S,
        tile: &[[S::f32s; VECTORS]; ROWS],
        section: Section,
    ) {
        if self.stretch.last {
            self.deferred.set_down(simd, tile, section);
            return;
        }
        for (i, chains) in tile.iter().enumerate() {
            let at = section.at + i * section.stride;
            let (to, _) = S::as_mut_simd_f32s(&mut self.waiting[at..at + VECTORS * S::F32_LANES]);
            to.copy_from_slice(chains);
        }
    }
}

/// The weights: the scalars are inputs, the first of them row 1 of the panel.
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
        let mut tile = self.0.take_up::<S, ROWS, VECTORS>(simd, section);
        let Strip { deferred, sources, panel, in_panel, stretch, .. } = &mut self.0;
        if stretch.last {
            deferred.coming = section;
        }
        let steps: usize = sources.clone().map(|source| source.x.rows).sum();
        deferred.pace = deferred.leaving.rows.div_ceil((steps / aside_steps::<S>()).max(1));
        for source in sources.clone() {
            let steps = source.x.rows;
            if steps == 0 {
                continue;
            }
            let x = &source.x.data[row - 1..];
            let dy = &source.dy.data[panel.start + *in_panel..];
            assert!((steps - 1) * source.x.stride + ROWS <= x.len());
            assert!((steps - 1) * source.dy.stride + VECTORS * S::F32_LANES <= dy.len());
            let walk = Walk {
                scalars: x.as_ptr(),
                row_stride: 1,
                scalar_step: source.x.stride,
                vectors: dy.as_ptr(),
                vector_step: source.dy.stride,
                steps,
            };
            // SAFETY: the two assertions bound the last scalar and the last vector read.
            unsafe { accumulate(simd, &mut tile, walk, Rest::<K, VECTORS>(deferred)) };
        }
        self.0.set_down(simd, &tile, section);
    }
}

/// The bias: its input is always one.
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
        let mut tile = self.0.take_up::<S, ROWS, VECTORS>(simd, section);
        let Strip { sources, panel, in_panel, .. } = &mut self.0;
        for source in sources.clone() {
            let steps = source.dy.rows;
            if steps == 0 {
                continue;
            }
            let dy = &source.dy.data[panel.start + *in_panel..];
            assert!((steps - 1) * source.dy.stride + VECTORS * S::F32_LANES <= dy.len());
            let walk = Walk {
                scalars: &raw const ONE,
                row_stride: 0,
                scalar_step: 0,
                vectors: dy.as_ptr(),
                vector_step: source.dy.stride,
                steps,
            };
            // SAFETY: the scalar is always `ONE`; the assertion bounds the last vector read.
            unsafe { accumulate(simd, &mut tile, walk, Nothing) };
        }
        self.0.set_down(simd, &tile, section);
    }
}

/// Rows `rows` of one panel of the weight gradient (row 0 is the bias), each element summed
/// over all sources in order and given to the sink.
#[inline(always)]
pub(crate) fn weight_gradient_rows<'s, S: Simd, K: Sink>(
    simd: S,
    sink: &mut K,
    sources: impl Iterator<Item = GradientSource<'s>> + Clone,
    panel: Panel,
    rows: Range<usize>,
) {
    debug_assert!(rows.len() <= PIECE_INPUTS + 1);
    let mut deferred = Deferred::new(sink);
    // Most batches are a single stretch, and do not pay for the buffer.
    let mut waiting = None;
    let strip = strip_width::<S>(panel.width);
    let first_row = rows.start;
    let weights = rows.start.max(1)..rows.end;
    let mut rest = sources;
    let mut stretch = Stretch { first: true, last: false };
    while !stretch.last {
        let (stretch_sources, mut count, mut length) = (rest.clone(), 0, 0);
        while length < STRETCH_ROWS
            && let Some(source) = rest.next()
        {
            count += 1;
            length += source.x.rows;
        }
        stretch.last = rest.clone().next().is_none();
        if stretch.first && !stretch.last {
            waiting = Some(Waiting([0.0; _]));
        }
        let mut in_panel = 0;
        while in_panel < panel.width {
            let mut part = Strip {
                deferred: &mut deferred,
                waiting: waiting.as_mut().map_or(&mut [], |waiting| &mut waiting.0),
                stretch,
                sources: stretch_sources.clone().take(count),
                panel,
                in_panel,
                first_row,
            };
            if rows.start == 0 {
                let mut bias = Bias(part);
                bias_strip(simd, strip, &mut bias);
                part = bias.0;
            }
            cover_strip(simd, strip, weights.clone(), &mut Weights(part));
            deferred.flush(simd, strip);
            in_panel += strip;
        }
        stretch.first = false;
    }
}
