//! Ranks that are threads of one process.

use super::Communicator;
use crate::error::{Error, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A rank that is a thread of this process. Messages go through memory.
///
/// Serves tests of training on several ranks where there is no MPI. Dropping one stands for the end of a process: the
/// others get an error when they wait for it.
///
/// ```
/// use elbo::{Compute, distributed::ThreadRanks, train::{Options, Trainer}, vae::{Config, Vae}};
/// use ndarray::Array2;
///
/// let data = Array2::from_shape_fn((200, 12), |(r, c)| f32::from(u8::from((r + c) % 4 < 2)));
/// let config = Config::builder(12, 2).hidden(&[16]).build()?;
/// let options = Options { batch: 50, shards: 4, ..Options::default() };
/// let train = |ranks: ThreadRanks| -> elbo::Result<Vae> {
///     let vae = Vae::new(config.clone(), 1);
///     let trainer = Trainer::new(vae, options.clone(), Compute::serial())?;
///     let mut trainer = trainer.with_ranks(std::sync::Arc::new(ranks))?;
///     trainer.epoch(&data, |_| ())?;
///     Ok(trainer.into_vae())
/// };
/// let models = std::thread::scope(|scope| {
///     let ranks = ThreadRanks::new(2).into_iter();
///     let threads: Vec<_> = ranks.map(|rank| scope.spawn(|| train(rank))).collect();
///     threads.into_iter().map(|thread| thread.join().unwrap()).collect::<elbo::Result<Vec<_>>>()
/// })?;
/// // The same bits on both ranks, and on one alone.
/// let alone = train(ThreadRanks::new(1).remove(0))?;
/// assert_eq!(models[0].parameters()[..], alone.parameters()[..]);
/// assert_eq!(models[1].parameters()[..], alone.parameters()[..]);
/// # Ok::<(), elbo::Error>(())
/// ```
pub struct ThreadRanks {
    rank: usize,
    mailboxes: Arc<[Mailbox]>,
}

/// Messages by sender and tag, in the order in which they were sent.
type Messages = HashMap<(usize, u32), VecDeque<Vec<u32>>>;

/// Messages to one rank.
#[derive(Default)]
struct Mailbox {
    messages: Mutex<Messages>,
    /// The rank has ended.
    is_closed: AtomicBool,
}

impl ThreadRanks {
    /// Creates ranks that can send one another messages.
    #[must_use]
    pub fn new(ranks: usize) -> Vec<Self> {
        let mailboxes: Arc<[Mailbox]> = (0..ranks).map(|_| Mailbox::default()).collect();
        (0..ranks).map(|rank| Self { rank, mailboxes: mailboxes.clone() }).collect()
    }

    fn take(&self, from: usize, tag: u32) -> Option<Vec<u32>> {
        // A panic while the lock is held leaves the queues whole.
        let mut messages =
            self.mailboxes[self.rank].messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.get_mut(&(from, tag))?.pop_front()
    }

    fn has_ended(rank: usize) -> Error {
        Error::Rank { rank, message: "the rank has ended".to_owned() }
    }
}

impl Communicator for ThreadRanks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.mailboxes.len()
    }

    fn send(&self, to: usize, tag: u32, message: &[u32]) -> Result<()> {
        let mailbox = &self.mailboxes[to];
        if mailbox.is_closed.load(Ordering::Acquire) {
            return Err(Self::has_ended(to));
        }
        let mut messages = mailbox.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.entry((self.rank, tag)).or_default().push_back(message.to_vec());
        Ok(())
    }

    fn try_receive(&self, from: usize, tag: u32, message: &mut [u32]) -> Result<bool> {
        // In this order: what a rank has sent before it ended is received.
        let has_ended = self.mailboxes[from].is_closed.load(Ordering::Acquire);
        match self.take(from, tag) {
            Some(found) => {
                message.copy_from_slice(&found);
                Ok(true)
            }
            None if has_ended => Err(Self::has_ended(from)),
            None => Ok(false),
        }
    }
}

impl Drop for ThreadRanks {
    fn drop(&mut self) {
        self.mailboxes[self.rank].is_closed.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_tag_arrive_in_order_and_those_of_others_apart() {
        let ranks = ThreadRanks::new(3);
        let mut word = [0];
        for message in [1, 2] {
            ranks[0].send(2, 5, &[message]).unwrap();
            ranks[1].send(2, 5, &[10 * message]).unwrap();
            ranks[0].send(2, 6, &[100 * message]).unwrap();
        }
        for (from, tag, expected) in [(1, 5, 10), (0, 6, 100), (0, 5, 1), (0, 5, 2), (0, 6, 200)] {
            assert!(ranks[2].try_receive(from, tag, &mut word).unwrap());
            assert_eq!(word, [expected]);
        }
        assert!(!ranks[2].try_receive(0, 5, &mut word).unwrap());
    }

    #[test]
    fn the_end_of_a_rank_is_an_error_after_its_last_message() {
        let mut ranks = ThreadRanks::new(2);
        let last = ranks.pop().unwrap();
        last.send(0, 0, &[7]).unwrap();
        drop(last);
        let mut word = [0];
        ranks[0].receive(1, 0, &mut word).unwrap();
        assert_eq!(word, [7]);
        for error in [ranks[0].receive(1, 0, &mut word), ranks[0].send(1, 0, &word)] {
            assert_eq!(error.unwrap_err().to_string(), "rank 1: the rank has ended");
        }
    }
}
