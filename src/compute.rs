//! Instruction set and threads on which kernels run, as one value to pass down.

use crate::error::{Error, Result};
use crate::simd::InstructionSet;
use crate::simd::environment::{FloatEnvironment, make_standard};
use std::sync::Arc;

/// Floating-point operations below which a product stays on the calling thread: waking another thread
/// costs some microseconds.
pub(crate) const PARALLEL_FLOP: usize = 4_000_000;

/// Instruction set and threads to compute with.
///
/// Neither changes a bit of any result, only the time that it takes. Cloning is cheap and shares the
/// threads.
///
/// ```
/// use elbo::{Compute, simd::InstructionSet};
///
/// let compute = Compute::new(InstructionSet::detect(), 2)?;
/// assert_eq!(compute.threads(), 2);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Compute {
    simd: InstructionSet,
    /// `None` if everything runs on the calling thread.
    pool: Option<Arc<rayon::ThreadPool>>,
}

impl Compute {
    /// Starts `threads` threads for kernels of `simd`; with one, everything runs on the calling thread.
    ///
    /// # Errors
    /// [`Error::Config`] for 0 threads, [`Error::Threads`] if the system refuses them.
    pub fn new(simd: InstructionSet, threads: usize) -> Result<Self> {
        let pool = match threads {
            0 => return Err(Error::config("threads", "at least 1", threads)),
            1 => None,
            _ => Some(Arc::new(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .thread_name(|i| format!("elbo-{i}"))
                    // A new thread inherits the floating-point environment of the one that starts it.
                    .start_handler(|_| make_standard())
                    .build()
                    .map_err(|e| Error::Threads { threads, reason: e.to_string() })?,
            )),
        };
        Ok(Self { simd, pool })
    }

    /// Returns the machine's widest instruction set on the calling thread alone.
    #[must_use]
    pub fn serial() -> Self {
        Self { simd: InstructionSet::detect(), pool: None }
    }

    /// Returns the machine's widest instruction set on as many threads as the process may use.
    ///
    /// # Errors
    /// [`Error::Threads`] if the system refuses the threads.
    pub fn parallel() -> Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(InstructionSet::detect(), threads)
    }

    /// Returns the same instruction set on the calling thread alone.
    pub(crate) fn serialized(&self) -> Self {
        Self { simd: self.simd, pool: None }
    }

    /// Instruction set of the kernels.
    #[must_use]
    pub fn simd(&self) -> InstructionSet {
        self.simd
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, |pool| pool.current_num_threads())
    }

    /// Index of the current thread among [`Self::threads`], counted from 0.
    pub(crate) fn thread_index(&self) -> usize {
        match &self.pool {
            None => 0,
            Some(pool) => pool.current_thread_index().unwrap_or(0),
        }
    }

    /// Runs `work` inside the thread pool, or directly if there is only one thread.
    ///
    /// Every function that takes a `Compute` enters the pool by itself. Entering costs a few microseconds
    /// and sometimes a small allocation in rayon's queue; a loop of short calls saves both by entering
    /// once, around the loop. Until `work` returns, its thread has the default floating-point
    /// environment (see [`simd`](crate::simd)).
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            None => {
                let _environment = FloatEnvironment::standard();
                work()
            }
            Some(pool) => pool.install(work),
        }
    }

    /// Runs two closures, at the same time if there is a thread to spare, and returns both results.
    ///
    /// Work is shared among threads by functions that cut it in two and call themselves through
    /// this. The jobs live on the stack: nothing is allocated.
    pub(crate) fn join<A: Send, B: Send>(
        &self,
        left: impl FnOnce() -> A + Send,
        right: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        match &self.pool {
            None => (left(), right()),
            Some(pool) => pool.join(left, right),
        }
    }

    /// Calls `work(index, item)` for every item, on any thread, in any order.
    pub(crate) fn for_each_mut<T: Send>(
        &self,
        items: &mut [T],
        work: impl Fn(usize, &mut T) + Sync,
    ) {
        self.install(|| self.halve(0, items, &work));
    }

    /// [`Self::for_each_mut`] with the index of the first item.
    fn halve<T: Send>(
        &self,
        first: usize,
        items: &mut [T],
        work: &(impl Fn(usize, &mut T) + Sync),
    ) {
        match items {
            [] => {}
            [item] => work(first, item),
            _ => {
                let half = items.len() / 2;
                let (left, right) = items.split_at_mut(half);
                let left = || self.halve(first, left, work);
                self.join(left, || self.halve(first + half, right, work));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_every_item_once_with_its_index() {
        for threads in [1, 2, 5] {
            let compute = Compute::new(InstructionSet::detect(), threads).unwrap();
            for n in [0, 1, 2, 7, 100] {
                let mut items = vec![0_usize; n];
                compute.for_each_mut(&mut items, |index, item| *item += index + 1);
                assert!(items.iter().enumerate().all(|(i, &v)| v == i + 1));
            }
        }
    }

    #[test]
    fn rejects_zero_threads() {
        let message = Compute::new(InstructionSet::detect(), 0).unwrap_err().to_string();
        assert_eq!(message, "`threads`: expected at least 1, found 0");
    }
}
