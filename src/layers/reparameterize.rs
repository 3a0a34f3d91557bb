//! Reparameterization: `z = μ + σ·ε` with `σ = e^{v/2}`, `v = logvar`, ε from N(0, 1).
//!
//! With the sample as a function of the noise, gradients reach μ and v (Kingma & Welling 2014, §2.4):
//!
//! ```text
//! ∂z/∂μ = 1                       dμ += dz
//! ∂z/∂v = ½·e^{v/2}·ε = ½·σε      dv += ½·dz·σε
//! ```
//!
//! The forward pass leaves `σε` behind, so the backward pass needs no exponential.
//!
//! # Error
//! `σε` is within 2 ULP: [`exp`](mod@crate::math) is within one, halving v is exact, and the product
//! rounds once. z rounds once more. The largest error of σ over all v is 0.94 ULP, at −11.723259. `e^{v/2}`
//! overflows for v > 177.4; then z is ±∞, or NaN where ε = 0.

use crate::error::{Result, expect_length};
use crate::math::exp::exp;
use crate::simd::lanes::{F32x16, Lanewise, ZipOp, groups, groups_mut, zip};
use crate::simd::{InstructionSet, LANES};
use pulp::Simd;

/// `[z, σε]` from μ, v and ε.
#[derive(Clone, Copy)]
struct LatentSample;

impl Lanewise<2, 3> for LatentSample {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        simd: S,
        _: [S::f32s; 2],
        [mu, logvar, epsilon]: [S::f32s; 3],
    ) -> [S::f32s; 2] {
        // Halving v is exact; the product is rounded before the sum, so that σε is what z contains.
        let sigma = exp(simd, simd.mul_f32s(simd.splat_f32s(0.5), logvar));
        let sigma_epsilon = simd.mul_f32s(sigma, epsilon);
        [simd.add_f32s(mu, sigma_epsilon), sigma_epsilon]
    }
}

/// Adds to `[dμ, dv]` what dz and σε contribute.
#[derive(Clone, Copy)]
struct LatentGradient;

impl Lanewise<2, 2> for LatentGradient {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        simd: S,
        [dmu, dlogvar]: [S::f32s; 2],
        [dz, sigma_epsilon]: [S::f32s; 2],
    ) -> [S::f32s; 2] {
        // z = μ + σε, so dμ += dz, dlogvar += ½·dz·σε. ½·dz is exact; its product with σε is added in
        // one rounding.
        let half = simd.mul_f32s(simd.splat_f32s(0.5), dz);
        [simd.add_f32s(dmu, dz), simd.mul_add_f32s(half, sigma_epsilon, dlogvar)]
    }
}

/// Overwrites the first `columns` elements of `z` and `σε`.
///
/// All slices have room for whole groups of 16. Elements after `columns` are read from the inputs, whatever
/// they are, and set to 0 in the last group of the outputs.
#[inline(always)]
pub(crate) fn forward_groups<S: Simd>(
    simd: S,
    z: &mut [f32],
    sigma_epsilon: &mut [f32],
    mu: &[f32],
    logvar: &[f32],
    epsilon: &[f32],
    columns: usize,
) {
    let mut outputs = [z, sigma_epsilon].map(|slice| groups_mut(slice).0);
    let inputs = [mu, logvar, epsilon].map(|slice| groups(slice).0);
    // Whole groups only: a row of 20 latent dimensions is two of them, without a tail.
    for (g, start) in (0..columns).step_by(LANES).enumerate() {
        let mut loaded = [F32x16::splat(simd, 0.0); 3];
        for (loaded, input) in loaded.iter_mut().zip(&inputs) {
            *loaded = F32x16::load(simd, &input[g]);
        }
        let mut new = [F32x16::splat(simd, 0.0); 2];
        for v in 0..F32x16::<S>::VECTORS {
            let zero = simd.splat_f32s(0.0);
            // One register of each input; σε stays behind for the backward pass.
            let [mu, logvar, epsilon] = [loaded[0].0[v], loaded[1].0[v], loaded[2].0[v]];
            [new[0].0[v], new[1].0[v]] = LatentSample.apply(simd, [zero; 2], [mu, logvar, epsilon]);
        }
        for (output, new) in outputs.iter_mut().zip(new) {
            // Padding must stay 0, whatever the inputs hold there: products read whole groups.
            new.first(simd, columns - start).store(&mut output[g]);
        }
    }
}

/// Accumulates onto `dmu` and `dlogvar`, all slices of one length.
#[inline(always)]
pub(crate) fn backward_row<S: Simd>(
    simd: S,
    dmu: &mut [f32],
    dlogvar: &mut [f32],
    dz: &[f32],
    sigma_epsilon: &[f32],
) {
    zip(simd, [dmu, dlogvar], [dz, sigma_epsilon], LatentGradient);
}

/// Overwrites `z` with `mu + e^{logvar/2}·epsilon` and `sigma_epsilon` with the second term.
///
/// ```
/// use elbo::{layers::reparameterize, simd::InstructionSet};
///
/// let simd = InstructionSet::detect();
/// let (mut z, mut sigma_epsilon) = ([f32::NAN; 2], [f32::NAN; 2]);
/// let logvar = [0.0, 2.0 * 3_f32.ln()]; // σ = 1 and 3
/// reparameterize::forward(
///     simd, &mut z, &mut sigma_epsilon, &[10.0, 20.0], &logvar, &[0.5, -1.0],
/// )?;
/// assert_eq!(z[0], 10.5);
/// assert!((z[1] - 17.0).abs() < 1e-5);
///
/// // The gradient of z alone:
/// let (mut dmu, mut dlogvar) = ([0.0; 2], [0.0; 2]);
/// reparameterize::backward(simd, &mut dmu, &mut dlogvar, &[1.0, 1.0], &sigma_epsilon)?;
/// assert_eq!((dmu, dlogvar[0]), ([1.0, 1.0], 0.25));
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the lengths differ.
pub fn forward(
    simd: InstructionSet,
    z: &mut [f32],
    sigma_epsilon: &mut [f32],
    mu: &[f32],
    logvar: &[f32],
    epsilon: &[f32],
) -> Result<()> {
    expect_length("sigma_epsilon", z.len(), sigma_epsilon.len())?;
    expect_length("mu", z.len(), mu.len())?;
    expect_length("logvar", z.len(), logvar.len())?;
    expect_length("epsilon", z.len(), epsilon.len())?;
    simd.dispatch(ZipOp([z, sigma_epsilon], [mu, logvar, epsilon], LatentSample));
    Ok(())
}

/// Accumulates `dz` onto `dmu` and `½·dz·σε` onto `dlogvar`, because the KL divergence contributes a
/// gradient to both as well. `sigma_epsilon` is the output of [`forward`].
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the lengths differ.
pub fn backward(
    simd: InstructionSet,
    dmu: &mut [f32],
    dlogvar: &mut [f32],
    dz: &[f32],
    sigma_epsilon: &[f32],
) -> Result<()> {
    expect_length("dlogvar", dmu.len(), dlogvar.len())?;
    expect_length("dz", dmu.len(), dz.len())?;
    expect_length("sigma_epsilon", dmu.len(), sigma_epsilon.len())?;
    simd.dispatch(ZipOp([dmu, dlogvar], [dz, sigma_epsilon], LatentGradient));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::WithSimd;

    #[test]
    fn groups_have_the_bits_of_the_public_function_and_zero_padding() {
        struct Op<'a>([&'a mut [f32]; 2], [&'a [f32]; 3], usize);
        impl WithSimd for Op<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self([z, sigma_epsilon], [mu, logvar, epsilon], columns) = self;
                forward_groups(simd, z, sigma_epsilon, mu, logvar, epsilon, columns);
            }
        }
        let numbers = |salt: usize| -> Vec<f32> {
            (0..48).map(|i| ((i * 37 + salt) % 101) as f32 / 25.0 - 2.0).collect()
        };
        let inputs = [numbers(3), numbers(50), numbers(77)];
        for simd in InstructionSet::available() {
            for columns in 1..=48 {
                let [mu, logvar, epsilon] = inputs.each_ref().map(|input| &input[..columns]);
                let (mut z, mut sigma_epsilon) = (vec![f32::NAN; columns], vec![f32::NAN; columns]);
                forward(simd, &mut z, &mut sigma_epsilon, mu, logvar, epsilon).unwrap();
                let mut groups = [[f32::NAN; 48]; 2];
                let outputs = groups.each_mut().map(|group| &mut group[..]);
                simd.dispatch(Op(outputs, inputs.each_ref().map(|input| &input[..]), columns));
                let padding = vec![0.0; columns.next_multiple_of(LANES) - columns];
                for (found, expected) in groups.iter().zip([z, sigma_epsilon]) {
                    let expected = [&expected[..], &padding].concat();
                    assert_eq!(found[..expected.len()], expected[..], "{simd}, {columns}");
                }
            }
        }
    }

    #[test]
    fn backward_matches_finite_differences() {
        let (mu, logvar, epsilon) = (0.3_f64, -0.7_f64, 1.2_f64);
        let z = |mu: f64, logvar: f64| mu + (logvar / 2.0).exp() * epsilon;
        let h = 1e-6;
        let dlogvar_exact = (z(mu, logvar + h) - z(mu, logvar - h)) / (2.0 * h);
        for simd in InstructionSet::available() {
            let (mut sample, mut sigma_epsilon) = ([f32::NAN], [f32::NAN]);
            let args = [mu as f32, logvar as f32, epsilon as f32];
            forward(simd, &mut sample, &mut sigma_epsilon, &args[..1], &args[1..2], &args[2..])
                .unwrap();
            assert!((f64::from(sample[0]) - z(mu, logvar)).abs() < 2e-7);
            // Accumulates.
            let (mut dmu, mut dlogvar) = ([1.0], [2.0]);
            backward(simd, &mut dmu, &mut dlogvar, &[3.0], &sigma_epsilon).unwrap();
            assert_eq!(dmu[0], 4.0);
            assert!((f64::from(dlogvar[0]) - (2.0 + 3.0 * dlogvar_exact)).abs() < 1e-6);
        }
    }

    #[test]
    fn gives_the_same_bits_at_every_length_on_every_instruction_set() {
        for n in 0..=67 {
            let value = |i: usize, salt: usize| ((i * 31 + salt * 17) % 97) as f32 / 31.0 - 1.5;
            let [mu, logvar, epsilon, dz] =
                [0, 1, 2, 3].map(|salt| (0..n).map(|i| value(i, salt)).collect::<Vec<_>>());
            let run = |simd| {
                let (mut z, mut se) = (vec![f32::NAN; n], vec![f32::NAN; n]);
                forward(simd, &mut z, &mut se, &mu, &logvar, &epsilon).unwrap();
                let (mut dmu, mut dlogvar) = (mu.clone(), logvar.clone());
                backward(simd, &mut dmu, &mut dlogvar, &dz, &se).unwrap();
                [z, se, dmu, dlogvar].map(|v| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
            };
            let expected = run(InstructionSet::SCALAR);
            for simd in InstructionSet::available() {
                assert_eq!(run(simd), expected, "{simd}, n={n}");
            }
        }
    }
}
