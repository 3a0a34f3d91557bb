//! Destinations of a weight gradient that is in registers: memory, or Adam's update, and the sums of shards on the
//! way there.

use crate::error::Result;
use crate::gemm::Sink;
use crate::memory::expect_memory;
use crate::optim::adam;
use crate::simd::prefetch::prefetch_slice;
use crate::simd::stream;
use crate::vae::parameters::{Layout, Parameters};
use pulp::Simd;
use std::sync::Arc;

/// A [`Sink`] over whole flat buffers, which can be cut where a piece ends.
pub(crate) trait FlatSink: Sink + Send + Sized {
    fn split_at(self, at: usize) -> (Self, Self);

    /// The sink for pieces that this many threads share.
    fn for_threads(self, threads: usize) -> Self {
        let _ = threads;
        self
    }

    /// Called on each thread after the last piece that it has put.
    fn finish() {}
}

/// The gradient of a batch, or of its rows so far, in memory that is made when it is first needed.
#[derive(Default)]
pub(crate) struct StoredGradient {
    pub(crate) sums: Option<Parameters>,
    /// The sums over some rows of the batch are stored.
    pub(crate) has_rows: bool,
}

impl StoredGradient {
    /// A sink that adds rows.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) if the machine does not have the memory.
    pub(crate) fn sink(&mut self, layout: &Arc<Layout>) -> Result<StoreGradient<'_>> {
        let gradient = match &mut self.sums {
            Some(sums) => sums,
            none => {
                let bytes = (layout.len as u64).saturating_mul(size_of::<f32>() as u64);
                expect_memory(bytes, || "the gradient".to_owned(), "make the model narrower")?;
                none.insert(Parameters::of_layout(layout.clone()))
            }
        };
        let start = if self.has_rows { Start::Stored } else { Start::Zero };
        self.has_rows = true;
        Ok(StoreGradient { gradient, start })
    }

    /// The sums so far.
    pub(crate) fn rows_so_far(&self) -> Option<&[f32]> {
        self.sums.as_deref().filter(|_| self.has_rows)
    }
}

/// Stores the gradient in a flat buffer.
pub(crate) struct StoreGradient<'a> {
    pub(crate) gradient: &'a mut [f32],
    pub(crate) start: Start,
}

/// First value of a stored gradient's sums over rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Zero,
    /// The stored gradient, which holds the sums over earlier rows of the same batch.
    Stored,
}

impl Sink for StoreGradient<'_> {
    #[inline(always)]
    fn start<S: Simd>(&self, _: S, at: usize) -> Option<S::f32s> {
        // Chains that go on where the part before has stopped: the bits of one undivided batch.
        (self.start == Start::Stored).then(|| register::<S>(self.gradient, at))
    }

    #[inline(always)]
    fn put<S: Simd>(&mut self, _: S, at: usize, gradient: S::f32s) {
        register_mut::<S>(self.gradient, at)[0] = gradient;
    }
}

impl FlatSink for StoreGradient<'_> {
    fn split_at(self, at: usize) -> (Self, Self) {
        let (left, right) = self.gradient.split_at_mut(at);
        // Offsets count from the start of each half from here on.
        let start = self.start;
        (Self { gradient: left, start }, Self { gradient: right, start })
    }
}

/// Updates weights and moments by Adam; the gradient itself is not kept.
pub(crate) struct UpdateWithAdam<'a> {
    adam: adam::Constants,
    /// The sums over earlier rows of the batch, if there are any.
    earlier: Option<&'a [f32]>,
    weights: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    /// Other threads have read these weights: they are stored past the caches. Only [`FlatSink::for_threads`] sets
    /// it, as [`FlatSink::finish`] must follow.
    is_shared: bool,
}

impl<'a> UpdateWithAdam<'a> {
    /// Updates weights and moments with a gradient whose sums over earlier rows, if there are any, are `earlier`.
    pub(crate) fn new(
        adam: adam::Constants,
        earlier: Option<&'a [f32]>,
        [weights, first, second]: [&'a mut [f32]; 3],
    ) -> Self {
        Self { adam, earlier, weights, first, second, is_shared: false }
    }
}

impl Sink for UpdateWithAdam<'_> {
    #[inline(always)]
    fn start<S: Simd>(&self, _: S, at: usize) -> Option<S::f32s> {
        self.earlier.map(|sums| register::<S>(sums, at))
    }

    #[inline(always)]
    fn expect(&self, at: usize, len: usize) {
        // w, m and v of a row of the tile, while the tile before it is computed.
        prefetch_slice(&self.weights[at..at + len]);
        prefetch_slice(&self.first[at..at + len]);
        prefetch_slice(&self.second[at..at + len]);
    }

    #[inline(always)]
    fn put<S: Simd>(&mut self, simd: S, at: usize, gradient: S::f32s) {
        let w = &mut register_mut::<S>(self.weights, at)[0];
        let m = &mut register_mut::<S>(self.first, at)[0];
        let v = &mut register_mut::<S>(self.second, at)[0];
        // The same function as the pass over flat buffers, so the same bits.
        let new;
        [new, *m, *v] = self.adam.update(simd, [*w, *m, *v], gradient);
        if self.is_shared {
            let weights = &mut self.weights[at..at + S::F32_LANES];
            // SAFETY: each element of a piece is put once, and `for_each_piece` calls `finish` after the last piece of
            // a thread, after a panic as well.
            unsafe { stream::store(simd, weights, new) };
        } else {
            *w = new;
        }
    }
}

impl FlatSink for UpdateWithAdam<'_> {
    fn for_threads(self, threads: usize) -> Self {
        Self { is_shared: threads > 1, ..self }
    }

    fn finish() {
        stream::finish();
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (w_left, w_right) = self.weights.split_at_mut(at);
        let (m_left, m_right) = self.first.split_at_mut(at);
        let (v_left, v_right) = self.second.split_at_mut(at);
        let Self { adam, is_shared, .. } = self;
        let (g_left, g_right) = self.earlier.map(|sums| sums.split_at(at)).unzip();
        (
            Self {
                adam,
                earlier: g_left,
                weights: w_left,
                first: m_left,
                second: v_left,
                is_shared,
            },
            Self {
                adam,
                earlier: g_right,
                weights: w_right,
                first: m_right,
                second: v_right,
                is_shared,
            },
        )
    }
}

/// Levels of the tree over the shards of a batch, at most.
pub(crate) const MOST_LEVELS: usize = 10;

/// Adds the gradient of a shard to the sums of shards before it, and passes the sum on.
///
/// A shard is a chain of its own; `earlier` are the sums that the tree adds to it, the nearest one first.
pub(crate) struct ShardSink<'a> {
    /// The chains over the rows of this shard before those in the blocks, if there are any.
    pub(crate) chains: Option<&'a [f32]>,
    pub(crate) earlier: [&'a [f32]; MOST_LEVELS],
    /// Number of `earlier` in use.
    pub(crate) levels: usize,
    pub(crate) target: ShardTarget<'a>,
}

/// Destination of a sum of shards.
pub(crate) enum ShardTarget<'a> {
    /// Overwrites the buffer.
    Store(&'a mut [f32]),
    /// Adds to the buffer.
    Add(&'a mut [f32]),
    Update(UpdateWithAdam<'a>),
}

impl Sink for ShardSink<'_> {
    #[inline(always)]
    fn start<S: Simd>(&self, _: S, at: usize) -> Option<S::f32s> {
        self.chains.map(|chains| register::<S>(chains, at))
    }

    #[inline(always)]
    fn expect(&self, at: usize, len: usize) {
        match &self.target {
            ShardTarget::Store(_) => {}
            ShardTarget::Add(sums) => prefetch_slice(&sums[at..at + len]),
            ShardTarget::Update(update) => update.expect(at, len),
        }
    }

    #[inline(always)]
    fn put<S: Simd>(&mut self, simd: S, at: usize, mut gradient: S::f32s) {
        for sums in &self.earlier[..self.levels] {
            gradient = simd.add_f32s(register::<S>(sums, at), gradient);
        }
        match &mut self.target {
            ShardTarget::Store(sums) => register_mut::<S>(sums, at)[0] = gradient,
            ShardTarget::Add(sums) => {
                let sum = &mut register_mut::<S>(sums, at)[0];
                *sum = simd.add_f32s(*sum, gradient);
            }
            ShardTarget::Update(update) => update.put(simd, at, gradient),
        }
    }
}

impl FlatSink for ShardSink<'_> {
    fn for_threads(self, threads: usize) -> Self {
        let target = match self.target {
            ShardTarget::Update(update) => ShardTarget::Update(update.for_threads(threads)),
            target => target,
        };
        Self { target, ..self }
    }

    fn finish() {
        UpdateWithAdam::finish();
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let Self { chains, earlier, levels, target } = self;
        let (chains, chains_right) = chains.map(|chains| chains.split_at(at)).unzip();
        let mut halves: [[&[f32]; MOST_LEVELS]; 2] = [[&[]; MOST_LEVELS]; 2];
        for (level, sums) in earlier[..levels].iter().enumerate() {
            [halves[0][level], halves[1][level]] = sums.split_at(at).into();
        }
        let (target, target_right) = match target {
            ShardTarget::Store(sums) => {
                let (left, right) = sums.split_at_mut(at);
                (ShardTarget::Store(left), ShardTarget::Store(right))
            }
            ShardTarget::Add(sums) => {
                let (left, right) = sums.split_at_mut(at);
                (ShardTarget::Add(left), ShardTarget::Add(right))
            }
            ShardTarget::Update(update) => {
                let (left, right) = update.split_at(at);
                (ShardTarget::Update(left), ShardTarget::Update(right))
            }
        };
        let [earlier, earlier_right] = halves;
        (
            Self { chains, earlier, levels, target },
            Self { chains: chains_right, earlier: earlier_right, levels, target: target_right },
        )
    }
}

/// The register that starts at `at`.
#[inline(always)]
fn register<S: Simd>(slice: &[f32], at: usize) -> S::f32s {
    S::as_simd_f32s(&slice[at..at + S::F32_LANES]).0[0]
}

/// The register's worth of elements that starts at `at`.
#[inline(always)]
fn register_mut<S: Simd>(slice: &mut [f32], at: usize) -> &mut [S::f32s] {
    S::as_mut_simd_f32s(&mut slice[at..at + S::F32_LANES]).0
}
