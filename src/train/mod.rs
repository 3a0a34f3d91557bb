//! Training: batches in a seeded order, a step for each, and the state to go on from.
//!
//! A [`Trainer`] owns a model, the optimizer's moments and a warm workspace. [`Trainer::step`] does the
//! next batch of the current epoch; [`Trainer::epoch`] does all that are left of it. Everything
//! that is random is a function of the seed and of where it is used (see
//! [`random`](crate::random)), so the weights after n steps depend on the configuration, the
//! options and the data alone: not on threads, not on the instruction set, not on whether the
//! run was interrupted.

#[cfg(feature = "safetensors")]
mod checkpoint;
mod options;
mod shard_step;
mod shards;
mod trainer;

pub use options::Options;
pub use trainer::{Epoch, Step, Trainer};
