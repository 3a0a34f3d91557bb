//! The training step, and the memory it works in.
//!
//! ```text
//! region 1: blocks of rows, each on one thread, or on some that share the outputs of its products
//!    1. gather     x|c from the data set                                            block
//!    2. encode     x|c → μ|logvar                                                   forward
//!    3. sample     z = μ + σε, k samples of each row                                forward
//!    4. decode     z|c → output                                                     forward
//!    5. loss       reconstruction and KL of each row, gradients of output, μ, logvar    loss
//!    6. weigh      with importance weighting: the k samples by their weights        importance
//!                  The first row with a loss that is not finite ends the step     fault
//! the calling thread
//!    7. sum        the loss of the batch, over its rows in their order
//!    8. couple     the penalty of the batch, and what its gradient needs            coupling
//! region 1 goes on (in a region of its own where a row's gradient depends on the batch)
//!    9. backward   gradient of the output → gradients of every layer's output       backward
//! region 2: pieces of the weight gradient, each summed over all rows of the batch
//!   10. weight gradients into a sink, while they are in registers: stored for an
//!       optimizer that follows, or turned into Adam's update at once                sink
//! ```
//!
//! Each region forks once for each halving of the threads, and in a warm workspace nothing is allocated. A batch whose
//! activations would not stay in the cache goes through both regions in parts, and the sums of the weight
//! gradients are stored in between.
//!
//! [`partition`] decides which rows and pieces go together and on how many threads; no result depends
//! on it.

mod backward;
pub(crate) mod batch;
pub(crate) mod block;
mod bound;
pub(crate) mod coupling;
mod fault;
mod forward;
mod importance;
mod loss;
pub(super) mod matrix;
mod partition;
#[allow(unsafe_code)] // stores past the caches
pub(crate) mod sink;
pub(crate) mod terms;

use crate::compute::Compute;
use crate::error::{Error, Result};
use crate::gemm::weight_gradient_rows;
use crate::loss::gaussian;
use crate::memory::expect_memory;
use crate::vae::config::Config;
use crate::vae::parameters::Layout;
use backward::Transposed;
use batch::{Pass, Purpose};
use block::{Block, GradientSources};
use coupling::CouplingMemory;
use partition::{BLOCK_ROWS, Partition, Piece};
use pulp::{Simd, WithSimd};
use sink::{FlatSink, StoredGradient};
use std::ops::{Range, RangeInclusive};
use std::sync::{Arc, Mutex};
use terms::{LossSums, RowLosses, RowSums, Scales};

/// Latent samples that go through the decoder at a time on each thread, where a row has several and no
/// gradients are computed.
const SAMPLES_AT_ONCE: usize = 256;

/// Bytes of activations and their gradients that are in use at a time, if a batch has more of them: half of a
/// third-level cache of 32 MiB, as eight cores of AMD's processors share one.
const PART_BYTES: u64 = 16 << 20;

/// No limits on the rows of a block.
const ANY_SIZE: RangeInclusive<usize> = 1..=usize::MAX;

/// A part of the weight gradient that is computed at a time: neighboring pieces.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) pieces: Range<usize>,
    /// Their place in the flat buffers.
    pub(crate) elements: Range<usize>,
}

/// Memory for the steps of one model.
pub(crate) struct Workspace {
    config: Config,
    layout: Arc<Layout>,
    purpose: Purpose,
    /// All allocated blocks; the first `used` hold the batch.
    blocks: Vec<Block>,
    used: usize,
    /// The partition of their rows.
    partition: Option<Partition>,
    /// Rows of the largest batch that they were made for.
    most_rows: usize,
    /// One for each thread, so no lock is contended.
    transposed: Vec<Mutex<Transposed>>,
    pieces: Vec<Piece>,
    /// Terms of the rows, in the order of the batch.
    losses: RowLosses,
    coupling: CouplingMemory,
    /// Bound on the norm of the gradient of the rows before those in the blocks.
    bound_of_parts: f64,
}

impl Workspace {
    pub(crate) fn new(config: &Config, layout: Arc<Layout>, purpose: Purpose) -> Self {
        Self {
            config: config.clone(),
            purpose,
            blocks: Vec::new(),
            used: 0,
            partition: None,
            most_rows: 0,
            transposed: Vec::new(),
            pieces: partition::pieces(&layout),
            losses: RowLosses::zeros(0),
            coupling: CouplingMemory::default(),
            bound_of_parts: 0.0,
            layout,
        }
    }

    /// Steps 1 to 9: forward, loss and backward of a batch. Returns the sums of the loss over its
    /// rows.
    ///
    /// A batch whose activations would not stay in the cache is taken in parts. The gradients of all parts
    /// but the last one are added to `gradient`; those of the last wait for [`Self::weight_gradients`].
    ///
    /// # Errors
    /// Names the first row, in the order of the batch, whose data the likelihood does not accept or
    /// whose loss is not finite ([`fault`]); [`Error::Memory`] for a batch or a gradient that the machine has
    /// no room for. Nothing but the workspace and `gradient` has changed then.
    pub(crate) fn forward_backward(
        &mut self,
        compute: &Compute,
        pass: &Pass<'_, '_>,
        gradient: &mut StoredGradient,
    ) -> Result<LossSums> {
        let sums = self.forward_shard(compute, pass, usize::MAX, gradient)?;
        let losses = self.finish_batch(compute, pass, pass.batch.len(), &sums);
        self.coupling.recycle(sums);
        losses
    }

    /// Steps 1 to 7 for a shard of a batch, and 9 unless the gradients of its rows depend on those of other shards:
    /// the sums over the rows of the shard. The scales of the pass are those of the whole batch.
    ///
    /// Takes at most `at_once` rows at a time, as [`Self::forward_backward`] takes those that stay in the cache.
    ///
    /// # Errors
    /// As [`Self::forward_backward`].
    pub(crate) fn forward_shard(
        &mut self,
        compute: &Compute,
        pass: &Pass<'_, '_>,
        at_once: usize,
        gradient: &mut StoredGradient,
    ) -> Result<RowSums> {
        let rows = pass.batch.len();
        let at_once = self.rows_in_cache(compute, pass).min(at_once);
        let last = rows.saturating_sub(1) / at_once * at_once;
        self.bound_of_parts = 0.0;
        for first in (0..last).step_by(at_once) {
            self.block_gradients(compute, pass, first..first + at_once)?;
            self.weight_gradients(compute, gradient.sink(&self.layout)?); // 10.
            self.bound_of_parts = self.gradient_bound();
        }
        if rows == 0 {
            // A batch may have fewer rows than shards.
            self.used = 0;
            self.partition = Some(Partition::new(compute, &self.layout, 0..0, 1, ANY_SIZE));
        } else {
            self.block_gradients(compute, pass, last..rows)?;
        }
        Ok(self.coupling.row_sums(compute, pass, &self.blocks[..self.used], &self.losses)) // 7.
    }

    /// Steps 8 and 9 where the gradients of the rows depend on the whole batch, of `rows` rows with these sums. The
    /// blocks hold the batch or a shard of it. Returns the sums of the loss of the batch.
    ///
    /// # Errors
    /// As [`Self::forward_backward`]; they follow from the sums, so they are the same for all shards.
    pub(crate) fn finish_batch(
        &mut self,
        compute: &Compute,
        pass: &Pass<'_, '_>,
        rows: usize,
        sums: &RowSums,
    ) -> Result<LossSums> {
        let (mut losses, scales) = reduce(pass, rows, sums)?;
        let (simd, partition) = (compute.simd(), self.partition_of_blocks().clone());
        let blocks = &mut self.blocks[..self.used];
        let penalty = self.coupling.penalty(compute, pass, blocks, rows, sums)?; // 8.
        losses.penalty = penalty.sum;
        // The gradients that waited for the batch, then the backward pass of every block.
        if pass.is_coupled() {
            // The optimal variance of this batch is in these scales.
            let pass = &Pass { scales, ..*pass };
            let compute = partition.compute();
            partition.for_each_block(blocks, |_, block, thread| {
                block.coupled_gradients(simd, pass, &penalty.gradient);
                let pairs = penalty.gradient.total_correlation();
                block.backward(compute, pass, &self.transposed[thread], pairs); // 9.
            });
        }
        Ok(losses)
    }

    /// Region 1 for some rows of a batch.
    fn block_gradients(
        &mut self,
        compute: &Compute,
        pass: &Pass<'_, '_>,
        rows: Range<usize>,
    ) -> Result<()> {
        let partition = self.partition(compute, pass, rows)?;
        let (compute, coupled) = (partition.compute(), pass.is_coupled());
        self.each_block(&partition, |block, rows, transposed| {
            block.forward(compute, pass, rows)?; // 1. to 6.
            if !coupled {
                block.backward(compute, pass, transposed, None); // 9.
            }
            Ok(())
        })?;
        self.store_losses();
        Ok(())
    }

    /// Rows of a part of a batch: as many as have their activations in the cache, and enough for all threads.
    /// All of them where the gradients of a row depend on the others.
    fn rows_in_cache(&self, compute: &Compute, pass: &Pass<'_, '_>) -> usize {
        if pass.is_coupled() {
            return usize::MAX;
        }
        let samples = pass.objective.samples;
        let one = Block::bytes(&self.config, &self.layout, 1, samples, self.purpose);
        let rows = usize::try_from(PART_BYTES / one.max(1)).unwrap_or(usize::MAX);
        // Whole blocks.
        let block = (BLOCK_ROWS / samples).max(1);
        rows.next_multiple_of(block).max(compute.threads() * block)
    }

    /// Step 10: the gradient of every weight, summed over the rows in the blocks, the last part of the batch of
    /// [`Self::forward_backward`], and given to the sink.
    pub(crate) fn weight_gradients(&self, compute: &Compute, sink: impl FlatSink) {
        self.bucket_gradients(compute, 0..self.pieces.len(), sink);
    }

    /// Step 10 for some of the pieces, whose sink begins with the first one.
    pub(crate) fn bucket_gradients(
        &self,
        compute: &Compute,
        pieces: Range<usize>,
        sink: impl FlatSink,
    ) {
        struct Op<'a, K>(K, &'a [Block], &'a Piece);
        impl<K: FlatSink> WithSimd for Op<'_, K> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self(mut sink, blocks, piece) = self;
                // Every piece runs through the rows of all blocks, in the order of the batch.
                let sources = GradientSources { blocks: blocks.iter(), gradient: piece.of };
                weight_gradient_rows(simd, &mut sink, sources, piece.panel, piece.rows.clone());
            }
        }

        let (simd, blocks) = (compute.simd(), self.blocks());
        let partition = self.partition_of_blocks();
        let work = |sink, piece: &Piece| simd.dispatch(Op(sink, blocks, piece));
        let sink = sink.for_threads(partition.threads());
        partition.for_each_piece(&self.pieces[pieces], sink, &work);
    }

    /// The pieces of the weight gradient in buckets of at least `size` elements, as few as the pieces allow, from the
    /// end of the flat buffers to their start.
    pub(crate) fn buckets(&self, size: usize) -> Vec<Bucket> {
        let mut buckets = Vec::new();
        let (mut last, mut end) = (self.pieces.len(), self.layout.len);
        for (index, piece) in self.pieces.iter().enumerate().rev() {
            if end - piece.start >= size || index == 0 {
                buckets.push(Bucket { pieces: index..last, elements: piece.start..end });
                (last, end) = (index, piece.start);
            }
        }
        buckets
    }

    /// The partition of the rows in the blocks, so that all regions of a step run on the same threads.
    fn partition_of_blocks(&self) -> &Partition {
        self.partition.as_ref().expect("a pass over some rows")
    }

    /// Upper bound on the norm of the gradient of the last [`Self::forward_backward`], not finite if the
    /// gradient may not be.
    pub(crate) fn gradient_bound(&self) -> f64 {
        let of_blocks = self.blocks().iter().map(|block| block.gradient_bound);
        self.bound_of_parts + of_blocks.sum::<f64>()
    }

    /// Steps 1 to 8 without gradients, to the bits of [`Self::forward_backward`]: the sums of the loss
    /// of a batch. Calls `visit` for its blocks, in the order of the rows.
    ///
    /// # Errors
    /// As [`Self::forward_backward`], and those of `visit`.
    pub(crate) fn forward(
        &mut self,
        compute: &Compute,
        pass: &Pass<'_, '_>,
        mut visit: impl FnMut(&Block) -> Result<()>,
    ) -> Result<LossSums> {
        let rows = pass.batch.len();
        // Several samples of a row: some rows at a time, so that memory does not grow with all of them.
        // Their losses are independent, and are summed over all rows at the end.
        let at_once = match pass.objective.samples {
            1 => rows,
            samples => compute.threads() * (SAMPLES_AT_ONCE / samples).max(1),
        };
        for first in (0..rows).step_by(at_once.max(1)) {
            let part = first..rows.min(first + at_once);
            let partition = self.partition(compute, pass, part)?;
            let compute = partition.compute();
            self.each_block(&partition, |block, rows, _| block.forward(compute, pass, rows))?;
            self.store_losses();
            self.blocks().iter().try_for_each(&mut visit)?;
        }
        // Values do not depend on the scales, which are those of gradients.
        let blocks = &self.blocks[..self.used];
        let sums = self.coupling.row_sums(compute, pass, blocks, &self.losses);
        let (mut losses, _) = reduce(pass, rows, &sums)?;
        losses.penalty = self.coupling.penalty(compute, pass, blocks, rows, &sums)?.sum;
        self.coupling.recycle(sums);
        Ok(losses)
    }

    /// Steps 1 to 3: the latent codes of a batch.
    ///
    /// # Errors
    /// Names the first row whose data the likelihood does not accept, or whose μ, logvar or z is not
    /// finite.
    pub(crate) fn encode(&mut self, compute: &Compute, pass: &Pass<'_, '_>) -> Result<()> {
        let rows = pass.batch.len();
        let partition = self.partition(compute, pass, 0..rows)?;
        let (simd, compute) = (compute.simd(), partition.compute());
        self.each_block(&partition, |block, rows, _| {
            block.gather(pass.batch, rows);
            block.encode(compute, pass);
            block.sample(simd, pass);
            // No loss is computed that could show a NaN, so the codes themselves are checked.
            block.check_codes(pass)
        })
    }

    /// The blocks of the last batch, in its order.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks[..self.used]
    }

    /// Divides rows of a batch into blocks and makes room for them. Allocates only if the room is too
    /// small.
    ///
    /// # Errors
    /// [`Error::Memory`] if the machine does not have the room.
    fn partition(
        &mut self,
        compute: &Compute,
        pass: &Pass<'_, '_>,
        rows: Range<usize>,
    ) -> Result<Partition> {
        let samples = pass.objective.samples;
        // The decoder's matrices have a row for each sample.
        if self.blocks.first().is_some_and(|block| block.samples() != samples) {
            self.blocks.clear();
            self.transposed.clear();
            self.most_rows = 0;
        }
        // All blocks are of one size. A batch that is no larger than one before fits into those there
        // are, whatever division would suit it best: the short last batch of an epoch allocates nothing.
        let had = self.blocks.first().map_or(0, Block::capacity);
        let fits = rows.len() <= self.most_rows;
        let limits = if fits { rows.len().div_ceil(self.blocks.len())..=had } else { ANY_SIZE };
        let partition = Partition::new(compute, &self.layout, rows.clone(), samples, limits);
        let capacity = partition.block_rows().max(had);
        self.used = partition.blocks();
        self.partition = Some(partition.clone());
        if !fits || self.transposed.len() < compute.threads() {
            let count = self.used.max(self.blocks.len());
            // Evaluations have no backward pass.
            let transposed_rows = if self.purpose == Purpose::Training {
                capacity.saturating_mul(samples)
            } else {
                0
            };
            let bytes = Block::bytes(&self.config, &self.layout, capacity, samples, self.purpose);
            let of_thread = Transposed::bytes(&self.layout, transposed_rows);
            expect_memory(
                bytes
                    .saturating_mul(count as u64)
                    .saturating_add(of_thread.saturating_mul(compute.threads() as u64)),
                || match (rows.len(), samples) {
                    (rows, 1) => format!("a batch of {rows} rows of {}", self.config),
                    (rows, k) => {
                        format!("a batch of {rows} rows of {k} samples of {}", self.config)
                    }
                },
                "use a smaller batch, fewer samples or a narrower model",
            )?;
            self.most_rows = self.most_rows.max(rows.len());
            let block = || Block::new(&self.config, &self.layout, capacity, samples, self.purpose);
            self.blocks.clear();
            self.blocks.extend((0..count).map(|_| block()));
            let transposed = || Mutex::new(Transposed::new(&self.layout, transposed_rows));
            self.transposed.clear();
            self.transposed.extend((0..compute.threads()).map(|_| transposed()));
        }
        self.losses.reserve(pass.batch.len());
        Ok(partition)
    }

    /// Runs `work` for every block, with the rows of the batch that belong to it.
    ///
    /// # Errors
    /// The error of the first block, in the order of the batch, whose work failed.
    fn each_block(
        &mut self,
        partition: &Partition,
        work: impl Fn(&mut Block, Range<usize>, &Mutex<Transposed>) -> Result<()> + Sync,
    ) -> Result<()> {
        let blocks = &mut self.blocks[..self.used];
        partition.for_each_block(blocks, |index, block, thread| {
            block.fault = work(block, partition.rows_of(index), &self.transposed[thread]).err();
        });
        blocks.iter_mut().find_map(|block| block.fault.take()).map_or(Ok(()), Err)
    }

    /// Puts the terms of each block's rows in the order of the batch.
    fn store_losses(&mut self) {
        for block in &self.blocks[..self.used] {
            self.losses.store(block.first, &block.losses, block.rows);
        }
    }
}

/// Loss of a batch of `rows` rows from the sums over them, without the penalty. With a batch-optimal variance, the
/// returned scale of the reconstruction's gradient includes it.
///
/// # Errors
/// [`Error::NotFiniteBatch`] if a sum overflows; [`Error::NoVariance`] in training if the batch has no optimal
/// variance.
fn reduce(pass: &Pass<'_, '_>, rows: usize, sums: &RowSums) -> Result<(LossSums, Scales)> {
    let RowSums { mut reconstruction, kl, .. } = *sums;
    let squares = reconstruction;
    let mut scales = pass.scales;
    if pass.config.has_optimal_variance() {
        let elements = rows as f64 * pass.config.features() as f64;
        let (variance, value) = gaussian::optimal(squares, elements);
        reconstruction = value;
        // (m−t)/σ² from 2(m−t)
        scales.reconstruction = (0.5 * f64::from(scales.reconstruction) / variance) as f32;
        if pass.is_training() && !scales.reconstruction.is_finite() {
            return Err(Error::NoVariance { variance, step: None });
        }
        // An evaluation computes the variance of all rows, of which these may be a part.
        if squares == 0.0 {
            reconstruction = 0.0;
        }
    }
    let value = reconstruction + kl;
    if !value.is_finite() {
        return Err(Error::NotFiniteBatch { term: "loss", value, step: None });
    }
    Ok((LossSums { reconstruction, kl, penalty: kl, squares }, scales))
}
