//! Transposition, in blocks that fit into registers.

use pulp::Simd;

/// `to[c, r] = from[r, c]` for `rows` × `columns` elements of `from`; the strides are those of
/// the rows in memory. What lies between the end of a row and its stride is left alone.
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
    plain(to, to_stride, from, from_stride, 0..done_rows, done_columns..columns);
    plain(to, to_stride, from, from_stride, done_rows..rows, 0..columns);
}

/// The elements of some rows and columns, one after the other, in blocks of a cache line's side.
#[inline(never)]
fn plain(
    to: &mut [f32],
    to_stride: usize,
    from: &[f32],
    from_stride: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) {
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

/// Blocks of four columns, of as many rows as a register has lanes.
///
/// Register i takes rows i, 4+i, 8+i, … a quarter of a cache line each, as they are loaded; what
/// is left is to transpose four times four elements within each 128-bit lane, which costs two
/// shuffles a register and nothing across lanes.
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
        /// The block at the start of a slice, its rows so far apart.
        #[inline(always)]
        pub(super) fn new(from: &'a [f32], stride: usize) -> Self {
            assert!((ROWS - 1) * stride + 4 <= from.len());
            Self { from, stride }
        }

        /// Four elements of a row.
        #[inline(always)]
        fn quarter(self, row: usize) -> __m128 {
            debug_assert!(row < ROWS);
            // SAFETY: `new` has made sure of the last row's; the callers' rows are constants below
            // `ROWS`, none behind it.
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
            let [a, b] = [self.rows_of_8(v3, 0), self.rows_of_8(v3, 1)];
            let [c, d] = [self.rows_of_8(v3, 2), self.rows_of_8(v3, 3)];
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
            let [a, b] = [self.rows_of_16(v4, 0), self.rows_of_16(v4, 1)];
            let [c, d] = [self.rows_of_16(v4, 2), self.rows_of_16(v4, 3)];
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

    /// The columns of a block as rows of `to`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;
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
    fn every_element_goes_to_its_place_and_no_other_is_touched() {
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
}
