//! Sums, errors and fingerprints on which all ranks agree.

use super::Communicator;
use crate::error::{Error, Result};

/// Tag of these messages; those of gradients have others.
const TAG: u32 = 0;

/// Words of a message of an error: its length in bytes, and as much of it as fits.
const MESSAGE: usize = 512;

/// No rank has failed.
const NONE: u32 = u32::MAX;

/// Adds up `values` over all ranks, unless the `outcome` of some rank is an error. All ranks call it at the same
/// point, with as many values, and get the same bits.
///
/// ```
/// use elbo::distributed::{SingleProcess, ThreadRanks, sum};
///
/// let ranks = ThreadRanks::new(3);
/// std::thread::scope(|scope| {
///     for rank in &ranks {
///         scope.spawn(move || {
///             let mut values = [1.0, 0.5];
///             sum(rank, &mut values, Ok(())).unwrap();
///             assert_eq!(values, [3.0, 1.5]);
///         });
///     }
/// });
/// ```
///
/// # Errors
/// The error of this rank, or [`Error::Rank`] with the error of the first rank that failed.
pub fn sum(ranks: &dyn Communicator, values: &mut [f64], outcome: Result<()>) -> Result<()> {
    if ranks.ranks() == 1 {
        return outcome;
    }
    let failed = if outcome.is_err() { ranks.rank() as u32 } else { NONE };
    let failed = combine(ranks, failed, values)?;
    if failed == NONE {
        return Ok(());
    }
    let failed = failed as usize;
    let mut message = [0; MESSAGE];
    if let Err(error) = outcome
        && ranks.rank() == failed
    {
        encode(&error, failed, &mut message);
        for to in (0..ranks.ranks()).filter(|&to| to != failed) {
            ranks.send(to, TAG, &message)?;
        }
        return Err(error);
    }
    // An error of this rank that is not the first one is not reported.
    ranks.receive(failed, TAG, &mut message)?;
    Err(Error::Rank { rank: failed, message: decode(&message) })
}

/// Checks that the value of every rank is that of rank 0. All ranks call it at the same point.
///
/// # Errors
/// `different`, at a rank with another value; [`Error::Rank`] with it at the others.
pub fn expect_same(
    ranks: &dyn Communicator,
    value: u64,
    different: impl FnOnce() -> Error,
) -> Result<()> {
    // Halves of 32 bits, which f64 holds exactly: rank 0 alone adds to the sums.
    let halves = [(value >> 32) as f64, f64::from(value as u32)];
    let mut of_first = if ranks.rank() == 0 { halves } else { [0.0; 2] };
    sum(ranks, &mut of_first, Ok(()))?;
    sum(ranks, &mut [], if of_first == halves { Ok(()) } else { Err(different()) })
}

/// Recursive doubling: the sums, and the first rank that has failed.
fn combine(ranks: &dyn Communicator, mut failed: u32, values: &mut [f64]) -> Result<u32> {
    let (rank, count) = (ranks.rank(), ranks.ranks());
    let power = 1 << count.ilog2();
    let mut words = vec![0; 1 + 2 * values.len()];
    let send = |to: usize, failed: u32, values: &[f64]| {
        let bits = values.iter().map(|value| value.to_bits());
        let words = bits.flat_map(|bits| [(bits >> 32) as u32, bits as u32]);
        let words: Vec<u32> = std::iter::once(failed).chain(words).collect();
        ranks.send(to, TAG, &words)
    };
    let value_of = |pair: &[u32]| f64::from_bits(u64::from(pair[0]) << 32 | u64::from(pair[1]));
    // Ranks beyond the largest power of two take part through another one.
    if rank >= power {
        send(rank - power, failed, values)?;
        ranks.receive(rank - power, TAG, &mut words)?;
        for (value, pair) in values.iter_mut().zip(words[1..].chunks_exact(2)) {
            *value = value_of(pair);
        }
        return Ok(words[0]);
    }
    let extra = rank + power;
    let partners = (0..count.ilog2()).map(|round| rank ^ (1 << round));
    for partner in (extra < count).then_some(extra).into_iter().chain(partners) {
        if partner != extra {
            send(partner, failed, values)?;
        }
        ranks.receive(partner, TAG, &mut words)?;
        failed = failed.min(words[0]);
        for (value, pair) in values.iter_mut().zip(words[1..].chunks_exact(2)) {
            *value += value_of(pair);
        }
    }
    if extra < count {
        send(extra, failed, values)?;
    }
    Ok(failed)
}

fn encode(error: &Error, rank: usize, words: &mut [u32; MESSAGE]) {
    let text = match error {
        // The number of the rank is added by those that report it.
        Error::Rank { rank: of, message } if *of == rank => message.clone(),
        error => error.to_string(),
    };
    let mut length = text.len().min(4 * (MESSAGE - 1));
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    words[0] = length as u32;
    for (word, bytes) in words[1..].iter_mut().zip(text.as_bytes()[..length].chunks(4)) {
        let mut four = [0; 4];
        four[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_ne_bytes(four);
    }
}

fn decode(words: &[u32; MESSAGE]) -> String {
    let bytes: Vec<u8> = words[1..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    String::from_utf8_lossy(&bytes[..bytes.len().min(words[0] as usize)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::ThreadRanks;

    /// The results of `work` on each of `count` ranks.
    fn on_ranks<T: Send>(count: usize, work: impl Fn(&dyn Communicator) -> T + Sync) -> Vec<T> {
        let ranks = ThreadRanks::new(count);
        std::thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> =
                ranks.iter().map(|rank| scope.spawn(move || work(rank))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn sums_follow_the_tree_and_agree() {
        for count in 1..=9 {
            let value = |rank: usize| 1.0 / (rank + 3) as f64;
            let found = on_ranks(count, |all| {
                let mut values = [value(all.rank()), 1.0];
                sum(all, &mut values, Ok(())).unwrap();
                values
            });
            assert!(found.iter().all(|values| *values == found[0]), "{count} ranks: {found:?}");
            assert_eq!(found[0][1], count as f64);
            if count == 4 {
                let tree = (value(0) + value(1)) + (value(2) + value(3));
                assert_eq!(found[0][0].to_bits(), tree.to_bits());
            }
        }
    }

    #[test]
    fn the_error_of_the_first_rank_is_that_of_all() {
        for count in 2..=6 {
            let found = on_ranks(count, |all| {
                let rank = all.rank();
                let error = Error::config("x", "é".repeat(2000).leak(), rank);
                sum(all, &mut [0.5; 3], if rank == 0 { Ok(()) } else { Err(error) })
            });
            for (rank, error) in found.into_iter().enumerate() {
                match error.unwrap_err() {
                    Error::Config { found, .. } => assert_eq!((rank, &found[..]), (1, "1")),
                    Error::Rank { rank: 1, message } => {
                        assert!(rank != 1 && message.starts_with("`x`: expected éé"), "{message}");
                    }
                    error => panic!("{error}"),
                }
            }
        }
    }

    #[test]
    fn another_value_is_an_error_that_names_its_rank() {
        let different = |rank| Error::Rank { rank, message: "another value".to_owned() };
        for count in 1..=5 {
            let same = on_ranks(count, |all| expect_same(all, u64::MAX - 5, || unreachable!()));
            assert!(same.into_iter().all(|outcome| outcome.is_ok()));
        }
        for bit in [0, 31, 32, 63] {
            let found = on_ranks(4, |all| {
                let rank = all.rank();
                expect_same(all, if rank == 2 { 1 << bit } else { 0 }, || different(rank))
            });
            for error in found {
                assert_eq!(error.unwrap_err().to_string(), "rank 2: another value");
            }
        }
    }
}
