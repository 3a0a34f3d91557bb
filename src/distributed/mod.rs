//! Training on several processes or machines, each of which has a share of the rows of every batch.
//!
//! A **rank** is one of the processes that train a model together; they are counted from 0. Each rank has the whole
//! data set and the whole model. In a step it computes the gradient of its share of the batch, the ranks add up their
//! gradients, and each applies the same sum to the same weights:
//! [`Trainer::with_ranks`](crate::train::Trainer::with_ranks).
//!
//! # Bits
//! [`Options::shards`](crate::train::Options::shards) cuts a batch into S contiguous shards, S a power of two. The
//! gradient of the batch is a binary tree over them, ((0+1)+(2+3)) for four, each shard one chain over its rows. Any
//! number of ranks that divides S gives the same bits, because each rank owns a subtree and the exchange below goes on
//! where the subtrees end. With S = 1 the ranks are the shards: the result then depends on their number, within
//! rounding.
//!
//! # Method
//! The sum over ranks follows the tree: recursive halving, then recursive doubling (Rabenseifner 2004), written on
//! point-to-point messages, since the reductions of MPI leave the order of the additions open.
//!
//! 1. In round k = 0, 1, … a rank exchanges with the rank whose number differs in bit k: it keeps one half of its part
//!    of the gradient, sends the other one, and adds what it receives. After round k an element holds the sum over the
//!    2ᵏ⁺¹ ranks of one subtree.
//! 2. The same rounds in reverse order collect the parts, which are complete.
//! 3. Ranks beyond the largest power of two send their gradient to another rank before, and receive the sum after.
//!
//! A rank sends 2·(R−1)/R gradients in each step, as in a ring, in 2·log₂ R messages rather than 2·(R−1). Gradients go
//! in buckets of 2¹⁶ weights, those of the last layers first: the messages of one bucket travel while the next one is
//! computed. No thread waits for them meanwhile; the engine is polled between two buckets, so a rank can do with one
//! processor.
//!
//! Sums of the loss, and those that penalties of the whole batch need, follow the same tree in f64.
//!
//! # Engines
//! [`Communicator`] is what this module needs of an engine: messages between two ranks.
//!
//! | implementation | ranks are |
//! |---|---|
//! | [`SingleProcess`] | one, alone |
//! | [`ThreadRanks`] | threads of one process, for tests and as an example |
//! | `Mpi` (feature `mpi`) | the processes that `mpirun` has started |
//!
//! # Errors
//! An error of one rank is an error of all: the others return [`Error::Rank`](crate::Error::Rank), with the number of the rank and its
//! message. If several fail in one step, it is the first of them, so that the row is the first in the order of the
//! batch. Weights are then those before the step.

mod agreement;
#[cfg(feature = "mpi")]
#[allow(unsafe_code)] // buffers that MPI reads and writes
mod mpi;
mod reduction;
mod threads;

pub use agreement::{expect_same, sum};
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
pub(crate) use reduction::{BUCKET, Reduction};
pub use threads::ThreadRanks;

use crate::error::Result;
use std::time::Duration;

/// Messages between ranks: what training on several of them needs of an engine.
///
/// A message is a slice of 32-bit words whose length the receiver knows. Messages from one rank to another with the
/// same tag arrive in the order in which they were sent; those with other tags may overtake them. Tags are below 2¹⁵.
///
/// Methods are called by one thread at a time, the one that calls the trainer.
///
/// ```
/// use elbo::distributed::{Communicator, ThreadRanks};
///
/// let ranks = ThreadRanks::new(2);
/// std::thread::scope(|scope| {
///     for rank in &ranks {
///         scope.spawn(move || {
///             let other = 1 - rank.rank();
///             rank.send(other, 7, &[rank.rank() as u32]).unwrap();
///             let mut message = [0];
///             rank.receive(other, 7, &mut message).unwrap();
///             assert_eq!(message, [other as u32]);
///         });
///     }
/// });
/// ```
pub trait Communicator: Send + Sync {
    /// Number of this rank, counted from 0.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn ranks(&self) -> usize;

    /// Starts to send a message to another rank. Returns before it has arrived; the message may be overwritten then.
    ///
    /// # Errors
    /// [`Error::Rank`](crate::Error::Rank) if the other rank has ended.
    fn send(&self, to: usize, tag: u32, message: &[u32]) -> Result<()>;

    /// Announces that a message of `words` words from another rank will be received, so that the engine can accept
    /// it in the meantime. Each one is announced at most once, and then received.
    ///
    /// # Errors
    /// As [`Self::send`].
    fn expect(&self, from: usize, tag: u32, words: usize) -> Result<()> {
        let _ = (from, tag, words);
        Ok(())
    }

    /// Receives a message if it has arrived, and returns `true` then. Lets the engine make progress with all messages.
    ///
    /// # Errors
    /// As [`Self::send`].
    fn try_receive(&self, from: usize, tag: u32, message: &mut [u32]) -> Result<bool>;

    /// Receives a message, waiting until it has arrived.
    ///
    /// # Errors
    /// As [`Self::send`].
    fn receive(&self, from: usize, tag: u32, message: &mut [u32]) -> Result<()> {
        let mut pause = Pause::default();
        while !self.try_receive(from, tag, message)? {
            pause.wait();
        }
        Ok(())
    }

    /// Waits until all messages of this rank have left. Called when the other ranks are receiving them, before work
    /// during which an engine that moves messages only while it is called would leave them waiting.
    ///
    /// # Errors
    /// As [`Self::send`].
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

/// A process alone: rank 0 of 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleProcess;

impl Communicator for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn send(&self, to: usize, _: u32, _: &[u32]) -> Result<()> {
        unreachable!("there is no rank {to} beside rank 0")
    }

    fn try_receive(&self, from: usize, _: u32, _: &mut [u32]) -> Result<bool> {
        unreachable!("there is no rank {from} beside rank 0")
    }
}

/// Waits between two looks at something that another rank will do: at first by yielding the processor, which costs
/// the least delay, then by sleeping, since the other rank may need this processor.
#[derive(Default)]
pub(crate) struct Pause {
    looks: u32,
}

impl Pause {
    pub(crate) fn wait(&mut self) {
        self.looks += 1;
        match self.looks {
            0..200 => std::thread::yield_now(),
            _ => std::thread::sleep(Duration::from_micros(50)),
        }
    }
}
