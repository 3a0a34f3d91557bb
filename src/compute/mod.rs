//! Instruction set and threads on which kernels run, as one value to pass down.

// The threads of a team share the work on one another's stacks.
#[allow(unsafe_code)]
mod team;

use crate::error::{Error, Result};
use crate::simd::InstructionSet;
use crate::simd::environment::FloatEnvironment;
use std::sync::Arc;
use team::{Crew, Team};

/// Instruction set and threads to compute with.
///
/// Neither changes a bit of any result, only the time that it takes. Cloning is cheap and shares the
/// threads, which end when the last clone is dropped. If two threads use clones at the same time, the second one works
/// alone. The [guide](crate::guide::library) describes how the threads share work and how they wait.
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
    team: Option<Arc<Team>>,
    /// Threads of the team that take part.
    threads: usize,
}

impl Compute {
    /// Starts threads for kernels of `simd`, one fewer than `threads`: the calling thread is one of them. With one,
    /// everything runs on it.
    ///
    /// # Errors
    /// [`Error::Config`] for 0 threads, [`Error::Threads`] if the system refuses them.
    pub fn new(simd: InstructionSet, threads: usize) -> Result<Self> {
        let team = match threads {
            0 => return Err(Error::config("threads", "at least 1", threads)),
            1 => None,
            _ => Some(Arc::new(Team::new(threads)?)),
        };
        Ok(Self { simd, team, threads })
    }

    /// Returns the machine's widest instruction set on the calling thread alone.
    #[must_use]
    pub fn serial() -> Self {
        Self { simd: InstructionSet::detect(), team: None, threads: 1 }
    }

    /// Returns the machine's widest instruction set on as many threads as the process may use.
    ///
    /// # Errors
    /// [`Error::Threads`] if the system refuses the threads.
    pub fn parallel() -> Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(InstructionSet::detect(), threads)
    }

    /// Returns the same instruction set on as many of the threads as there is work for: each gets at least
    /// `share` of it.
    pub(crate) fn for_work(&self, work: usize, share: usize) -> Self {
        let threads = (work / share).clamp(1, self.threads);
        Self { team: self.team.clone().filter(|_| threads > 1), threads, ..*self }
    }

    /// True if the threads are so far apart, on different chiplets or without a processor of their own, that
    /// only large pieces of work are worth sharing. Measured at most once every 20 ms, as a system moves threads about.
    pub(crate) fn is_far(&self) -> bool {
        self.crew().is_some_and(|(team, crew)| crew.threads > 1 && team.is_far(crew))
    }

    /// Instruction set of the kernels.
    #[must_use]
    pub fn simd(&self) -> InstructionSet {
        self.simd
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Index of the current thread in the team, counted from 0; 0 if it is not in it.
    pub(crate) fn thread_index(&self) -> usize {
        self.crew().map_or(0, |(_, crew)| crew.first)
    }

    /// Runs `work` on the calling thread, with the other threads at hand.
    ///
    /// Every function that takes a `Compute` does this by itself. While `work` runs, no other thread shares its
    /// work with them: one that calls a function with the same `Compute` meanwhile works alone. Until `work`
    /// returns, the calling thread has the default floating-point environment (see
    /// [`simd`](crate::simd)).
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let _environment = FloatEnvironment::standard();
        match &self.team {
            None => work(),
            Some(team) => team.enter(work),
        }
    }

    /// The team, and the crew of the current thread; `None` if it works alone.
    fn crew(&self) -> Option<(&Team, Crew)> {
        let team = self.team.as_ref()?;
        team.crew().map(|crew| (&**team, crew.at_most(self.threads)))
    }

    /// Runs two closures, at the same time if there is a thread to spare, and returns both results.
    ///
    /// Work is shared among threads by functions that cut it in two and call themselves through
    /// this: each half has half of the threads. The jobs live on the stack: nothing is allocated.
    pub(crate) fn join<A: Send, B: Send>(
        &self,
        left: impl FnOnce() -> A + Send,
        right: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        match (&self.team, self.crew()) {
            (None, _) => (left(), right()),
            (Some(_), Some((team, crew))) => team.fork(crew, left, right),
            (Some(_), None) => self.install(|| self.join(left, right)),
        }
    }

    /// Calls `work(index, item)` for every item, on any thread, in any order. Each thread gets neighboring items.
    pub(crate) fn for_each_mut<T: Send>(
        &self,
        items: &mut [T],
        work: impl Fn(usize, &mut T) + Sync,
    ) {
        self.for_each_weighted(items, |_| 1, work);
    }

    /// [`Self::for_each_mut`] for items that differ in `weight`, the amount of work.
    pub(crate) fn for_each_weighted<T: Send>(
        &self,
        items: &mut [T],
        weight: impl Fn(&T) -> usize + Sync,
        work: impl Fn(usize, &mut T) + Sync,
    ) {
        self.install(|| self.share(0, items, &weight, &work));
    }

    /// [`Self::for_each_weighted`] with the index of the first item.
    fn share<T: Send>(
        &self,
        first: usize,
        items: &mut [T],
        weight: &(impl Fn(&T) -> usize + Sync),
        work: &(impl Fn(usize, &mut T) + Sync),
    ) {
        if self.threads_at_hand() == 1 || items.len() <= 1 {
            for (index, item) in items.iter_mut().enumerate() {
                work(first + index, item);
            }
            return;
        }
        let middle = self.middle(items, weight);
        let (left, right) = items.split_at_mut(middle);
        self.join(
            || self.share(first, left, weight, work),
            || self.share(first + middle, right, weight, work),
        );
    }

    /// How many of the items the left side of [`Self::join`] takes, at least one and not all, so that each
    /// thread has about as much work.
    pub(crate) fn middle<T>(&self, items: &[T], weight: impl Fn(&T) -> usize) -> usize {
        let share = self.left_share(items.iter().map(&weight).sum());
        let mut sum = 0;
        let taken = items.iter().take_while(|item| {
            // The item at the boundary goes to the side in which more of it lies.
            let before = sum;
            sum += weight(item);
            before + sum <= 2 * share
        });
        taken.count().clamp(1, items.len() - 1)
    }

    /// Number of threads that the current one can share its work with, itself included.
    pub(crate) fn threads_at_hand(&self) -> usize {
        self.crew().map_or(self.threads, |(_, crew)| crew.threads)
    }

    /// How much of some work the left side of [`Self::join`] takes so that each processor has as much: half, or
    /// more where it has the larger half of the processors.
    pub(crate) fn left_share(&self, work: usize) -> usize {
        let all = || self.team.as_ref().map_or(1, |team| team.processors().min(self.threads));
        let processors = self.crew().map_or_else(all, |(_, crew)| crew.processors);
        // With one processor both sides are the same thread's, wherever the cut is.
        let processors = processors.max(2);
        (work * processors.div_ceil(2)).div_ceil(processors)
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
