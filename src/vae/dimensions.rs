//! Sums over rows for each latent dimension: of the KL divergence, and of μ and μ².
//!
//! # Method
//! 1. A dimension is one chain in f64 in row order, so neither blocks nor threads nor registers change its bits.
//! 2. Sixteen dimensions go through all rows at a time; the groups of sixteen are shared among threads.

use super::step::block::Block;
use crate::compute::Compute;
use crate::loss::kernel::Term;
use crate::loss::kl::{NormalKl, Prior};
use crate::simd::LANES;
use crate::simd::lanes::F32x16;
use pulp::{Simd, WithSimd};

/// Elements for each thread that takes part. In tests, small batches are shared too.
const SHARE: usize = if cfg!(test) { 16 } else { 1 << 11 };

/// The sums, one element for each latent dimension.
#[derive(Default)]
pub(super) struct DimensionSums {
    pub(super) kl: Vec<f64>,
    /// Of μ and of μ², if they are asked for.
    pub(super) moments: Option<[Vec<f64>; 2]>,
}

impl DimensionSums {
    /// Makes all sums those of no rows.
    pub(super) fn clear(&mut self, latent: usize) {
        for sums in [&mut self.kl].into_iter().chain(self.moments.iter_mut().flatten()) {
            sums.clear();
            sums.resize(latent, 0.0);
        }
    }

    /// Adds the rows of some blocks in their order.
    pub(super) fn add(&mut self, compute: &Compute, blocks: &[Block], prior: Prior) {
        let rows: usize = blocks.iter().map(|block| block.rows).sum();
        let compute = compute.for_work(rows * self.kl.len(), SHARE);
        let moments = self.moments.as_mut().map(|sums| sums.each_mut().map(|sums| &mut sums[..]));
        Columns { kl: &mut self.kl, moments, first: 0, blocks, term: NormalKl::new(prior) }
            .halve(&compute);
    }
}

/// Neighboring dimensions of all rows.
struct Columns<'a> {
    kl: &'a mut [f64],
    moments: Option<[&'a mut [f64]; 2]>,
    first: usize,
    blocks: &'a [Block],
    term: NormalKl,
}

impl Columns<'_> {
    fn halve(self, compute: &Compute) {
        let Self { kl, moments, first, .. } = self;
        if compute.threads_at_hand() == 1 || kl.len() <= LANES {
            return compute.simd().dispatch(Columns { kl, moments, ..self });
        }
        // 2.
        let half = compute.left_share(kl.len()).next_multiple_of(LANES).min(kl.len());
        let (kl, kl_right) = kl.split_at_mut(half);
        let (moments, moments_right) = moments
            .map(|[sums, squares]| {
                let ((sums, sums_right), (squares, squares_right)) =
                    (sums.split_at_mut(half), squares.split_at_mut(half));
                ([sums, squares], [sums_right, squares_right])
            })
            .unzip();
        let right = Columns { kl: kl_right, moments: moments_right, first: first + half, ..self };
        let left = Columns { kl, moments, ..self };
        compute.join(|| left.halve(compute), || right.halve(compute));
    }
}

impl WithSimd for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { kl, mut moments, first, blocks, term } = self;
        for (g, kl) in kl.chunks_mut(LANES).enumerate() {
            let group = g * LANES..g * LANES + kl.len();
            let columns = first + group.start..first + group.end;
            // 1. Sixteen chains, which go on from the rows before.
            let mut sums = [[0.0; LANES]; 3];
            sums[0][..kl.len()].copy_from_slice(kl);
            for (sums, before) in sums[1..].iter_mut().zip(moments.iter().flatten()) {
                sums[..kl.len()].copy_from_slice(&before[group.clone()]);
            }
            for block in blocks {
                for row in 0..block.rows {
                    let row = block.heads.row(row);
                    let (mu, logvar) = row.split_at(row.len() / 2);
                    let mu = F32x16::load_tail(simd, &mu[columns.clone()]);
                    let logvar = F32x16::load_tail(simd, &logvar[columns.clone()]);
                    let mut terms = F32x16::splat(simd, 0.0);
                    for v in 0..F32x16::<S>::VECTORS {
                        terms.0[v] = term.lane(simd, [mu.0[v], logvar.0[v]]).0;
                    }
                    let mut lanes = [0.0; LANES];
                    terms.store(&mut lanes);
                    for (sum, lane) in sums[0].iter_mut().zip(lanes) {
                        *sum += f64::from(lane);
                    }
                    if moments.is_some() {
                        mu.store(&mut lanes);
                        for (lane, mean) in lanes.into_iter().map(f64::from).enumerate() {
                            sums[1][lane] += mean;
                            sums[2][lane] += mean * mean;
                        }
                    }
                }
            }
            kl.copy_from_slice(&sums[0][..kl.len()]);
            for (sums, to) in sums[1..].iter().zip(moments.iter_mut().flatten()) {
                to[group.clone()].copy_from_slice(&sums[..group.len()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::importance::Estimator;
    use crate::loss::kl;
    use crate::simd::InstructionSet;
    use crate::vae::{Config, EvaluationOptions, Objective, Penalty, Vae};
    use ndarray::Array2;

    #[test]
    fn sums_are_chains_in_row_order_on_any_set_and_number_of_threads() {
        for (rows, latent) in [(1, 1), (9, 16), (300, 17), (513, 70)] {
            let data = Array2::from_shape_fn((rows, 6), |(r, c)| ((r * 7 + c) % 11) as f32 / 10.0);
            let vae = Vae::new(Config::builder(6, latent).hidden(&[5]).build().unwrap(), 1);
            let code = vae.encode(&Compute::serial(), data.view()).unwrap();
            let [mut kl, mut sums, mut squares] = [(); 3].map(|()| vec![0.0; latent]);
            let mut terms = vec![0.0; latent];
            for (mu, logvar) in code.mu.rows().into_iter().zip(code.logvar.rows()) {
                let [mu, logvar] = [mu, logvar].map(|row| row.to_slice().unwrap());
                let (set, prior) = (InstructionSet::SCALAR, Prior::default());
                kl::per_dimension(set, &mut terms, mu, logvar, prior).unwrap();
                for j in 0..latent {
                    let mean = f64::from(mu[j]);
                    kl[j] += f64::from(terms[j]);
                    sums[j] += mean;
                    squares[j] += mean * mean;
                }
            }
            let n = rows as f64;
            let variances: Vec<f64> = sums
                .iter()
                .zip(&squares)
                .map(|(sum, squares)| (squares - sum * sum / n).max(0.0) / n)
                .collect();
            kl.iter_mut().for_each(|sum| *sum /= n);
            // Importance weights take the rows in parts.
            let penalty = Penalty::Importance { samples: 3, estimator: Estimator::Iwae };
            let weighted = Objective { penalty, ..Objective::default() };
            for set in InstructionSet::available() {
                for threads in [1, 2, 5] {
                    let compute = Compute::new(set, threads).unwrap();
                    for objective in [Objective::default(), weighted] {
                        let options = EvaluationOptions { objective, ..Default::default() };
                        let found = vae.evaluate(&compute, &data, &options).unwrap();
                        let what = format!("{rows} rows, {latent}, {set}, {threads} threads");
                        assert_eq!(found.kl_per_dimension, kl, "{what}");
                        assert_eq!(found.mu_variance, variances, "{what}");
                    }
                }
            }
        }
    }
}
