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
    let (mut whole_rows, mut whole_columns) = (0, 0);
    #[cfg(target_arch = "x86_64")]
    if let Some(v3) = crate::simd::avx2(simd) {
        (whole_rows, whole_columns) =
            (rows / avx2::SIDE * avx2::SIDE, columns / avx2::SIDE * avx2::SIDE);
        for c in (0..whole_columns).step_by(avx2::SIDE) {
            for r in (0..whole_rows).step_by(avx2::SIDE) {
                let to = &mut to[c * to_stride + r..];
                avx2::block(v3, to, to_stride, &from[r * from_stride + c..], from_stride);
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = simd;
    plain(to, to_stride, from, from_stride, 0..whole_rows, whole_columns..columns);
    plain(to, to_stride, from, from_stride, whole_rows..rows, 0..columns);
}

/// The elements of some rows and columns, one after the other, in blocks of a cache line's side.
#[inline(always)]
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

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use pulp::x86::V3;

    /// Side of a block: eight registers of eight.
    pub(super) const SIDE: usize = 8;

    /// One block: pairs of rows are interleaved, then pairs of pairs, then their halves.
    #[inline(always)]
    pub(super) fn block(
        v3: V3,
        to: &mut [f32],
        to_stride: usize,
        from: &[f32],
        from_stride: usize,
    ) {
        let avx = v3.avx;
        let row = |r: usize| {
            let row: [f32; SIDE] = *from[r * from_stride..].first_chunk().expect("a whole row");
            pulp::cast(row)
        };
        let [r0, r1, r2, r3] = [row(0), row(1), row(2), row(3)];
        let [r4, r5, r6, r7] = [row(4), row(5), row(6), row(7)];
        let pairs = [
            avx._mm256_unpacklo_ps(r0, r1),
            avx._mm256_unpackhi_ps(r0, r1),
            avx._mm256_unpacklo_ps(r4, r5),
            avx._mm256_unpackhi_ps(r4, r5),
        ];
        let next = [
            avx._mm256_unpacklo_ps(r2, r3),
            avx._mm256_unpackhi_ps(r2, r3),
            avx._mm256_unpacklo_ps(r6, r7),
            avx._mm256_unpackhi_ps(r6, r7),
        ];
        // Columns 0 and 4, 1 and 5, 2 and 6, 3 and 7: of the upper four rows, then the lower.
        let columns = |half: usize| {
            [
                avx._mm256_shuffle_ps::<0x44>(pairs[half], next[half]),
                avx._mm256_shuffle_ps::<0xEE>(pairs[half], next[half]),
                avx._mm256_shuffle_ps::<0x44>(pairs[half + 1], next[half + 1]),
                avx._mm256_shuffle_ps::<0xEE>(pairs[half + 1], next[half + 1]),
            ]
        };
        let (upper, lower) = (columns(0), columns(2));
        for c in 0..4 {
            let left = avx._mm256_permute2f128_ps::<0x20>(upper[c], lower[c]);
            let right = avx._mm256_permute2f128_ps::<0x31>(upper[c], lower[c]);
            for (column, values) in [(c, left), (c + 4, right)] {
                *to[column * to_stride..].first_chunk_mut::<SIDE>().expect("a whole row") =
                    pulp::cast(values);
            }
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
            for (rows, columns) in [(0, 3), (1, 1), (7, 9), (8, 8), (15, 17), (16, 16), (33, 50)] {
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
