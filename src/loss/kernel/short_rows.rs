//! A term over short rows, several at a time.
//!
//! A lane function is a chain of some fifty operations that wait for each other, and so is the
//! sum of a row's lanes. A long row has many registers whose chains overlap; a row of one or two
//! spends its time waiting. Here a tile of rows goes through each part together:
//!
//! 1. stage 1 of the lane function, of all groups;
//! 2. stage 2, the gradients, and the lanes' sums of each row;
//! 3. the sum of each row's lanes;
//! 4. if any row's sum is NaN, the whole tile again with `Term::fix_nonfinite`.
//!
//! Bits are those of [`row`](super::row): the same operations on the same elements.

use super::{Careful, StageBuffer, Term, accepted, lanes, load, stage1};
use crate::simd::lanes::F32x16;
use crate::simd::sum::{CHAIN, chain_total};
use crate::simd::{LANES, apart};
use pulp::{Simd, WithSimd};

/// The most elements of a short row: as many as a sum adds without folding.
pub(crate) const SHORT: usize = CHAIN as usize * LANES;

/// Groups of the rows that go together.
const TILE: usize = 16;

/// Elements, with their padding, of all rows that go together.
pub(crate) const SHORT_TILE: usize = TILE * LANES;

/// Some rows of an input, `stride` apart, with room for whole groups: what lies between the end
/// of a row and that of its last group is read, and may be anything but data out of range.
#[derive(Clone, Copy)]
pub(crate) struct InputRows<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) stride: usize,
}

impl<'a> InputRows<'a> {
    /// The groups of row `row`.
    #[inline(always)]
    pub(crate) fn row(self, row: usize, groups: usize) -> &'a [[f32; LANES]] {
        self.data[row * self.stride..][..groups * LANES].as_chunks().0
    }
}

/// Places of the gradients of some rows: gradient `i` of row `r` starts at
/// `starts[i] + r·stride`, and there is room for whole groups.
///
/// Each gradient is written in whole groups that are zero beyond the row's end. What lies there is
/// zero, or the next gradient of the row or of the next row, which is written after it.
pub(crate) struct GradientRows<'a, const G: usize> {
    pub(crate) data: &'a mut [f32],
    pub(crate) starts: [usize; G],
    pub(crate) stride: usize,
}

impl<const G: usize> GradientRows<'_, G> {
    /// Writes group `g` of the gradients of row `row`, from gradient `from` on.
    #[inline(always)]
    fn put<S: Simd>(&mut self, row: usize, g: usize, dgroup: [F32x16<S>; G], from: usize) {
        for (i, dgroup) in dgroup.iter().enumerate().skip(from) {
            let at = self.starts[i] + row * self.stride + g * LANES;
            let to = self.data[at..].first_chunk_mut();
            dgroup.store(to.expect("rows end in whole groups"));
        }
    }
}

/// Number of rows of `columns` elements, from 1 to [`SHORT`], that go together.
pub(crate) fn rows_together(columns: usize) -> usize {
    TILE / columns.div_ceil(LANES)
}

/// A term over `sums.len()` rows of `columns` elements, at most [`rows_together`] of them:
/// overwrites the gradients with `scale·∂term`, and the unscaled sums.
///
/// Returns `false` where some data may lie outside [`Term::ACCEPTS`], as
/// [`row`](super::row) does.
#[inline(always)]
pub(crate) fn short_rows<S: Simd, T: Term<I, G>, const I: usize, const G: usize>(
    simd: S,
    term: T,
    gradients: GradientRows<'_, G>,
    inputs: [InputRows<'_>; I],
    columns: usize,
    scale: f32,
    sums: &mut [f64],
) -> bool {
    struct Op<'a, T, const I: usize, const G: usize> {
        term: T,
        gradients: GradientRows<'a, G>,
        inputs: [InputRows<'a>; I],
        columns: usize,
        scale: f32,
        sums: &'a mut [f64],
    }
    impl<T: Term<I, G>, const I: usize, const G: usize> WithSimd for Op<'_, T, I, G> {
        type Output = bool;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> bool {
            let Self { term, mut gradients, inputs, columns, scale, sums } = self;
            pass(simd, term, &mut gradients, inputs, columns, scale, sums)
        }
    }
    debug_assert!((1..=SHORT).contains(&columns) && sums.len() <= rows_together(columns));
    // Reborrowed, because step 4 may need the gradients again.
    let GradientRows { data, starts, stride } = gradients;
    let gradients = GradientRows { data: &mut *data, starts, stride };
    let op = Op { term, gradients, inputs, columns, scale, sums: &mut *sums };
    let accepted = apart(simd, op);
    // 4.
    if T::FIXES_NONFINITE && sums.iter().any(|sum| sum.is_nan()) {
        let gradients = GradientRows { data, starts, stride };
        return apart(simd, Op { term: Careful(term), gradients, inputs, columns, scale, sums });
    }
    accepted
}

#[inline(always)]
fn pass<S: Simd, T: Term<I, G>, const I: usize, const G: usize>(
    simd: S,
    term: T,
    gradients: &mut GradientRows<'_, G>,
    inputs: [InputRows<'_>; I],
    columns: usize,
    scale: f32,
    sums: &mut [f64],
) -> bool {
    let groups = columns.div_ceil(LANES);
    // 1.
    let mut buffer = StageBuffer::<TILE>::new();
    if T::TWO_STAGE {
        for (row, buffer) in buffer.0.chunks_exact_mut(groups).take(sums.len()).enumerate() {
            let inputs = inputs.map(|input| input.row(row, groups));
            for (g, staged) in buffer.iter_mut().enumerate() {
                stage1(simd, term, load(simd, inputs, g)).store(staged);
            }
        }
    }
    let scale = simd.splat_f32s(scale);
    let mut largest = simd.splat_u32s(0);
    // 2.
    for (row, (sum, buffer)) in sums.iter_mut().zip(buffer.0.chunks_exact(groups)).enumerate() {
        let inputs = inputs.map(|input| input.row(row, groups));
        let mut chain = F32x16::splat(simd, 0.0);
        let mut head = [chain; G];
        for (g, staged) in buffer.iter().enumerate() {
            // Known when this is compiled.
            let staged = T::TWO_STAGE.then(|| F32x16::load(simd, staged));
            let group = load(simd, inputs, g);
            let (terms, mut dgroup) = lanes(simd, term, group, staged, scale, &mut largest);
            // The loss of the padding is not zero in general (softplus(0) = ln 2).
            let count = columns - g * LANES;
            chain = chain.add(simd, terms.first(simd, count));
            for dgroup in &mut dgroup {
                *dgroup = dgroup.first(simd, count);
            }
            gradients.put(row, g, dgroup, 0);
            if g == 0 {
                head = dgroup;
            }
        }
        // The zeros behind one gradient may lie on the beginning of the next one.
        gradients.put(row, 0, head, 1);
        // 3.
        *sum = chain_total(simd, chain);
    }
    accepted::<S, T, I, G>(largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::Bernoulli;
    use crate::loss::Prior;
    use crate::loss::kernel::{RowLoss, row};
    use crate::loss::kl::NormalKl;
    use crate::simd::InstructionSet;

    /// Rows of μ|logvar and of logits and data, with gaps of NaN that must not be read as data.
    struct ShortRows {
        rows: usize,
        columns: usize,
        stride: usize,
        pairs: Vec<f32>,
        logits: Vec<f32>,
        data: Vec<f32>,
    }

    impl ShortRows {
        fn new(rows: usize, columns: usize, special: f32) -> Self {
            let stride = (2 * columns).next_multiple_of(LANES) + LANES;
            let value = |salt: usize, width: usize| {
                (0..rows * stride + LANES)
                    .map(|i| match i % stride < width && i / stride < rows {
                        true => ((i * 37 + salt) % 101) as f32 / 10.0 - 5.0,
                        false => f32::NAN,
                    })
                    .collect::<Vec<f32>>()
            };
            let (pairs, mut logits) = (value(3, 2 * columns), value(11, columns));
            logits[(rows / 2) * stride + columns / 2] = special;
            let mut data = vec![0.0; rows * stride + LANES];
            for i in 0..rows * stride {
                if i % stride < columns {
                    data[i] = [0.0, 1.0, 0.25][i % 3];
                }
            }
            Self { rows, columns, stride, pairs, logits, data }
        }
    }

    /// Gradients and sums of both terms.
    #[derive(Clone)]
    struct Results {
        dpairs: Vec<f32>,
        dlogits: Vec<f32>,
        sums: Vec<f64>,
        accepted: bool,
    }

    struct Together<'a>(&'a ShortRows, &'a mut Results);

    impl WithSimd for Together<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(
                &ShortRows { rows, columns, stride, ref pairs, ref logits, ref data },
                results,
            ) = self;
            let (kl, reconstruction) = results.sums.split_at_mut(rows);
            let input = |data| InputRows { data, stride };
            let inputs = [input(pairs), input(&pairs[columns..])];
            let data_rows = &mut results.dpairs;
            let gradients = GradientRows { data: data_rows, starts: [0, columns], stride };
            short_rows(simd, NormalKl::new(Prior::default()), gradients, inputs, columns, 0.3, kl);
            let gradients = GradientRows { data: &mut results.dlogits, starts: [0], stride };
            let inputs = [input(logits), input(data)];
            results.accepted =
                short_rows(simd, Bernoulli, gradients, inputs, columns, 0.7, reconstruction);
        }
    }

    struct Alone<'a>(&'a ShortRows, &'a mut Results);

    impl WithSimd for Alone<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(
                &ShortRows { rows, columns, stride, ref pairs, ref logits, ref data },
                results,
            ) = self;
            for r in 0..rows {
                let range = r * stride..r * stride + columns;
                let (dmu, dlogvar) = results.dpairs[r * stride..].split_at_mut(columns);
                let (mu, logvar) = pairs[r * stride..].split_at(columns);
                let gradients = [dmu, &mut dlogvar[..columns]];
                let terms = [mu, &logvar[..columns]];
                results.sums[r] =
                    row(simd, NormalKl::new(Prior::default()), gradients, terms, 0.3).sum;
                let gradients = [&mut results.dlogits[range.clone()]];
                let inputs = [&logits[range.clone()], &data[range]];
                let RowLoss { sum, accepted } = row(simd, Bernoulli, gradients, inputs, 0.7);
                results.sums[rows + r] = sum;
                results.accepted &= accepted;
            }
        }
    }

    fn same(a: f32, b: f32) -> bool {
        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
    }

    #[test]
    fn has_the_bits_of_single_rows() {
        for columns in [1, 2, 7, 8, 15, 16, 17, 20, 30, 32, 33, 48, 64, 100, 128] {
            for special in [0.5, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
                for rows in [1, rows_together(columns)] {
                    let inputs = ShortRows::new(rows, columns, special);
                    let empty = Results {
                        dpairs: vec![0.0; inputs.pairs.len()],
                        dlogits: vec![0.0; inputs.pairs.len()],
                        sums: vec![0.0; 2 * rows],
                        accepted: true,
                    };
                    for set in InstructionSet::available() {
                        let (mut together, mut alone) = (empty.clone(), empty.clone());
                        set.dispatch(Together(&inputs, &mut together));
                        set.dispatch(Alone(&inputs, &mut alone));
                        let what = format!("{set}, {rows}x{columns}, {special}");
                        assert_eq!(together.accepted, alone.accepted, "{what}");
                        for (a, b) in together.sums.iter().zip(&alone.sums) {
                            let equal = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                            assert!(equal, "{what}: {a} {b}");
                        }
                        // Zero beyond the rows' ends, as before.
                        let pairs = together.dpairs.iter().zip(&alone.dpairs);
                        let logits = together.dlogits.iter().zip(&alone.dlogits);
                        for (i, (&a, &b)) in pairs.chain(logits).enumerate() {
                            assert!(same(a, b), "{what}, element {i}: {a} {b}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn flags_data_out_of_range() {
        for columns in [5, 16, 30] {
            let mut inputs = ShortRows::new(2, columns, 0.5);
            inputs.data[inputs.stride + columns - 1] = 1.5;
            let mut results = Results {
                dpairs: vec![0.0; inputs.pairs.len()],
                dlogits: vec![0.0; inputs.pairs.len()],
                sums: vec![0.0; 4],
                accepted: true,
            };
            for set in InstructionSet::available() {
                set.dispatch(Together(&inputs, &mut results));
                assert!(!results.accepted, "{set}, {columns} columns");
            }
        }
    }
}
