//! A team of threads that stay, and the fork that hands one of them half of the work.
//!
//! # Method
//! A team of T threads has T seats. Thread 0 is whichever thread enters the team; the others are started with
//! it and end with it. A *crew* is a range of seats: those of the whole team at first.
//!
//! 1. [`Team::enter`] makes the calling thread the first of the whole crew. If another thread has entered the
//!    team, the crew is the caller alone, and all work stays on it.
//! 2. [`Team::fork`] cuts the crew in two. It leaves the right half of the work at the seat of the first
//!    thread of the right half of the crew, does the left half itself, with the left half of the crew, and
//!    waits until the other is done. A crew of one does both halves, one after the other.
//! 3. If the team has more threads than the process has processors, a crew also has its share of the
//!    processors, which is halved as the crew is. The first thread of a crew with one processor does both
//!    halves of its forks: to hand one over would only make the system switch between threads.
//! 4. A thread that waits spins for as long as waking it would take, [`SPIN`], then sleeps. So a phase of work
//!    that follows soon after another costs the transfer of two or three cache lines, and one that comes
//!    later at most twice what sleeping at once would have cost. While it spins it yields its processor now
//!    and then to other processes. By step 3 it never keeps one from a thread of its own team.
//! 5. A thread that is done with its half takes the other half back if the other thread has not begun with it,
//!    because it slept or had no processor.
//!
//! Which thread does what depends on the cuts, on the size of the team and on the number of processors alone, so
//! in each step of a training a thread works on the weights and moments that it wrote in the step before; only
//! step 5 departs from that. The work lies on the stack of the thread that forks: nothing is allocated.

use crate::error::{Error, Result};
use crate::simd::environment::make_standard;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// Time that a waiting thread spins before it sleeps: about what it takes to wake one.
const SPIN: Duration = Duration::from_micros(50);

/// Some neighboring threads of a team.
#[derive(Clone, Copy)]
pub(super) struct Crew {
    /// Address of the seats, which tells the team; 0 for none.
    team: usize,
    pub(super) first: usize,
    pub(super) threads: usize,
    /// Processors for these threads, from 1 to their number.
    pub(super) processors: usize,
}

thread_local! {
    /// The crew that the current thread leads.
    static CREW: Cell<Crew> = const { Cell::new(Crew { team: 0, first: 0, threads: 1, processors: 1 }) };
}

impl Crew {
    /// Runs `work` as the first thread of this crew.
    fn run<R>(self, work: impl FnOnce() -> R) -> R {
        let _leading = self.lead();
        work()
    }

    /// Makes this the crew of the current thread until the guard is dropped.
    fn lead(self) -> Leading {
        Leading { before: CREW.replace(self) }
    }

    /// The crew of its first `threads` threads, or of all if there are fewer.
    pub(super) fn at_most(self, threads: usize) -> Self {
        let threads = self.threads.min(threads);
        Self { threads, processors: self.processors.min(threads), ..self }
    }

    /// The two halves; the left one is larger if they differ.
    fn halves(self) -> (Self, Self) {
        let (threads, processors) = (self.threads.div_ceil(2), self.processors.div_ceil(2));
        let right = Self {
            first: self.first + threads,
            threads: self.threads - threads,
            processors: (self.processors - processors).max(1),
            ..self
        };
        (Self { threads, processors, ..self }, right)
    }
}

/// Puts the crew of before back.
struct Leading {
    before: Crew,
}

impl Drop for Leading {
    fn drop(&mut self) {
        CREW.set(self.before);
    }
}

pub(super) struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// When the distance of the threads was measured, and whether they were far apart.
    distance: Mutex<Option<(Instant, bool)>>,
    /// The process that started the threads.
    process: u32,
}

/// What the threads of a team share.
struct Shared {
    /// One for each thread. That of thread 0 is never used.
    seats: Box<[Seat]>,
    /// A thread has entered.
    entered: AtomicBool,
    /// Processors for the whole team, from 1 to its number of threads.
    processors: usize,
}

/// Where a thread finds its work. Two cache lines: processors fetch them in pairs.
#[repr(align(128))]
struct Seat {
    state: AtomicU32,
    /// The thread of this seat, known before it first sleeps.
    thread: OnceLock<Thread>,
    /// May be written by the thread that forks, while the state is not `READY`, and read once by the
    /// thread of the seat after it has changed the state from `READY`.
    job: UnsafeCell<Option<Job>>,
}

// States of a seat.
/// Without work; its thread spins, or is busy with work that it has taken.
const IDLE: u32 = 0;
/// Without work; its thread sleeps.
const ASLEEP: u32 = 1;
/// Work lies at the seat.
const READY: u32 = 2;
/// The team ends.
const ENDED: u32 = 3;

/// Half of a fork, with its type erased.
#[derive(Clone, Copy)]
struct Job {
    /// A [`Half`].
    half: *const (),
    /// [`Half::run`] of the type of that half.
    ///
    /// # Safety
    /// As there.
    run: unsafe fn(*const ()),
    /// The crew that the half is done with.
    crew: Crew,
}

// SAFETY: a job goes from one thread to another as the field says; what it points to may go there too, by
// the bounds of `fork`.
unsafe impl Sync for Seat {}
// SAFETY: as above.
unsafe impl Send for Seat {}

/// The half of a fork that another thread may run, on the stack of the one that forks.
#[repr(align(128))]
struct Half<F, R> {
    state: AtomicU32,
    work: UnsafeCell<Option<F>>,
    result: UnsafeCell<Option<thread::Result<R>>>,
    /// The thread to wake, written before the state becomes `WAITED_FOR`.
    waiter: UnsafeCell<Option<Thread>>,
}

// States of a half.
const UNFINISHED: u32 = 0;
/// Unfinished, and the thread that forked sleeps.
const WAITED_FOR: u32 = 1;
const FINISHED: u32 = 2;

impl Team {
    /// Starts all threads but the first.
    pub(super) fn new(threads: usize) -> Result<Self> {
        Self::on_processors(threads, thread::available_parallelism().map_or(1, usize::from))
    }

    /// [`Self::new`] for a number of processors.
    fn on_processors(threads: usize, processors: usize) -> Result<Self> {
        let shared = Arc::new(Shared {
            seats: (0..threads).map(|_| Seat::new()).collect(),
            entered: AtomicBool::new(false),
            processors: processors.min(threads),
        });
        // Dropped on an error: that ends the threads started so far.
        let workers = Vec::with_capacity(threads);
        let mut team = Self {
            shared: shared.clone(),
            workers,
            distance: Mutex::new(None),
            process: std::process::id(),
        };
        for index in 1..threads {
            let shared = shared.clone();
            let worker = thread::Builder::new()
                .name(format!("elbo-{index}"))
                .spawn(move || shared.serve(index))
                .map_err(|error| Error::Threads { threads, reason: error.to_string() })?;
            team.workers.push(worker);
        }
        // None of them allocates any more once it is at its seat.
        for seat in &team.shared.seats[1..] {
            seat.thread.wait();
        }
        Ok(team)
    }

    pub(super) fn threads(&self) -> usize {
        self.shared.seats.len()
    }

    /// Processors that the team uses at the same time, from 1 to its number of threads.
    pub(super) fn processors(&self) -> usize {
        self.shared.processors
    }

    /// Calls `work` with the whole team, or with the calling thread alone if another one has entered.
    pub(super) fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
        /// Leaves, after a panic as well.
        struct Entered<'a>(Option<&'a AtomicBool>);
        impl Drop for Entered<'_> {
            fn drop(&mut self) {
                if let Some(entered) = self.0 {
                    entered.store(false, Ordering::Release);
                }
            }
        }

        if self.crew().is_some() {
            return work();
        }
        let entered = &self.shared.entered;
        let is_first = !entered.swap(true, Ordering::Acquire);
        // Makes room for the thread's handle, if this is its first use: a thread that waits does not allocate.
        drop(thread::current());
        let _entered = Entered(is_first.then_some(entered));
        let (threads, processors) = (self.threads(), self.processors());
        let whole = Crew { team: self.id(), first: 0, threads, processors };
        let _leading = if is_first { whole } else { whole.at_most(1) }.lead();
        work()
    }

    /// The crew of the current thread, if it is of this team.
    pub(super) fn crew(&self) -> Option<Crew> {
        let crew = CREW.get();
        (crew.team == self.id()).then_some(crew)
    }

    fn id(&self) -> usize {
        self.shared.seats.as_ptr().addr()
    }

    /// True if the round trip of a cache line was long when it was last measured, at most 20 ms ago.
    pub(super) fn is_far(&self, crew: Crew) -> bool {
        /// 0.06 to 0.09 µs within a chiplet of a Zen 4, 0.3 to 0.4 µs between two.
        const FAR: Duration = Duration::from_nanos(180);
        /// A measurement takes some microseconds.
        const PERIOD: Duration = Duration::from_millis(20);

        if crew.processors == 1 {
            return true;
        }
        let mut last = self.distance.lock().unwrap_or_else(PoisonError::into_inner);
        match *last {
            Some((at, is_far)) if at.elapsed() < PERIOD => is_far,
            _ => {
                let is_far = self.round_trip(crew).is_none_or(|time| time > FAR);
                *last = Some((Instant::now(), is_far));
                is_far
            }
        }
    }

    /// Time in which a cache line goes to the thread that [`Self::fork`] gives the right half of the work, and
    /// back. `None` if that thread does not come: it has no processor.
    pub(super) fn round_trip(&self, crew: Crew) -> Option<Duration> {
        #[repr(align(128))]
        struct Line(AtomicU32);
        const TRIPS: u32 = 8;
        /// The least of some: an interrupt may fall into one.
        const GROUPS: u32 = 4;
        /// As long as waking a thread may take.
        const PATIENCE: Duration = Duration::from_micros(200);
        /// Looks at a line between two looks at the clock, which can take longer than a round trip.
        const LOOKS: u32 = 64;

        let lines = [const { Line(AtomicU32::new(0)) }; 2];
        let [there, back] = &lines;
        let start = Instant::now();
        // Both sides give up together.
        let arrives = |line: &Line, trip| {
            let mut looks = 0;
            while line.0.load(Ordering::Acquire) != trip {
                looks += 1;
                if looks % LOOKS == 0 && start.elapsed() > PATIENCE {
                    return false;
                }
                std::hint::spin_loop();
            }
            true
        };
        let send = || {
            // The other thread says that it is there.
            if !arrives(back, 1) {
                return None;
            }
            let mut best = None;
            for group in 0..GROUPS {
                let start = Instant::now();
                for trip in 2 + group * TRIPS..2 + (group + 1) * TRIPS {
                    there.0.store(trip, Ordering::Release);
                    if !arrives(back, trip) {
                        return best;
                    }
                }
                let time = start.elapsed() / TRIPS;
                best = Some(best.map_or(time, |best: Duration| best.min(time)));
            }
            best
        };
        let reply = || {
            back.0.store(1, Ordering::Release);
            (2..2 + GROUPS * TRIPS).all(|trip| {
                let arrived = arrives(there, trip);
                back.0.store(trip, Ordering::Release);
                arrived
            })
        };
        self.fork(crew, send, reply).0
    }

    /// Runs two closures, each with about half of the crew, and returns both results.
    ///
    /// If one of them panics, the panic goes on here once both have ended.
    pub(super) fn fork<A, B: Send>(
        &self,
        crew: Crew,
        left: impl FnOnce() -> A,
        right: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        debug_assert_eq!(crew.team, self.id());
        if crew.threads == 1 {
            return (left(), right());
        }
        let (left_crew, right_crew) = crew.halves();
        if crew.processors == 1 {
            return (left_crew.run(left), right_crew.run(right));
        }
        let seat = &self.shared.seats[right_crew.first];
        let half = Half::new(right);
        // SAFETY: the half stays where it is until it is taken back or has been waited for, both below. The seat
        // is in the right half of this thread's crew, so no other thread gives it work.
        unsafe { seat.give(half.job(right_crew)) };

        let left = left_crew.run(|| catch_unwind(AssertUnwindSafe(left)));
        let right = if !seat.take_back() {
            half.wait()
        } else if left.is_ok() {
            // SAFETY: taken back, so no other thread has this half.
            crew.run(|| unsafe { half.run_here() })
        } else {
            // Not begun, and not needed after a panic.
            None
        };
        match (left, right) {
            (Ok(left), Some(Ok(right))) => (left, right),
            (Err(panic), _) | (_, Some(Err(panic))) => resume_unwind(panic),
            (Ok(_), None) => unreachable!("the right half was run, here or there"),
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        // Nobody has entered, so no seat has work.
        for (seat, worker) in self.shared.seats[1..].iter().zip(&self.workers) {
            seat.state.store(ENDED, Ordering::Release);
            worker.thread().unpark();
        }
        if self.process != std::process::id() {
            // A child of `fork` does not have the threads, so they would never be joined.
            return self.workers.drain(..).for_each(std::mem::forget);
        }
        for worker in self.workers.drain(..) {
            // A thread of the team does not panic: it catches those of its work.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Team({} threads)", self.threads())
    }
}

impl Shared {
    /// The life of a thread: waits for work at its seat, and does it.
    fn serve(&self, index: usize) {
        // A new thread inherits the floating-point environment of the one that starts it.
        make_standard();
        let seat = &self.seats[index];
        seat.thread.get_or_init(thread::current);
        while let Some(job) = seat.take() {
            // SAFETY: the half stays until it is finished, by the contract of `give`, and `take` gives a job to
            // one thread.
            job.crew.run(|| unsafe { (job.run)(job.half) });
        }
    }
}

impl Seat {
    fn new() -> Self {
        let (state, thread) = (AtomicU32::new(IDLE), OnceLock::new());
        Self { state, thread, job: UnsafeCell::new(None) }
    }

    /// Leaves a job here, and wakes the thread if it sleeps.
    ///
    /// # Safety
    /// The half that the job points to must stay until it is finished or the job is taken back. Only one
    /// thread at a time may give work to a seat, and none before the job given last is finished or taken back.
    unsafe fn give(&self, job: Job) {
        // SAFETY: no job lies here, so nobody reads the field.
        unsafe { *self.job.get() = Some(job) };
        if self.state.swap(READY, Ordering::AcqRel) == ASLEEP {
            self.thread.get().expect("it was known before the thread slept").unpark();
        }
    }

    /// Returns true if the job given last had not been taken; it never will be, then.
    fn take_back(&self) -> bool {
        self.change(READY, IDLE)
    }

    /// Waits for a job; `None` when the team ends. Only for the thread of this seat.
    fn take(&self) -> Option<Job> {
        loop {
            let is_idle = || self.state.load(Ordering::Relaxed) == IDLE;
            if !spin_while(is_idle) && self.change(IDLE, ASLEEP) {
                while self.state.load(Ordering::Relaxed) == ASLEEP {
                    thread::park();
                }
            }
            if self.change(READY, IDLE) {
                // SAFETY: this thread has changed the state from `READY`, so the job is its own to read, and no
                // other is given before this one is finished.
                return unsafe { *self.job.get() };
            }
            if self.state.load(Ordering::Acquire) == ENDED {
                return None;
            }
            // Taken back meanwhile.
        }
    }

    /// Changes the state, if it is `from`.
    fn change(&self, from: u32, to: u32) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl<F: FnOnce() -> R, R> Half<F, R> {
    fn new(work: F) -> Self {
        Self {
            state: AtomicU32::new(UNFINISHED),
            work: UnsafeCell::new(Some(work)),
            result: UnsafeCell::new(None),
            waiter: UnsafeCell::new(None),
        }
    }

    fn job(&self, crew: Crew) -> Job {
        Job { half: (&raw const *self).cast(), run: Self::run, crew }
    }

    /// Runs the work, catching its panic.
    ///
    /// # Safety
    /// No other thread runs it, or has.
    unsafe fn run_here(&self) -> Option<thread::Result<R>> {
        // SAFETY: by this function's contract no other thread reads or writes the field.
        let work = unsafe { (*self.work.get()).take() };
        Some(catch_unwind(AssertUnwindSafe(work?)))
    }

    /// Runs the work on another thread than the one that forked, and lets that one know.
    ///
    /// # Safety
    /// `half` points to a `Half` of this type, which stays until it is finished. No other thread runs it, or
    /// has.
    unsafe fn run(half: *const ()) {
        // SAFETY: by this function's contract.
        let half = unsafe { &*half.cast::<Self>() };
        // SAFETY: the thread that forked reads the result only when the half is finished; the rest is this
        // function's contract.
        unsafe { *half.result.get() = half.run_here() };
        // The memory may be gone as soon as the half is finished, so the thread to wake is taken out before.
        let waits = half
            .state
            .compare_exchange(UNFINISHED, FINISHED, Ordering::AcqRel, Ordering::Acquire)
            .is_err();
        if waits {
            // SAFETY: the waiter was written before the state became `WAITED_FOR`, and is read once.
            let waiter = unsafe { (*half.waiter.get()).take() };
            half.state.store(FINISHED, Ordering::Release);
            waiter.expect("it waits").unpark();
        }
    }

    /// Waits until the other thread is done, and returns its result.
    fn wait(&self) -> Option<thread::Result<R>> {
        let is_unfinished = || self.state.load(Ordering::Acquire) != FINISHED;
        if !spin_while(is_unfinished) {
            // SAFETY: the other thread reads it only after the state has become `WAITED_FOR`, below.
            unsafe { *self.waiter.get() = Some(thread::current()) };
            // Fails if the half is finished by now.
            let _ = self.state.compare_exchange(
                UNFINISHED,
                WAITED_FOR,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            while is_unfinished() {
                thread::park();
            }
        }
        // SAFETY: finished, so the other thread does not touch it any more.
        unsafe { (*self.result.get()).take() }
    }
}

/// Spins while a condition holds, for [`SPIN`] at most. Returns false if it still holds then.
fn spin_while(condition: impl Fn() -> bool) -> bool {
    /// Looks at the condition before one at the clock: together about a microsecond.
    const LOOKS: usize = 32;
    let mut start = None;
    loop {
        for _ in 0..LOOKS {
            if !condition() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.get_or_insert_with(Instant::now).elapsed() >= SPIN {
            return false;
        }
        // Lets another thread run that has no processor.
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A team that uses all of its threads, however few processors there are.
    fn team(threads: usize) -> Team {
        Team::on_processors(threads, threads).unwrap()
    }

    /// Threads of each leaf of a tree of forks.
    fn leaves(team: &Team, depth: usize) -> Vec<usize> {
        let crew = team.crew().unwrap();
        if depth == 0 {
            return vec![crew.first];
        }
        let (mut left, right) =
            team.fork(crew, || leaves(team, depth - 1), || leaves(team, depth - 1));
        left.extend(right);
        left
    }

    #[test]
    fn forks_reach_every_thread_and_return_in_order() {
        for threads in [2, 3, 4, 7] {
            let team = team(threads);
            for _ in 0..200 {
                let found = team.enter(|| leaves(&team, 3));
                assert_eq!(found.len(), 8);
                // Work that is taken back runs on a thread further left.
                assert!(found.iter().all(|&thread| thread < threads));
                assert_eq!(found[0], 0);
            }
        }
    }

    #[test]
    fn as_many_threads_work_as_there_are_processors() {
        for (threads, processors) in
            [(2, 1), (3, 2), (4, 2), (5, 2), (8, 2), (5, 3), (7, 4), (3, 9)]
        {
            let team = Team::on_processors(threads, processors).unwrap();
            let (working, most) = (AtomicU32::new(0), AtomicU32::new(0));
            fn visit(team: &Team, depth: usize, leaf: &(impl Fn(usize) + Sync)) {
                let crew = team.crew().unwrap();
                assert!((1..=crew.threads).contains(&crew.processors));
                if depth == 0 {
                    return leaf(crew.first);
                }
                let half = || visit(team, depth - 1, leaf);
                team.fork(crew, half, half);
            }
            let threads_of_leaves = Mutex::new(Vec::new());
            team.enter(|| {
                visit(&team, 4, &|_| {
                    most.fetch_max(working.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
                    threads_of_leaves.lock().unwrap().push(thread::current().id());
                    thread::sleep(Duration::from_millis(2));
                    working.fetch_sub(1, Ordering::AcqRel);
                });
            });
            let mut different = threads_of_leaves.into_inner().unwrap();
            assert_eq!(different.len(), 16);
            different.sort_unstable_by_key(|id| format!("{id:?}"));
            different.dedup();
            let expected = processors.min(threads);
            assert!(most.into_inner() as usize <= expected && different.len() <= expected);
        }
    }

    #[test]
    fn threads_that_have_slept_wake() {
        let team = team(3);
        for pause in [0, 1, 20] {
            thread::sleep(Duration::from_millis(pause));
            assert_eq!(team.enter(|| leaves(&team, 2)).len(), 4);
        }
    }

    #[test]
    fn panics_go_on_where_the_fork_was_and_the_team_stays() {
        let team = team(2);
        for (left, right) in [(true, false), (false, true), (true, true)] {
            let panicking = |panics: bool| assert!(!panics, "as intended");
            let both = || {
                let crew = team.crew().unwrap();
                team.fork(crew, || panicking(left), || panicking(right))
            };
            let panic = catch_unwind(AssertUnwindSafe(|| team.enter(both))).unwrap_err();
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"as intended"));
            assert!(CREW.get().team == 0, "the crew has not been left");
            assert_eq!(team.enter(|| leaves(&team, 1)).len(), 2);
        }
    }

    #[test]
    fn only_one_thread_at_a_time_has_the_whole_crew() {
        let team = team(2);
        team.enter(|| {
            assert_eq!(team.crew().unwrap().threads, 2);
            // Entering again changes nothing for the thread that is inside …
            team.enter(|| assert_eq!(team.crew().unwrap().threads, 2));
            // … and another one is alone.
            thread::scope(|scope| {
                let alone = || team.enter(|| assert_eq!(team.crew().unwrap().threads, 1));
                // Joined one by one, which the thread sanitizer sees.
                scope.spawn(alone).join().unwrap();
            });
        });
    }

    #[test]
    fn teams_within_teams_do_not_wait_for_each_other() {
        let (outer, inner) = (team(2), team(3));
        let work = || inner.enter(|| leaves(&inner, 2)).len();
        let found = outer.enter(|| outer.fork(outer.crew().unwrap(), work, work));
        assert_eq!(found, (4, 4));
    }

    #[test]
    fn many_threads_share_one_team() {
        let team = team(4);
        let sum = Mutex::new(0);
        thread::scope(|scope| {
            let enter_often = || {
                for _ in 0..300 {
                    *sum.lock().unwrap() += team.enter(|| leaves(&team, 3)).len();
                }
            };
            let threads = [(); 4].map(|()| scope.spawn(enter_often));
            for thread in threads {
                thread.join().unwrap();
            }
        });
        assert_eq!(sum.into_inner().unwrap(), 4 * 300 * 8);
    }

    #[test]
    fn threads_end_with_their_team() {
        let team = team(5);
        team.enter(|| leaves(&team, 3));
        let shared = Arc::downgrade(&team.shared);
        drop(team);
        assert!(shared.upgrade().is_none(), "a thread still holds what the team shares");
    }
}
