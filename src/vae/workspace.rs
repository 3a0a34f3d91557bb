//! The training step's two parallel regions, and the memory they work in.
//!
//! 1. [`Workspace::forward_backward`]: blocks of rows, each through the whole network and back
//!    ([`Block`]).
//! 2. [`Workspace::weight_gradients`]: pieces of the weight gradient, each summed over all rows
//!    of the batch in order and handed to a [`Sink`] while it is in registers, which stores it
//!    or updates the weights with it.
//!
//! Two synchronisations a step, and in a warm workspace no allocation. How rows are cut into
//! blocks depends on the number of threads; no result does, since a row's loss and gradients
//! are its own and the weight gradient's chains run through the blocks in order.

use super::block::{Batch, Block, Scales, Transposed};
use super::parameters::{Layout, Parameters};
use crate::compute::{Compute, PARALLEL_FLOP};
use crate::error::Result;
use crate::gemm::{Panel, Sink, panel_pieces, weight_gradient_rows};
use crate::optim::adam;
use crate::simd::InstructionSet;
use crate::simd::prefetch::prefetch_slice;
use crate::simd::sum::sum_rows;
use pulp::{Simd, WithSimd};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows of a block at most: enough to read each weight from the second-level cache only once
/// for eight tiles of rows, few enough for the activations to stay there beside them.
const BLOCK_ROWS: usize = 64;

/// A part of one panel's rows: a contiguous piece of the flat buffers.
#[derive(Clone)]
struct Piece {
    layer: usize,
    panel: Panel,
    /// Rows of the panel; row 0 is the bias.
    rows: Range<usize>,
    /// Where it starts in the flat buffers.
    start: usize,
}

/// Sums over the rows of a batch, in nats.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) reconstruction: f64,
    pub(crate) kl: f64,
}

/// Memory for the forward and backward pass of a batch.
pub(crate) struct Workspace {
    layout: Arc<Layout>,
    /// All the blocks there is room for; the first `used` hold the batch.
    blocks: Vec<Block>,
    used: usize,
    /// One for each thread; nobody waits for another's.
    transposed: Vec<Mutex<Transposed>>,
    pieces: Vec<Piece>,
    /// Each row's loss, in the order of the batch.
    reconstruction: Vec<f64>,
    kl: Vec<f64>,
}

/// Rows that a block takes of a batch of `rows`: the same for all threads, whole tiles, at most
/// [`BLOCK_ROWS`].
fn block_rows(rows: usize, threads: usize) -> usize {
    rows.div_ceil(threads).next_multiple_of(8).clamp(8, BLOCK_ROWS)
}

impl Workspace {
    pub(crate) fn new(layout: Arc<Layout>) -> Self {
        let mut pieces = Vec::new();
        for (index, layer) in layout.layers.iter().enumerate() {
            for panel in layer.panels.panels() {
                pieces.extend(panel_pieces(layer.panels.inputs).map(|rows| {
                    let start = layer.offset + panel.offset + rows.start * panel.width;
                    Piece { layer: index, panel, rows, start }
                }));
            }
        }
        Self {
            layout,
            blocks: Vec::new(),
            used: 0,
            transposed: Vec::new(),
            pieces,
            reconstruction: Vec::new(),
            kl: Vec::new(),
        }
    }

    /// Makes room for batches of up to `rows` rows. Allocates only where there was less.
    fn reserve(&mut self, rows: usize, threads: usize) {
        let size = block_rows(rows, threads);
        let count = rows.div_ceil(size);
        let had = self.blocks.first().map_or(0, Block::capacity);
        if self.blocks.len() < count || had < size {
            let (count, size) = (count.max(self.blocks.len()), size.max(had));
            self.blocks.clear();
            self.blocks.extend((0..count).map(|_| Block::new(&self.layout, size)));
        }
        if self.transposed.len() < threads || had < size {
            let transposed = || Mutex::new(Transposed::new(&self.layout, size.max(had)));
            self.transposed.clear();
            self.transposed.extend((0..threads).map(|_| transposed()));
        }
        if self.reconstruction.len() < rows {
            self.reconstruction.resize(rows, 0.0);
            self.kl.resize(rows, 0.0);
        }
    }

    /// The threads for a step: all, or the calling one alone where the work is too little.
    fn compute<'a>(&self, compute: &'a Compute, serial: &'a Compute, rows: usize) -> &'a Compute {
        if self.layout.step_flop(rows) < PARALLEL_FLOP { serial } else { compute }
    }

    /// The first region: forward, loss and backward of a batch. Returns the sums of the loss
    /// over its rows.
    ///
    /// # Errors
    /// The first row, in the order of the batch, whose data the likelihood does not accept or
    /// whose loss is not finite. Nothing but the workspace has changed then.
    pub(crate) fn forward_backward(
        &mut self,
        compute: &Compute,
        weights: &Parameters,
        batch: &Batch<'_>,
        scales: Scales,
    ) -> Result<Sums> {
        self.each_block(compute, batch, |simd, block, transposed| {
            block.forward_backward(simd, weights, batch, scales, transposed);
        })
    }

    /// Forward and loss of a batch, to the bits of [`Self::forward_backward`].
    pub(crate) fn forward(
        &mut self,
        compute: &Compute,
        weights: &Parameters,
        batch: &Batch<'_>,
    ) -> Result<Sums> {
        self.each_block(compute, batch, |simd, block, _| block.forward(simd, weights, batch))
    }

    /// The blocks of the last batch, in its order.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks[..self.used]
    }

    fn each_block(
        &mut self,
        compute: &Compute,
        batch: &Batch<'_>,
        work: impl Fn(InstructionSet, &mut Block, &mut Transposed) + Sync,
    ) -> Result<Sums> {
        let rows = batch.selection.len();
        let serial = compute.serialised();
        let compute = self.compute(compute, &serial, rows);
        let threads = compute.threads();
        self.reserve(rows, threads);
        let size = block_rows(rows, threads);
        self.used = rows.div_ceil(size);
        let simd = compute.simd();
        let transposed = &self.transposed;
        compute.for_each_mut(&mut self.blocks[..self.used], |index, block| {
            let first = index * size;
            block.gather(batch, first, size.min(rows - first));
            let mut transposed =
                transposed[compute.thread_index()].lock().unwrap_or_else(PoisonError::into_inner);
            work(simd, block, &mut transposed);
        });
        self.collect(batch, rows)
    }

    /// Each row's loss from the blocks, and their sums.
    fn collect(&mut self, batch: &Batch<'_>, rows: usize) -> Result<Sums> {
        let mut at = 0;
        for block in &mut self.blocks[..self.used] {
            if let Some(fault) = block.fault.take() {
                return Err(fault);
            }
            let range = at..at + block.rows;
            self.reconstruction[range.clone()].copy_from_slice(&block.reconstruction[..block.rows]);
            self.kl[range].copy_from_slice(&block.kl[..block.rows]);
            at += block.rows;
        }
        let reconstruction = sum_rows(&self.reconstruction[..rows]);
        let kl = sum_rows(&self.kl[..rows]);
        if !(reconstruction + kl).is_finite() {
            return Err(self.not_finite(batch, rows));
        }
        Ok(Sums { reconstruction, kl })
    }

    #[cold]
    fn not_finite(&self, batch: &Batch<'_>, rows: usize) -> crate::Error {
        let find = |term, values: &[f64]| {
            let row = values[..rows].iter().position(|value| !value.is_finite())?;
            Some((row, term, values[row]))
        };
        let reconstruction = find("reconstruction", &self.reconstruction);
        let kl = find("KL divergence", &self.kl);
        // Of two terms of one row the KL is named: it depends on the encoder alone.
        let first = [kl, reconstruction].into_iter().flatten().min_by_key(|&(row, ..)| row);
        let (row, term, value) = first.unwrap_or((0, "reconstruction", f64::NAN));
        crate::Error::NotFiniteLoss { term, row: batch.selection.row(row), value, step: None }
    }

    /// The second region: the gradient of every weight, summed over the batch of the last
    /// [`Self::forward_backward`] and given to the sink.
    pub(crate) fn weight_gradients(&self, compute: &Compute, sink: impl FlatSink) {
        struct Op<'a, K>(K, &'a [Block], &'a Piece);
        impl<K: FlatSink> WithSimd for Op<'_, K> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self(mut sink, blocks, piece) = self;
                let sources = blocks.iter().map(|block| block.gradient_source(piece.layer));
                weight_gradient_rows(simd, &mut sink, sources, piece.panel, piece.rows.clone());
            }
        }

        /// Halves the pieces, and the flat buffers with them.
        fn halve<K: FlatSink>(
            pieces: &[Piece],
            sink: K,
            blocks: &[Block],
            simd: InstructionSet,
            parallel: bool,
        ) {
            match pieces {
                [] => {}
                [piece] => simd.dispatch(Op(sink, blocks, piece)),
                _ => {
                    let (left, right) = pieces.split_at(pieces.len() / 2);
                    let (sink_left, sink_right) = sink.split_at(right[0].start - left[0].start);
                    let left = || halve(left, sink_left, blocks, simd, parallel);
                    let right = || halve(right, sink_right, blocks, simd, parallel);
                    if parallel {
                        rayon::join(left, right);
                    } else {
                        left();
                        right();
                    }
                }
            }
        }

        let rows = self.blocks().iter().map(|block| block.rows).sum();
        let serial = compute.serialised();
        let compute = self.compute(compute, &serial, rows);
        let (pieces, blocks) = (&self.pieces[..], self.blocks());
        let (simd, parallel) = (compute.simd(), compute.threads() > 1);
        compute.install(|| halve(pieces, sink, blocks, simd, parallel));
    }
}

/// A [`Sink`] over whole flat buffers, which can be cut where a piece ends.
pub(crate) trait FlatSink: Sink + Send + Sized {
    fn split_at(self, at: usize) -> (Self, Self);
}

/// Overwrites a flat buffer with the gradient.
pub(crate) struct StoreGradient<'a>(pub(crate) &'a mut [f32]);

impl Sink for StoreGradient<'_> {
    #[inline(always)]
    fn put<S: Simd>(&mut self, _: S, at: usize, gradient: S::f32s) {
        register_mut::<S>(self.0, at)[0] = gradient;
    }
}

impl FlatSink for StoreGradient<'_> {
    fn split_at(self, at: usize) -> (Self, Self) {
        let (left, right) = self.0.split_at_mut(at);
        (Self(left), Self(right))
    }
}

/// Updates weights and moments with the gradient by Adam; the gradient itself is not kept.
pub(crate) struct UpdateWithAdam<'a> {
    pub(crate) adam: adam::Constants,
    pub(crate) weights: &'a mut [f32],
    pub(crate) first: &'a mut [f32],
    pub(crate) second: &'a mut [f32],
}

impl Sink for UpdateWithAdam<'_> {
    #[inline(always)]
    fn expect(&self, at: usize, len: usize) {
        prefetch_slice(&self.weights[at..at + len]);
        prefetch_slice(&self.first[at..at + len]);
        prefetch_slice(&self.second[at..at + len]);
    }

    #[inline(always)]
    fn put<S: Simd>(&mut self, simd: S, at: usize, gradient: S::f32s) {
        let w = &mut register_mut::<S>(self.weights, at)[0];
        let m = &mut register_mut::<S>(self.first, at)[0];
        let v = &mut register_mut::<S>(self.second, at)[0];
        [*w, *m, *v] = self.adam.update(simd, [*w, *m, *v], gradient);
    }
}

impl FlatSink for UpdateWithAdam<'_> {
    fn split_at(self, at: usize) -> (Self, Self) {
        let (w_left, w_right) = self.weights.split_at_mut(at);
        let (m_left, m_right) = self.first.split_at_mut(at);
        let (v_left, v_right) = self.second.split_at_mut(at);
        let adam = self.adam;
        (
            Self { adam, weights: w_left, first: m_left, second: v_left },
            Self { adam, weights: w_right, first: m_right, second: v_right },
        )
    }
}

/// The register's worth of elements that starts at `at`.
#[inline(always)]
fn register_mut<S: Simd>(slice: &mut [f32], at: usize) -> &mut [S::f32s] {
    S::as_mut_simd_f32s(&mut slice[at..at + S::F32_LANES]).0
}
