//! The passes over all pairs of rows: see the [module](super) for what they compute and why so.

use crate::gemm::transpose;
use crate::loss::kl::NormalKl;
use crate::math::exp::{exp, exp_of_minus};
use crate::math::log::log;
use crate::math::scalar;
use crate::simd::LANES;
use crate::simd::aligned::AlignedBuffer;
use crate::simd::lanes::F32x16;
use crate::simd::sum::two_sum;
use pulp::{Simd, WithSimd};
use std::f64::consts::TAU;

/// Rows j that go together: their sums for sixteen rows i fit into the first-level cache.
const TILE: usize = 64;
/// Groups of sixteen rows i whose parts of dμ and dv are added in one chain.
const CHAIN: usize = 64;
/// Distance by which the least total is undercut where a later tile has a lower one: so the sum so far is
/// scaled, and rounded, a few times only, however slowly the totals fall from tile to tile.
const MARGIN: f32 = 2.0;
/// A sum of e^{−P} below this is computed again with the least P subtracted.
const VANISHED: f32 = 1e-18;

/// Numbers of sixteen rows i for each j of a tile, on cache lines.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Tile([[f32; LANES]; TILE]);

impl Tile {
    const ZERO: Self = Self([[0.0; LANES]; TILE]);
}

/// Makes a buffer at least `len` long; a shorter one loses its content.
fn grow(buffer: &mut AlignedBuffer, len: usize) {
    if buffer.len() < len {
        *buffer = AlignedBuffer::zeros(len);
    }
}

/// One latent dimension of all rows, in whole groups of sixteen, zeros after the last row.
#[derive(Default)]
pub(super) struct Dimension {
    pub(super) z: AlignedBuffer,
    pub(super) mu: AlignedBuffer,
    pub(super) logvar: AlignedBuffer,
    /// e^{−v}.
    precision: AlignedBuffer,
    /// ½e^{−v}.
    half_precision: AlignedBuffer,
    /// ½(v − least v).
    excess: AlignedBuffer,
    /// M: the logarithm of the highest density of any row.
    largest: f64,
    pub(super) dz: AlignedBuffer,
    /// The rounding errors of dz, from tile to tile.
    dz_low: AlignedBuffer,
    pub(super) dmu: AlignedBuffer,
    pub(super) dlogvar: AlignedBuffer,
}

impl Dimension {
    pub(super) fn reserve(&mut self, padded: usize) {
        for buffer in [
            &mut self.z,
            &mut self.mu,
            &mut self.logvar,
            &mut self.precision,
            &mut self.half_precision,
            &mut self.excess,
            &mut self.dz,
            &mut self.dz_low,
            &mut self.dmu,
            &mut self.dlogvar,
        ] {
            grow(buffer, padded);
        }
    }
}

/// Sixteen rows i, and what is known of them after the first pass.
#[derive(Default)]
pub(super) struct Group {
    /// For each dimension: what is subtracted from P, and 1/Σ_j e^{−(P − that)}; until the sum is complete
    /// its low and its high part.
    shift: Vec<[f32; LANES]>,
    inverse: Vec<[f32; LANES]>,
    /// For each j: Σ_d P, then (β−α)·scale·a.
    weights: AlignedBuffer,
    /// ln q(z|x), ln q(z), ln Π q(z_d), ln p(z).
    pub(super) logs: [[f64; LANES]; 4],
}

impl Group {
    pub(super) fn reserve(&mut self, latent: usize) {
        if self.shift.len() < latent {
            self.shift.resize(latent, [0.0; LANES]);
            self.inverse.resize(latent, [0.0; LANES]);
        }
    }

    pub(super) fn reserve_weights(&mut self, rows: usize) {
        grow(&mut self.weights, rows * LANES);
    }
}

/// Factors of the loss' derivatives with respect to L, each times the scale.
#[derive(Clone, Copy)]
pub(super) struct Coefficients {
    /// α.
    pub(super) own: f32,
    /// β − α.
    pub(super) joint: f32,
    /// γ − β.
    pub(super) marginal: f32,
    /// γ.
    pub(super) prior: f32,
}

/// Group `index` of a buffer.
#[inline(always)]
fn group<S: Simd>(simd: S, buffer: &[f32], index: usize) -> F32x16<S> {
    F32x16::load(simd, &buffer.as_chunks().0[index])
}

/// Register `v` of sixteen numbers.
///
/// The loops over pairs take one register at a time: groups of registers as arrays would go through
/// memory at each pair, which halves their speed.
#[inline(always)]
fn register<S: Simd>(numbers: &[f32; LANES], v: usize) -> S::f32s {
    S::as_simd_f32s(numbers).0[v]
}

#[inline(always)]
fn register_mut<S: Simd>(numbers: &mut [f32; LANES], v: usize) -> &mut S::f32s {
    &mut S::as_mut_simd_f32s(numbers).0[v]
}

/// P of sixteen rows i and one row j, or of sixteen pairs.
#[inline(always)]
fn distance<S: Simd>(
    simd: S,
    z: S::f32s,
    mu: S::f32s,
    half_precision: S::f32s,
    excess: S::f32s,
) -> S::f32s {
    let difference = simd.sub_f32s(z, mu);
    simd.mul_add_f32s(simd.mul_f32s(difference, difference), half_precision, excess)
}

/// Computes the numbers of a dimension that depend on μ and v alone.
pub(super) struct Prepare<'a> {
    pub(super) dimension: &'a mut Dimension,
    pub(super) rows: usize,
}

impl WithSimd for Prepare<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { dimension, rows } = self;
        let padded = rows.next_multiple_of(LANES);
        // The last group of sixteen may be wider than the batch, and hold rows of an earlier one.
        for buffer in [&mut dimension.z, &mut dimension.mu, &mut dimension.logvar] {
            buffer[rows..padded].fill(0.0);
        }
        // 1. The narrowest row has the highest density: M = −½(min v + ln 2π).
        let mut least = f32::INFINITY;
        for &v in &dimension.logvar[..rows] {
            if v < least {
                least = v;
            }
        }
        dimension.largest = -0.5 * (f64::from(least) + scalar::ln(TAU));
        // 1. The factors of P = ½(z−μ)²e^{−v} + ½(v − min v) that do not depend on z.
        let half = simd.splat_f32s(0.5);
        for g in 0..padded / LANES {
            let logvar = group(simd, &dimension.logvar, g);
            let mut precision = logvar;
            let (mut half_precision, mut excess) = (logvar, logvar);
            for v in 0..F32x16::<S>::VECTORS {
                precision.0[v] = exp(simd, simd.neg_f32s(logvar.0[v]));
                half_precision.0[v] = simd.mul_f32s(half, precision.0[v]);
                let above = simd.sub_f32s(logvar.0[v], simd.splat_f32s(least));
                excess.0[v] = simd.mul_f32s(half, above);
            }
            precision.store(&mut dimension.precision.as_chunks_mut().0[g]);
            half_precision.store(&mut dimension.half_precision.as_chunks_mut().0[g]);
            excess.store(&mut dimension.excess.as_chunks_mut().0[g]);
        }
    }
}

/// The logarithms of sixteen rows i, and with coefficients the softmax over j of their joint
/// densities.
pub(super) struct FirstPass<'a> {
    pub(super) group: &'a mut Group,
    pub(super) index: usize,
    pub(super) dimensions: &'a [Dimension],
    pub(super) rows: usize,
    pub(super) ln_weight: f64,
    pub(super) prior: NormalKl,
    pub(super) coefficients: Option<Coefficients>,
}

impl WithSimd for FirstPass<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { group: out, index, dimensions, rows, ln_weight, prior, coefficients } = self;
        let latent = dimensions.len();
        // The last group may have fewer than sixteen rows.
        let used = LANES.min(rows - index * LANES);
        let zero = F32x16::splat(simd, 0.0);
        let mut joint = Joint::empty(simd);
        // `inverse` and `shift` hold the sums, high and low parts, until they are complete.
        out.inverse[..latent].fill([0.0; LANES]);
        out.shift[..latent].fill([0.0; LANES]);
        let mut tile = Tile::ZERO;
        // 2. Tiles of rows j: Σ_d P of each pair, and for each d the sum of e^{−P} over j.
        for first in (0..rows).step_by(TILE) {
            let count = TILE.min(rows - first);
            let totals = &mut tile.0[..count];
            totals.fill([0.0; LANES]);
            let sums = out.inverse.iter_mut().zip(&mut out.shift);
            for (dimension, (high, low)) in dimensions.iter().zip(sums) {
                let z = group(simd, &dimension.z, index);
                let part = dimension.add_distances(simd, z, first, totals);
                add_to_pair(simd, high, low, part);
            }
            // The LSE over j of −Σ_d P, whose least value is not known in advance.
            joint.add_tile(simd, totals, if first == 0 { 0.0 } else { MARGIN });
            // Σ_d P is kept: the matrix a is made of it once the LSE is known.
            if coefficients.is_some() {
                let weights = &mut out.weights.as_chunks_mut().0[first..first + count];
                weights.copy_from_slice(totals);
            }
        }

        let mut logs = [[0.0; LANES]; 4];
        let [posterior, aggregate, product, of_prior] = &mut logs;
        let places = out.shift.iter_mut().zip(&mut out.inverse);
        for (dimension, (shift, inverse)) in dimensions.iter().zip(places) {
            let z = group(simd, &dimension.z, index);
            let low = F32x16::load(simd, shift);
            let (mut subtracted, mut sum) = (zero, F32x16::load(simd, inverse).add(simd, low));
            sum.store(inverse);
            // 1. A row far from all means: again, relative to the nearest one.
            if inverse[..used].iter().any(|&sum| sum < VANISHED) {
                (subtracted, sum) = dimension.shifted_sum(simd, z, rows);
            }
            let mu = group(simd, &dimension.mu, index);
            let half_precision = group(simd, &dimension.half_precision, index);
            let excess = group(simd, &dimension.excess, index);
            // ln of the marginal, P of the pair i = j, and the prior's exponent, in f32 registers.
            let (mut log_sum, mut own, mut pull, mut reciprocal) = (zero, zero, zero, zero);
            for v in 0..F32x16::<S>::VECTORS {
                log_sum.0[v] = log(simd, sum.0[v]);
                own.0[v] = distance(simd, z.0[v], mu.0[v], half_precision.0[v], excess.0[v]);
                let from_mean = simd.sub_f32s(z.0[v], simd.splat_f32s(prior.mean));
                let inverse = simd.splat_f32s(prior.inverse_variance);
                pull.0[v] = simd.mul_f32s(simd.mul_f32s(from_mean, from_mean), inverse);
                reciprocal.0[v] = simd.div_f32s(simd.splat_f32s(1.0), sum.0[v]);
            }
            subtracted.store(shift);
            // No gradient of rows that are not there.
            reciprocal.first(simd, used).store(inverse);
            // From here on in f64: the logarithms are sums over d whose differences are the result.
            let [log_sum, own, pull] = [log_sum, own, pull].map(|value| lanes(value));
            let largest = dimension.largest;
            let prior_constant = f64::from(prior.log_variance) + scalar::ln(TAU);
            for l in 0..LANES {
                posterior[l] += largest - f64::from(own[l]);
                aggregate[l] += largest;
                let marginal = largest - f64::from(shift[l]) + f64::from(log_sum[l]);
                product[l] += marginal - ln_weight;
                of_prior[l] -= 0.5 * (f64::from(pull[l]) + prior_constant);
            }
        }
        // ln q(z) = Σ_d M_d + LSE_j(−Σ_d P) − ln(N·B).
        let (least, joint) = (joint.least, joint.high.add(simd, joint.low));
        let mut log_joint = zero;
        for v in 0..F32x16::<S>::VECTORS {
            log_joint.0[v] = log(simd, joint.0[v]);
        }
        let (log_joint, lowest) = (lanes(log_joint), lanes(least));
        for l in 0..LANES {
            aggregate[l] += f64::from(log_joint[l]) - f64::from(lowest[l]) - ln_weight;
        }
        out.logs = logs;

        let Some(coefficients) = coefficients else { return };
        // (β−α)·scale·a, with a = e^{−(Σ_d P − least)} over its sum.
        let mut factor = zero;
        for v in 0..F32x16::<S>::VECTORS {
            factor.0[v] = simd.div_f32s(simd.splat_f32s(coefficients.joint), joint.0[v]);
        }
        // Rows that do not exist have no gradient.
        let factor = factor.first(simd, used);
        for v in 0..F32x16::<S>::VECTORS {
            let (least, factor) = (least.0[v], factor.0[v]);
            for weights in &mut out.weights.as_chunks_mut().0[..rows] {
                let weight = register_mut::<S>(weights, v);
                let e = exp_of_minus(simd, simd.sub_f32s(*weight, least));
                *weight = simd.mul_f32s(e, factor);
            }
        }
    }
}

#[inline(always)]
fn lanes<S: Simd>(value: F32x16<S>) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    value.store(&mut out);
    out
}

impl Dimension {
    /// Adds P of rows `first ..` to the totals and returns Σ_j e^{−P}.
    #[inline(always)]
    fn add_distances<S: Simd>(
        &self,
        simd: S,
        z: F32x16<S>,
        first: usize,
        totals: &mut [[f32; LANES]],
    ) -> F32x16<S> {
        let last = first + totals.len();
        let parameters = self.mu[first..last]
            .iter()
            .zip(&self.half_precision[first..last])
            .zip(&self.excess[first..last]);
        // 2. One chain a lane over the tile; the loop over registers is outside, see `register`.
        let mut sum = F32x16::splat(simd, 0.0);
        for v in 0..F32x16::<S>::VECTORS {
            let (z, mut chain) = (z.0[v], sum.0[v]);
            for (total, ((&mu, &half_precision), &excess)) in
                totals.iter_mut().zip(parameters.clone())
            {
                let [mu, half_precision, excess] =
                    [simd.splat_f32s(mu), simd.splat_f32s(half_precision), simd.splat_f32s(excess)];
                let p = distance(simd, z, mu, half_precision, excess);
                let total = register_mut::<S>(total, v);
                *total = simd.add_f32s(*total, p);
                chain = simd.add_f32s(chain, exp_of_minus(simd, p));
            }
            sum.0[v] = chain;
        }
        sum
    }

    /// The least P of all rows j, and Σ_j e^{−(P − that)}.
    #[cold]
    #[inline(always)]
    fn shifted_sum<S: Simd>(&self, simd: S, z: F32x16<S>, rows: usize) -> (F32x16<S>, F32x16<S>) {
        let mut least = F32x16::splat(simd, f32::INFINITY);
        let [mut high, mut low] = [[0.0; LANES]; 2];
        // Once for the least P, once for the sum relative to it, tile by tile.
        for minimum in [true, false] {
            for first in (0..rows).step_by(TILE) {
                let mut chain = F32x16::splat(simd, 0.0);
                for j in first..rows.min(first + TILE) {
                    let mu = simd.splat_f32s(self.mu[j]);
                    let half_precision = simd.splat_f32s(self.half_precision[j]);
                    let excess = simd.splat_f32s(self.excess[j]);
                    for v in 0..F32x16::<S>::VECTORS {
                        let p = distance(simd, z.0[v], mu, half_precision, excess);
                        if minimum {
                            let lower = simd.less_than_f32s(p, least.0[v]);
                            least.0[v] = simd.select_f32s(lower, p, least.0[v]);
                        } else {
                            let e = exp_of_minus(simd, simd.sub_f32s(p, least.0[v]));
                            chain.0[v] = simd.add_f32s(chain.0[v], e);
                        }
                    }
                }
                add_to_pair(simd, &mut high, &mut low, chain);
            }
        }
        (least, F32x16::load(simd, &high).add(simd, F32x16::load(simd, &low)))
    }
}

/// Adds sixteen numbers to `high`, and what that rounds off to `low`: the error of a sum of many tiles is
/// that of one tile.
#[inline(always)]
fn add_to_pair<S: Simd>(
    simd: S,
    high: &mut [f32; LANES],
    low: &mut [f32; LANES],
    numbers: F32x16<S>,
) {
    for v in 0..F32x16::<S>::VECTORS {
        let [sum, error] = two_sum(simd, register::<S>(high, v), numbers.0[v]);
        *register_mut::<S>(high, v) = sum;
        *register_mut::<S>(low, v) = simd.add_f32s(register::<S>(low, v), error);
    }
}

/// Σ_j e^{−(total − least)} of sixteen rows as a pair, and `least`, a bound of the totals so far.
struct Joint<S: Simd> {
    least: F32x16<S>,
    high: F32x16<S>,
    low: F32x16<S>,
}

impl<S: Simd> Joint<S> {
    #[inline(always)]
    fn empty(simd: S) -> Self {
        let zero = F32x16::splat(simd, 0.0);
        Self { least: F32x16::splat(simd, f32::INFINITY), high: zero, low: zero }
    }

    /// Adds one more tile of totals. Where one is below `least` that becomes the lowest less `margin`.
    #[inline(always)]
    fn add_tile(&mut self, simd: S, totals: &[[f32; LANES]], margin: f32) {
        for v in 0..F32x16::<S>::VECTORS {
            // The least total with this tile. A comparison with NaN is false and leaves it.
            let before = self.least.0[v];
            let mut lowest = before;
            for total in totals {
                let total = register::<S>(total, v);
                lowest = simd.select_f32s(simd.less_than_f32s(total, lowest), total, lowest);
            }
            let undercut = simd.sub_f32s(lowest, simd.splat_f32s(margin));
            let falls = simd.less_than_f32s(lowest, before);
            let least = simd.select_f32s(falls, undercut, before);
            // The sum so far, relative to the new least total; e^{−∞} = 0 before the first tile, and
            // e⁰ = 1 to the bit.
            let fall = exp_of_minus(simd, simd.sub_f32s(before, least));
            let mut chain = simd.splat_f32s(0.0);
            for total in totals {
                let e = exp_of_minus(simd, simd.sub_f32s(register::<S>(total, v), least));
                chain = simd.add_f32s(chain, e);
            }
            let [sum, error] = two_sum(simd, simd.mul_f32s(self.high.0[v], fall), chain);
            self.least.0[v] = least;
            self.high.0[v] = sum;
            self.low.0[v] = simd.mul_add_f32s(self.low.0[v], fall, error);
        }
    }
}

/// The gradients of one dimension.
pub(super) struct SecondPass<'a> {
    pub(super) dimension: &'a mut Dimension,
    pub(super) d: usize,
    pub(super) groups: &'a [Group],
    pub(super) rows: usize,
    pub(super) coefficients: Coefficients,
    pub(super) prior: NormalKl,
}

impl WithSimd for SecondPass<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { dimension, d, groups, rows, coefficients, prior } = self;
        let groups = &groups[..rows.div_ceil(LANES)];
        // 3. Sums over i of each j stay in a tile of sixteen lanes; those over j of each i in dz.
        dimension.dz[..groups.len() * LANES].fill(0.0);
        dimension.dz_low[..groups.len() * LANES].fill(0.0);
        let mut parts = [Tile::ZERO; 2];
        // High and low parts of the sums of more rows than one chain takes.
        let mut sums = (groups.len() > CHAIN).then_some([[Tile::ZERO; 2]; 2]);
        for first in (0..rows).step_by(TILE) {
            let count = TILE.min(rows - first);
            for sum in sums.iter_mut().flatten().flatten() {
                sum.0.fill([0.0; LANES]);
            }
            for (chain, groups) in groups.chunks(CHAIN).enumerate() {
                parts.iter_mut().for_each(|part| part.0.fill([0.0; LANES]));
                for (index, group) in groups.iter().enumerate() {
                    let weights = &group.weights.as_chunks().0[first..first + count];
                    let tiles = parts.each_mut().map(|part| &mut part.0[..count]);
                    let softmax = (&group.shift[d], &group.inverse[d], coefficients.marginal);
                    let index = chain * CHAIN + index;
                    dimension.add_gradients(simd, index, first, weights, softmax, tiles);
                }
                for (part, [high, low]) in parts.iter().zip(sums.iter_mut().flatten()) {
                    let pairs = high.0.iter_mut().zip(&mut low.0);
                    for (part, (high, low)) in part.0.iter().zip(pairs) {
                        add_to_pair(simd, high, low, F32x16::load(simd, part));
                    }
                }
            }
            let last = (first + count).next_multiple_of(LANES);
            let outputs = [&mut dimension.dmu[first..last], &mut dimension.dlogvar[first..last]];
            for (which, out) in outputs.into_iter().enumerate() {
                let Some([high, low]) = sums.as_ref().map(|sums| &sums[which]) else {
                    add_lanes(simd, out, &parts[which]);
                    continue;
                };
                let mut rounded_off = [0.0; TILE];
                add_lanes(simd, out, high);
                add_lanes(simd, &mut rounded_off[..out.len()], low);
                for (sum, low) in out.iter_mut().zip(rounded_off) {
                    *sum += low;
                }
            }
        }
        for index in 0..groups.len() {
            dimension.add_own(simd, index, coefficients, prior);
        }
    }
}

impl Dimension {
    /// Pairs of group `index` with the rows `first ..`: accumulates dz, and the parts of dμ·e^v and 2dv
    /// of each j that come from the sixteen rows i.
    #[inline(always)]
    fn add_gradients<S: Simd>(
        &mut self,
        simd: S,
        index: usize,
        first: usize,
        weights: &[[f32; LANES]],
        (shift, inverse, marginal): (&[f32; LANES], &[f32; LANES], f32),
        [dmu, dlogvar]: [&mut [[f32; LANES]]; 2],
    ) {
        let last = first + weights.len();
        let parameters = self.mu[first..last]
            .iter()
            .zip(&self.half_precision[first..last])
            .zip(&self.precision[first..last])
            .zip(&self.excess[first..last]);
        // Where the square overflows its weight is 0: the product of the two must not be NaN. As
        // integers, floats without a sign are ordered alike.
        let (one, bound) = (simd.splat_f32s(1.0), simd.splat_u32s(1e30_f32.to_bits()));
        let z = &self.z.as_chunks().0[index];
        let mut dz = F32x16::splat(simd, 0.0);
        for v in 0..F32x16::<S>::VECTORS {
            let (z, shift) = (register::<S>(z, v), register::<S>(shift, v));
            let factor = simd.mul_f32s(register::<S>(inverse, v), simd.splat_f32s(marginal));
            let mut chain = simd.splat_f32s(0.0);
            let outputs = dmu.iter_mut().zip(dlogvar.iter_mut()).zip(weights);
            for (((dmu, dlogvar), weight), (((&mu, &half_precision), &precision), &excess)) in
                outputs.zip(parameters.clone())
            {
                let [half_precision, precision, excess] = [
                    simd.splat_f32s(half_precision),
                    simd.splat_f32s(precision),
                    simd.splat_f32s(excess),
                ];
                let difference = simd.sub_f32s(z, simd.splat_f32s(mu));
                let square = simd.mul_f32s(difference, difference);
                let p = simd.mul_add_f32s(square, half_precision, excess);
                // c = ∂loss/∂L_ijd except α[i=j]: (β−α)·a + (γ−β)·b, with b = e^{−P} over its sum.
                let e = exp_of_minus(simd, simd.sub_f32s(p, shift));
                let c = simd.mul_add_f32s(e, factor, register::<S>(weight, v));
                // c·u·e^v, whose factor e^{−v} of row j is applied once, in `add_own`.
                let pull = simd.mul_f32s(c, difference);
                let (dmu, dlogvar) = (register_mut::<S>(dmu, v), register_mut::<S>(dlogvar, v));
                *dmu = simd.add_f32s(*dmu, pull);
                // c·((z−μ)²e^{−v} − 1), which is 2·∂loss/∂v.
                let scaled = simd.transmute_u32s_f32s(simd.mul_f32s(square, precision));
                let scaled = simd.transmute_f32s_u32s(simd.min_u32s(scaled, bound));
                *dlogvar = simd.mul_add_f32s(c, simd.sub_f32s(scaled, one), *dlogvar);
                // ∂L/∂z = −u.
                chain = simd.negate_mul_add_f32s(pull, precision, chain);
            }
            dz.0[v] = chain;
        }
        let (high, low) =
            (&mut self.dz.as_chunks_mut().0[index], &mut self.dz_low.as_chunks_mut().0[index]);
        add_to_pair(simd, high, low, dz);
    }

    /// Completes the gradients of sixteen rows: the factors that do not depend on i, the pairs i = j, and
    /// the prior.
    #[inline(always)]
    fn add_own<S: Simd>(
        &mut self,
        simd: S,
        index: usize,
        coefficients: Coefficients,
        prior: NormalKl,
    ) {
        let z = group(simd, &self.z, index);
        let mu = group(simd, &self.mu, index);
        let precision = group(simd, &self.precision, index);
        let mut dz = group(simd, &self.dz, index).add(simd, group(simd, &self.dz_low, index));
        let mut dmu = group(simd, &self.dmu, index);
        let mut dlogvar = group(simd, &self.dlogvar, index);
        let own = simd.splat_f32s(coefficients.own);
        let pull = simd.splat_f32s(coefficients.prior * prior.inverse_variance);
        let half = simd.splat_f32s(0.5);
        for v in 0..F32x16::<S>::VECTORS {
            // α·[i = j]: −u to dz, u to dμ, ½((z−μ)u − 1) to dv; and γ·(z−m)/s² of the prior.
            let difference = simd.sub_f32s(z.0[v], mu.0[v]);
            let u = simd.mul_f32s(difference, precision.0[v]);
            let from_mean = simd.sub_f32s(z.0[v], simd.splat_f32s(prior.mean));
            dz.0[v] = simd.negate_mul_add_f32s(own, u, dz.0[v]);
            dz.0[v] = simd.mul_add_f32s(pull, from_mean, dz.0[v]);
            dmu.0[v] = simd.mul_add_f32s(own, u, simd.mul_f32s(dmu.0[v], precision.0[v]));
            let stretch = simd.mul_add_f32s(difference, u, simd.splat_f32s(-1.0));
            dlogvar.0[v] = simd.mul_f32s(half, simd.mul_add_f32s(own, stretch, dlogvar.0[v]));
        }
        dz.store(&mut self.dz.as_chunks_mut().0[index]);
        dmu.store(&mut self.dmu.as_chunks_mut().0[index]);
        dlogvar.store(&mut self.dlogvar.as_chunks_mut().0[index]);
    }
}

/// Overwrites `out` with the sum of each row's lanes, halves onto halves.
#[inline(always)]
fn add_lanes<S: Simd>(simd: S, out: &mut [f32], tile: &Tile) {
    #[repr(align(64))]
    struct Columns([[f32; TILE]; LANES]);
    let mut columns = Columns([[0.0; TILE]; LANES]);
    // 3. Lane l of 64 rows becomes a row of 64 numbers, so that whole registers are added.
    let rows = tile.0.as_flattened();
    transpose(simd, columns.0.as_flattened_mut(), TILE, rows, LANES, TILE, LANES);
    for (g, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
        let mut lanes = [F32x16::splat(simd, 0.0); LANES];
        for (lane, column) in lanes.iter_mut().zip(&columns.0) {
            *lane = group(simd, column, g);
        }
        // The tree of `LaneSum`: halves onto halves.
        let mut width = LANES / 2;
        while width > 0 {
            for l in 0..width {
                lanes[l] = lanes[l].add(simd, lanes[l + width]);
            }
            width /= 2;
        }
        lanes[0].store(out);
    }
}
