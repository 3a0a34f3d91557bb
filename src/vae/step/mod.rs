//! The training step's two parallel regions, and the memory they work in.
//!
//! 1. [`Workspace::forward_backward`]: blocks of rows, each through the whole network and back
//!    ([`Block`]).
//! 2. [`Workspace::weight_gradients`]: pieces of the weight gradient, each summed over all rows
//!    of the batch in order and handed to a [`Sink`] while it is in registers, which stores it
//!    or updates the weights with it.
//!
//! Two synchronizations a step, and in a warm workspace no allocation. How rows are cut into
//! blocks depends on the number of threads; no result does, since a row's loss and gradients
//! are its own and the weight gradient's chains run through the blocks in order.

mod backward;
pub(crate) mod block;
mod forward;
mod importance;
mod loss;
pub(super) mod matrix;
pub(crate) mod terms;

use super::Config;
use super::parameters::Layout;
use crate::compute::{Compute, PARALLEL_FLOP};
use crate::error::{Error, Result};
use crate::gemm::{Panel, Sink, panel_pieces, weight_gradient_rows};
use crate::loss::total_correlation::{TcWeights, TotalCorrelation};
use crate::loss::{gaussian, kl};
use crate::math::scalar;
use crate::optim::adam;
use crate::simd::InstructionSet;
use crate::simd::prefetch::prefetch_slice;
use crate::simd::sum::sum_rows;
use block::{Batch, Block, Coupled, Pass, Transposed};
use pulp::{Simd, WithSimd};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use terms::{Rule, Scales, Sums};

/// Rows of a block at most: enough to read each weight from the second-level cache only once
/// for eight tiles of rows, few enough for the activations to stay there beside them.
const BLOCK_ROWS: usize = 64;

/// Above this e^logvar is ∞.
const LOGVAR_OVERFLOW: f32 = 88.72;

/// A part of one panel's rows: a contiguous piece of the flat buffers.
#[derive(Clone)]
struct Piece {
    /// The dense layer, or, counted on from the last of them, the vector.
    layer: usize,
    panel: Panel,
    /// Rows of the panel; row 0 is the bias.
    rows: Range<usize>,
    /// Where it starts in the flat buffers.
    start: usize,
}

/// Memory for the forward and backward pass of a batch.
pub(crate) struct Workspace {
    config: Config,
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
    penalty: Vec<f64>,
    coupling: Coupling,
}

/// What the rows of a batch have to tell each other.
#[derive(Default)]
struct Coupling {
    /// For each latent dimension: its divergence, summed over the batch.
    kl: Vec<f64>,
    /// 1 where the penalty has a gradient, else 0.
    factors: Vec<f32>,
    /// The divergences of one row.
    row: Vec<f32>,
    total_correlation: TotalCorrelation,
}

/// What the batch as a whole says, once every row's part is known.
struct Verdict {
    /// Of the penalty, over the batch.
    penalty: f64,
    gradient: Gradient,
    scales: Scales,
}

/// Where the penalty's gradient is to be found.
#[derive(Clone, Copy)]
enum Gradient {
    Scale(f32),
    Dimensions,
    TotalCorrelation,
}

/// Rows that a block takes of a batch of `rows`: the same for all threads, whole tiles, at most
/// [`BLOCK_ROWS`] with all their samples.
fn block_rows(rows: usize, samples: usize, threads: usize) -> usize {
    let share = rows.div_ceil(threads).next_multiple_of(8).clamp(8, BLOCK_ROWS);
    if samples == 1 { share } else { share.min((BLOCK_ROWS / samples).max(1)) }
}

impl Workspace {
    pub(crate) fn new(config: &Config, layout: Arc<Layout>) -> Self {
        let mut pieces = Vec::new();
        let vectors = layout.vectors.iter().map(|vector| &vector.layer);
        for (index, layer) in layout.layers.iter().chain(vectors).enumerate() {
            for panel in layer.panels.panels() {
                pieces.extend(panel_pieces(layer.panels.inputs).map(|rows| {
                    let start = layer.offset + panel.offset + rows.start * panel.width;
                    Piece { layer: index, panel, rows, start }
                }));
            }
        }
        Self {
            config: config.clone(),
            layout,
            blocks: Vec::new(),
            used: 0,
            transposed: Vec::new(),
            pieces,
            reconstruction: Vec::new(),
            kl: Vec::new(),
            penalty: Vec::new(),
            coupling: Coupling::default(),
        }
    }

    /// Makes room for batches of up to `rows` rows. Allocates only where there was less.
    fn reserve(&mut self, rows: usize, samples: usize, threads: usize) {
        let size = block_rows(rows, samples, threads);
        let count = rows.div_ceil(size);
        let same = self.blocks.first().is_none_or(|block| block.samples() == samples);
        if !same {
            self.blocks.clear();
            self.transposed.clear();
        }
        let had = self.blocks.first().map_or(0, Block::capacity);
        if self.blocks.len() < count || had < size {
            let (count, size) = (count.max(self.blocks.len()), size.max(had));
            let block = || Block::new(&self.config, &self.layout, size, samples);
            self.blocks.clear();
            self.blocks.extend((0..count).map(|_| block()));
        }
        if self.transposed.len() < threads || had < size {
            let capacity = size.max(had) * samples;
            let transposed = || Mutex::new(Transposed::new(&self.layout, capacity));
            self.transposed.clear();
            self.transposed.extend((0..threads).map(|_| transposed()));
        }
        if self.reconstruction.len() < rows {
            self.reconstruction.resize(rows, 0.0);
            self.kl.resize(rows, 0.0);
            self.penalty.resize(rows, 0.0);
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
        pass: &Pass<'_, '_>,
    ) -> Result<Sums> {
        if !pass.is_coupled() {
            self.each_block(compute, pass, |simd, block, transposed| {
                block.forward_backward(simd, pass, transposed);
            });
            return self.collect(compute, pass, false).map(|(sums, _)| sums);
        }
        self.each_block(compute, pass, |simd, block, _| block.forward(simd, pass));
        let (sums, verdict) = self.collect(compute, pass, true)?;
        let pass = &Pass { scales: verdict.scales, ..*pass };
        let coupled = match verdict.gradient {
            Gradient::Scale(scale) => Coupled::Scale(scale),
            Gradient::Dimensions => Coupled::Dimensions(&self.coupling.factors),
            Gradient::TotalCorrelation => {
                Coupled::TotalCorrelation(&self.coupling.total_correlation)
            }
        };
        let serial = compute.serialized();
        let rows = pass.batch.selection.len() * pass.terms.samples;
        let compute = if self.layout.step_flop(rows) < PARALLEL_FLOP { &serial } else { compute };
        let (simd, transposed) = (compute.simd(), &self.transposed);
        compute.for_each_mut(&mut self.blocks[..self.used], |_, block| {
            let mut transposed =
                transposed[compute.thread_index()].lock().unwrap_or_else(PoisonError::into_inner);
            block.backward_coupled(simd, pass, &coupled, &mut transposed);
        });
        Ok(sums)
    }

    /// Forward and loss of a batch, to the bits of [`Self::forward_backward`].
    pub(crate) fn forward(&mut self, compute: &Compute, pass: &Pass<'_, '_>) -> Result<Sums> {
        self.each_block(compute, pass, |simd, block, _| block.forward(simd, pass));
        self.collect(compute, pass, false).map(|(sums, _)| sums)
    }

    /// The codes of a batch, and no more.
    pub(crate) fn encode(&mut self, compute: &Compute, pass: &Pass<'_, '_>) -> Result<()> {
        self.each_block(compute, pass, |simd, block, _| block.encode(simd, pass));
        let rows = pass.batch.selection.len();
        let mut codes =
            self.blocks().iter().flat_map(|block| (0..block.rows).map(move |i| (block, i)));
        let finite = |(block, i): (&Block, usize)| {
            block.codes(i).flatten().chain(block.heads.row(i)).all(|v| v.is_finite())
        };
        if codes.all(finite) {
            return Ok(());
        }
        Err(self.not_finite(pass.batch, rows))
    }

    /// The blocks of the last batch, in its order.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks[..self.used]
    }

    fn each_block(
        &mut self,
        compute: &Compute,
        pass: &Pass<'_, '_>,
        work: impl Fn(InstructionSet, &mut Block, &mut Transposed) + Sync,
    ) {
        let (batch, samples) = (pass.batch, pass.terms.samples);
        let rows = batch.selection.len();
        let serial = compute.serialized();
        let compute = self.compute(compute, &serial, rows * samples);
        let threads = compute.threads();
        self.reserve(rows, samples, threads);
        let size = block_rows(rows, samples, threads);
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
    }

    /// Each row's loss from the blocks, their sums, and what they make of each other.
    fn collect(
        &mut self,
        compute: &Compute,
        pass: &Pass<'_, '_>,
        gradient: bool,
    ) -> Result<(Sums, Verdict)> {
        let rows = pass.batch.selection.len();
        let mut at = 0;
        for block in &mut self.blocks[..self.used] {
            if let Some(fault) = block.fault.take() {
                return Err(fault);
            }
            let range = at..at + block.rows;
            self.reconstruction[range.clone()].copy_from_slice(&block.reconstruction[..block.rows]);
            self.kl[range.clone()].copy_from_slice(&block.kl[..block.rows]);
            self.penalty[range].copy_from_slice(&block.penalty[..block.rows]);
            at += block.rows;
        }
        let kl = sum_rows(&self.kl[..rows]);
        let mut reconstruction = sum_rows(&self.reconstruction[..rows]);
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
            return Err(self.not_finite(pass.batch, rows));
        }
        let verdict = self.couple(compute, pass, scales, kl, gradient)?;
        let sums = Sums { reconstruction, kl, penalty: verdict.penalty, squares };
        if !sums.penalty.is_finite() {
            return Err(self.not_finite(pass.batch, rows));
        }
        Ok((sums, verdict))
    }

    /// The penalty of the batch.
    fn couple(
        &mut self,
        compute: &Compute,
        pass: &Pass<'_, '_>,
        scales: Scales,
        kl: f64,
        gradient: bool,
    ) -> Result<Verdict> {
        let rows = pass.batch.selection.len();
        let n = rows as f64;
        let (penalty, gradient) = match pass.terms.rule {
            Rule::Kl => (kl, Gradient::Scale(scales.penalty)),
            Rule::ElementFreeBits { .. }
            | Rule::SampleFreeBits { .. }
            | Rule::SampleCapacity { .. }
            | Rule::Importance { .. } => {
                (sum_rows(&self.penalty[..rows]), Gradient::Scale(scales.penalty))
            }
            Rule::BatchCapacity { capacity } => {
                let beyond = kl / n - f64::from(capacity);
                let sign = loss::sign(beyond);
                (n * beyond.abs(), Gradient::Scale(sign * scales.penalty))
            }
            Rule::DimensionFreeBits { lambda } => {
                self.sum_dimensions(compute, pass)?;
                let lambda = f64::from(lambda);
                let Coupling { kl, factors, .. } = &mut self.coupling;
                factors.clear();
                factors.extend(kl.iter().map(|&kl| if kl / n > lambda { 1.0 } else { 0.0 }));
                let free = |&kl: &f64| if kl / n > lambda { kl } else { n * lambda };
                (kl.iter().map(free).sum(), Gradient::Dimensions)
            }
            Rule::TotalCorrelation { alpha, beta, gamma } => {
                let scratch = &mut self.coupling.total_correlation;
                scratch.reserve(rows, pass.config.latent());
                for block in &self.blocks[..self.used] {
                    for i in 0..block.rows {
                        let (mu, logvar) = block.heads.row(i).split_at(pass.config.latent());
                        let z = block.codes(i).next().expect("one sample");
                        scratch.set_row(block.first + i, z, mu, logvar);
                    }
                }
                let weights = TcWeights { alpha, beta, gamma };
                let ln_weight = scalar::ln(pass.batch.data.row_count() as f64 * n);
                let prior = pass.config.prior();
                let parts = if gradient {
                    scratch.forward_backward(compute, weights, ln_weight, prior, scales.penalty)
                } else {
                    scratch.forward(compute, ln_weight, prior)
                };
                (n * parts.weighted(weights), Gradient::TotalCorrelation)
            }
        };
        Ok(Verdict { penalty, gradient, scales })
    }

    /// The divergence of each latent dimension, summed over the rows in their order.
    fn sum_dimensions(&mut self, compute: &Compute, pass: &Pass<'_, '_>) -> Result<()> {
        let latent = pass.config.latent();
        let Coupling { kl, row, .. } = &mut self.coupling;
        kl.clear();
        kl.resize(latent, 0.0);
        row.resize(latent, 0.0);
        for block in &self.blocks[..self.used] {
            for i in 0..block.rows {
                let (mu, logvar) = block.heads.row(i).split_at(latent);
                kl::per_dimension(compute.simd(), row, mu, logvar, pass.config.prior())?;
                for (sum, &kl) in kl.iter_mut().zip(row.iter()) {
                    *sum += f64::from(kl);
                }
            }
        }
        Ok(())
    }

    #[cold]
    fn not_finite(&self, batch: &Batch<'_>, rows: usize) -> Error {
        // e^logvar is the one number of the loss that overflows with weights that are still small.
        for block in self.blocks() {
            for i in 0..block.rows {
                let (_, logvar) = block.heads.row(i).split_at(self.config.latent());
                let overflows = |v: &f32| *v > LOGVAR_OVERFLOW;
                if let Some(dimension) = logvar.iter().position(overflows) {
                    let row = batch.selection.row(block.first + i);
                    let value = logvar[dimension];
                    return Error::LogvarOverflow { row, dimension, value, step: None };
                }
            }
        }
        let find = |term, values: &[f64]| {
            let row = values[..rows].iter().position(|value| !value.is_finite())?;
            Some((row, term, values[row]))
        };
        let reconstruction = find("reconstruction", &self.reconstruction);
        let kl = find("KL divergence", &self.kl);
        // Of two terms of one row the KL is named: it depends on the encoder alone.
        let first = [kl, reconstruction].into_iter().flatten().min_by_key(|&(row, ..)| row);
        let (row, term, value) = first.unwrap_or((0, "loss", f64::NAN));
        Error::NotFiniteLoss { term, row: batch.selection.row(row), value, step: None }
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
        let serial = compute.serialized();
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

/// Keeps the gradient in a flat buffer.
pub(crate) struct StoreGradient<'a> {
    pub(crate) gradient: &'a mut [f32],
    /// The chains go on from what is there: the rows before belong to the same batch.
    pub(crate) resume: bool,
}

impl Sink for StoreGradient<'_> {
    #[inline(always)]
    fn start<S: Simd>(&self, _: S, at: usize) -> Option<S::f32s> {
        self.resume.then(|| S::as_simd_f32s(&self.gradient[at..at + S::F32_LANES]).0[0])
    }

    #[inline(always)]
    fn put<S: Simd>(&mut self, _: S, at: usize, gradient: S::f32s) {
        register_mut::<S>(self.gradient, at)[0] = gradient;
    }
}

impl FlatSink for StoreGradient<'_> {
    fn split_at(self, at: usize) -> (Self, Self) {
        let (left, right) = self.gradient.split_at_mut(at);
        let resume = self.resume;
        (Self { gradient: left, resume }, Self { gradient: right, resume })
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
