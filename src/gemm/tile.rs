//! The register tile, and how a matrix is covered with tiles.
//!
//! A tile is `ROWS` × `VECTORS` accumulators, each of them one chain, that stay in registers for a
//! walk over the inner dimension: all of it, or as much as keeps its operands in cache, after which
//! the chains are set down in memory and taken up again as they were. At each step the tile loads
//! `VECTORS` vectors, broadcasts `ROWS` scalars one after the other, and issues
//! `ROWS`·`VECTORS` fused multiply-adds. Two multipliers with a latency of four cycles want at
//! least eight chains under way; what limits the tile from above is the register file.
//!
//! | registers | tile | accumulators |
//! |---|---|---|
//! | 32 of 16 lanes (AVX-512) | 8 × 3, and 12 × 2, 16 × 1 at the edges | 24 |
//! | 16 of 8 lanes (AVX2) | 6 × 2 | 12 |
//! | 32 of 4 lanes (NEON) | 4 × 4 | 16 |
//!
//! With AVX2, 4 × 3 and 2 × 6 spill and fall to half the speed.

use crate::simd::prefetch::prefetch;
use crate::simd::{LANES, is_portable};
use pulp::Simd;

/// A panel, and a strip of it, is at most this wide.
pub(super) const MAX_WIDTH: usize = 3 * LANES;

/// Scalars of one matrix and vectors of another, as the tile walks over them.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    /// The scalar of the tile's first row at the first step.
    pub(super) scalars: *const f32,
    /// From one row of the tile to the next.
    pub(super) row_stride: usize,
    /// From one step to the next.
    pub(super) scalar_step: usize,
    /// The first vector at the first step.
    pub(super) vectors: *const f32,
    /// From one step to the next; the vectors of one step are contiguous.
    pub(super) vector_step: usize,
    /// Length of the walk.
    pub(super) steps: usize,
}

/// Elements of the largest tile there is.
pub(super) const MAX_TILE: usize = 24 * LANES;

/// Something to be done now and then on a walk, beside the products.
pub(super) trait Aside<S: Simd> {
    /// So many elements ahead of the scalars of a step lie those of a walk to come, to be asked
    /// for; 0 for none.
    const AHEAD: usize = 0;

    /// Called every [`aside_steps`] steps.
    fn pause(&mut self, simd: S);
}

/// Steps from one pause to the next. With 32 registers the work of a pause finds some free; with
/// 16, the accumulators make room for it in memory, so pauses are few.
#[inline(always)]
pub(super) const fn aside_steps<S: Simd>() -> usize {
    if S::REGISTER_COUNT == 32 { 4 } else { 16 }
}

/// Nothing: the walk goes through in one piece.
pub(super) struct Nothing;

impl<S: Simd> Aside<S> for Nothing {
    #[inline(always)]
    fn pause(&mut self, _: S) {}
}

/// `tile[i][j] += scalars[i]·vectors[j]` at each step of the walk, fused, in order.
///
/// # Safety
/// For every step s < `steps`, row i < `ROWS` and vector j < `VECTORS`, the scalar at
/// `i·row_stride + s·scalar_step` and the `VECTORS`·lanes elements from `s·vector_step` on must
/// be readable from the two pointers.
#[inline(always)]
pub(super) unsafe fn accumulate<S: Simd, A: Aside<S>, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    tile: &mut [[S::f32s; VECTORS]; ROWS],
    walk: Walk,
    mut aside: A,
) {
    let Walk { mut scalars, row_stride, scalar_step, mut vectors, vector_step, mut steps } = walk;
    // The accumulators live in a local for the length of the loop: written through the
    // reference they would be stored at every step.
    let mut local = *tile;
    while steps > 0 {
        aside.pause(simd);
        let stretch = steps.min(const { aside_steps::<S>() });
        steps -= stretch;
        for _ in 0..stretch {
            let mut loaded = [simd.splat_f32s(0.0); VECTORS];
            for (j, vector) in loaded.iter_mut().enumerate() {
                let vector_at = vectors.wrapping_add(j * S::F32_LANES).cast::<S::f32s>();
                // SAFETY: by this function's contract.
                *vector = unsafe { vector_at.read_unaligned() };
            }
            for (i, row) in local.iter_mut().enumerate() {
                // SAFETY: by this function's contract.
                let scalar = simd.splat_f32s(unsafe { *scalars.wrapping_add(i * row_stride) });
                for (accumulator, &vector) in row.iter_mut().zip(&loaded) {
                    *accumulator = simd.mul_add_f32s(scalar, vector, *accumulator);
                }
            }
            if A::AHEAD > 0 {
                prefetch(scalars.wrapping_add(A::AHEAD));
            }
            // The step behind the last one may lie outside: advance without claiming otherwise.
            scalars = scalars.wrapping_add(scalar_step);
            vectors = vectors.wrapping_add(vector_step);
        }
    }
    *tile = local;
}

/// Something that is done with tiles of one strip of vectors, for any number of rows in it.
pub(super) trait TileJob<S: Simd> {
    /// Rows `row .. row + ROWS` of the job's matrix, all vectors of its strip.
    fn tile<const ROWS: usize, const VECTORS: usize>(&mut self, simd: S, row: usize);
}

/// Covers `rows` rows with tiles of a strip `VECTORS` wide: as many of `TALL` rows as fit, then
/// lower ones.
#[inline(always)]
fn cover<S: Simd, J: TileJob<S>, const TALL: usize, const VECTORS: usize>(
    simd: S,
    rows: std::ops::Range<usize>,
    job: &mut J,
) {
    let (mut row, end) = (rows.start, rows.end);
    while row + TALL <= end {
        job.tile::<TALL, VECTORS>(simd, row);
        row += TALL;
    }
    if const { TALL > 4 } {
        while row + 4 <= end {
            job.tile::<4, VECTORS>(simd, row);
            row += 4;
        }
    }
    if const { TALL > 2 } && row + 2 <= end {
        job.tile::<2, VECTORS>(simd, row);
        row += 2;
    }
    if const { TALL > 1 } {
        while row < end {
            job.tile::<1, VECTORS>(simd, row);
            row += 1;
        }
    }
}

/// How wide a strip this instruction set takes of `width` columns: all of it with AVX-512, three
/// vectors at most; 16 columns with others.
#[inline(always)]
pub(super) const fn strip_width<S: Simd>(width: usize) -> usize {
    if is_wide::<S>() { width } else { LANES }
}

/// Registers of 16 lanes, and 32 of them: AVX-512.
#[inline(always)]
const fn is_wide<S: Simd>() -> bool {
    S::F32_LANES == LANES && S::REGISTER_COUNT == 32
}

/// Chooses the tile for a strip. The choice is made where the code is generated: each
/// instruction set has only its own tiles. The scalar twins, whose "registers" are arrays in
/// memory, have low ones: they are slow at any height, and quick to compile.
#[inline(always)]
pub(super) fn cover_strip<S: Simd, J: TileJob<S>>(
    simd: S,
    strip: usize,
    rows: std::ops::Range<usize>,
    job: &mut J,
) {
    if const { is_wide::<S>() } {
        match strip / LANES {
            3 => cover::<S, J, 8, 3>(simd, rows, job),
            2 => cover::<S, J, 12, 2>(simd, rows, job),
            _ => cover::<S, J, 16, 1>(simd, rows, job),
        }
    } else if const { is_portable::<S>() } {
        match const { LANES / S::F32_LANES } {
            1 => cover::<S, J, 1, 1>(simd, rows, job),
            2 => cover::<S, J, 1, 2>(simd, rows, job),
            _ => cover::<S, J, 1, 4>(simd, rows, job),
        }
    } else if const { S::F32_LANES == 8 } {
        cover::<S, J, 6, 2>(simd, rows, job);
    } else {
        cover::<S, J, 4, 4>(simd, rows, job);
    }
}

/// The one row of a bias over a strip.
#[inline(always)]
pub(super) fn bias_strip<S: Simd, J: TileJob<S>>(simd: S, strip: usize, job: &mut J) {
    if const { is_wide::<S>() } {
        match strip / LANES {
            3 => job.tile::<1, 3>(simd, 0),
            2 => job.tile::<1, 2>(simd, 0),
            _ => job.tile::<1, 1>(simd, 0),
        }
    } else if const { S::F32_LANES == 16 } {
        job.tile::<1, 1>(simd, 0);
    } else if const { S::F32_LANES == 8 } {
        job.tile::<1, 2>(simd, 0);
    } else {
        job.tile::<1, 4>(simd, 0);
    }
}
