//! Random permutations of `0..n`: Fisher-Yates in place, unbiased.

use super::fill::RowKey;
use super::philox::philox4x32;
use super::{INDEX_LIMIT, Stream};

/// Iterator over the words of the shuffle stream in one epoch.
struct Words {
    seed: u64,
    epoch: u64,
    block: u64,
    words: [u32; 4],
    used: usize,
}

impl Words {
    fn new(seed: u64, epoch: u64) -> Self {
        Self { seed, epoch, block: 0, words: [0; 4], used: 4 }
    }

    #[inline]
    fn next(&mut self) -> u32 {
        if self.used == 4 {
            // A block index has 24 bits: what exceeds them continues in the row.
            let row = RowKey::new(self.seed, Stream::Shuffle, self.epoch, self.block >> 24);
            let (counter, key) = row.block(self.block as u32 & 0x00ff_ffff);
            self.words = philox4x32(counter, key);
            self.block += 1;
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// Returns a uniform integer below `n`, which is in 1..=2³² (Lemire, *Fast random integer generation
    /// in an interval*, 2019).
    ///
    /// `⌊word·n / 2³²⌋` maps the 2³² words to `n` values, some of which get one word more than others.
    /// Rejecting the words whose product has a low half below `2³² mod n` leaves `⌊2³²/n⌋` of them for
    /// each value.
    #[inline]
    fn below(&mut self, n: u64) -> u32 {
        loop {
            let product = u64::from(self.next()) * n;
            let low = product & 0xffff_ffff;
            // The remainder is below n, so most products need no division.
            if low >= n || low >= (1 << 32) % n {
                return (product >> 32) as u32;
            }
        }
    }
}

/// Overwrites `out` (at most 2³² elements) with the permutation of epoch `epoch`, which is below 2⁴⁸.
pub(crate) fn permutation(seed: u64, epoch: u64, out: &mut [u32]) {
    debug_assert!(epoch < INDEX_LIMIT && out.len() as u64 <= 1 << 32);
    for (i, out) in out.iter_mut().enumerate() {
        *out = i as u32;
    }
    let mut words = Words::new(seed, epoch);
    // Element i changes places with one of 0..=i, itself included: all orders are equally likely.
    for i in (1..out.len()).rev() {
        out.swap(i, words.below(i as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Generator;

    fn order(seed: u64, epoch: u64, n: usize) -> Vec<u32> {
        let mut out = vec![u32::MAX; n];
        Generator::new(seed).permutation(epoch, &mut out).unwrap();
        out
    }

    #[test]
    fn every_index_appears_once() {
        for n in [0, 1, 2, 3, 5, 64, 1000, 60_000] {
            let mut sorted = order(3, 4, n);
            sorted.sort_unstable();
            assert!(sorted.iter().enumerate().all(|(i, &v)| v as usize == i), "n={n}");
        }
    }

    #[test]
    fn permutations_equal_those_of_an_independent_program() {
        // From a Python program written after the documentation.
        assert_eq!(order(1, 0, 12), [0, 6, 8, 4, 7, 10, 9, 2, 11, 3, 1, 5]);
        assert_eq!(order(1, 1, 12), [11, 7, 0, 5, 3, 8, 1, 2, 6, 4, 10, 9]);
        let long = order(1, 0, 60_000);
        assert_eq!(long[..4], [58_078, 4142, 4295, 44_969]);
        assert_eq!(long[59_996..], [39_543, 22_943, 10_349, 28_879]);
        assert_ne!(order(1, 0, 100), order(2, 0, 100));
    }

    #[test]
    fn all_orders_of_five_are_equally_likely() {
        let (orders, expected) = (120, 1000.0);
        let mut counts = std::collections::HashMap::new();
        for epoch in 0..orders * 1000 {
            *counts.entry(order(11, epoch, 5)).or_insert(0.0) += 1.0;
        }
        assert_eq!(counts.len() as u64, orders);
        let chi2: f64 = counts.values().map(|c| (c - expected) * (c - expected) / expected).sum();
        // 119 degrees of freedom: mean 119, standard deviation √238 = 15.4.
        assert!((chi2 - 119.0).abs() < 3.0 * 15.4, "{chi2}");
    }

    #[test]
    fn integers_are_uniform_where_words_do_not_divide_evenly() {
        // For n = ¾·2³² two words in four would give a multiple of 3, if none were skipped.
        let mut words = Words::new(2, 0);
        let mut counts = [0.0; 3];
        for _ in 0..300_000 {
            counts[words.below(3 << 30) as usize % 3] += 1.0;
        }
        // The standard deviation of a count is √(300 000·⅓·⅔) = 258.
        assert!(counts.iter().all(|c: &f64| (c - 100_000.0).abs() < 3.0 * 258.0), "{counts:?}");
        assert!((0..1000).all(|_| words.below(1) == 0));
        let largest = (0..1000).map(|_| words.below(1 << 32)).max().unwrap();
        assert!(largest > 0xff00_0000, "{largest:x}");
    }
}
