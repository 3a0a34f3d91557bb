//! Bound on the norm of a batch's gradient, before the gradient is computed.
//!
//! # Formula
//! With x and dy of each layer as matrices of R rows and ‖·‖ the root of the sum of all squares:
//!
//! ```text
//! ‖xᵀ·dy‖ ≤ ‖x‖·‖dy‖ ≤ ½(‖x‖² + ‖dy‖²)        the weights
//! ‖1ᵀ·dy‖ ≤ √R·‖dy‖  ≤ ½(R + ‖dy‖²)            the bias, and each vector
//! ```
//!
//! so the norm of all gradients together is at most the sum of all squares, plus R for each layer and
//! each vector. The bound is large, but activations of ordinary size keep it far from the end of f32, and
//! it takes one pass over what is in cache.

use super::batch::Pass;
use super::block::Block;
use super::matrix::Matrix;
use crate::simd::InstructionSet;
use crate::vae::parameters::VectorRole;
use pulp::{Simd, WithSimd};

/// Registers whose squares are summed in f32: so few that less than 1e-4 is lost to rounding.
const CHAIN: usize = 4096;

impl Block {
    /// The bound for the rows of this block, after the backward pass.
    pub(super) fn bound_gradient(&self, simd: InstructionSet, pass: &Pass<'_, '_>) -> f64 {
        let layout = pass.weights.layout();
        let squares = |matrix: &Matrix, rows| {
            // Padding included, which is zero.
            simd.dispatch(GroupSquares(&matrix.data[..rows * matrix.stride]))
        };
        let layers = (0..self.doutputs.len()).map(|layer| {
            let rows = self.rows_of(layer);
            squares(&self.inputs[layer], rows) + squares(&self.doutputs[layer], rows)
        });
        let vectors = layout.vectors.iter().zip(&self.dvectors).map(|(vector, dvector)| {
            let rows = match vector.role {
                VectorRole::Gain(layer) | VectorRole::Shift(layer) => self.rows_of(layer),
                VectorRole::Logvar => self.decoder_rows(),
            };
            squares(dvector, rows)
        });
        let count = self.doutputs.len() + self.dvectors.len();
        // 1.001 for the rounding of the sums.
        1.001 * layers.chain(vectors).sum::<f64>() + (count * self.decoder_rows()) as f64
    }
}

/// Sum of the squares of whole groups; not finite if an element is not or is too large to be squared.
struct GroupSquares<'a>(&'a [f32]);

impl WithSimd for GroupSquares<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let (registers, rest) = S::as_simd_f32s(self.0);
        debug_assert!(rest.is_empty());
        let chain = |registers: &[S::f32s]| {
            // Four chains, which do not wait for each other.
            let mut sums = [simd.splat_f32s(0.0); 4];
            let (fours, rest) = registers.as_chunks::<4>();
            for four in fours {
                for (sum, &x) in sums.iter_mut().zip(four) {
                    *sum = simd.mul_add_f32s(x, x, *sum);
                }
            }
            for (sum, &x) in sums.iter_mut().zip(rest) {
                *sum = simd.mul_add_f32s(x, x, *sum);
            }
            let [a, b, c, d] = sums;
            let sum = simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d));
            f64::from(simd.reduce_sum_f32s(sum))
        };
        registers.chunks(CHAIN).map(chain).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_squares_of_any_number_of_groups() {
        for simd in InstructionSet::available() {
            for groups in [0, 1, 3, 5, 4097] {
                let values: Vec<f32> =
                    (0..16 * groups).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
                let exact: f64 = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
                let found = simd.dispatch(GroupSquares(&values));
                assert!((found - exact).abs() <= 1e-3 * exact, "{simd}, {groups}: {found} {exact}");
            }
            for wrong in [f32::NAN, f32::NEG_INFINITY, 1e20] {
                let mut values = vec![1.0; 160];
                values[77] = wrong;
                assert!(!simd.dispatch(GroupSquares(&values)).is_finite(), "{simd}, {wrong}");
            }
        }
    }
}
