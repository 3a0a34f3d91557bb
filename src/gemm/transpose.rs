//! Transposition, in blocks that fit the first-level cache.

/// Side of a block: sixteen rows of one cache line each.
const BLOCK: usize = 16;

/// `to[c, r] = from[r, c]` for `rows` × `columns` elements of `from`; the strides are those of
/// the rows in memory. What lies between the end of a row and its stride is left alone.
#[inline(always)]
pub(crate) fn transpose(
    to: &mut [f32],
    to_stride: usize,
    from: &[f32],
    from_stride: usize,
    rows: usize,
    columns: usize,
) {
    for r0 in (0..rows).step_by(BLOCK) {
        let r1 = (r0 + BLOCK).min(rows);
        for c0 in (0..columns).step_by(BLOCK) {
            let c1 = (c0 + BLOCK).min(columns);
            for c in c0..c1 {
                let to = &mut to[c * to_stride + r0..c * to_stride + r1];
                for (to, r) in to.iter_mut().zip(r0..r1) {
                    *to = from[r * from_stride + c];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_goes_to_its_place_and_no_other_is_touched() {
        for (rows, columns) in [(0, 3), (1, 1), (15, 17), (16, 16), (33, 50)] {
            let (from_stride, to_stride) = (columns + 3, rows + 2);
            let from: Vec<f32> = (0..rows * from_stride).map(|i| i as f32).collect();
            let mut to = vec![-1.0; columns * to_stride];
            transpose(&mut to, to_stride, &from, from_stride, rows, columns);
            for c in 0..columns {
                for r in 0..to_stride {
                    let expected = if r < rows { from[r * from_stride + c] } else { -1.0 };
                    assert_eq!(to[c * to_stride + r], expected);
                }
            }
        }
    }
}
