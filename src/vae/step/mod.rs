//! The training step, and the memory it works in.
//!
//! ```text
//! region 1: blocks of rows, each on one thread
//!    1. gather     x|c from the data set                                            block
//!    2. encode     x|c → μ|logvar                                                   forward
//!    3. sample     z = μ + σε, k samples of each row                                forward
//!    4. decode     z|c → output                                                     forward
//!    5. loss       reconstruction and KL of each row, gradients of output, μ, logvar    loss
//!    6. weigh      with importance weighting: the k samples by their weights        importance
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
//! Two synchronizations a step (three where rows are coupled), and in a warm workspace no allocation.
//! [`partition`] decides which rows and pieces go together and on how many threads; no result depends
//! on it.

mod backward;
pub(crate) mod batch;
pub(crate) mod block;
mod coupling;
mod forward;
mod importance;
mod loss;
pub(super) mod matrix;
mod partition;
pub(crate) mod sink;
pub(crate) mod terms;

use crate::compute::Compute;
use crate::error::Result;
use crate::gemm::weight_gradient_rows;
use crate::loss::gaussian;
use crate::simd::sum::sum_rows;
use crate::vae::config::Config;
use crate::vae::parameters::Layout;
use backward::Transposed;
use batch::Pass;
use block::{Block, GradientSources, not_finite};
use coupling::CouplingMemory;
use partition::{Partition, Piece};
use pulp::{Simd, WithSimd};
use sink::FlatSink;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use terms::{LossSums, RowLosses, Scales};

/// Memory for the steps of one model.
pub(crate) struct Workspace {
    config: Config,
    layout: Arc<Layout>,
    /// All allocated blocks; the first `used` hold the batch.
    blocks: Vec<Block>,
    used: usize,
    /// One for each thread, so no lock is contended.
    transposed: Vec<Mutex<Transposed>>,
    pieces: Vec<Piece>,
    /// Terms of the rows, in the order of the batch.
    losses: RowLosses,
    coupling: CouplingMemory,
}

impl Workspace {
    pub(crate) fn new(config: &Config, layout: Arc<Layout>) -> Self {
        Self {
            config: config.clone(),
            blocks: Vec::new(),
            used: 0,
            transposed: Vec::new(),
            pieces: partition::pieces(&layout),
            losses: RowLosses::zeros(0),
            coupling: CouplingMemory::default(),
            layout,
        }
    }

    /// Steps 1 to 9: forward, loss and backward of a batch. Returns the sums of the loss over its
    /// rows.
    ///
    /// # Errors
    /// Names the first row, in the order of the batch, whose data the likelihood does not accept or
    /// whose loss is not finite. Nothing but the workspace has changed then.
    pub(crate) fn forward_backward(
        &mut self,
        compute: &Compute,
        pass: &Pass<'_, '_>,
    ) -> Result<LossSums> {
        let partition = self.partition(compute, pass);
        let (simd, coupled) = (compute.simd(), pass.is_coupled());
        self.each_block(&partition, |block, rows, transposed| {
            block.gather(pass.batch, rows); // 1.
            block.encode(simd, pass); // 2.
            block.sample(simd, pass); // 3.
            block.decode(simd, pass); // 4.
            block.loss(simd, pass)?; // 5.
            block.weigh_samples(simd, pass)?; // 6.
            if !coupled {
                block.backward(simd, pass, transposed, None); // 9.
            }
            Ok(())
        })?;
        let (mut sums, scales) = self.sum(pass)?; // 7.
        let blocks = &mut self.blocks[..self.used];
        let penalty = self.coupling.penalty(compute, pass, blocks, &self.losses, sums.kl)?; // 8.
        sums.penalty = penalty.sum;
        // The gradients that waited for the batch, then the backward pass of every block.
        if coupled {
            // The optimal variance of this batch is in these scales.
            let pass = &Pass { scales, ..*pass };
            partition.for_each_block(blocks, |_, block, thread| {
                block.coupled_gradients(simd, pass, &penalty.gradient);
                let pairs = penalty.gradient.total_correlation();
                block.backward(simd, pass, &self.transposed[thread], pairs); // 9.
            });
        }
        Ok(sums)
    }

    /// Step 10: the gradient of every weight, summed over the batch of the last
    /// [`Self::forward_backward`] and given to the sink.
    pub(crate) fn weight_gradients(&self, compute: &Compute, sink: impl FlatSink) {
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
        let rows = blocks.iter().map(|block| block.rows).sum();
        // The same partition as in `forward_backward`: same rows, same threads.
        let samples = blocks.first().map_or(1, Block::samples);
        let partition = Partition::new(compute, &self.layout, rows, samples);
        let work = |sink, piece: &Piece| simd.dispatch(Op(sink, blocks, piece));
        partition.for_each_piece(&self.pieces, sink, &work);
    }

    /// Steps 1 to 8 without gradients, to the bits of [`Self::forward_backward`]: the sums of the loss
    /// of a batch.
    ///
    /// # Errors
    /// As [`Self::forward_backward`].
    pub(crate) fn forward(&mut self, compute: &Compute, pass: &Pass<'_, '_>) -> Result<LossSums> {
        let partition = self.partition(compute, pass);
        let simd = compute.simd();
        self.each_block(&partition, |block, rows, _| {
            block.gather(pass.batch, rows);
            block.encode(simd, pass);
            block.sample(simd, pass);
            block.decode(simd, pass);
            block.loss(simd, pass)?;
            block.weigh_samples(simd, pass)
        })?;
        // Values do not depend on the scales, which are those of gradients.
        let (mut sums, _) = self.sum(pass)?;
        let blocks = &self.blocks[..self.used];
        let penalty = self.coupling.penalty(compute, pass, blocks, &self.losses, sums.kl)?;
        sums.penalty = penalty.sum;
        Ok(sums)
    }

    /// Steps 1 to 3: the latent codes of a batch.
    ///
    /// # Errors
    /// Names the first row whose μ, logvar or z is not finite.
    pub(crate) fn encode(&mut self, compute: &Compute, pass: &Pass<'_, '_>) -> Result<()> {
        let partition = self.partition(compute, pass);
        let simd = compute.simd();
        self.each_block(&partition, |block, rows, _| {
            block.gather(pass.batch, rows);
            block.encode(simd, pass);
            block.sample(simd, pass);
            Ok(())
        })?;
        let mut rows =
            self.blocks().iter().flat_map(|block| (0..block.rows).map(move |i| (block, i)));
        let finite = |(block, i): (&Block, usize)| {
            block.codes(i).flatten().chain(block.heads.row(i)).all(|v| v.is_finite())
        };
        // No loss was computed that could show a NaN, so the codes themselves are checked.
        if rows.all(finite) {
            return Ok(());
        }
        Err(not_finite(self.blocks(), &self.losses, pass.batch))
    }

    /// The blocks of the last batch, in its order.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks[..self.used]
    }

    /// Divides a batch into blocks and makes room for them. Allocates only if the room is too small.
    fn partition(&mut self, compute: &Compute, pass: &Pass<'_, '_>) -> Partition {
        let (rows, samples) = (pass.batch.len(), pass.objective.samples);
        let partition = Partition::new(compute, &self.layout, rows, samples);
        // The decoder's matrices have a row for each sample.
        if self.blocks.first().is_some_and(|block| block.samples() != samples) {
            self.blocks.clear();
            self.transposed.clear();
        }
        // All blocks are of one size: a larger batch replaces them, a smaller one uses some.
        let had = self.blocks.first().map_or(0, Block::capacity);
        let capacity = partition.block_rows().max(had);
        self.used = partition.blocks();
        if self.blocks.len() < self.used || had < capacity {
            let count = self.used.max(self.blocks.len());
            let block = || Block::new(&self.config, &self.layout, capacity, samples);
            self.blocks.clear();
            self.blocks.extend((0..count).map(|_| block()));
        }
        if self.transposed.len() < partition.threads() || had < capacity {
            let transposed = || Mutex::new(Transposed::new(&self.layout, capacity * samples));
            self.transposed.clear();
            self.transposed.extend((0..partition.threads()).map(|_| transposed()));
        }
        self.losses.reserve(rows);
        partition
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

    /// Sums the terms of the rows. With a batch-optimal variance, the returned scale of the
    /// reconstruction's gradient includes it.
    ///
    /// # Errors
    /// The first row whose loss is not finite.
    fn sum(&mut self, pass: &Pass<'_, '_>) -> Result<(LossSums, Scales)> {
        let rows = pass.batch.len();
        for block in &self.blocks[..self.used] {
            // Each block holds the terms of its own rows; here they are put in the order of the batch.
            self.losses.store(block.first, &block.losses, block.rows);
        }
        // The tree of these sums depends on the number of rows alone, not on the blocks.
        let kl = sum_rows(&self.losses.kl[..rows]);
        let mut reconstruction = sum_rows(&self.losses.reconstruction[..rows]);
        let squares = reconstruction;
        let mut scales = pass.scales;
        if pass.config.has_optimal_variance() {
            let elements = rows as f64 * pass.config.features() as f64;
            let (variance, value) = gaussian::optimal(squares, elements);
            reconstruction = value;
            // (m−t)/σ² from 2(m−t)
            scales.reconstruction = (0.5 * f64::from(scales.reconstruction) / variance) as f32;
        }
        if !(reconstruction + kl).is_finite() {
            return Err(not_finite(self.blocks(), &self.losses, pass.batch));
        }
        Ok((LossSums { reconstruction, kl, penalty: kl, squares }, scales))
    }
}
