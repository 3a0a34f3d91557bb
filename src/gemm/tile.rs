//! The register tile, and how a matrix is covered with tiles: loops 3 and 4 of every product.
//!
//! # Method
//! A tile is `ROWS` × `VECTORS` accumulators, each of them one chain of multiply-adds. They stay in
//! registers during the innermost loop, which runs over the inner dimension: all of it, or as much as
//! keeps its operands in cache, after which the accumulators are stored and loaded again unchanged.
//!
//! At each step the tile
//! 1. loads `VECTORS` vectors,
//! 2. broadcasts `ROWS` scalars one after the other,
//! 3. issues `ROWS`·`VECTORS` fused multiply-adds.
//!
//! Two multipliers with a latency of four cycles need at least eight independent chains; the number
//! of registers limits the tile from above.
//!
//! | registers | tile | accumulators |
//! |---|---|---|
//! | 32 of 16 lanes (AVX-512) | 8 × 3, and 12 × 2, 16 × 1 at the edges | 24 |
//! | 16 of 8 lanes (AVX2) | 6 × 2 | 12 |
//! | 32 of 4 lanes (NEON) | 4 × 4 | 16 |
//!
//! With AVX2, 4 × 3 and 2 × 6 spill registers and run at half the speed.

use crate::simd::prefetch::{prefetch, prefetch_second_level};
use crate::simd::{LANES, is_portable};
use pulp::Simd;

/// Largest width of a panel and of a strip: the columns of the AVX-512 tile.
pub(super) const MAX_WIDTH: usize = 3 * LANES;

/// The two matrices that a tile multiplies: scalars of one, vectors of the other.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    /// The scalar of the tile's first row at the first step.
    pub(super) scalars: *const f32,
    /// Distance from one row of the tile to the next.
    pub(super) row_stride: usize,
    /// Distance from one step to the next.
    pub(super) scalar_step: usize,
    /// The first vector at the first step.
    pub(super) vectors: *const f32,
    /// Distance from one step to the next; the vectors of one step are contiguous.
    pub(super) vector_step: usize,
    /// Length of the inner dimension.
    pub(super) steps: usize,
}

/// Height of most tiles: rows of a batch are divided into multiples of it.
pub(crate) const TILE_ROWS: usize = 8;

/// Elements of the largest tile.
pub(super) const MAX_TILE: usize = 24 * LANES;

/// Work that is interleaved with the multiply-adds of a tile.
pub(super) trait Interleave<S: Simd> {
    /// Prefetch distance of the scalars in elements; 0 for no prefetch.
    const AHEAD: usize = 0;

    /// Does the next piece of work; called every [`pause_steps`] steps.
    fn pause(&mut self, simd: S);
}

/// Steps from one pause to the next. With 32 registers the work of a pause finds some free; with
/// 16 it spills accumulators, so there are fewer pauses.
#[inline(always)]
pub(super) const fn pause_steps<S: Simd>() -> usize {
    if S::REGISTER_COUNT == 32 { 4 } else { 16 }
}

/// No interleaved work.
pub(super) struct Nothing;

impl<S: Simd> Interleave<S> for Nothing {
    #[inline(always)]
    fn pause(&mut self, _: S) {}
}

/// Prefetches memory that other tiles will read, a few cache lines in each pause.
///
/// With several threads another core has written most weights, in the step before. Each line then takes
/// hundreds of cycles to come, and the hardware prefetchers follow only what is read already.
#[derive(Clone, Copy)]
pub(super) struct PrefetchAhead {
    next: *const f32,
    lines: usize,
    lines_per_pause: usize,
}

impl PrefetchAhead {
    /// As many cache lines behind a slice as it has itself, spread over a number of pauses. None if there are so
    /// few pauses that little else would be done in them.
    #[inline(always)]
    pub(super) fn behind(slice: &[f32], pauses: usize) -> Self {
        let lines = slice.len() / LANES;
        let lines_per_pause = lines.div_ceil(pauses.max(1));
        let lines = if pauses == 0 || lines_per_pause > 3 { 0 } else { lines };
        Self { next: slice.as_ptr_range().end, lines, lines_per_pause }
    }
}

impl<S: Simd> Interleave<S> for &mut PrefetchAhead {
    #[inline(always)]
    fn pause(&mut self, _: S) {
        if self.lines > 0 {
            for _ in 0..self.lines_per_pause {
                prefetch_second_level(self.next);
                self.next = self.next.wrapping_add(LANES);
            }
            self.lines = self.lines.saturating_sub(self.lines_per_pause);
        }
    }
}

/// Loop 4: `tile[i][j] += scalars[i]·vectors[j]` at each step, fused, in ascending order.
///
/// # Safety
/// For every step s < `steps`, row i < `ROWS` and vector j < `VECTORS`, the scalar at
/// `i·row_stride + s·scalar_step` and the `VECTORS`·lanes elements from `s·vector_step` on must
/// be readable from the two pointers.
#[inline(always)]
pub(super) unsafe fn accumulate<S: Simd, I, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    tile: &mut [[S::f32s; VECTORS]; ROWS],
    operands: Operands,
    mut interleave: I,
) where
    I: Interleave<S>,
{
    let Operands { mut scalars, row_stride, scalar_step, mut vectors, vector_step, mut steps } =
        operands;
    // The accumulators live in a local during the loop: written through the reference they would
    // be stored at every step.
    let mut local = *tile;
    while steps > 0 {
        interleave.pause(simd);
        // Two nested loops rather than a counter in one: the inner one has nothing but products.
        let stretch = steps.min(const { pause_steps::<S>() });
        steps -= stretch;
        for _ in 0..stretch {
            // 1. The vectors of this step.
            let mut loaded = [simd.splat_f32s(0.0); VECTORS];
            for (j, vector) in loaded.iter_mut().enumerate() {
                let vector_at = vectors.wrapping_add(j * S::F32_LANES).cast::<S::f32s>();
                // SAFETY: by this function's contract.
                *vector = unsafe { vector_at.read_unaligned() };
            }
            for (i, row) in local.iter_mut().enumerate() {
                // 2. One scalar in every lane.
                // SAFETY: by this function's contract.
                let scalar = simd.splat_f32s(unsafe { *scalars.wrapping_add(i * row_stride) });
                // 3. One multiply-add for each chain.
                for (accumulator, &vector) in row.iter_mut().zip(&loaded) {
                    *accumulator = simd.mul_add_f32s(scalar, vector, *accumulator);
                }
            }
            if I::AHEAD > 0 {
                prefetch(scalars.wrapping_add(I::AHEAD));
            }
            // The step after the last one may lie outside: `wrapping_add` claims nothing.
            scalars = scalars.wrapping_add(scalar_step);
            vectors = vectors.wrapping_add(vector_step);
        }
    }
    *tile = local;
}

/// The computation of one tile, for any number of rows of a strip.
pub(super) trait TileJob<S: Simd> {
    /// Computes rows `row .. row + ROWS` of the job's matrix, all vectors of its strip.
    fn tile<const ROWS: usize, const VECTORS: usize>(&mut self, simd: S, row: usize);
}

/// Loop 3: covers `rows` with tiles `VECTORS` wide, as many of `TALL` rows as fit, then lower ones.
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
    // The remainder. Each height is code of its own, so there are only three of them: a rest of up
    // to 15 rows takes at most five tiles.
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

/// Width of a strip of a panel of `width` columns: all of it with AVX-512, three vectors at most;
/// 16 columns with other instruction sets.
#[inline(always)]
pub(super) const fn strip_width<S: Simd>(width: usize) -> usize {
    if is_wide::<S>() { width } else { LANES }
}

/// True for 32 registers of 16 lanes: AVX-512.
#[inline(always)]
const fn is_wide<S: Simd>() -> bool {
    S::F32_LANES == LANES && S::REGISTER_COUNT == 32
}

/// Covers a strip with the tile of the instruction set.
///
/// The choice is made where the code is generated, so each instruction set is compiled with its own
/// tiles only. The portable sets have tiles of one row: their registers are arrays in memory, so a
/// higher tile would save nothing and take long to compile.
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
    } else if const { is_portable::<S>() && S::F32_LANES == 16 } {
        cover::<S, J, 1, 1>(simd, rows, job);
    } else if const { is_portable::<S>() } {
        cover::<S, J, 1, 4>(simd, rows, job);
    } else if const { S::F32_LANES == 8 } {
        cover::<S, J, 6, 2>(simd, rows, job);
    } else {
        cover::<S, J, 4, 4>(simd, rows, job);
    }
}

/// Computes the one row of a bias over a strip.
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
