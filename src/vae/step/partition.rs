//! Division of a step's work: rows into blocks, the weight gradient into pieces, and both among
//! threads.
//!
//! | | divided into | each thread gets |
//! |---|---|---|
//! | region 1 | blocks of up to 64 rows, the same number for each thread | neighboring blocks, or with others a part of the outputs of one |
//! | region 2 | pieces of the weight gradient | neighboring pieces of about the same work |
//!
//! Both follow from the shapes and the number of threads, so a thread has the same rows and pieces in every step. The
//! number of threads follows from the work and from how far apart they are (`Compute::is_far`).
//!
//! No result depends on anything decided here: a row's loss and gradients are its own, and every
//! chain of a weight gradient runs through all rows of the batch in their order.

use super::block::{ParameterGradient, ParameterIndex};
use super::sink::FlatSink;
use crate::compute::Compute;
use crate::gemm::{Panel, TILE_ROWS, panel_pieces};
use crate::vae::parameters::{Layout, VectorRole};
use std::marker::PhantomData;
use std::ops::{Range, RangeInclusive};

/// Rows of a block at most: enough to read each weight from the second-level cache only once
/// for eight tiles of rows, few enough for the activations to stay there beside them.
pub(super) const BLOCK_ROWS: usize = 64;

/// Floating-point operations of a step for each thread that takes part. Between consecutive steps the threads
/// are still spinning, so they start within a microsecond.
const SHARE_FLOP: usize = 500_000;

/// [`SHARE_FLOP`] for threads that are far apart: on two of them a step of 1.8 MFLOP took half as long again as on one
/// thread, and one of 5.2 MFLOP a sixth less.
const FAR_SHARE_FLOP: usize = 2_500_000;

/// Rows of a batch whose products take as long as the update of the weights.
const UPDATE_ROWS: usize = 12;

/// Threads beyond which sharing a block is assumed to gain nothing.
const MOST_SHARING: usize = 4;

/// Division of a batch into blocks, and the threads that work on them.
#[derive(Clone)]
pub(super) struct Partition {
    compute: Compute,
    rows: Range<usize>,
    /// Latent samples of each row.
    samples: usize,
    /// Rows of every block but the last.
    block_rows: usize,
}

impl Partition {
    /// Divides `rows` of a batch, of `samples` latent samples each, into blocks whose size is
    /// within `limits`. Work too small for a second thread stays on the calling one.
    pub(super) fn new(
        compute: &Compute,
        layout: &Layout,
        rows: Range<usize>,
        samples: usize,
        limits: RangeInclusive<usize>,
    ) -> Self {
        let flop = layout.step_flop(rows.len() * samples);
        Self::divide(compute, flop, rows, samples, limits, Compute::is_far)
    }

    /// [`Self::new`] for work of `flop` floating-point operations.
    fn divide(
        compute: &Compute,
        flop: usize,
        rows: Range<usize>,
        samples: usize,
        limits: RangeInclusive<usize>,
        is_far: impl Fn(&Compute) -> bool,
    ) -> Self {
        let near = compute.for_work(flop, SHARE_FLOP);
        // The blocks are the same wherever the threads are: no step makes room for others.
        let share = share_of_rows(rows.len(), near.threads());
        let compute = if flop < near.threads() * FAR_SHARE_FLOP && is_far(&near) {
            near.for_work(flop, FAR_SHARE_FLOP)
        } else {
            near
        };
        // A row goes with all its samples, so a block of k samples a row has 64/k rows, at least 1.
        let block_rows =
            if samples == 1 { share } else { share.min((BLOCK_ROWS / samples).max(1)) };
        let block_rows = block_rows.clamp(*limits.start(), *limits.end());
        Self { compute, rows, samples, block_rows }
    }

    /// The instruction set, and the threads that take part.
    pub(super) fn compute(&self) -> &Compute {
        &self.compute
    }

    /// Number of threads.
    pub(super) fn threads(&self) -> usize {
        self.compute.threads()
    }

    /// Rows of a block at most.
    pub(super) fn block_rows(&self) -> usize {
        self.block_rows
    }

    /// Number of blocks.
    pub(super) fn blocks(&self) -> usize {
        self.rows.len().div_ceil(self.block_rows)
    }

    /// Rows of the batch that block `index` takes.
    pub(super) fn rows_of(&self, index: usize) -> Range<usize> {
        // Only the last block may be shorter.
        let first = self.rows.start + index * self.block_rows;
        first..self.rows.end.min(first + self.block_rows)
    }

    /// Calls `work(index, block, thread)` for every block, `thread` the number of the thread that runs
    /// it.
    pub(super) fn for_each_block<B: Send>(
        &self,
        blocks: &mut [B],
        work: impl Fn(usize, &mut B, usize) + Sync,
    ) {
        let compute = &self.compute;
        compute.for_each_mut(blocks, |index, block| work(index, block, compute.thread_index()));
    }

    /// Gives every piece of the weight gradient, with its part of the sink, to some thread.
    ///
    /// The pieces are cut in two, and the flat buffers of the sink with them, until each thread has neighboring
    /// ones of about the same work: the same ones in every step.
    pub(super) fn for_each_piece<K: FlatSink>(
        &self,
        pieces: &[Piece],
        mut sink: K,
        work: &(impl Fn(K, &Piece) + Sync),
    ) {
        let compute = &self.compute;
        // Pieces lie in the order of the flat buffers.
        let distance = |from: usize, to: usize| pieces[to].start - pieces[from].start;
        if compute.threads_at_hand() > 1 && pieces.len() > 1 {
            let middle = self.middle(pieces);
            let (sink, sink_right) = sink.split_at(distance(0, middle));
            let (pieces, pieces_right) = pieces.split_at(middle);
            compute.join(
                || self.for_each_piece(pieces, sink, work),
                || self.for_each_piece(pieces_right, sink_right, work),
            );
            return;
        }
        let _finish = Finish::<K>(PhantomData);
        for (i, piece) in pieces.iter().enumerate() {
            let Some(next) = (i + 1 < pieces.len()).then_some(i + 1) else {
                return work(sink, piece);
            };
            let (part, rest) = sink.split_at(distance(i, next));
            work(part, piece);
            sink = rest;
        }
    }

    /// Number of pieces that the left side takes.
    fn middle(&self, pieces: &[Piece]) -> usize {
        let flop = |piece: &Piece| {
            let samples = if piece.of.per_sample { self.samples } else { 1 };
            piece.rows.len() * piece.panel.width * (self.rows.len() * samples + UPDATE_ROWS)
        };
        self.compute.middle(pieces, flop)
    }
}

/// Finishes what a thread has put into its sinks, after a panic as well.
struct Finish<K: FlatSink>(PhantomData<K>);

impl<K: FlatSink> Drop for Finish<K> {
    fn drop(&mut self) {
        K::finish();
    }
}

/// Rows of a block: whole register tiles, since a tile cut by the end of a block would waste multipliers, and as
/// many as take the least time.
///
/// Threads cannot have fewer rows each than a tile. Where there are more of them, some share a block, and cut the
/// outputs of its products.
fn share_of_rows(rows: usize, threads: usize) -> usize {
    // In fifths of a row on one thread: threads that share a block share four fifths of its work.
    let time = |share: usize| {
        let blocks = rows.div_ceil(share).max(1);
        let crew = smallest_crew(threads, blocks).min(MOST_SHARING);
        blocks.div_ceil(threads) * share * (4 + crew) / crew
    };
    // The largest of equally good ones: it reads the weights less often.
    let shares = (1..=BLOCK_ROWS / TILE_ROWS).rev().map(|tiles| tiles * TILE_ROWS);
    shares.min_by_key(|&share| time(share)).expect("a block has at least a tile")
}

/// Threads of the block that gets the fewest, as [`Compute::for_each_mut`] cuts blocks and threads in two.
fn smallest_crew(threads: usize, blocks: usize) -> usize {
    if threads == 1 || blocks == 1 {
        return threads;
    }
    let left = threads.div_ceil(2);
    let left_blocks = (blocks * left).div_ceil(threads).clamp(1, blocks - 1);
    smallest_crew(left, left_blocks).min(smallest_crew(threads - left, blocks - left_blocks))
}

/// A part of one panel's rows: a contiguous piece of the flat buffers.
pub(super) struct Piece {
    pub(super) of: ParameterGradient,
    pub(super) panel: Panel,
    /// Rows of the panel; row 0 is the bias.
    pub(super) rows: Range<usize>,
    /// Offset of its first element in the flat buffers.
    pub(super) start: usize,
}

/// The pieces of a model's weight gradient, in the order of the flat buffers.
pub(super) fn pieces(layout: &Layout) -> Vec<Piece> {
    let layers = layout.layers.iter().enumerate().map(|(l, layer)| {
        let per_sample = l > layout.heads;
        (ParameterGradient { of: ParameterIndex::Layer(l), per_sample }, layer)
    });
    let vectors = layout.vectors.iter().enumerate().map(|(v, vector)| {
        // A gain or shift has the rows of its layer; the log-variance those of the output.
        let per_sample = match vector.role {
            VectorRole::Gain(layer) | VectorRole::Shift(layer) => layer > layout.heads,
            VectorRole::Logvar => true,
        };
        (ParameterGradient { of: ParameterIndex::Vector(v), per_sample }, &vector.layer)
    });
    let mut pieces = Vec::new();
    for (of, layer) in layers.chain(vectors) {
        for panel in layer.panels.panels() {
            pieces.extend(panel_pieces(layer.panels.inputs).map(|rows| {
                // Layer, panel and row in the flat buffer: pieces follow each other without gaps.
                let start = layer.offset + panel.offset + rows.start * panel.width;
                Piece { of, panel, rows, start }
            }));
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::super::ANY_SIZE;
    use super::*;
    use crate::simd::InstructionSet;

    #[test]
    fn blocks_suit_the_number_of_threads() {
        for (rows, threads, share) in [
            // One block for each thread, or as many for each.
            (128, 1, 64),
            (128, 2, 64),
            (128, 3, 48),
            (1024, 2, 64),
            (128, 16, 8),
            (16, 2, 8),
            // Several threads for each block: 4 of 3 threads, 16 of 4.
            (128, 12, 32),
            (128, 64, 8),
            (8, 2, 8),
            (1, 2, 8),
        ] {
            assert_eq!(share_of_rows(rows, threads), share, "{rows} rows, {threads} threads");
        }
    }

    #[test]
    fn threads_far_apart_need_more_work() {
        let compute = Compute::new(InstructionSet::detect(), 4).unwrap();
        for (flop, near, far) in [
            (SHARE_FLOP, 1, 1),
            (2 * SHARE_FLOP, 2, 1),
            (FAR_SHARE_FLOP, 4, 1),
            (3 * FAR_SHARE_FLOP, 4, 3),
            (4 * FAR_SHARE_FLOP, 4, 4),
        ] {
            let [near_partition, far_partition] = [false, true]
                .map(|is_far| Partition::divide(&compute, flop, 0..1000, 1, ANY_SIZE, |_| is_far));
            let threads = [near_partition.threads(), far_partition.threads()];
            assert_eq!(threads, [near, far], "{flop} FLOP");
            // The cores may move from one step to the next: the blocks in memory stay.
            assert_eq!(near_partition.block_rows(), far_partition.block_rows());
            assert_eq!(near_partition.blocks(), far_partition.blocks());
        }
    }

    #[test]
    fn the_smallest_crew_is_that_of_the_cuts() {
        for threads in 2..=6 {
            let compute = Compute::new(InstructionSet::detect(), threads).unwrap();
            for blocks in 1..=threads {
                let mut crews = vec![0; blocks];
                compute.for_each_mut(&mut crews, |_, crew| *crew = compute.threads_at_hand());
                let smallest = *crews.iter().min().unwrap();
                assert!(smallest >= smallest_crew(threads, blocks), "{threads} {blocks} {crews:?}");
            }
        }
    }
}
