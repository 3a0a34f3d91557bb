//! Ranks that are processes of MPI.
//!
//! Messages are non-blocking sends and receives whose buffers belong to this file until MPI is done with them. MPI may
//! make progress only while it is called, which [`Communicator::try_receive`] does.

use super::{Communicator, Pause};
use crate::error::{Error, Result};
use ::mpi::Threading;
use ::mpi::environment::Universe;
use ::mpi::request::{Request, StaticScope};
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{
    Communicator as _, CommunicatorCollectives as _, Destination as _, Source as _,
};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time that a process gives its last messages to leave.
const LAST_MESSAGES: Duration = Duration::from_secs(2);

/// A process that `mpirun`, `srun` or another launcher of MPI has started.
///
/// Dropping it ends MPI in this process, and waits until the others do the same; if it is dropped in a panic, it ends
/// all processes.
///
/// ```no_run
/// use elbo::{Compute, distributed::Mpi, train::{Options, Trainer}, vae::{Config, Vae}};
/// use std::sync::Arc;
/// # let data = ndarray::Array2::from_elem((64, 6), 0.5_f32);
///
/// // mpirun -n 4 this-program
/// let ranks = Arc::new(Mpi::initialize()?);
/// let vae = Vae::new(Config::builder(6, 2).build()?, 1);
/// let options = Options { batch: 1024, shards: 4, ..Options::default() };
/// let mut trainer = Trainer::new(vae, options, Compute::parallel()?)?.with_ranks(ranks)?;
/// trainer.epoch(&data, |_| ())?;
/// # Ok::<(), elbo::Error>(())
/// ```
pub struct Mpi {
    rank: usize,
    ranks: usize,
    state: Mutex<State>,
}

struct State {
    world: SimpleCommunicator,
    /// Messages that are on their way.
    sent: Vec<Message>,
    /// Messages that are expected, by sender and tag, in the order of their announcement.
    expected: HashMap<(usize, u32), VecDeque<Message>>,
    /// Ends MPI when it is dropped.
    universe: Option<Universe>,
}

/// A buffer that MPI reads or writes.
struct Message {
    /// The request that borrows the buffer; `None` once MPI is done with it.
    request: Option<Request<'static, [u32], StaticScope>>,
    /// The buffer, which was a `Box`.
    words: *mut [u32],
}

// SAFETY: the pointers in `State`, to buffers that `Message` owns and to objects of MPI, may be used by any thread, one
// at a time: the mutex sees to that, and MPI was initialized for it (`Threading::Serialized`).
unsafe impl Send for Mpi {}
// SAFETY: as above; `rank` and `ranks` never change.
unsafe impl Sync for Mpi {}

impl Message {
    fn new(words: Box<[u32]>) -> Self {
        Self { request: None, words: Box::into_raw(words) }
    }

    /// The buffer, once MPI is done with it; else the message again.
    fn finished(mut self) -> std::result::Result<Box<[u32]>, Self> {
        if let Some(request) = self.request.take()
            && let Err(request) = request.test()
        {
            self.request = Some(request);
            return Err(self);
        }
        // SAFETY: the pointer came from a `Box` in `new`. The request that borrowed it is complete and consumed, and
        // `self`, which is consumed here, has no `Drop`.
        Ok(unsafe { Box::from_raw(self.words) })
    }
}

impl State {
    fn send(&mut self, to: usize, tag: u32, words: &[u32]) {
        let mut message = Message::new(words.into());
        // SAFETY: the buffer lives until `finished` has seen the end of this request; nothing writes to it before.
        let words: &'static [u32] = unsafe { &*message.words };
        let process = self.world.process_at_rank(to as i32);
        message.request = Some(process.immediate_send_with_tag(StaticScope, words, tag as i32));
        self.sent.push(message);
    }

    fn expect(&mut self, from: usize, tag: u32, words: usize) {
        let mut message = Message::new(vec![0; words].into());
        // SAFETY: the buffer lives until `finished` has seen the end of this request; nothing else uses it before.
        let words: &'static mut [u32] = unsafe { &mut *message.words };
        let process = self.world.process_at_rank(from as i32);
        message.request =
            Some(process.immediate_receive_into_with_tag(StaticScope, words, tag as i32));
        self.expected.entry((from, tag)).or_default().push_back(message);
    }

    /// Frees the buffers of messages that have left.
    fn forget_sent(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        self.sent.extend(sent.into_iter().filter_map(|message| message.finished().err()));
    }
}

impl Mpi {
    /// Initializes MPI in this process, once.
    ///
    /// # Errors
    /// [`Error::Config`] if MPI was initialized before, or allows the calls of one thread only.
    pub fn initialize() -> Result<Self> {
        let Some((universe, threading)) = ::mpi::initialize_with_threading(Threading::Serialized)
        else {
            return Err(Error::config("mpi", "one initialization", "a second one"));
        };
        if threading < Threading::Serialized {
            let expected = "a library that allows calls of any thread, one at a time";
            return Err(Error::config("mpi", expected, format!("{threading:?}")));
        }
        let world = universe.world();
        let (rank, ranks) = (world.rank() as usize, world.size() as usize);
        let (sent, expected, universe) = (Vec::new(), HashMap::new(), Some(universe));
        Ok(Self { rank, ranks, state: Mutex::new(State { world, sent, expected, universe }) })
    }

    /// Returns `true` if a launcher of MPI (`mpirun`, `srun`) has started this process, as its environment tells.
    #[must_use]
    pub fn is_launched() -> bool {
        // Open MPI; PMIx, as of Open MPI and Slurm; PMI, as of MPICH, Intel MPI and Slurm.
        let variables = ["OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"];
        variables.into_iter().any(|name| std::env::var_os(name).is_some())
    }

    /// Number of ranks on the machine of this one that have the same key, this one included: with the processors that
    /// it may use as the key, those that share them. All ranks call it at the same point.
    #[must_use]
    pub fn ranks_on_machine(&self, key: u64) -> usize {
        let machine = self.state().world.split_shared(self.rank as i32);
        let mut keys = vec![0; machine.size() as usize];
        machine.all_gather_into(&key, &mut keys[..]);
        keys.iter().filter(|&&other| other == key).count()
    }

    /// Ends the processes of all ranks at once.
    pub fn abort(&self, exit_code: i32) -> ! {
        self.state().world.abort(exit_code)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn send(&self, to: usize, tag: u32, message: &[u32]) -> Result<()> {
        let mut state = self.state();
        state.forget_sent();
        state.send(to, tag, message);
        Ok(())
    }

    fn expect(&self, from: usize, tag: u32, words: usize) -> Result<()> {
        self.state().expect(from, tag, words);
        Ok(())
    }

    fn try_receive(&self, from: usize, tag: u32, message: &mut [u32]) -> Result<bool> {
        let mut state = self.state();
        let is_expected = |queue: &VecDeque<Message>| !queue.is_empty();
        if !state.expected.get(&(from, tag)).is_some_and(is_expected) {
            state.expect(from, tag, message.len());
        }
        let queue = state.expected.entry((from, tag)).or_default();
        match queue.pop_front().map(Message::finished) {
            Some(Ok(words)) => {
                message.copy_from_slice(&words);
                Ok(true)
            }
            Some(Err(pending)) => {
                queue.push_front(pending);
                Ok(false)
            }
            None => Ok(false),
        }
    }

    fn flush(&self) -> Result<()> {
        let mut pause = Pause::default();
        loop {
            let mut state = self.state();
            state.forget_sent();
            if state.sent.is_empty() {
                return Ok(());
            }
            drop(state);
            pause.wait();
        }
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The others would wait for messages that never come.
            self.abort(1);
        }
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        while !state.sent.is_empty() && began.elapsed() < LAST_MESSAGES {
            state.forget_sent();
        }
        // A request must not be dropped before it is complete: MPI may still use its buffer, which is leaked.
        let expected = state.expected.drain().flat_map(|(_, queue)| queue);
        state.sent.drain(..).chain(expected).for_each(std::mem::forget);
        drop(state.universe.take());
    }
}
