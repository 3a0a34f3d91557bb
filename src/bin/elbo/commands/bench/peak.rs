//! The rate of fused multiply-adds that a processor reaches: the limit of everything that is made
//! of products.
//!
//! Each chain is `a = a·½ + 1`, one register of it. A core that starts two multiply-adds a cycle and
//! ends each four cycles later needs eight chains at least; more of them hide the rest, as long as
//! every chain, the factor and the term keep a register to themselves: of 32 with AVX-512 and NEON,
//! of 16 with AVX2. The chains converge to 2, so nothing overflows or becomes subnormal.

use super::clock::Timing;
use super::team;
use elbo::simd::InstructionSet;
use pulp::{Simd, WithSimd};
use std::hint::black_box;

const ROUNDS: usize = 8;
/// What a round lasts, about: short, so that some rounds pass without an interruption.
const ROUND_SECONDS: f64 = 2.5e-3;

/// Seconds a floating-point operation, of which a multiply-add is two, on `threads` threads at once.
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

/// How many chains there are.
fn chains(simd: InstructionSet) -> usize {
    match simd.name() {
        "avx512" | "neon" => 24,
        "avx2" => 12,
        // Without registers of one's own choosing, and perhaps without fused multiply-add.
        _ => 4,
    }
}

/// Adds `links` links to every chain.
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
        // Behind black boxes, or the compiler would see equal chains, or their limit.
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
