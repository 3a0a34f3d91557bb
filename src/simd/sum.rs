//! Sums whose bits depend on neither the register width nor the number of threads.
//!
//! # Method
//! 1. Element `i` belongs to lane `i mod 16`. Eight groups of 16 are added lane by lane in f32.
//! 2. Every eight groups the lanes are folded into a pair (high, low) of f32 with Knuth's
//!    two-sum, which loses nothing: `high + low` carries some 48 bits.
//! 3. At the end `high + low` of each lane is exact in f64, and the 16 lanes are added in f64
//!    by the tree ((0+8)+(4+12)) …: halves onto halves.
//!
//! # Error
//! Only step 1 rounds to f32, in chains of at most eight terms: the first term is exact and the
//! seven additions after it are each off by at most 2⁻²⁴ of the partial sum. For terms of one
//! sign the relative error is below 7·2⁻²⁴ ≈ 4.2e-7 whatever the length (steps 2 and 3 add less
//! than n·2⁻⁴⁸).

use super::LANES;
use super::lanes::{F32x16, Lanewise, groups};
use pulp::Simd;

/// Groups added in plain f32 before they are folded into the pair.
pub(crate) const CHAIN: u32 = 8;

/// Returns `a + b` rounded, and the error of that rounding, whichever of the two is larger (Knuth).
///
/// Six additions and no comparison, in this order: another one would lose the error. Where the sum is
/// infinite the error is NaN.
#[inline(always)]
pub(crate) fn two_sum<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> [S::f32s; 2] {
    let sum = simd.add_f32s(a, b);
    let b_rounded = simd.sub_f32s(sum, a);
    let a_rounded = simd.sub_f32s(sum, b_rounded);
    let error = simd.add_f32s(simd.sub_f32s(a, a_rounded), simd.sub_f32s(b, b_rounded));
    [sum, error]
}

/// The running sum of a row, lane by lane.
#[derive(Clone, Copy)]
pub(crate) struct LaneSum<S: Simd> {
    chain: F32x16<S>,
    length: u32,
    high: F32x16<S>,
    low: F32x16<S>,
}

impl<S: Simd> LaneSum<S> {
    #[inline(always)]
    pub(crate) fn new(simd: S) -> Self {
        let zero = F32x16::splat(simd, 0.0);
        Self { chain: zero, length: 0, high: zero, low: zero }
    }

    /// Adds one group of 16 terms. Lanes beyond the end of a short row must hold zero.
    #[inline(always)]
    pub(crate) fn add(&mut self, simd: S, terms: F32x16<S>) {
        // 1.
        self.chain = self.chain.add(simd, terms);
        self.length += 1;
        if self.length == CHAIN {
            self.fold(simd);
        }
    }

    /// Folds the chain into (high, low) by Knuth's two-sum (step 2) and starts a new one.
    #[inline(always)]
    fn fold(&mut self, simd: S) {
        // 2. `low` takes what `high` loses.
        for v in 0..F32x16::<S>::VECTORS {
            let [sum, error] = two_sum(simd, self.high.0[v], self.chain.0[v]);
            self.high.0[v] = sum;
            self.low.0[v] = simd.add_f32s(self.low.0[v], error);
        }
        // A chain of eight, so that its rounding error does not grow with the row.
        self.chain = F32x16::splat(simd, 0.0);
        self.length = 0;
    }

    /// Returns the sum of all lanes (step 3). A NaN or ±∞ among the terms is the sum; a lane that exceeds
    /// the range of f32 is ∞.
    #[inline(always)]
    pub(crate) fn total(mut self, simd: S) -> f64 {
        self.fold(simd);
        let (mut high, mut low) = ([0.0; LANES], [0.0; LANES]);
        self.high.store(&mut high);
        self.low.store(&mut low);
        // 3.
        let total = lanes_total(simd, &high, Some(&low));
        if total.is_finite() {
            return total;
        }
        // Where `high` is infinite the error term of the two-sum is NaN and does not count.
        tree(std::array::from_fn(|i| {
            let low = if high[i].is_finite() { low[i] } else { 0.0 };
            f64::from(high[i]) + f64::from(low)
        }))
    }
}

/// Returns the [total](LaneSum::total) of at most [`CHAIN`] groups that were added lane by lane from zero.
///
/// A single chain is its own high part, without an error term, so infinities need no special case.
#[inline(always)]
pub(crate) fn chain_total<S: Simd>(simd: S, chain: F32x16<S>) -> f64 {
    let mut lanes = [0.0; LANES];
    chain.store(&mut lanes);
    lanes_total(simd, &lanes, None)
}

/// Returns the [`tree`] sum of `high + low`, or of `high` alone.
#[inline(always)]
fn lanes_total<S: Simd>(simd: S, high: &[f32; LANES], low: Option<&[f32; LANES]>) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if let Some(v3) = super::avx2(simd) {
        // The tree in registers. The compiler would vectorize over several rows, with more shuffles
        // than additions.
        let (avx, sse2) = (v3.avx, v3.sse2);
        let mut fours = [avx._mm256_setzero_pd(); 4];
        for (four, high) in fours.iter_mut().zip(high.as_chunks::<4>().0) {
            *four = avx._mm256_cvtps_pd(pulp::cast(*high));
        }
        if let Some(low) = low {
            for (four, low) in fours.iter_mut().zip(low.as_chunks::<4>().0) {
                *four = avx._mm256_add_pd(*four, avx._mm256_cvtps_pd(pulp::cast(*low)));
            }
        }
        // (0+8)+(4+12) in each of four lanes, then the halves of the four.
        let even = avx._mm256_add_pd(fours[0], fours[2]);
        let odd = avx._mm256_add_pd(fours[1], fours[3]);
        let four = avx._mm256_add_pd(even, odd);
        let upper = avx._mm256_extractf128_pd::<1>(four);
        let two = sse2._mm_add_pd(avx._mm256_castpd256_pd128(four), upper);
        return sse2._mm_cvtsd_f64(sse2._mm_add_sd(two, sse2._mm_unpackhi_pd(two, two)));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = simd;
    let mut lanes = high.map(f64::from);
    if let Some(low) = low {
        for (lane, &low) in lanes.iter_mut().zip(low) {
            *lane += f64::from(low);
        }
    }
    tree(lanes)
}

/// Returns the sum of the lanes, halves onto halves.
#[inline(always)]
fn tree(mut lanes: [f64; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            // Lane i and lane i + width: 8 apart, then 4, 2 and 1.
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Sums `f(a[i], x[i])` over a row; all slices have the same length.
#[inline(always)]
pub(crate) fn sum_row<S: Simd, const IN: usize>(
    simd: S,
    a: &[f32],
    x: [&[f32]; IN],
    f: impl Lanewise<1, IN>,
) -> f64 {
    #[inline(always)]
    fn terms<S: Simd, const IN: usize>(
        simd: S,
        mut a: F32x16<S>,
        x: &[F32x16<S>; IN],
        f: impl Lanewise<1, IN>,
    ) -> F32x16<S> {
        for v in 0..F32x16::<S>::VECTORS {
            let mut inputs = [simd.splat_f32s(0.0); IN];
            for (input, x) in inputs.iter_mut().zip(x) {
                *input = x.0[v];
            }
            // Each term rounds to f32 once, before the chain.
            [a.0[v]] = f.apply(simd, [a.0[v]], inputs);
        }
        a
    }
    let mut sum = LaneSum::new(simd);
    let (a, x) = (groups(a), x.map(groups));
    let mut loaded = [F32x16::splat(simd, 0.0); IN];
    for (g, a) in a.0.iter().enumerate() {
        for (loaded, (whole, _)) in loaded.iter_mut().zip(&x) {
            *loaded = F32x16::load(simd, &whole[g]);
        }
        sum.add(simd, terms(simd, F32x16::load(simd, a), &loaded, f));
    }
    // A short last group is filled up with zeros, whose terms need not be 0: `first` takes them out.
    if !a.1.is_empty() {
        for (loaded, (_, tail)) in loaded.iter_mut().zip(&x) {
            *loaded = F32x16::load_tail(simd, tail);
        }
        let terms = terms(simd, F32x16::load_tail(simd, a.1), &loaded, f);
        sum.add(simd, terms.first(simd, a.1.len()));
    }
    sum.total(simd)
}

/// Rows of a leaf of [`sum_rows`], which are added in order.
pub(crate) const LEAF: usize = 64;

/// Returns the sum over rows: leaves of 64 rows in order, leaves joined by halving. The shape of
/// the tree depends on the number of rows alone.
pub(crate) fn sum_rows(rows: &[f64]) -> f64 {
    if rows.len() <= LEAF {
        return rows.iter().sum();
    }
    let (left, right) = rows.split_at(split_point(rows.len()));
    sum_rows(left) + sum_rows(right)
}

/// Number of rows in the first half of `n` rows, which are more than one leaf: half the leaves.
pub(crate) fn split_point(n: usize) -> usize {
    n.div_ceil(LEAF) / 2 * LEAF
}

/// Returns true if `n` rows are a single leaf, to be added in order.
pub(crate) fn is_leaf(n: usize) -> bool {
    n <= LEAF
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;
    use crate::simd::lanes::groups;
    use pulp::WithSimd;

    struct Sum<'a>(&'a [f32]);

    impl WithSimd for Sum<'_> {
        type Output = f64;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f64 {
            let mut sum = LaneSum::new(simd);
            let (head, tail) = groups(self.0);
            for group in head {
                sum.add(simd, F32x16::load(simd, group));
            }
            sum.add(simd, F32x16::load_tail(simd, tail));
            sum.total(simd)
        }
    }

    #[test]
    fn instruction_sets_agree_to_the_bit() {
        for n in (0..=67).chain([784, 1000, 4099]) {
            let terms: Vec<f32> = (0..n).map(|i| ((i * 37 + 11) % 101) as f32 / 7.0).collect();
            let expected = InstructionSet::SCALAR.dispatch(Sum(&terms));
            for set in InstructionSet::available() {
                assert_eq!(set.dispatch(Sum(&terms)).to_bits(), expected.to_bits(), "{set}, n={n}");
            }
            let exact: f64 = terms.iter().map(|&t| f64::from(t)).sum();
            assert!((expected - exact).abs() <= 4.2e-7 * exact, "n={n}: {expected} {exact}");
        }
    }

    #[test]
    fn a_chain_has_the_total_of_a_lane_sum() {
        struct Both<'a>(&'a [f32]);
        impl WithSimd for Both<'_> {
            type Output = [f64; 2];
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) -> [f64; 2] {
                let (mut sum, mut chain) = (LaneSum::new(simd), F32x16::splat(simd, 0.0));
                for group in groups(self.0).0 {
                    let group = F32x16::load(simd, group);
                    sum.add(simd, group);
                    chain = chain.add(simd, group);
                }
                [sum.total(simd), chain_total(simd, chain)]
            }
        }
        for number in 0..=CHAIN as usize {
            let plain: Vec<f32> =
                (0..number * LANES).map(|i| ((i * 37 + 11) % 101) as f32 / 7.0 - 6.0).collect();
            for special in [0.5, -0.0, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
                for place in 0..plain.len().max(1) {
                    let mut terms = plain.clone();
                    if let Some(term) = terms.get_mut(place) {
                        *term = special;
                    }
                    for set in InstructionSet::available() {
                        let [sum, chain] = set.dispatch(Both(&terms));
                        let same =
                            sum.to_bits() == chain.to_bits() || sum.is_nan() && chain.is_nan();
                        assert!(same, "{set} {number} {special} {place}: {sum} {chain}");
                    }
                }
            }
        }
    }

    #[test]
    fn sums_of_long_rows_stay_accurate() {
        // A plain f32 sum of this row stops growing at 2²⁴·0.1.
        let terms = vec![0.1_f32; 3_000_000];
        let sum = InstructionSet::detect().dispatch(Sum(&terms));
        let exact = 3e6 * f64::from(0.1_f32);
        assert!((sum / exact - 1.0).abs() < 4.2e-7, "{sum} {exact}");
    }

    #[test]
    fn totals_keep_infinities_and_nan() {
        for (term, position) in [(f32::INFINITY, 0), (f32::NEG_INFINITY, 700), (f32::NAN, 33)] {
            let mut terms = vec![1.0_f32; 1000];
            terms[position] = term;
            let sum = InstructionSet::detect().dispatch(Sum(&terms));
            assert!(sum == f64::from(term) || (sum.is_nan() && term.is_nan()), "{term}: {sum}");
        }
    }

    #[test]
    fn rows_are_summed_by_a_fixed_tree() {
        let rows: Vec<f64> = (0..1000).map(|i| 1.0 / f64::from(i + 1)).collect();
        let split = split_point(1000);
        assert_eq!(split % 64, 0);
        assert_eq!(sum_rows(&rows), sum_rows(&rows[..split]) + sum_rows(&rows[split..]));
        assert_eq!(sum_rows(&rows[..64]), rows[..64].iter().sum::<f64>());
    }
}
