//! The processor's peak rate of fused multiply-adds: the limit of all matrix products.
//!
//! Each chain is `a = a·½ + 1` in one register. A core that starts two multiply-adds per cycle with a latency
//! of four needs at least eight chains; more of them hide other delays, as long as each chain, the factor
//! and the term have their own register: of 32 with AVX-512 and NEON, of 16 with AVX2. The chains converge
//! to 2, so nothing overflows or becomes subnormal.

use super::clock::Timing;
use super::team;
use elbo::simd::InstructionSet;
use pulp::{Simd, WithSimd};
use std::hint::black_box;

const ROUNDS: usize = 8;
/// Approximate duration of a round, short enough that some rounds are not interrupted.
const ROUND_SECONDS: f64 = 2.5e-3;

/// Seconds per floating-point operation on `threads` threads together; a multiply-add counts as two.
pub fn measure(simd: InstructionSet, threads: usize) -> Timing {
    let mut links = 64;
    let links = loop {
        let seconds = team::time(&mut [()], 1, |()| run(simd, links)).best;
        if seconds > ROUND_SECONDS / 8.0 {
            break (links as f64 * ROUND_SECONDS / seconds).ceil() as u64;
        }
        links *= 4;
    };
    let round = team::time(&mut vec![(); threads], ROUNDS, |()| run(simd, links));
    let flop = 2 * links * (simd.lanes() * chains(simd) * threads) as u64;
    round.divided(flop as f64)
}

/// The number of independent chains.
fn chains(simd: InstructionSet) -> usize {
    match simd.name() {
        "avx512" | "neon" => 24,
        "avx2" => 12,
        // Scalar code: the compiler allocates the registers, and fused multiply-add may be emulated.
        _ => 4,
    }
}

/// Runs `links` multiply-adds in each chain.
fn run(simd: InstructionSet, links: u64) {
    match chains(simd) {
        24 => simd.dispatch(Chains::<24> { links }),
        12 => simd.dispatch(Chains::<12> { links }),
        _ => simd.dispatch(Chains::<4> { links }),
    }
}

struct Chains<const N: usize> {
    links: u64,
}

impl<const N: usize> WithSimd for Chains<N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // The black boxes keep the compiler from merging equal chains or computing their limit.
        let factor = simd.splat_f32s(black_box(0.5));
        let term = simd.splat_f32s(black_box(1.0));
        let mut chains = [factor; N];
        for chain in &mut chains {
            *chain = simd.splat_f32s(black_box(0.0));
        }
        for _ in 0..self.links {
            for chain in &mut chains {
                *chain = simd.mul_add_f32s(*chain, factor, term);
            }
        }
        let mut sum = term;
        for chain in chains {
            sum = simd.add_f32s(sum, chain);
        }
        black_box(simd.reduce_sum_f32s(sum));
    }
}
