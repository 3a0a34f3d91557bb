//! Steps whose gradient is a tree over shards of the batch, on one rank or on several.
//!
//! # Method
//! A rank owns neighboring shards, a subtree. In a step:
//! 1. Forward and backward pass of its shards, one after the other; the gradient of each is added to the subtree as
//!    soon as it is complete ([`GradientTree`]). The last one waits.
//! 2. All ranks add up the sums over their rows, and learn whether one of them has failed.
//! 3. Where the gradient of a row depends on the batch, all shards wait for its sums; their backward passes follow,
//!    and the bounds on the gradients are added up.
//! 4. The gradient of the last shard. On one rank the tree ends here: Adam updates each weight while its gradient is in
//!    registers, as it does without shards.
//! 5. On several ranks the gradient goes in buckets from the last layer to the first. The sum of a bucket over the
//!    ranks is under way while the next one is computed; with Adam the weights of a bucket follow as soon as its sum is
//!    complete.
//!
//! All decisions follow from sums that are the same on every rank.

use super::Trainer;
use super::shards::{GradientTree, Shards, SumTree, shard_rows};
use super::trainer::LARGEST_GRADIENT;
use crate::compute::Compute;
use crate::distributed::{BUCKET, Communicator, Pause, Reduction, expect_same, sum};
use crate::error::{Error, Result};
use crate::optim::{Bounds, UpdateRule};
use crate::simd::environment::FloatEnvironment;
use crate::vae::step::batch::{Batch, Pass, Purpose};
use crate::vae::step::sink::{FlatSink, StoredGradient, UpdateWithAdam};
use crate::vae::step::terms::{LossSums, RowSums, StepObjective};
use crate::vae::step::{Bucket, Workspace};
use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// Steps between two comparisons of the weights of all ranks.
const CHECKED_EVERY: u64 = 100;

/// Sums that the ranks exchange after step 1: over rows, and the bound on the gradient.
struct Agreed {
    sums: RowSums,
    bound: f64,
    /// Ranks that have asked to stop.
    stops: f64,
}

impl Agreed {
    fn zero(dimensions: usize) -> Self {
        let sums = RowSums { dimensions: vec![0.0; dimensions], ..RowSums::default() };
        Self { sums, bound: 0.0, stops: 0.0 }
    }

    fn to_values(&self) -> Vec<f64> {
        let RowSums { reconstruction, kl, penalty, dimensions } = &self.sums;
        [&[*reconstruction, *kl, *penalty, self.bound, self.stops], &dimensions[..]].concat()
    }

    fn of_values(values: &[f64]) -> Self {
        let &[reconstruction, kl, penalty, bound, stops, ..] = values else { unreachable!() };
        let sums = RowSums { reconstruction, kl, penalty, dimensions: values[5..].to_vec() };
        Self { sums, bound, stops }
    }
}

impl Trainer {
    /// Trains together with other ranks, each of which has made the same trainer and calls the same methods with the
    /// same arguments, in the same order. The batch of the options is that of all ranks together, and each computes
    /// the gradient of its share. All results are the same on each rank, to the last bit; with
    /// [`Options::shards`](super::Options::shards) they are the same on any number of ranks that divides it.
    ///
    /// Every 100 steps the ranks compare their weights. See [`distributed`](crate::distributed).
    ///
    /// # Errors
    /// [`Error::Config`] if the ranks do not divide the shards, or the objective compares the rows of a batch (total
    /// correlation); [`Error::Rank`] if a rank has other options, another model or another state.
    pub fn with_ranks(mut self, ranks: Arc<dyn Communicator>) -> Result<Self> {
        let _environment = FloatEnvironment::standard();
        let (rank, count) = (ranks.rank(), ranks.ranks());
        self.options.validate_ranks(self.vae.config(), count)?;
        self.sharded = Shards::on(ranks.clone());
        if count == 1 {
            return Ok(self);
        }
        self.sharded.buckets = self.workspace.buckets(BUCKET);
        let state = format!("{:?} {:?} {:?}", self.vae.config(), self.options, self.progress);
        let text = state.bytes().map(u32::from);
        let numbers = [self.vae.parameters(), &self.first_moment, &self.second_moment];
        let bits = numbers.into_iter().flat_map(|values| values.iter().map(|x| x.to_bits()));
        expect_same(&*ranks, hash(text.chain(bits)), || Error::Rank {
            rank,
            message: "its model, options or state differ from those of rank 0".to_owned(),
        })?;
        Ok(self)
    }

    /// Asks all ranks to stop, as a rank does that has received a signal. After the next step,
    /// [`Self::is_to_stop`] is true on every rank.
    pub fn ask_to_stop(&mut self) {
        self.sharded.asks_to_stop = true;
    }

    /// Returns `true` on every rank after the step at which some rank had [asked to stop](Self::ask_to_stop).
    #[must_use]
    pub fn is_to_stop(&self) -> bool {
        self.sharded.is_to_stop || self.sharded.asks_to_stop && self.sharded.ranks.ranks() == 1
    }

    /// Shards of a batch: those of the options, or one for each rank.
    pub(super) fn shards(&self) -> usize {
        match self.options.shards {
            1 => self.sharded.ranks.ranks(),
            shards => shards,
        }
    }

    /// The rows of a batch of so many rows that this rank reads.
    pub(super) fn own_rows(&self, rows: usize) -> Range<usize> {
        let ranks = &self.sharded.ranks;
        let (shards, of_rank) = (self.shards(), self.shards() / ranks.ranks());
        let first = ranks.rank() * of_rank;
        let last = first + of_rank - 1;
        shard_rows(rows, shards, first).start..shard_rows(rows, shards, last).end
    }

    /// Computes the gradient of a batch of several shards, `at_once` rows at a time, and updates the weights with it
    /// if `rule` allows that before the whole gradient is known. Returns the sums of the loss, and the bounds after
    /// the update unless the gradient is stored.
    pub(super) fn shard_step(
        &mut self,
        batch: &Batch<'_>,
        at_once: usize,
        rule: Option<UpdateRule>,
    ) -> Result<(LossSums, Option<Bounds>)> {
        let (objective, rows) = (self.objective(), batch.len());
        let step = self.progress.step + 1;
        let ranks = self.sharded.ranks.clone();
        let shards = self.shards();
        let of_rank = shards / ranks.ranks();
        let first = ranks.rank() * of_rank;
        let parts: Vec<Batch<'_>> = (first..first + of_rank)
            .map(|shard| batch.slice(shard_rows(rows, shards, shard)))
            .collect();
        let is_alone = ranks.ranks() == 1;

        // 1.
        let work = AssertUnwindSafe(|| self.forward_shards(&parts, at_once, objective, rows));
        let local = if is_alone { Ok(work()) } else { catch_unwind(work) };
        let (local, panic) = match local {
            Ok(local) => (local.map_err(|error| error.at(step)), None),
            Err(panic) => {
                let message = format!("panicked: {}", text_of(&*panic));
                (Err(Error::Rank { rank: ranks.rank(), message }), Some(panic))
            }
        };
        // 2.
        let dimensions = objective.dimensions(self.vae.config());
        let (agreed, outcome) = match local {
            Ok(agreed) => (agreed, Ok(())),
            Err(error) => (Agreed::zero(dimensions), Err(error)),
        };
        let mut values = agreed.to_values();
        let agreed = sum(&*ranks, &mut values, outcome);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        agreed?;
        let Agreed { sums, mut bound, stops } = Agreed::of_values(&values);
        self.sharded.is_to_stop |= stops > 0.0;
        // 3.
        let losses = self.finish_shards(&parts, objective, rows, &sums);
        let losses = losses.map_err(|error| error.at(step))?;
        if self.is_coupled(objective) {
            bound = self.workspace.gradient_bound();
            bound += self.sharded.workspaces.iter().map(Workspace::gradient_bound).sum::<f64>();
            let mut values = [bound];
            sum(&*ranks, &mut values, Ok(()))?;
            [bound] = values;
        }
        let bounds = rule
            .filter(|_| bound < LARGEST_GRADIENT / 2.0)
            .and_then(|rule| Some((rule, self.bounds_after(rule, bound)?)));
        // 4. and 5.
        if is_alone {
            self.last_shard(bounds.map(|(rule, _)| rule));
        } else {
            self.exchange(&*ranks, bounds.map(|(rule, _)| rule))?;
        }
        if bounds.is_none() {
            self.keep_gradient();
        }
        Ok((losses, bounds.map(|(_, bounds)| bounds)))
    }

    fn is_coupled(&self, objective: StepObjective) -> bool {
        objective.penalty.is_coupled() || self.vae.config().has_optimal_variance()
    }

    /// Step 1: returns the sums over the rows of this rank, and the bound on their gradient.
    fn forward_shards(
        &mut self,
        parts: &[Batch<'_>],
        at_once: usize,
        objective: StepObjective,
        rows: usize,
    ) -> Result<Agreed> {
        let coupled = self.is_coupled(objective);
        let Self { vae, sharded, workspace, gradient, compute, .. } = self;
        let Shards { tree, workspaces, asks_to_stop, .. } = sharded;
        let (config, weights) = (vae.config(), vae.parameters());
        let scales = objective.scales(config, rows);
        tree.reserve(parts.len(), weights)?;
        tree.done = 0;
        gradient.has_rows = false;
        while coupled && workspaces.len() + 1 < parts.len() {
            workspaces.push(Workspace::new(config, weights.layout().clone(), Purpose::Training));
        }
        let (mut sums, mut bound) = (SumTree::default(), 0.0);
        for (shard, part) in parts.iter().enumerate() {
            let pass = Pass { config, weights, batch: part, objective, scales };
            let workspace = match shard {
                1.. if coupled => &mut workspaces[shard - 1],
                _ => &mut *workspace,
            };
            sums.add(workspace.forward_shard(compute, &pass, at_once, gradient)?);
            bound += workspace.gradient_bound();
            if !coupled && shard + 1 < parts.len() {
                add_shard(workspace, compute, tree, gradient);
            }
        }
        let sums = sums.subtrees.pop().expect("a rank has shards");
        let stops = f64::from(u8::from(*asks_to_stop));
        Ok(Agreed { sums, bound, stops })
    }

    /// Step 3: the loss of the batch; where its rows are coupled also the backward passes, and the gradients of all
    /// shards but the last.
    fn finish_shards(
        &mut self,
        parts: &[Batch<'_>],
        objective: StepObjective,
        rows: usize,
        sums: &RowSums,
    ) -> Result<LossSums> {
        let coupled = self.is_coupled(objective);
        let Self { vae, sharded, workspace, gradient, compute, .. } = self;
        let Shards { tree, workspaces, .. } = sharded;
        let (config, weights) = (vae.config(), vae.parameters());
        let scales = objective.scales(config, rows);
        let pass = |part| Pass { config, weights, batch: part, objective, scales };
        let losses = workspace.finish_batch(compute, &pass(&parts[0]), rows, sums)?;
        if coupled {
            for (part, workspace) in parts[1..].iter().zip(&mut *workspaces) {
                workspace.finish_batch(compute, &pass(part), rows, sums)?;
            }
            let last = parts.len() - 1;
            for workspace in std::iter::once(&*workspace).chain(&*workspaces).take(last) {
                add_shard(workspace, compute, tree, gradient);
            }
        }
        Ok(losses)
    }

    /// Step 4 on one rank: adds the last shard, and updates the weights or leaves the sum in the tree.
    fn last_shard(&mut self, rule: Option<UpdateRule>) {
        self.is_updating = rule.is_some();
        let Self { vae, sharded, workspace, gradient, compute, .. } = self;
        let Shards { tree, workspaces, .. } = sharded;
        let parameters = [vae.parameters_mut(), &mut self.first_moment, &mut self.second_moment]
            .map(|p| &mut p[..]);
        let adam = rule.and_then(|rule| rule.fused());
        let update = adam.map(|adam| UpdateWithAdam::new(adam, None, parameters));
        let workspace = workspaces.last().unwrap_or(workspace);
        workspace.weight_gradients(compute, tree.sink(gradient.rows_so_far(), update));
    }

    /// Steps 4 and 5 on several ranks: the gradient of the last shard bucket by bucket, and the sum over all ranks.
    fn exchange(&mut self, ranks: &dyn Communicator, rule: Option<UpdateRule>) -> Result<()> {
        let Self { vae, sharded, workspace, gradient, compute, is_updating, .. } = self;
        let Shards { tree, workspaces, buckets, .. } = sharded;
        let workspace = workspaces.last().unwrap_or(workspace);
        let (w, m, v) = (vae.parameters_mut(), &mut self.first_moment, &mut self.second_moment);
        let mut update = |gradient: &[f32], range: Range<usize>| {
            if let Some(rule) = rule {
                *is_updating = true;
                let of = [&mut w[range.clone()], &mut m[range.clone()], &mut v[range.clone()]];
                rule.step_flat(compute, of, &gradient[range]);
            }
        };
        let mut reduction = Reduction::new(ranks);
        for Bucket { pieces, elements } in &*buckets {
            let (_, sink) = tree.sink(gradient.rows_so_far(), None).split_at(elements.start);
            let (sink, _) = sink.split_at(elements.len());
            workspace.bucket_gradients(compute, pieces.clone(), sink);
            let sums = tree.root();
            reduction.start(sums, elements.clone())?;
            while let Some(range) = reduction.advance(sums)? {
                update(sums, range);
            }
        }
        let (sums, mut pause) = (tree.root(), Pause::default());
        while !reduction.is_idle() {
            match reduction.advance(sums)? {
                Some(range) => {
                    update(sums, range);
                    pause = Pause::default();
                }
                None => pause.wait(),
            }
        }
        // Other ranks may still wait for what this one has sent.
        ranks.flush()
    }

    /// Makes the sum in the tree the stored gradient.
    fn keep_gradient(&mut self) {
        let buffers = &mut self.sharded.tree.buffers;
        match &mut self.gradient.sums {
            Some(sums) => std::mem::swap(sums, &mut buffers[0]),
            None => self.gradient.sums = Some(buffers.swap_remove(0)),
        }
    }

    /// Compares the weights of all ranks every so many steps.
    ///
    /// # Errors
    /// [`Error::Rank`] with the first rank whose weights are not those of rank 0.
    pub(super) fn compare_weights(&self) -> Result<()> {
        let (ranks, step) = (&self.sharded.ranks, self.progress.step);
        if ranks.ranks() == 1 || !step.is_multiple_of(CHECKED_EVERY) {
            return Ok(());
        }
        let hash = hash(self.vae.parameters().iter().map(|weight| weight.to_bits()));
        expect_same(&**ranks, hash, || Error::Rank {
            rank: ranks.rank(),
            message: format!("its weights differ from those of rank 0 after step {step}"),
        })
    }
}

/// Adds the gradient of a shard that is in the blocks to the tree.
fn add_shard(
    workspace: &Workspace,
    compute: &Compute,
    tree: &mut GradientTree,
    gradient: &mut StoredGradient,
) {
    workspace.weight_gradients(compute, tree.sink(gradient.rows_so_far(), None));
    tree.done += 1;
    gradient.has_rows = false;
}

/// A hash of words, in which each bit of each word counts.
fn hash(words: impl Iterator<Item = u32>) -> u64 {
    // FNV-1a on words, with a rotation that brings the upper bits down.
    words.fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| {
        ((hash ^ u64::from(word)).wrapping_mul(0x0000_0100_0000_01b3)).rotate_left(29)
    })
}

/// The message of a panic.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_see_every_bit() {
        let of = |words: &[u32]| hash(words.iter().copied());
        let words = [1, 2, 3, 0, 0];
        for i in 0..words.len() {
            for bit in 0..32 {
                let mut other = words;
                other[i] ^= 1 << bit;
                assert_ne!(of(&other), of(&words));
            }
        }
        assert_ne!(of(&[1, 2]), of(&[2, 1]));
    }
}
