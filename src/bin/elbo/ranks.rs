//! The ranks of a run: processes that train one model together, or this process alone.
//!
//! Ranks do the same work in the same order, and meet where one of them could fail: a failure that only one rank has
//! noticed becomes the failure of all ([`Ranks::agree`]), which rank 0 prints. A rank that fails elsewhere prints its
//! message and ends the others, which would wait for it.

use crate::failure::{Failure, Result};
use elbo::distributed::{Communicator, SingleProcess, expect_same, sum};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The ranks, seen from this one.
#[derive(Clone)]
pub struct Ranks {
    communicator: Arc<dyn Communicator>,
    #[cfg(feature = "mpi")]
    mpi: Option<Arc<elbo::distributed::Mpi>>,
    /// The failure of this rank is that of all.
    has_agreed: Arc<AtomicBool>,
}

impl Ranks {
    pub fn alone() -> Self {
        Self {
            communicator: Arc::new(SingleProcess),
            #[cfg(feature = "mpi")]
            mpi: None,
            has_agreed: Arc::default(),
        }
    }

    /// The ranks that `mpirun` has started, or this process alone.
    ///
    /// # Errors
    /// Those of MPI; with the ranks, if they are not of one version.
    #[cfg(feature = "mpi")]
    pub fn start() -> (Self, Result<()>) {
        use elbo::distributed::Mpi;
        if !Mpi::is_launched() {
            return (Self::alone(), Ok(()));
        }
        let mpi = match Mpi::initialize() {
            Ok(mpi) => Arc::new(mpi),
            Err(error) => return (Self::alone(), Err(error.into())),
        };
        let communicator = mpi.clone();
        let ranks = Self { communicator, mpi: Some(mpi), has_agreed: Arc::default() };
        // Not hashed by the compiler: a test changes the text in the executable.
        let version = std::hint::black_box(env!("CARGO_PKG_VERSION"));
        let is_same = ranks.expect_same(hash(version.as_bytes()), || {
            format!("its version, {version}, differs from that of rank 0")
        });
        (ranks, is_same)
    }

    /// This process alone.
    #[cfg(not(feature = "mpi"))]
    pub fn start() -> (Self, Result<()>) {
        (Self::alone(), Ok(()))
    }

    pub fn communicator(&self) -> Arc<dyn Communicator> {
        self.communicator.clone()
    }

    pub fn count(&self) -> usize {
        self.communicator.ranks()
    }

    /// Returns true for rank 0, which prints and writes.
    pub fn is_first(&self) -> bool {
        self.communicator.rank() == 0
    }

    /// Threads of this rank: the processors that it may use, divided by the ranks on this machine that may use the
    /// same ones.
    pub fn threads(&self) -> usize {
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        #[cfg(feature = "mpi")]
        if let Some(mpi) = &self.mpi {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let allowed = status.lines().find(|line| line.starts_with("Cpus_allowed_list:"));
            let sharing = mpi.ranks_on_machine(hash(allowed.unwrap_or_default().as_bytes()));
            return (available / sharing).max(1);
        }
        available
    }

    /// Makes the failure of any rank that of all. All ranks call it at the same point.
    pub fn agree<T>(&self, outcome: Result<T>) -> Result<T> {
        let (ranks, rank) = (&*self.communicator, self.communicator.rank());
        if ranks.ranks() == 1 {
            return outcome;
        }
        let is_own = |failure: &Failure| !matches!(failure, Failure::OtherRank(_));
        let own = outcome.as_ref().is_err_and(is_own);
        let mut counts = [outcome.is_err(), own].map(|is| f64::from(u8::from(is)));
        sum(ranks, &mut counts, Ok(()))?;
        let [failed, with_own] = counts;
        if failed == 0.0 {
            return outcome;
        }
        self.has_agreed.store(true, Ordering::Relaxed);
        let failure = match outcome {
            // All have the same one, or know it already.
            Err(failure) if with_own == ranks.ranks() as f64 || with_own == 0.0 => {
                return Err(failure);
            }
            outcome => outcome.err(),
        };
        let message = failure.filter(is_own).map(|failure| failure.to_string());
        let outcome = message.map_or(Ok(()), |message| Err(elbo::Error::Rank { rank, message }));
        match sum(ranks, &mut [], outcome) {
            Err(error @ elbo::Error::Rank { .. }) => Err(Failure::Run(error.to_string())),
            Err(error) => Err(error.into()),
            Ok(()) => unreachable!("a rank has failed"),
        }
    }

    /// Lets rank 0 do something for all. All ranks call it at the same point.
    pub fn first(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let outcome = if self.is_first() { work() } else { Ok(()) };
        self.agree(outcome)
    }

    /// Checks that a value is the same on all ranks; `message` says what is different at this one. All ranks call it at
    /// the same point.
    pub fn expect_same(&self, value: u64, message: impl FnOnce() -> String) -> Result<()> {
        let rank = self.communicator.rank();
        let different = || elbo::Error::Rank { rank, message: message() };
        expect_same(&*self.communicator, value, different).map_err(|error| {
            self.has_agreed.store(true, Ordering::Relaxed);
            Failure::Run(error.to_string())
        })
    }

    /// Returns the signal that any rank has received. All ranks call it at the same point.
    pub fn signal(&self, own: Option<i32>) -> Result<Option<i32>> {
        /// More than the number of any signal.
        const SIGNALS: usize = 128;
        let mut counts = [0.0; SIGNALS];
        if let Some(signal) = own {
            counts[signal as usize % SIGNALS] = 1.0;
        }
        sum(&*self.communicator, &mut counts, Ok(()))?;
        // If ranks have received several, the last one: SIGTERM rather than SIGINT.
        Ok(counts.iter().rposition(|&count| count > 0.0).map(|signal| signal as i32))
    }

    /// Prints the failure of a run, once for all ranks, and returns its exit code.
    pub fn report(&self, failure: &Failure) -> ExitCode {
        let alone = self.count() == 1;
        let agreed = self.has_agreed.load(Ordering::Relaxed);
        // If standard error is closed, there is nobody to tell.
        if alone || agreed && self.is_first() {
            let _ = writeln!(std::io::stderr(), "{}{failure}", failure.label());
        } else if !agreed {
            let rank = self.communicator.rank();
            let _ = writeln!(std::io::stderr(), "{}rank {rank}: {failure}", failure.label());
            #[cfg(feature = "mpi")]
            if let Some(mpi) = &self.mpi {
                mpi.abort(failure.code());
            }
        }
        failure.exit_code()
    }
}

/// FNV-1a.
pub fn hash(bytes: &[u8]) -> u64 {
    let add = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use elbo::distributed::ThreadRanks;

    /// The outcomes of `work` on so many ranks.
    fn on_ranks<T: Send>(count: usize, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let work = &work;
            let of = |rank: ThreadRanks| Ranks { communicator: Arc::new(rank), ..Ranks::alone() };
            let ranks = ThreadRanks::new(count).into_iter().map(of);
            let threads: Vec<_> = ranks.map(|rank| scope.spawn(move || work(rank))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn the_failure_of_one_rank_is_that_of_all_with_its_number() {
        let found = on_ranks(3, |ranks| {
            let rank = ranks.communicator.rank();
            let outcome = match rank {
                0 => Ok(5),
                1 => Err(Failure::OtherRank("rank 2: a read failed".to_owned())),
                _ => Err(Failure::Usage("file: cannot read".to_owned())),
            };
            assert!(ranks.agree(Ok(rank)).is_ok_and(|value| value == rank));
            let message = ranks.agree(outcome).unwrap_err().to_string();
            // All have it now.
            let again = ranks.agree::<()>(Err(Failure::Run(message.clone()))).unwrap_err();
            assert_eq!(again.to_string(), message);
            message
        });
        assert_eq!(found, ["rank 2: file: cannot read"; 3]);
    }

    #[test]
    fn a_failure_that_all_have_names_no_rank() {
        let found = on_ranks(2, |ranks| {
            ranks.agree::<()>(Err(Failure::Run("no such file".to_owned()))).unwrap_err().to_string()
        });
        assert_eq!(found, ["no such file"; 2]);
    }

    #[test]
    fn signals_and_differences_are_known_to_all() {
        for found in on_ranks(3, |ranks| {
            let rank = ranks.communicator.rank();
            let signal = ranks.signal([None, Some(2), Some(15)][rank]).unwrap();
            let nothing = ranks.signal(None).unwrap();
            let other = ranks.expect_same(u64::from(rank == 2), || "its data differ".to_owned());
            (signal, nothing, other.unwrap_err().to_string())
        }) {
            assert_eq!(found, (Some(15), None, "rank 2: its data differ".to_owned()));
        }
    }
}
