//! Shards of a batch, and the trees that add up what is computed from each.

use crate::distributed::Communicator;
use crate::error::Result;
use crate::memory::expect_memory;
use crate::vae::Parameters;
use crate::vae::step::sink::{MOST_LEVELS, ShardSink, ShardTarget, UpdateWithAdam};
use crate::vae::step::terms::RowSums;
use crate::vae::step::{Bucket, Workspace};
use std::ops::Range;
use std::sync::Arc;

/// Shards of a batch at most.
pub(super) const MOST_SHARDS: usize = 1 << MOST_LEVELS;

/// Memory of steps with shards, empty without.
pub(super) struct Shards {
    pub(super) ranks: Arc<dyn Communicator>,
    pub(super) tree: GradientTree,
    /// One for each shard of this rank but the first, where the shards wait for the sums of the batch.
    pub(super) workspaces: Vec<Workspace>,
    pub(super) buckets: Vec<Bucket>,
    /// This rank asks all to stop.
    pub(super) asks_to_stop: bool,
    /// Some rank has asked to stop, and all know.
    pub(super) is_to_stop: bool,
}

impl Shards {
    pub(super) fn on(ranks: Arc<dyn Communicator>) -> Self {
        let tree = GradientTree { buffers: Vec::new(), done: 0 };
        Self {
            ranks,
            tree,
            workspaces: Vec::new(),
            buckets: Vec::new(),
            asks_to_stop: false,
            is_to_stop: false,
        }
    }
}

/// Sums of the gradients of shards, depth first: each buffer is the sum of a complete subtree, the largest one first.
pub(super) struct GradientTree {
    pub(super) buffers: Vec<Parameters>,
    /// Shards so far.
    pub(super) done: usize,
}

impl GradientTree {
    /// Makes room for `shards` shards.
    ///
    /// # Errors
    /// [`Error::Memory`] if the machine does not have it.
    pub(super) fn reserve(&mut self, shards: usize, weights: &Parameters) -> Result<()> {
        let needed = (shards.ilog2() as usize).max(1);
        let missing = needed.saturating_sub(self.buffers.len());
        expect_memory(
            missing as u64 * size_of_val(&weights[..]) as u64,
            || format!("the gradients of {shards} shards"),
            "use fewer shards or a narrower model",
        )?;
        for _ in 0..missing {
            self.buffers.push(Parameters::of_layout(weights.layout().clone()));
        }
        Ok(())
    }

    /// The sink of the next shard, whose chains over earlier rows are `chains`. With `update` it is the last one: the
    /// sum of all shards goes there.
    pub(super) fn sink<'a>(
        &'a mut self,
        chains: Option<&'a [f32]>,
        update: Option<UpdateWithAdam<'a>>,
    ) -> ShardSink<'a> {
        // Complete subtrees are the ones in the binary number of shards so far; the next shard completes those of the
        // trailing ones.
        let complete = self.done.count_ones() as usize;
        let completes = self.done.trailing_ones() as usize;
        let at = complete - completes;
        let (below, above) = self.buffers.split_at_mut(at + 1);
        // The last one in the binary number is the smallest and the first to be added.
        let mut earlier: [&[f32]; MOST_LEVELS] = [&[]; MOST_LEVELS];
        let mut levels = completes.saturating_sub(1);
        for (level, sums) in above[..levels].iter().rev().enumerate() {
            earlier[level] = sums;
        }
        let largest = &mut below[at][..];
        let target = match update {
            Some(update) if completes > 0 => {
                earlier[levels] = largest;
                levels += 1;
                ShardTarget::Update(update)
            }
            Some(update) => ShardTarget::Update(update),
            None if completes > 0 => ShardTarget::Add(largest),
            None => ShardTarget::Store(largest),
        };
        ShardSink { chains, earlier, levels, target }
    }

    /// The sum of all shards, after the last one.
    pub(super) fn root(&mut self) -> &mut Parameters {
        &mut self.buffers[0]
    }
}

/// The rows of shard `index`, of as many rows as a batch has.
pub(super) fn shard_rows(rows: usize, shards: usize, index: usize) -> Range<usize> {
    // In 128 bits: rows may be close to the largest number.
    let bound = |index: usize| (rows as u128 * index as u128 / shards as u128) as usize;
    bound(index)..bound(index + 1)
}

/// Sums of neighboring shards by the tree, depth first.
#[derive(Default)]
pub(super) struct SumTree {
    pub(super) subtrees: Vec<RowSums>,
    done: usize,
}

impl SumTree {
    pub(super) fn add(&mut self, mut sums: RowSums) {
        for _ in 0..self.done.trailing_ones() {
            let mut left = self.subtrees.pop().expect("a complete subtree");
            left += &sums;
            sums = left;
        }
        self.subtrees.push(sums);
        self.done += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_a_batch_in_order() {
        for rows in [1, 2, 3, 7, 64, 100, usize::MAX] {
            for shards in [1, 2, 4, 16] {
                let mut end = 0;
                for index in 0..shards {
                    let range = shard_rows(rows, shards, index);
                    assert_eq!(range.start, end);
                    assert!(range.len().abs_diff(rows / shards) <= 1, "{rows} {shards}");
                    end = range.end;
                }
                assert_eq!(end, rows);
            }
        }
    }
}
