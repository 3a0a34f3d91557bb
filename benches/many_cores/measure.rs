//! What a cache line of another core costs: the time that a kernel takes longer when another core has touched its
//! lines than when nobody has, divided by their number.
//!
//! Two threads take turns. The other one touches the lines, then this one runs the kernel on them; both
//! again with this thread in place of the other. The time of a line is the median of the differences. The cost
//! includes all that the core overlaps, so it is far below the latency of a line.

use crate::partition::Update;
use crate::rates::Rates;
use crate::team::spin_until;
use elbo::gemm::{Panels, product, weight_gradient};
use elbo::simd::InstructionSet;
use elbo::{Compute, Result};
use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use pulp::{Simd, WithSimd};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Pairs of timings, with the lines of another core and without.
const PAIRS: usize = 30;
/// Floats of a cache line.
const LINE: usize = 16;
/// Width of a panel, in floats.
const PANEL: usize = 48;
/// Inputs of the layer that is measured: the output layer, 400 → 784.
const INPUTS: usize = 400;
const OUTPUTS: usize = 784;
const BATCH: usize = 128;
/// Rows of a register tile.
const TILE: usize = 8;

/// Measures all rates between two threads, and the round trip before and after.
pub fn measure() -> Result<(Rates, f64)> {
    let round_trip = || crate::round_trip::measure(2).unwrap_or(f64::NAN);
    let rates = Rates {
        round_trip: round_trip(),
        read_weights: [1, 2, 4, 8].map(|tiles| read_weights(tiles, write)),
        read_streamed: [1, 2, 4, 8].map(|tiles| read_weights(tiles, stream)),
        read_rows: read_rows()?,
        write_rows: write_rows()?,
        update: [Update::Read, Update::Write, Update::Streamed].map(update),
    };
    Ok((rates, round_trip()))
}

/// Median over pairs of `kernel`'s time after `touch` by another thread, less that after `own`.
fn difference<T: Send>(
    data: T,
    own: impl Fn(&mut T),
    touch: impl Fn(&mut T) + Sync,
    mut kernel: impl FnMut(&mut T),
) -> f64 {
    let data = Mutex::new(data);
    let lock = || data.lock().unwrap_or_else(PoisonError::into_inner);
    // Even: this thread's turn. Odd: the other's.
    let turn = AtomicUsize::new(0);
    let mut differences = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..PAIRS {
                spin_until(|| (turn.load(Ordering::Acquire) == 2 * round + 1).then_some(()));
                touch(&mut lock());
                turn.store(2 * round + 2, Ordering::Release);
            }
        });
        for round in 0..PAIRS {
            let mut time = |data: &mut T| {
                let start = Instant::now();
                kernel(data);
                start.elapsed().as_secs_f64()
            };
            let alone = {
                let data = &mut *lock();
                own(data);
                time(data)
            };
            turn.store(2 * round + 1, Ordering::Release);
            spin_until(|| (turn.load(Ordering::Acquire) == 2 * round + 2).then_some(()));
            differences.push(time(&mut lock()) - alone);
        }
    });
    differences.sort_by(f64::total_cmp);
    differences[PAIRS / 2]
}

/// Floats that start on a cache line: [`INPUTS`] for each of some outputs.
fn lines_of(outputs: usize) -> Panels {
    // With the bias.
    Panels::zeros(INPUTS - 1, outputs)
}

fn write(lines: &mut [f32]) {
    lines.iter_mut().for_each(|x| *x = *x * 0.5 + 0.25);
}

/// Writes past the caches.
fn stream(lines: &mut [f32]) {
    for line in lines.chunks_exact_mut(4) {
        let line: &mut [f32; 4] = line.try_into().expect("chunks of four");
        stream_4(line, line.map(|x| x * 0.5 + 0.25));
    }
}

/// Overwrites a register's worth of floats past the caches.
#[inline(always)]
fn stream_register<S: Simd>(to: &mut S::f32s, value: S::f32s) {
    let to: &mut [[f32; 4]] = pulp::bytemuck::cast_slice_mut(std::slice::from_mut(to));
    let value: &[[f32; 4]] = pulp::bytemuck::cast_slice(std::slice::from_ref(&value));
    to.iter_mut().zip(value).for_each(|(to, value)| stream_4(to, *value));
}

/// Overwrites 16 bytes, which start at a multiple of 16, past the caches.
#[inline(always)]
fn stream_4(to: &mut [f32; 4], value: [f32; 4]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_loadu_ps, _mm_stream_ps};
        assert!(to.as_ptr().addr().is_multiple_of(16));
        // SAFETY: every x86-64 has the instructions, and the address is a multiple of 16.
        unsafe { _mm_stream_ps(to.as_mut_ptr(), _mm_loadu_ps(value.as_ptr())) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        *to = value;
    }
}

fn read(lines: &[f32]) {
    black_box(lines.iter().copied().step_by(LINE).map(f32::to_bits).fold(0, u32::wrapping_add));
}

/// The weights of another core in a forward product of some tiles of rows: seconds a line, without and with the
/// prefetch of the next panel.
fn read_weights(tiles: usize, write_there: impl Fn(&mut [f32]) + Sync) -> [f64; 2] {
    let panels = lines_of(OUTPUTS.div_ceil(PANEL) * PANEL);
    let lines = (panels.len() / LINE) as f64;
    let x = vec![0.5_f32; TILE * INPUTS];
    let simd = InstructionSet::detect();
    [false, true].map(|prefetch| {
        let kernel = |panels: &mut Panels| {
            simd.dispatch(Forward { panels, x: &x, tiles, prefetch });
        };
        difference(panels.clone(), |p| write(p), |p| write_there(p), kernel) / lines
    })
}

/// The products of a forward pass: every panel by some tiles of rows.
struct Forward<'a> {
    panels: &'a [f32],
    /// A tile of rows, transposed.
    x: &'a [f32],
    tiles: usize,
    prefetch: bool,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // The pauses of the kernel, and the lines that it prefetches in each.
        const STEPS: usize = 4;
        let panel_lines = PANEL * INPUTS / LINE;
        let mut ahead = 0;
        for (index, panel) in self.panels.chunks_exact(PANEL * INPUTS).enumerate() {
            for tile in 0..self.tiles {
                let mut sums = [[simd.splat_f32s(0.0); 3]; TILE];
                let steps = panel.chunks(PANEL * STEPS).zip(self.x.chunks(TILE * STEPS));
                for (pause, (weights, x)) in steps.enumerate() {
                    for (weights, x) in weights.chunks_exact(PANEL).zip(x.chunks_exact(TILE)) {
                        multiply(simd, &mut sums, x, weights);
                    }
                    if self.prefetch {
                        // The next panel, spread evenly.
                        let pauses = self.tiles * (INPUTS / STEPS);
                        let done = tile * (INPUTS / STEPS) + pause + 1;
                        let until = (index + 1) * panel_lines + done * panel_lines / pauses;
                        while ahead < until {
                            prefetch(self.panels, ahead * LINE, Hint::SecondLevel);
                            ahead += 1;
                        }
                    }
                }
                keep(simd, sums);
            }
        }
    }
}

/// `sums[i][j] += scalars[i]·vectors[j]`, on as many registers as fill [`PANEL`] with AVX-512, else on the first
/// third of the panel's columns.
#[inline(always)]
fn multiply<S: Simd>(simd: S, sums: &mut [[S::f32s; 3]; TILE], scalars: &[f32], vectors: &[f32]) {
    let (vectors, _) = S::as_simd_f32s(vectors);
    let vectors: &[_; 3] = vectors.first_chunk().expect("a panel has three registers");
    let scalars: &[_; TILE] = scalars.first_chunk().expect("a scalar for each row");
    for (sums, &scalar) in sums.iter_mut().zip(scalars) {
        let scalar = simd.splat_f32s(scalar);
        for (sum, &vector) in sums.iter_mut().zip(vectors) {
            *sum = simd.mul_add_f32s(scalar, vector, *sum);
        }
    }
}

/// Keeps the compiler from leaving out sums that nobody reads. They stay in registers until here.
#[inline(always)]
fn keep<S: Simd>(simd: S, sums: [[S::f32s; 3]; TILE]) {
    let sum = sums.as_flattened().iter().fold(simd.splat_f32s(0.0), |a, &b| simd.add_f32s(a, b));
    black_box(simd.reduce_sum_f32s(sum));
}

/// The update of weights in the pauses of the weight gradient, where its lines are prefetched for reading or for
/// writing: seconds a line of weights of which another core has a copy, and a line of weights and moments that
/// another core has written.
fn update(how: Update) -> [f64; 2] {
    let simd = InstructionSet::detect();
    // w, m, v.
    let state = [(); 3].map(|()| lines_of(OUTPUTS));
    let lines = (state[0].len() / LINE) as f64;
    let own = |state: &mut [Panels; 3]| state.iter_mut().for_each(|x| write(x));
    let kernel = |state: &mut [Panels; 3]| simd.dispatch(Updated { state, how });
    let shared = difference(state.clone(), own, |state| read(&state[0]), kernel);
    let moved = difference(state, own, own, kernel);
    [shared / lines, moved / (3.0 * lines)]
}

struct Updated<'a> {
    state: &'a mut [Panels; 3],
    how: Update,
}

impl WithSimd for Updated<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let hint = if self.how == Update::Write { Hint::Write } else { Hint::FirstLevel };
        let [w, m, v] = self.state;
        let vectors = [0.25_f32; PANEL];
        let scalars = [0.5_f32; TILE];
        let mut sums = [[simd.splat_f32s(0.0); 3]; TILE];
        let mut at = 0;
        while at + PANEL <= w.len() {
            // Rows of a tile, one at a time: prefetched a tile ahead, updated between products.
            for state in [&*w, &*m, &*v] {
                (0..3).for_each(|line| prefetch(state, at + TILE * PANEL + line * LINE, hint));
            }
            for _ in 0..BATCH / TILE {
                multiply(simd, &mut sums, black_box(&scalars), &vectors);
            }
            let (w, _) = S::as_mut_simd_f32s(&mut w[at..at + PANEL]);
            let (m, _) = S::as_mut_simd_f32s(&mut m[at..at + PANEL]);
            let (v, _) = S::as_mut_simd_f32s(&mut v[at..at + PANEL]);
            for ((w, m), v) in w.iter_mut().zip(m).zip(v) {
                let half = simd.splat_f32s(0.5);
                let first = simd.mul_add_f32s(*m, half, half);
                let second = simd.mul_add_f32s(*v, half, half);
                let weight = simd.mul_add_f32s(first, half, simd.div_f32s(*w, second));
                // In the order of the crate.
                if self.how == Update::Streamed {
                    stream_register::<S>(w, weight);
                } else {
                    *w = weight;
                }
                (*m, *v) = (first, second);
            }
            at += PANEL;
        }
        keep(simd, sums);
    }
}

/// The rows of another core in the weight gradient: seconds a line.
fn read_rows() -> Result<f64> {
    let compute = Compute::serial();
    let mut dpanels = Panels::zeros(OUTPUTS, INPUTS);
    let rows = [OUTPUTS, INPUTS].map(|columns| Panels::zeros(BATCH - 1, columns));
    let lines = (rows.iter().map(|rows| rows.len()).sum::<usize>() / 2 / LINE) as f64;
    // One half of the rows is the other core's.
    let touch = |rows: &mut [Panels; 2]| {
        rows.iter_mut().for_each(|rows| {
            let half = rows.len() / 2;
            write(&mut rows[half..]);
        });
    };
    let mut result = Ok(());
    let time = difference(rows, touch, touch, |[x, dy]| {
        let view = |rows, columns| ArrayView2::from_shape((BATCH, columns), rows);
        let (x, dy) = (view(x, OUTPUTS), view(dy, INPUTS));
        let (x, dy) = (x.expect("rows of x"), dy.expect("rows of dy"));
        result = weight_gradient(&compute, &mut dpanels, x, dy);
    });
    result.map(|()| time / lines)
}

/// Rows of which another core has a copy, overwritten by a forward product: seconds a line.
fn write_rows() -> Result<f64> {
    let compute = Compute::serial();
    let panels = Panels::zeros(INPUTS, OUTPUTS);
    let x = Array2::from_elem((BATCH / 2, INPUTS), 0.5_f32);
    let y = Panels::zeros(BATCH / 2 - 1, OUTPUTS);
    let lines = (y.len() / LINE) as f64;
    let touch = |y: &mut Panels| read(y);
    let mut result = Ok(());
    let time = difference(y, touch, touch, |y| {
        let y = ArrayViewMut2::from_shape((BATCH / 2, OUTPUTS), y).expect("rows of y");
        result = product(&compute, y, x.view(), &panels);
    });
    result.map(|()| time / lines)
}

#[derive(Clone, Copy)]
enum Hint {
    FirstLevel,
    SecondLevel,
    Write,
}

/// The prefetches of the crate; an index out of bounds is a hint as well.
#[inline(always)]
fn prefetch(data: &[f32], at: usize, hint: Hint) {
    let at = data.as_ptr().wrapping_add(at);
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        // SAFETY: prefetches fault at no address and change no register.
        unsafe {
            match hint {
                Hint::FirstLevel => _mm_prefetch::<_MM_HINT_T0>(at.cast()),
                Hint::SecondLevel => _mm_prefetch::<_MM_HINT_T1>(at.cast()),
                Hint::Write => std::arch::asm!(
                    "prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly)
                ),
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, hint);
}
