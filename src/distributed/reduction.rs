//! The sum of the gradients of all ranks, bucket by bucket.

use super::Communicator;
use crate::error::Result;
use pulp::bytemuck::{cast_slice, cast_slice_mut};
use std::ops::Range;

/// Weights of a bucket, about: 256 KiB travel for a time that is long against the latency of a message, and short
/// against a step.
pub(crate) const BUCKET: usize = 1 << 16;

/// Tags of buckets; 0 is that of an agreement.
const TAGS: u32 = (1 << 15) - 1;

/// A sum over all ranks that is under way.
pub(crate) struct Reduction<'a> {
    ranks: &'a dyn Communicator,
    in_flight: Vec<Bucket>,
    /// Buckets that were started.
    started: u32,
    /// Buffer for a message that is added to the gradient.
    received: Vec<f32>,
}

/// A bucket whose sum is under way.
struct Bucket {
    tag: u32,
    /// Parts of the gradient that this rank has summed: all of the bucket, then the half that it kept in each round.
    parts: Vec<Range<usize>>,
    phase: Phase,
}

/// The message that a bucket waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// 3. The gradient of a rank beyond the largest power of two.
    Extra,
    /// 1. The kept half of the part, in this round.
    Halve(u32),
    /// 2. The other half of the part, complete.
    Double(u32),
    /// 3. The sum, at a rank beyond the largest power of two.
    Sum,
}

impl<'a> Reduction<'a> {
    pub(crate) fn new(ranks: &'a dyn Communicator) -> Self {
        Self { ranks, in_flight: Vec::new(), started: 0, received: Vec::new() }
    }

    /// Starts to sum a bucket, the elements `range` of the gradient.
    pub(crate) fn start(&mut self, gradient: &[f32], range: Range<usize>) -> Result<()> {
        let (rank, power) = (self.ranks.rank(), self.power());
        let phase = match () {
            () if rank >= power => Phase::Sum,
            () if rank + power < self.ranks.ranks() => Phase::Extra,
            () => Phase::Halve(0),
        };
        let bucket = Bucket { tag: 1 + self.started % TAGS, parts: vec![range], phase };
        self.started += 1;
        if phase == Phase::Sum {
            self.send(&bucket, rank - power, &gradient[bucket.parts[0].clone()])?;
        }
        self.enter(&bucket, gradient)?;
        self.in_flight.push(bucket);
        Ok(())
    }

    /// Goes on with all buckets whose messages have arrived. Returns the range of one whose sum is complete.
    pub(crate) fn advance(&mut self, gradient: &mut [f32]) -> Result<Option<Range<usize>>> {
        let mut index = 0;
        while index < self.in_flight.len() {
            let mut bucket = self.in_flight.swap_remove(index);
            if self.advance_bucket(&mut bucket, gradient)? {
                return Ok(Some(bucket.parts[0].clone()));
            }
            // Back where it was: the last one has taken its place.
            self.in_flight.push(bucket);
            let last = self.in_flight.len() - 1;
            self.in_flight.swap(index, last);
            index += 1;
        }
        Ok(None)
    }

    /// Returns `true` if no bucket is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Returns `true` if the sum is complete.
    fn advance_bucket(&mut self, bucket: &mut Bucket, gradient: &mut [f32]) -> Result<bool> {
        loop {
            let (from, range, is_sum) = self.awaited(bucket);
            let into = &mut gradient[range.clone()];
            let has_arrived = if is_sum {
                self.ranks.try_receive(from, bucket.tag, cast_slice_mut(into))?
            } else {
                self.received.resize(range.len().max(self.received.len()), 0.0);
                let received = &mut self.received[..range.len()];
                let has_arrived =
                    self.ranks.try_receive(from, bucket.tag, cast_slice_mut(received))?;
                if has_arrived {
                    // The sum of two numbers is the same in either order.
                    for (sum, &received) in into.iter_mut().zip(&*received) {
                        *sum += received;
                    }
                }
                has_arrived
            };
            if !has_arrived {
                return Ok(false);
            }
            let rounds = self.power().ilog2();
            bucket.phase = match bucket.phase {
                Phase::Extra => Phase::Halve(0),
                Phase::Halve(round) => {
                    bucket.parts.push(range);
                    if round + 1 < rounds { Phase::Halve(round + 1) } else { Phase::Double(round) }
                }
                Phase::Double(0) => {
                    let extra = self.ranks.rank() + self.power();
                    if extra < self.ranks.ranks() {
                        self.send(bucket, extra, &gradient[bucket.parts[0].clone()])?;
                    }
                    return Ok(true);
                }
                Phase::Double(round) => {
                    bucket.parts.pop();
                    Phase::Double(round - 1)
                }
                Phase::Sum => return Ok(true),
            };
            self.enter(bucket, gradient)?;
        }
    }

    /// Announces the message that a bucket waits for, and sends the one that its partner waits for.
    fn enter(&self, bucket: &Bucket, gradient: &[f32]) -> Result<()> {
        let (from, range, _) = self.awaited(bucket);
        self.ranks.expect(from, bucket.tag, range.len())?;
        match bucket.phase {
            Phase::Extra | Phase::Sum => Ok(()),
            Phase::Halve(round) => {
                let [_, sent] = self.halves(bucket, round);
                self.send(bucket, from, &gradient[sent])
            }
            Phase::Double(round) => {
                let own = bucket.parts[round as usize + 1].clone();
                self.send(bucket, from, &gradient[own])
            }
        }
    }

    /// The sender and the place of the message that a bucket waits for; true if it is complete, false if it is added.
    fn awaited(&self, bucket: &Bucket) -> (usize, Range<usize>, bool) {
        let rank = self.ranks.rank();
        match bucket.phase {
            Phase::Extra => (rank + self.power(), bucket.parts[0].clone(), false),
            Phase::Halve(round) => {
                let [kept, _] = self.halves(bucket, round);
                (rank ^ (1 << round), kept, false)
            }
            Phase::Double(round) => {
                let [_, other] = self.halves(bucket, round);
                (rank ^ (1 << round), other, true)
            }
            Phase::Sum => (rank - self.power(), bucket.parts[0].clone(), true),
        }
    }

    /// The half of a bucket's part that this rank keeps in a round, and the one that its partner keeps.
    fn halves(&self, bucket: &Bucket, round: u32) -> [Range<usize>; 2] {
        let Range { start, end } = bucket.parts[round as usize].clone();
        let middle = start + (end - start) / 2;
        let (lower, upper) = (start..middle, middle..end);
        if self.ranks.rank() >> round & 1 == 0 { [lower, upper] } else { [upper, lower] }
    }

    /// The largest power of two that is not above the number of ranks.
    fn power(&self) -> usize {
        1 << self.ranks.ranks().ilog2()
    }

    fn send(&self, bucket: &Bucket, to: usize, part: &[f32]) -> Result<()> {
        self.ranks.send(to, bucket.tag, cast_slice(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::{Pause, ThreadRanks};

    #[test]
    fn buckets_of_any_length_are_summed_by_the_tree() {
        let lengths = [1, 2, 3, 16, 1000, 7];
        let value = |rank: usize, i: usize| 1.0 / (3 + rank * 37 + i) as f32;
        for count in 2..=9 {
            let sums = |rank: ThreadRanks| {
                let total: usize = lengths.iter().sum();
                let mut gradient: Vec<f32> = (0..total).map(|i| value(rank.rank(), i)).collect();
                let mut reduction = Reduction::new(&rank);
                let (mut end, mut complete) = (total, 0);
                for length in lengths {
                    reduction.start(&gradient, end - length..end).unwrap();
                    end -= length;
                }
                let mut pause = Pause::default();
                while !reduction.is_idle() {
                    match reduction.advance(&mut gradient).unwrap() {
                        Some(range) => complete += range.len(),
                        None => pause.wait(),
                    }
                }
                assert_eq!(complete, total);
                gradient
            };
            let found: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = ThreadRanks::new(count)
                    .into_iter()
                    .map(|rank| scope.spawn(move || sums(rank)))
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            for (i, &sum) in found[0].iter().enumerate() {
                let leaves: Vec<f32> = (0..count).map(|rank| value(rank, i)).collect();
                // Ranks beyond the largest power of two are added to the first ones.
                let (first, extra) = leaves.split_at(1 << count.ilog2());
                let mut leaves = first.to_vec();
                leaves.iter_mut().zip(extra).for_each(|(leaf, extra)| *leaf += extra);
                while leaves.len() > 1 {
                    leaves = leaves.chunks(2).map(|pair| pair[0] + pair[1]).collect();
                }
                assert_eq!(sum.to_bits(), leaves[0].to_bits(), "{count} ranks, {i}");
            }
            assert!(found.iter().all(|gradient| *gradient == found[0]), "{count} ranks");
        }
    }
}
