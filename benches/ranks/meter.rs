//! Communicators that measure another one, emulate a network, or stand for ranks that answer at once.

use elbo::Result;
use elbo::distributed::Communicator;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Tag of the sums on which ranks agree; other tags are those of gradients.
const AGREEMENT: u32 = 0;

/// Latency and bandwidth of an emulated network.
#[derive(Clone, Copy)]
pub struct Network {
    pub latency: Duration,
    /// Bytes per second that a rank can send.
    pub bandwidth: f64,
}

/// A rank whose messages are counted, and delayed if there is a network to emulate.
pub struct Meter<C> {
    inner: C,
    network: Option<Network>,
    /// The same for all ranks: times in messages count from here.
    start: Instant,
    pub bytes: AtomicU64,
    pub messages: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Time at which the link is free.
    is_free: Duration,
    /// Messages that have arrived, but would still be on their way.
    early: HashMap<(usize, u32), (Duration, Vec<u32>)>,
    /// Gradients that are expected, and since when there are any.
    expected: usize,
    since: Duration,
    in_communication: Duration,
}

impl<C: Communicator> Meter<C> {
    pub fn new(inner: C, network: Option<Network>, start: Instant) -> Self {
        let (bytes, messages) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { inner, network, start, bytes, messages, state: Mutex::default() }
    }

    /// The network, in words.
    pub fn name(&self) -> String {
        self.network.map_or_else(
            || "this machine".to_owned(),
            |Network { latency, bandwidth }| {
                format!("{} µs, {} Gbit/s", latency.as_micros(), bandwidth * 8e-9)
            },
        )
    }

    /// Time in which gradients were on their way to this rank.
    pub fn in_communication(&self) -> Duration {
        self.state.lock().unwrap().in_communication
    }

    /// A message that has come through memory, and when it arrives through the network.
    fn receive_stamped(
        &self,
        from: usize,
        tag: u32,
        words: usize,
    ) -> Result<Option<(Duration, Vec<u32>)>> {
        let mut stamped = vec![0; words + 2];
        if !self.inner.try_receive(from, tag, &mut stamped)? {
            return Ok(None);
        }
        let [high, low] = stamped[words..] else { unreachable!("two words") };
        stamped.truncate(words);
        let arrives = Duration::from_nanos(u64::from(high) << 32 | u64::from(low));
        Ok(Some((arrives, stamped)))
    }

    fn arrived(&self, state: &mut State, tag: u32) {
        if tag != AGREEMENT {
            state.expected -= 1;
            if state.expected == 0 {
                state.in_communication += self.start.elapsed() - state.since;
            }
        }
    }
}

impl<C: Communicator> Communicator for Meter<C> {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn ranks(&self) -> usize {
        self.inner.ranks()
    }

    fn send(&self, to: usize, tag: u32, message: &[u32]) -> Result<()> {
        self.bytes.fetch_add(4 * message.len() as u64, Ordering::Relaxed);
        self.messages.fetch_add(1, Ordering::Relaxed);
        let Some(network) = self.network else { return self.inner.send(to, tag, message) };
        let mut state = self.state.lock().unwrap();
        // One message leaves after the other.
        let bytes = 4.0 * message.len() as f64;
        let leaves = self.start.elapsed().max(state.is_free);
        state.is_free = leaves + Duration::from_secs_f64(bytes / network.bandwidth);
        let arrives = (state.is_free + network.latency).as_nanos() as u64;
        let stamp = [(arrives >> 32) as u32, arrives as u32];
        self.inner.send(to, tag, &[message, &stamp].concat())
    }

    fn expect(&self, from: usize, tag: u32, words: usize) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        if tag != AGREEMENT {
            if state.expected == 0 {
                state.since = self.start.elapsed();
            }
            state.expected += 1;
        }
        let stamp = if self.network.is_some() { 2 } else { 0 };
        self.inner.expect(from, tag, words + stamp)
    }

    fn try_receive(&self, from: usize, tag: u32, message: &mut [u32]) -> Result<bool> {
        let mut state = self.state.lock().unwrap();
        if self.network.is_none() {
            let has_arrived = self.inner.try_receive(from, tag, message)?;
            if has_arrived {
                self.arrived(&mut state, tag);
            }
            return Ok(has_arrived);
        }
        let early = match state.early.remove(&(from, tag)) {
            Some(early) => Some(early),
            None => self.receive_stamped(from, tag, message.len())?,
        };
        let Some((arrives, words)) = early else { return Ok(false) };
        if self.start.elapsed() < arrives {
            state.early.insert((from, tag), (arrives, words));
            return Ok(false);
        }
        message.copy_from_slice(&words);
        self.arrived(&mut state, tag);
        Ok(true)
    }

    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }
}

/// Rank 0 of so many, the others of which have gradients of 0 and answer at once: the time of a step without
/// communication.
pub struct Answers(pub usize);

impl Communicator for Answers {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        self.0
    }

    fn send(&self, _: usize, _: u32, _: &[u32]) -> Result<()> {
        Ok(())
    }

    fn try_receive(&self, _: usize, tag: u32, message: &mut [u32]) -> Result<bool> {
        if tag == AGREEMENT {
            message.fill(0);
            // No rank has failed.
            message[0] = u32::MAX;
        }
        // Of a gradient, nothing is written: what was received before is added again.
        Ok(true)
    }
}
