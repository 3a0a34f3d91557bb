//! The speed of memory at a given footprint: the triad `a[i] = b[i] + s·c[i]`, and reading alone.
//!
//! Threads take contiguous parts and pass over them independently, many times per round if the parts are
//! short.

use super::clock::Timing;
use super::team;
use elbo::simd::{AlignedBuffer, InstructionSet};
use pulp::{Simd, WithSimd};
use std::hint::black_box;

const ROUNDS: usize = 8;
/// Approximate minimum duration of a round.
const ROUND_SECONDS: f64 = 2.5e-3;

/// Bytes that the triad reads and writes per element. (A processor that fetches a cache line before it is
/// overwritten moves a third more.)
pub const TRIAD_BYTES: usize = 12;

/// Seconds per pass of the triad over arrays of `elements`, divided among `threads`.
pub fn triad(simd: InstructionSet, threads: usize, elements: usize) -> Timing {
    let [mut a, b, c] = [0.0, 1.0, 2.0].map(|value| AlignedBuffer::filled(elements, value));
    let part = part(elements, threads);
    let mut shares: Vec<_> = a.chunks_mut(part).zip(b.chunks(part).zip(c.chunks(part))).collect();
    passes(&mut shares, |(a, (b, c))| {
        simd.dispatch(Triad { a, b, c });
        black_box(a);
    })
}

/// Seconds per pass that sums `elements` numbers, divided among `threads`.
pub fn read(simd: InstructionSet, threads: usize, elements: usize) -> Timing {
    let x = AlignedBuffer::filled(elements, 1.0);
    let mut shares: Vec<_> = x.chunks(part(elements, threads)).collect();
    passes(&mut shares, |x| {
        black_box(simd.dispatch(Sum(black_box(x))));
    })
}

/// The length of a thread's part, in whole cache lines.
fn part(elements: usize, threads: usize) -> usize {
    elements.div_ceil(threads).next_multiple_of(16).max(16)
}

/// Times a concurrent pass over all shares.
fn passes<T: Send>(shares: &mut [T], pass: impl Fn(&mut T) + Sync) -> Timing {
    let mut time = |rounds: usize, count: usize| {
        let round = |share: &mut T| (0..count).for_each(|_| pass(share));
        team::time(shares, rounds, round).divided(count as f64)
    };
    let seconds = time(1, 1).best;
    time(ROUNDS, (ROUND_SECONDS / seconds).ceil() as usize)
}

struct Triad<'a> {
    a: &'a mut [f32],
    b: &'a [f32],
    c: &'a [f32],
}

impl WithSimd for Triad<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let s = simd.splat_f32s(0.5);
        // Not fused, because an emulated fused multiply-add would be slower than memory.
        let (a, a_rest) = S::as_mut_simd_f32s(self.a);
        let (b, b_rest) = S::as_simd_f32s(self.b);
        let (c, c_rest) = S::as_simd_f32s(self.c);
        for ((a, &b), &c) in a.iter_mut().zip(b).zip(c) {
            *a = simd.add_f32s(b, simd.mul_f32s(s, c));
        }
        for ((a, &b), &c) in a_rest.iter_mut().zip(b_rest).zip(c_rest) {
            *a = b + 0.5 * c;
        }
    }
}

/// A sum in eight registers, enough to hide the latency of additions at two per cycle.
struct Sum<'a>(&'a [f32]);

impl WithSimd for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (x, rest) = S::as_simd_f32s(self.0);
        let (groups, tail) = x.as_chunks::<8>();
        let mut sums = [simd.splat_f32s(0.0); 8];
        for group in groups {
            for (sum, &x) in sums.iter_mut().zip(group) {
                *sum = simd.add_f32s(*sum, x);
            }
        }
        let mut sum = simd.splat_f32s(0.0);
        for &x in sums.iter().chain(tail) {
            sum = simd.add_f32s(sum, x);
        }
        simd.reduce_sum_f32s(sum) + rest.iter().sum::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triad_and_sum_visit_every_element() {
        for simd in InstructionSet::available() {
            for n in [0, 1, 16, 200, 333] {
                let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
                assert_eq!(simd.dispatch(Sum(&x)), (n * n.max(1) - n) as f32 / 2.0, "{simd}, {n}");
                let mut a = vec![f32::NAN; n];
                simd.dispatch(Triad { a: &mut a, b: &x, c: &x });
                assert!(a.iter().zip(&x).all(|(a, x)| *a == 1.5 * x), "{simd}, {n}");
            }
        }
    }
}
