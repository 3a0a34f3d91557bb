//! Transposition of matrices and of panels, in blocks that fit into registers.
//!
//! # Method
//! 1. AVX-512: blocks of 16 rows and 4 columns.
//! 2. AVX2, and what is left with AVX-512: blocks of 8 rows and 4 columns.
//! 3. The columns and rows that are left, and all of them with other instruction sets, one element at
//!    a time.

use super::PanelLayout;
use pulp::Simd;

/// Overwrites `to[c, r]` with `from[r, c]` for `rows` × `columns` elements of `from`; the strides are
/// the distances between rows in memory. Elements between the end of a row and its stride are left
/// alone.
#[inline(always)]
pub(crate) fn transpose<S: Simd>(
    simd: S,
    to: &mut [f32],
    to_stride: usize,
    from: &[f32],
    from_stride: usize,
    rows: usize,
    columns: usize,
) {
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut, reason = "blocks are for x86"))]
    let (mut done_rows, mut done_columns) = (0, 0);
    #[cfg(target_arch = "x86_64")]
    if let Some(v3) = crate::simd::avx2(simd) {
        done_columns = columns / 4 * 4;
        // 1. Column blocks are the outer loop: four rows of `to` are written from front to back.
        #[cfg(feature = "avx512")]
        if let Some(v4) = crate::simd::avx512(simd) {
            done_rows = rows / 16 * 16;
            for c in (0..done_columns).step_by(4) {
                for r in (0..done_rows).step_by(16) {
                    let from = x86::Corner::<16>::new(&from[r * from_stride + c..], from_stride);
                    x86::store(&mut to[c * to_stride + r..], to_stride, from.columns_of_16(v4));
                }
            }
        }
        // 2.
        let first = done_rows;
        done_rows = rows / 8 * 8;
        for c in (0..done_columns).step_by(4) {
            for r in (first..done_rows).step_by(8) {
                let from = x86::Corner::<8>::new(&from[r * from_stride + c..], from_stride);
                x86::store(&mut to[c * to_stride + r..], to_stride, from.columns_of_8(v3));
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = simd;
    // 3. The last columns of the rows done so far, then the last rows.
    plain(to, to_stride, from, from_stride, 0..done_rows, done_columns..columns);
    plain(to, to_stride, from, from_stride, done_rows..rows, 0..columns);
}

/// Transposes some rows and columns, one element at a time.
#[inline(never)]
fn plain(
    to: &mut [f32],
    to_stride: usize,
    from: &[f32],
    from_stride: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) {
    // Sixteen elements of a row of `to` are a cache line, written whole.
    const BLOCK: usize = 16;
    for r0 in rows.clone().step_by(BLOCK) {
        let r1 = (r0 + BLOCK).min(rows.end);
        for c in columns.clone() {
            let to = &mut to[c * to_stride + r0..c * to_stride + r1];
            for (to, r) in to.iter_mut().zip(r0..r1) {
                *to = from[r * from_stride + c];
            }
        }
    }
}

/// Blocks of four columns and as many rows as a register has lanes.
///
/// # Method
/// 1. Register i is loaded with four elements of each of the rows i, 4+i, 8+i, …, one row for each
///    128-bit lane.
/// 2. The 4 × 4 elements in each lane of the four registers are transposed by two shuffles a register;
///    no shuffle crosses lanes.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use pulp::x86::V3;
    use std::arch::x86_64::{__m128, __m256};

    /// A block of `ROWS` rows and four columns.
    #[derive(Clone, Copy)]
    pub(super) struct Corner<'a, const ROWS: usize> {
        from: &'a [f32],
        stride: usize,
    }

    impl<'a, const ROWS: usize> Corner<'a, ROWS> {
        /// The block at the start of a slice; `stride` is the distance between its rows.
        #[inline(always)]
        pub(super) fn new(from: &'a [f32], stride: usize) -> Self {
            assert!((ROWS - 1) * stride + 4 <= from.len());
            Self { from, stride }
        }

        /// The four elements of a row.
        #[inline(always)]
        fn quarter(self, row: usize) -> __m128 {
            debug_assert!(row < ROWS);
            // SAFETY: `new` has checked that the last row is inside the slice; the callers pass
            // constants below `ROWS`.
            unsafe { self.from.as_ptr().add(row * self.stride).cast::<__m128>().read_unaligned() }
        }
    }

    impl Corner<'_, 8> {
        #[inline(always)]
        fn rows_of_8(self, v3: V3, i: usize) -> __m256 {
            let lower = v3.avx._mm256_castps128_ps256(self.quarter(i));
            v3.avx._mm256_insertf128_ps::<1>(lower, self.quarter(4 + i))
        }

        #[inline(always)]
        pub(super) fn columns_of_8(self, v3: V3) -> [[f32; 8]; 4] {
            let avx = v3.avx;
            // 1.
            let [a, b] = [self.rows_of_8(v3, 0), self.rows_of_8(v3, 1)];
            let [c, d] = [self.rows_of_8(v3, 2), self.rows_of_8(v3, 3)];
            // 2. Elements of two rows alternate, then pairs of them: 0x44 takes the lower halves of
            // both operands, 0xEE the upper ones.
            let (ab, cd) = (avx._mm256_unpacklo_ps(a, b), avx._mm256_unpacklo_ps(c, d));
            let (ab_high, cd_high) = (avx._mm256_unpackhi_ps(a, b), avx._mm256_unpackhi_ps(c, d));
            let columns: [__m256; 4] = [
                avx._mm256_shuffle_ps::<0x44>(ab, cd),
                avx._mm256_shuffle_ps::<0xEE>(ab, cd),
                avx._mm256_shuffle_ps::<0x44>(ab_high, cd_high),
                avx._mm256_shuffle_ps::<0xEE>(ab_high, cd_high),
            ];
            pulp::cast(columns)
        }
    }

    #[cfg(feature = "avx512")]
    impl Corner<'_, 16> {
        #[inline(always)]
        fn rows_of_16(self, v4: pulp::x86::V4, i: usize) -> std::arch::x86_64::__m512 {
            let avx = v4.avx512f;
            let one = avx._mm512_castps128_ps512(self.quarter(i));
            let two = avx._mm512_insertf32x4::<1>(one, self.quarter(4 + i));
            let three = avx._mm512_insertf32x4::<2>(two, self.quarter(8 + i));
            avx._mm512_insertf32x4::<3>(three, self.quarter(12 + i))
        }

        #[inline(always)]
        pub(super) fn columns_of_16(self, v4: pulp::x86::V4) -> [[f32; 16]; 4] {
            let avx = v4.avx512f;
            // 1.
            let [a, b] = [self.rows_of_16(v4, 0), self.rows_of_16(v4, 1)];
            let [c, d] = [self.rows_of_16(v4, 2), self.rows_of_16(v4, 3)];
            // 2.
            let (ab, cd) = (avx._mm512_unpacklo_ps(a, b), avx._mm512_unpacklo_ps(c, d));
            let (ab_high, cd_high) = (avx._mm512_unpackhi_ps(a, b), avx._mm512_unpackhi_ps(c, d));
            let columns = [
                avx._mm512_shuffle_ps::<0x44>(ab, cd),
                avx._mm512_shuffle_ps::<0xEE>(ab, cd),
                avx._mm512_shuffle_ps::<0x44>(ab_high, cd_high),
                avx._mm512_shuffle_ps::<0xEE>(ab_high, cd_high),
            ];
            pulp::cast(columns)
        }
    }

    /// Writes the columns of a block to four rows of `to`.
    #[inline(always)]
    pub(super) fn store<const ROWS: usize>(
        to: &mut [f32],
        to_stride: usize,
        columns: [[f32; ROWS]; 4],
    ) {
        assert!(3 * to_stride + ROWS <= to.len());
        for (c, column) in columns.into_iter().enumerate() {
            // SAFETY: the assertion bounds the last row.
            let row = unsafe { to.as_mut_ptr().add(c * to_stride).cast::<[f32; ROWS]>() };
            // SAFETY: as above; an array of f32 may lie wherever an f32 may.
            unsafe { row.write(column) };
        }
    }
}

/// Layout of the panels of Wᵀ, where `layout` is that of W.
pub(crate) fn transposed_layout(layout: PanelLayout) -> PanelLayout {
    PanelLayout { inputs: layout.outputs, outputs: layout.inputs }
}

/// Overwrites the weights in `to`, whose layout is [`transposed_layout`], with those of `panels`.
///
/// With Wᵀ in panels the input gradient `dx = dy·W` is a forward product, of the same chains: over the
/// outputs, ascending, from 0. Its usual form ([`input_gradient`](super::input_gradient)) transposes dy
/// and dx, which for a layer of few weights are larger than W.
///
/// Bias rows and padding of `to` are left alone: they must be zero.
#[inline(always)]
pub(crate) fn transpose_panels<S: Simd>(
    simd: S,
    to: &mut [f32],
    panels: &[f32],
    layout: PanelLayout,
) {
    for into in transposed_layout(layout).panels() {
        for from in layout.panels() {
            let source = &panels[from.offset + (into.start + 1) * from.width..];
            let target = &mut to[into.offset + (from.start + 1) * into.width..];
            // Without the padding of W, which may hold anything.
            let (rows, columns) = (into.outputs, from.outputs);
            transpose(simd, target, into.width, source, from.width, rows, columns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compute;
    use crate::gemm::{Panels, input_gradient, product};
    use crate::simd::InstructionSet;
    use ndarray::Array2;
    use pulp::WithSimd;

    struct Op<'a>(&'a mut [f32], usize, &'a [f32], [usize; 3]);

    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(to, to_stride, from, [from_stride, rows, columns]) = self;
            transpose(simd, to, to_stride, from, from_stride, rows, columns);
        }
    }

    #[test]
    fn moves_every_element_and_touches_no_other() {
        for simd in InstructionSet::available() {
            for (rows, columns) in
                [(0, 3), (1, 1), (7, 9), (8, 4), (8, 8), (15, 17), (16, 16), (25, 7), (33, 50)]
            {
                let (from_stride, to_stride) = (columns + 3, rows + 2);
                let from: Vec<f32> = (0..rows * from_stride).map(|i| i as f32).collect();
                let mut to = vec![-1.0; columns * to_stride];
                simd.dispatch(Op(&mut to, to_stride, &from, [from_stride, rows, columns]));
                for c in 0..columns {
                    for r in 0..to_stride {
                        let expected = if r < rows { from[r * from_stride + c] } else { -1.0 };
                        assert_eq!(to[c * to_stride + r], expected, "{simd} {rows}x{columns}");
                    }
                }
            }
        }
    }

    struct TransposePanels<'a>(&'a mut [f32], &'a [f32], PanelLayout);

    impl WithSimd for TransposePanels<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            transpose_panels(simd, self.0, self.1, self.2);
        }
    }

    const SHAPES: [(usize, usize); 9] =
        [(1, 1), (8, 64), (64, 30), (64, 16), (17, 65), (100, 3), (50, 130), (33, 49), (130, 50)];

    #[test]
    fn transposed_panels_equal_the_panels_of_the_transposed_weights() {
        for (inputs, outputs) in SHAPES {
            for set in InstructionSet::available() {
                let layout = PanelLayout { inputs, outputs };
                let mut to = vec![0.0; transposed_layout(layout).len()];
                for salt in [1, 5] {
                    let weights = Array2::from_shape_fn((outputs, inputs), |(n, k)| {
                        (n * 1000 + k + salt) as f32
                    });
                    // Padding that is not zero must not come through.
                    let mut panels = Panels::zeros(inputs, outputs);
                    panels.fill(-1.0);
                    layout.pack(&mut panels, 0, weights.view(), &vec![7.0; outputs]);
                    set.dispatch(TransposePanels(&mut to, &panels, layout));
                    let expected = Panels::pack(weights.t(), &vec![0.0; inputs]).unwrap();
                    assert_eq!(to[..], expected[..], "{set} {inputs}x{outputs}");
                }
            }
        }
    }

    #[test]
    fn a_product_with_transposed_panels_has_the_bits_of_the_input_gradient() {
        for (inputs, outputs) in SHAPES {
            let number = |i: usize, j: usize| ((i * 7919 + j * 331) % 1009) as f32 / 504.0 - 1.0;
            let weights = Array2::from_shape_fn((outputs, inputs), |(n, k)| number(n, k));
            let panels = Panels::pack(weights.view(), &vec![0.5; outputs]).unwrap();
            for rows in [1, 7, 24, 65] {
                let dy = Array2::from_shape_fn((rows, outputs), |(b, n)| number(b + 5, n + 3));
                for set in InstructionSet::available() {
                    let compute = Compute::new(set, 1).unwrap();
                    let mut plain = Array2::from_elem((rows, inputs), f32::NAN);
                    input_gradient(&compute, plain.view_mut(), dy.view(), &panels).unwrap();
                    let mut transposed = Panels::zeros(outputs, inputs);
                    set.dispatch(TransposePanels(&mut transposed, &panels, panels.layout()));
                    let mut found = Array2::from_elem((rows, inputs), f32::NAN);
                    product(&compute, found.view_mut(), dy.view(), &transposed).unwrap();
                    let bits = |array: &Array2<f32>| array.mapv(f32::to_bits);
                    assert_eq!(bits(&found), bits(&plain), "{set} {rows}x{inputs}x{outputs}");
                }
            }
        }
    }
}
