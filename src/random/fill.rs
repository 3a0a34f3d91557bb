//! Rows of uniform or normal numbers.
//!
//! # Method
//! 1. The counters of consecutive blocks fill the lanes of a register, two registers at a time.
//! 2. Philox turns each counter into four words ([`philox4x32_lanes`]).
//! 3. A pair of words of each block becomes two numbers: uniform ones by scaling, normal ones by the
//!    Box-Muller transform.
//! 4. Word `w` of block `b` belongs to column `64·⌊b/16⌋ + 16·w + b mod 16`, so a register of results is
//!    stored as it is, `16·w` columns to the right.

use super::philox::{philox4x32_lanes, schedule};
use super::{COLUMN_LIMIT, INDEX_LIMIT, Stream};
use crate::math::fixed_point::fraction;
use crate::math::log::log;
use crate::math::trig::sincos_turns;
use crate::simd::LANES;
use crate::simd::lanes::F32x16;
use pulp::Simd;

/// Columns of sixteen blocks of four words.
const GROUP: usize = 4 * LANES;

/// Bound of the difference between a normal number and its formula in exact arithmetic.
///
/// The logarithm is within 1 ULP, which the root halves; the root and the product round once
/// each: 3·2⁻²⁴ of a number that is at most 6.67, and the sine or cosine is off by at most 7e-8,
/// times the radius. Together 1.7e-6 at the worst; the largest error among 2²⁰ numbers is 5e-7.
pub const NORMAL_ERROR: f32 = 2e-6;

/// Key and counter of one row: all of the mapping except the column.
#[derive(Clone, Copy)]
pub(crate) struct RowKey {
    key: [u32; 2],
    /// The counter of column 0.
    counter: [u32; 4],
}

impl RowKey {
    /// Row `row` of step `step`, both below 2⁴⁸.
    #[inline(always)]
    pub(crate) fn new(seed: u64, stream: Stream, step: u64, row: u64) -> Self {
        debug_assert!(row < INDEX_LIMIT && step < INDEX_LIMIT);
        Self {
            // The table of the module header: stream, row and step each have their own bits.
            key: [seed as u32, (seed >> 32) as u32],
            counter: [
                (stream as u32) << 24,
                row as u32,
                step as u32,
                ((row >> 32) as u32 & 0xffff) | ((step >> 32) as u32) << 16,
            ],
        }
    }

    /// The rest of the row from column `columns` on, a multiple of 64.
    #[inline(always)]
    pub(crate) fn skip(mut self, columns: usize) -> Self {
        debug_assert!(columns.is_multiple_of(GROUP) && columns <= COLUMN_LIMIT);
        // Four words a block: 64 columns are 16 blocks.
        self.counter[0] = self.counter[0].wrapping_add((columns / 4) as u32);
        self
    }

    /// The counter of block `block`, which is below 2²⁴, and the key.
    #[inline(always)]
    pub(super) fn block(&self, block: u32) -> ([u32; 4], [u32; 2]) {
        debug_assert!(block < 1 << 24);
        let [c0, c1, c2, c3] = self.counter;
        ([c0 | block, c1, c2, c3], self.key)
    }
}

/// Conversion of two words of a block into the numbers of their two columns (step 3).
trait Pair: Copy {
    fn apply<S: Simd>(self, simd: S, words: [S::u32s; 2]) -> [S::f32s; 2];
}

#[derive(Clone, Copy)]
struct Uniform;

impl Pair for Uniform {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, words: [S::u32s; 2]) -> [S::f32s; 2] {
        let high = simd.splat_u32s(0xffff_ff00);
        [
            // The low 8 bits are cleared first: 24 bits are exact in f32.
            fraction(simd, simd.and_u32s(words[0], high), 0.0),
            fraction(simd, simd.and_u32s(words[1], high), 0.0),
        ]
    }
}

#[derive(Clone, Copy)]
struct Normal;

impl Pair for Normal {
    /// Box-Muller: a point in the plane whose squared radius is exponential and whose angle is
    /// uniform has two independent normal coordinates.
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, words: [S::u32s; 2]) -> [S::f32s; 2] {
        // Small `u` give the tail of the distribution, and floats are finest near 0. With the lowest
        // bit set the word is 2k + 1 and `u` the midpoint (k + ½)·2⁻³¹: not 0, and at most 1.
        let u = fraction(simd, simd.or_u32s(words[0], simd.splat_u32s(1)), 0.0);
        let radius = simd.sqrt_f32s(simd.mul_f32s(log(simd, u), simd.splat_f32s(-2.0)));
        // The angle is the word itself, in units of 2⁻³² turns.
        let (sine, cosine) = sincos_turns(simd, words[1]);
        [simd.mul_f32s(radius, cosine), simd.mul_f32s(radius, sine)]
    }
}

/// Overwrites `out[c]` with the uniform number of column `c`: a multiple of 2⁻²⁴ in [0, 1).
#[inline(always)]
pub(crate) fn fill_uniform_row<S: Simd>(simd: S, out: &mut [f32], key: RowKey) {
    fill_row(simd, out, key, Uniform);
}

/// Overwrites `out[c]` with the normal number of column `c`, within [`NORMAL_ERROR`].
#[inline(always)]
pub(crate) fn fill_normal_row<S: Simd>(simd: S, out: &mut [f32], key: RowKey) {
    fill_row(simd, out, key, Normal);
}

/// Columns of the first pair of words of sixteen blocks.
const PAIR: usize = 2 * LANES;

/// Overwrites the first `columns` numbers of each of `rows` rows of `out`, `stride` apart, with
/// those of [`fill_normal_row`]: row `i` is row `row(i)` of step `step`.
///
/// Each row of `out` has room for whole groups of 16; the rest of the last group becomes zero.
///
/// A row of up to 32 columns needs at most 16 blocks, and only the first pair of words of each, so
/// the registers hold the blocks of several rows.
#[inline(always)]
pub(crate) fn fill_normal_rows<S: Simd>(
    simd: S,
    out: &mut [f32],
    [rows, columns, stride]: [usize; 3],
    (seed, stream, step): (u64, Stream, u64),
    row: impl Fn(usize) -> u64,
) {
    // Wide rows fill registers on their own.
    let key = |i| RowKey::new(seed, stream, step, row(i));
    if columns > PAIR || columns == 0 {
        for i in 0..rows {
            fill_normal_row(simd, &mut out[i * stride..][..columns], key(i));
        }
        return;
    }
    // The keys of the rounds depend on the seed alone, so all rows share them.
    let schedule = schedule(RowKey::new(seed, stream, step, 0).key);
    let lanes = PackedLanes::new(columns.min(LANES).next_power_of_two());
    // With room for a group after the last row: whole groups are copied from any place.
    let mut numbers = Packed([0.0; PAIR + LANES], [0.0; PAIR + LANES]);
    for first in (0..rows).step_by(lanes.rows()) {
        let count = lanes.rows().min(rows - first);
        lanes.fill(simd, &mut numbers, &schedule, count, |i| key(first + i));
        for i in 0..count {
            // Row i of these rows has the lanes from i·blocks on.
            let from = i * lanes.blocks;
            let to = &mut out[(first + i) * stride..];
            for (half, numbers) in [&numbers.0, &numbers.1].into_iter().enumerate() {
                if columns > half * LANES {
                    let group = numbers[from..].first_chunk().expect("room for a group");
                    let group = F32x16::load(simd, group).first(simd, columns - half * LANES);
                    let to = to[half * LANES..].first_chunk_mut();
                    group.store(to.expect("rows end in whole groups"));
                }
            }
        }
    }
}

/// Numbers of columns 0 to 15, and of columns 16 to 31, of several rows, on cache lines.
#[repr(align(64))]
struct Packed([f32; PAIR + LANES], [f32; PAIR + LANES]);

/// Assignment of lanes to blocks of rows in the registers of [`fill_normal_rows`].
#[repr(align(64))]
struct PackedLanes {
    row: [u32; PAIR],
    block: [u32; PAIR],
    /// Blocks of a row, a divisor of 16.
    blocks: usize,
}

impl PackedLanes {
    #[inline(always)]
    fn new(blocks: usize) -> Self {
        let (shift, mask) = (blocks.trailing_zeros(), blocks as u32 - 1);
        let lanes: [u32; PAIR] = std::array::from_fn(|lane| lane as u32);
        Self { row: lanes.map(|lane| lane >> shift), block: lanes.map(|lane| lane & mask), blocks }
    }

    fn rows(&self) -> usize {
        PAIR / self.blocks
    }

    /// Computes the normal numbers of the first pair of words of the blocks of `count` rows.
    #[inline(always)]
    fn fill<S: Simd>(
        &self,
        simd: S,
        numbers: &mut Packed,
        schedule: &[[u32; 2]; 10],
        count: usize,
        key: impl Fn(usize) -> RowKey,
    ) {
        let rows = S::as_simd_u32s(&self.row).0.as_chunks::<2>().0;
        let blocks = S::as_simd_u32s(&self.block).0.as_chunks::<2>().0;
        let low = S::as_mut_simd_f32s(&mut numbers.0).0.as_chunks_mut::<2>().0;
        let high = S::as_mut_simd_f32s(&mut numbers.1).0.as_chunks_mut::<2>().0;
        for (((rows, blocks), low), high) in rows.iter().zip(blocks).zip(low).zip(high) {
            // 1. All lanes start with row 0 of these rows; the others then get their own row's words,
            // of which only two depend on the row.
            let [c0, c1, c2, c3] = key(0).counter.map(|word| simd.splat_u32s(word));
            let mut counters = [[c0, c1, c2, c3]; 2];
            for (counter, &block) in counters.iter_mut().zip(blocks) {
                counter[0] = simd.or_u32s(c0, block);
            }
            for i in 1..count {
                let [_, c1, _, c3] = key(i).counter;
                for (counter, &row) in counters.iter_mut().zip(rows) {
                    let here = simd.equal_u32s(row, simd.splat_u32s(i as u32));
                    counter[1] = simd.select_u32s(here, simd.splat_u32s(c1), counter[1]);
                    counter[3] = simd.select_u32s(here, simd.splat_u32s(c3), counter[3]);
                }
            }
            // 2. and 3.
            let words = philox4x32_lanes(simd, counters, schedule);
            for (r, words) in words.iter().enumerate() {
                [low[r], high[r]] = Normal.apply(simd, [words[0], words[1]]);
            }
        }
    }
}

#[inline(always)]
fn fill_row<S: Simd, P: Pair>(simd: S, out: &mut [f32], key: RowKey, pair: P) {
    debug_assert!(out.len() <= COLUMN_LIMIT);
    let keys = schedule(key.key);
    let (twos, rest) = out.as_chunks_mut::<{ 2 * GROUP }>();
    let mut counter = key.counter;
    for two in twos {
        // Two groups of 64 columns are 32 blocks: two registers even with 16 lanes.
        fill_groups(simd, two, &counter, &keys, pair, 2);
        counter[0] += 2 * LANES as u32;
    }
    let (one, tail) = rest.as_chunks_mut::<GROUP>();
    for one in one {
        fill_groups(simd, one, &counter, &keys, pair, 2);
        counter[0] += LANES as u32;
    }
    if !tail.is_empty() {
        // Latent rows are mostly short: words past the end of the row are not converted.
        let pairs = tail.len().div_ceil(2 * LANES);
        let mut group = [0.0; GROUP];
        fill_groups(simd, &mut group, &counter, &keys, pair, pairs);
        tail.copy_from_slice(&group[..tail.len()]);
    }
}

/// Fills one or two whole groups from block `counter` on, two registers of blocks at a time where
/// there are two. Only the first `pairs` pairs of words are used.
#[inline(always)]
fn fill_groups<S: Simd, P: Pair, const COLUMNS: usize>(
    simd: S,
    out: &mut [f32; COLUMNS],
    counter: &[u32; 4],
    keys: &[[u32; 2]; 10],
    pair: P,
    pairs: usize,
) {
    let out = S::as_mut_simd_f32s(out).0;
    if out.len() == 4 {
        fill_registers::<S, P, 1>(simd, out, 0, counter, keys, pair, pairs);
    } else {
        for first in (0..out.len() / 4).step_by(2) {
            fill_registers::<S, P, 2>(simd, out, first, counter, keys, pair, pairs);
        }
    }
}

/// Computes the numbers of registers `first..first + R` of consecutive blocks.
#[inline(always)]
fn fill_registers<S: Simd, P: Pair, const R: usize>(
    simd: S,
    out: &mut [S::f32s],
    first: usize,
    counter: &[u32; 4],
    keys: &[[u32; 2]; 10],
    pair: P,
    pairs: usize,
) {
    const INDEX: [u32; LANES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    let index = S::as_simd_u32s(&INDEX).0[0];
    let vectors = LANES / S::F32_LANES;

    // 1. Only word 0 of the counter differs between blocks.
    let &[c0, c1, c2, c3] = counter;
    let row = [index, simd.splat_u32s(c1), simd.splat_u32s(c2), simd.splat_u32s(c3)];
    let mut blocks = [row; R];
    for (i, block) in blocks.iter_mut().enumerate() {
        let start = c0 + ((first + i) * S::F32_LANES) as u32;
        block[0] = simd.add_u32s(index, simd.splat_u32s(start));
    }
    // 2.
    let words = philox4x32_lanes(simd, blocks, keys);

    // 3. and 4.
    for p in 0..pairs {
        for (i, words) in words.iter().enumerate() {
            let register = first + i;
            // The group of 64 columns, the place in its first 16, then 32 columns for each pair.
            let at = register / vectors * 4 * vectors + register % vectors + 2 * p * vectors;
            let numbers = pair.apply(simd, [words[2 * p], words[2 * p + 1]]);
            out[at] = numbers[0];
            out[at + vectors] = numbers[1];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::philox::philox4x32;
    use super::*;
    use crate::random::Generator;
    use crate::simd::InstructionSet;
    use ndarray::Array2;
    use pulp::WithSimd;

    struct Row<'a> {
        out: &'a mut [f32],
        key: RowKey,
        normal: bool,
    }

    impl WithSimd for Row<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            if self.normal {
                fill_normal_row(simd, self.out, self.key);
            } else {
                fill_uniform_row(simd, self.out, self.key);
            }
        }
    }

    fn row(set: InstructionSet, n: usize, key: RowKey, normal: bool) -> Vec<f32> {
        let mut out = vec![f32::NAN; n];
        set.dispatch(Row { out: &mut out, key, normal });
        out
    }

    /// The mapping of the module's documentation, one number at a time.
    fn words(seed: u64, stream: Stream, step: u64, row: u64, column: usize) -> ([u32; 4], usize) {
        let block = (column / 64 * 16 + column % 16) as u32;
        let counter = [
            block + stream as u32 * (1 << 24),
            (row % (1 << 32)) as u32,
            (step % (1 << 32)) as u32,
            ((row >> 32) + ((step >> 32) << 16)) as u32,
        ];
        (philox4x32(counter, [seed as u32, (seed >> 32) as u32]), column / 16 % 4)
    }

    fn uniform(words: ([u32; 4], usize)) -> f32 {
        (f64::from(words.0[words.1] >> 8) / f64::from(1 << 24)) as f32
    }

    fn normal((words, word): ([u32; 4], usize)) -> f64 {
        let u = f64::from((f64::from(words[word & 2] | 1) / 4_294_967_296.0) as f32);
        let angle = std::f64::consts::TAU * (f64::from(words[word | 1]) / 4_294_967_296.0);
        let radius = (-2.0 * u.ln()).sqrt();
        if word.is_multiple_of(2) { radius * angle.cos() } else { radius * angle.sin() }
    }

    /// Seeds, steps and rows that use every bit of their fields.
    const PLACES: [(u64, Stream, u64, u64); 6] = [
        (0, Stream::Initialize, 0, 0),
        (1, Stream::Noise, 1, 2),
        (0x0123_4567_89ab_cdef, Stream::Prior, 0xffff_ffff, 0x1_0000_0000),
        (u64::MAX, Stream::Evaluate, (1 << 48) - 1, (1 << 48) - 1),
        (42, Stream::Shuffle, 0x1234_5678_9abc, 0xcba9_8765_4321),
        (3, Stream::EvaluateDequantize, 9, 8),
    ];

    #[test]
    fn numbers_follow_the_mapping_on_every_instruction_set() {
        for (seed, stream, step, index) in PLACES {
            let key = RowKey::new(seed, stream, step, index);
            let twin: Vec<f32> =
                (0..1000).map(|c| uniform(words(seed, stream, step, index, c))).collect();
            let normals = row(InstructionSet::SCALAR, 1000, key, true);
            for (column, &found) in normals.iter().enumerate() {
                let exact = normal(words(seed, stream, step, index, column));
                let error = (f64::from(found) - exact).abs();
                assert!(error < f64::from(NORMAL_ERROR), "column {column}: {found} {exact}");
            }
            for set in InstructionSet::available() {
                for n in (0..=131).chain([1000]) {
                    assert_eq!(row(set, n, key, false), twin[..n], "{set}, n={n}");
                    let found = row(set, n, key, true);
                    let same = found.iter().zip(&normals).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{set}, n={n}");
                }
            }
        }
    }

    #[test]
    fn rows_drawn_together_equal_rows_drawn_alone() {
        struct Together<'a>(&'a mut [f32], [usize; 3], (u64, Stream, u64), &'a [u64]);
        impl WithSimd for Together<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self(out, shape, key, rows) = self;
                fill_normal_rows(simd, out, shape, key, |i| rows[i]);
            }
        }
        let (seed, stream, step) = (0x0123_4567_89ab_cdef, Stream::Noise, (1 << 48) - 2);
        let numbers: Vec<u64> = (0..70)
            .map(|i| if i % 3 == 0 { i } else { (i * 0x1234_5678_9abc) % (1 << 48) })
            .collect();
        for set in InstructionSet::available() {
            for columns in [1_usize, 2, 3, 4, 5, 8, 9, 15, 16, 17, 20, 31, 32, 33, 70] {
                let stride = columns.next_multiple_of(LANES) + LANES;
                for rows in [0, 1, 3, 4, 32, 70] {
                    let mut out = vec![f32::NAN; rows * stride];
                    let key = (seed, stream, step);
                    set.dispatch(Together(&mut out, [rows, columns, stride], key, &numbers));
                    for (out, &number) in out.chunks(stride).zip(&numbers) {
                        let key = RowKey::new(seed, stream, step, number);
                        let alone = row(set, columns, key, true);
                        assert_eq!(out[..columns], alone, "{set}, {rows}x{columns}");
                        let padding = &out[columns..];
                        assert!(padding.iter().all(|v| *v == 0.0 || v.is_nan()), "{set}");
                    }
                }
            }
        }
    }

    #[test]
    fn normal_numbers_are_within_their_error_bound() {
        let n = 1 << 20;
        let (seed, stream, step, index) = (5, Stream::Noise, 6, 7);
        let found = row(InstructionSet::detect(), n, RowKey::new(seed, stream, step, index), true);
        let mut worst = 0.0_f64;
        for (column, &found) in found.iter().enumerate() {
            let exact = normal(words(seed, stream, step, index, column));
            worst = worst.max((f64::from(found) - exact).abs());
        }
        println!("normal numbers: worst error {worst:e}");
        assert!(worst < f64::from(NORMAL_ERROR), "{worst:e}");
    }

    /// The extremes of the first word, where the radius is largest and where `u` rounds to 1.
    #[test]
    fn normal_numbers_are_finite_at_both_ends_of_the_radius() {
        struct Ends<'a>(&'a [u32; LANES], &'a mut [f32; LANES]);
        impl WithSimd for Ends<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let out = S::as_mut_simd_f32s(self.1).0;
                for (out, &word) in out.iter_mut().zip(S::as_simd_u32s(self.0).0) {
                    [*out, _] = Normal.apply(simd, [word, simd.splat_u32s(0)]);
                }
            }
        }
        let mut first = [1 << 31; LANES];
        first[..4].copy_from_slice(&[0, 1, 2, !0]);
        for set in InstructionSet::available() {
            let mut out = [f32::NAN; LANES];
            set.dispatch(Ends(&first, &mut out));
            let longest = (64.0 * std::f64::consts::LN_2).sqrt();
            assert!((f64::from(out[0]) - longest).abs() < 1e-6 && longest < 6.67, "{set}: {out:?}");
            assert_eq!(out[0], out[1], "{set}");
            assert!(out[2] < out[1], "{set}");
            assert_eq!(out[3], 0.0, "{set}");
        }
    }

    #[test]
    fn numbers_equal_those_of_an_independent_program() {
        // From a Python program written after the module's documentation.
        let expected = [
            (0, 12_993_127, -0.329_805_956),
            (1, 471_292, 2.281_103_1),
            (17, 1_464_083, 1.393_256_42),
            (34, 11_982_100, -0.693_860_798),
            (51, 10_461_383, -0.418_738_858),
            (64, 1_958_958, -0.031_026_219),
            (100, 14_620_060, 0.117_658_384),
            (783, 11_719_428, -0.835_436_446),
        ];
        let key = RowKey::new(0x0123_4567_89ab_cdef, Stream::Noise, 77, 0x5_0000_0003);
        for set in InstructionSet::available() {
            let uniforms = row(set, 784, key, false);
            let normals = row(set, 784, key, true);
            for (column, uniform, normal) in expected {
                assert_eq!(uniforms[column] * 16_777_216.0, uniform as f32, "{set}, {column}");
                let error = (f64::from(normals[column]) - normal).abs();
                assert!(error < f64::from(NORMAL_ERROR), "{set}, {column}: {}", normals[column]);
            }
        }
    }

    #[test]
    fn rows_drawn_in_any_order_have_the_same_bits() {
        let generator = Generator::new(9);
        let set = InstructionSet::detect();
        let mut all = Array2::from_elem((10, 77), f32::NAN);
        generator.normal(set, all.view_mut(), Stream::Noise, 3, 100).unwrap();
        for first in (0..10).rev() {
            let rows = (10 - first).min(3);
            let mut part = Array2::from_elem((rows, 77), f32::NAN);
            generator.normal(set, part.view_mut(), Stream::Noise, 3, 100 + first as u64).unwrap();
            assert_eq!(part, all.slice(ndarray::s![first..first + rows, ..]));
        }
    }

    #[test]
    fn rejects_indices_and_layouts_out_of_range() {
        let generator = Generator::new(1);
        let set = InstructionSet::detect();
        let mut out = Array2::from_elem((4, 6), f32::NAN);
        let errors = [
            (
                generator.normal(set, out.view_mut(), Stream::Noise, 1 << 48, 0),
                "`step`: expected below 2^48, found 281474976710656",
            ),
            (
                generator.uniform(set, out.view_mut(), Stream::Noise, 0, (1 << 48) - 3),
                "`first_row`: expected the last row below 2^48, found 281474976710653 and 4 rows",
            ),
            (
                generator.uniform(set, out.view_mut(), Stream::Noise, 0, u64::MAX),
                "`first_row`: expected the last row below 2^48, found 18446744073709551615 and 4 rows",
            ),
            (
                generator.normal(set, out.view_mut().reversed_axes(), Stream::Noise, 0, 0),
                "`out`: rows must be contiguous (column stride 1, rows not overlapping), \
                 found strides [1, 6]; convert it with `.as_standard_layout()`",
            ),
            (
                generator.permutation(1 << 48, &mut []),
                "`epoch`: expected below 2^48, found 281474976710656",
            ),
        ];
        for (result, message) in errors {
            assert_eq!(result.unwrap_err().to_string(), message);
        }
        assert!(out.iter().all(|v| v.is_nan()), "a refused call leaves `out` alone");
        generator.normal(set, out.view_mut(), Stream::Noise, 0, (1 << 48) - 4).unwrap();
        assert!(out.iter().all(|v| v.is_finite()));
        // One column is contiguous whatever its stride; no rows and no columns are fine.
        generator.normal(set, out.slice_mut(ndarray::s![.., 2..3]), Stream::Noise, 0, 0).unwrap();
        for shape in [(0, 5), (5, 0)] {
            let mut empty = Array2::zeros(shape);
            generator.normal(set, empty.view_mut(), Stream::Noise, 0, 0).unwrap();
        }
    }
}
