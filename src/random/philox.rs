//! Philox 4×32-10: a bijection of 128-bit counters under a key of 64 bits, whose values pass the tests
//! of random numbers.
//!
//! # Method
//! Ten rounds. Each
//! 1. multiplies words 0 and 2 by constants, with products of 64 bits;
//! 2. mixes the high half of each product with another word and with the key;
//! 3. keeps the low halves as the words that the next round mixes in;
//! 4. adds constants to the key, except after the last round.
//!
//! ```text
//! (c0, c1, c2, c3) <- (hi(B·c2) ⊕ c1 ⊕ k0, lo(B·c2), hi(A·c0) ⊕ c3 ⊕ k1, lo(A·c0))
//! (k0, k1)         <- (k0 + W0, k1 + W1)
//! ```
//!
//! Source: Salmon, Moraes, Dror & Shaw, *Parallel random numbers: as easy as 1, 2, 3* (SC 2011).

use crate::simd::is_portable;
use pulp::Simd;

const ROUNDS: usize = 10;
/// The multiplier of word 0.
const A: u32 = 0xd251_1f53;
/// The multiplier of word 2.
const B: u32 = 0xcd9e_8d57;
/// Increments of the key from round to round: the fractional bits of the golden ratio and of √3.
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// Returns four random words, the image of `counter` under `key`.
///
/// Under one key, different counters have different images.
///
/// ```
/// // Random123's known answer for the digits of π.
/// let words = elbo::random::philox4x32(
///     [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
///     [0xa4093822, 0x299f31d0],
/// );
/// assert_eq!(words, [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
/// ```
#[must_use]
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    for [k0, k1] in schedule(key) {
        // 1. to 3., each word at its place in the formula.
        let product_a = u64::from(A) * u64::from(c0);
        let product_b = u64::from(B) * u64::from(c2);
        (c0, c1, c2, c3) = (
            (product_b >> 32) as u32 ^ c1 ^ k0,
            product_b as u32,
            (product_a >> 32) as u32 ^ c3 ^ k1,
            product_a as u32,
        );
    }
    [c0, c1, c2, c3]
}

/// Returns the key of each round (step 4).
#[inline(always)]
pub(super) fn schedule(key: [u32; 2]) -> [[u32; 2]; ROUNDS] {
    let mut keys = [key; ROUNDS];
    for round in 1..ROUNDS {
        keys[round] =
            [keys[round - 1][0].wrapping_add(WEYL[0]), keys[round - 1][1].wrapping_add(WEYL[1])];
    }
    keys
}

/// [`philox4x32`] of the counters in the lanes of `R` registers.
///
/// A round depends on the one before it; with two registers at a time the multipliers are busy while
/// one of them waits.
#[inline(always)]
pub(super) fn philox4x32_lanes<S: Simd, const R: usize>(
    simd: S,
    counters: [[S::u32s; 4]; R],
    keys: &[[u32; 2]; ROUNDS],
) -> [[S::u32s; 4]; R] {
    #[inline(never)]
    fn called<S: Simd, const R: usize>(
        simd: S,
        counters: [[S::u32s; 4]; R],
        keys: &[[u32; 2]; ROUNDS],
    ) -> [[S::u32s; 4]; R] {
        all_rounds(simd, counters, keys)
    }
    // Ten rounds of emulated products are long: one copy, or they would be slow to compile.
    if const { is_portable::<S>() } {
        called(simd, counters, keys)
    } else {
        all_rounds(simd, counters, keys)
    }
}

#[inline(always)]
fn all_rounds<S: Simd, const R: usize>(
    simd: S,
    mut counters: [[S::u32s; 4]; R],
    keys: &[[u32; 2]; ROUNDS],
) -> [[S::u32s; 4]; R] {
    for &[k0, k1] in keys {
        for [c0, c1, c2, c3] in &mut counters {
            // 1.
            let (low_a, high_a) = simd.widening_mul_u32s(*c0, simd.splat_u32s(A));
            let (low_b, high_b) = simd.widening_mul_u32s(*c2, simd.splat_u32s(B));
            // 2.
            *c0 = simd.xor_u32s(simd.xor_u32s(high_b, *c1), simd.splat_u32s(k0));
            *c2 = simd.xor_u32s(simd.xor_u32s(high_a, *c3), simd.splat_u32s(k1));
            // 3.
            *c1 = low_b;
            *c3 = low_a;
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random123's `kat_vectors`, the lines of philox4x32 with ten rounds.
    #[test]
    fn words_equal_the_known_answers_of_random123() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([!0; 4], [!0; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox4x32(counter, key), expected, "{counter:x?} {key:x?}");
        }
    }
}
