//! The panels of Wᵀ: with them the input gradient `dx = dy·W` is a forward product.
//!
//! Its usual form ([`super::input_gradient`]) transposes dy and dx, which for a layer of few
//! weights are larger than W. The chains are the same: over the outputs, ascending, from zero.

use super::PanelLayout;
use super::transpose::transpose;
use pulp::Simd;

/// The layout of Wᵀ's panels, where `layout` is that of W's.
pub(crate) fn transposed_layout(layout: PanelLayout) -> PanelLayout {
    PanelLayout { inputs: layout.outputs, outputs: layout.inputs }
}

/// Overwrites the weights in `to`, which are laid out by [`transposed_layout`], with those of
/// `panels`. Bias rows and padding are left as they are: they have to be zero.
#[inline(always)]
pub(crate) fn transpose_panels<S: Simd>(
    simd: S,
    to: &mut [f32],
    panels: &[f32],
    layout: PanelLayout,
) {
    for into in transposed_layout(layout).panels() {
        for from in layout.panels() {
            let source = &panels[from.offset + (into.start + 1) * from.width..];
            let target = &mut to[into.offset + (from.start + 1) * into.width..];
            // Not the padding of W, whatever a caller has left in it.
            let (rows, columns) = (into.outputs, from.outputs);
            transpose(simd, target, into.width, source, from.width, rows, columns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compute;
    use crate::gemm::{Panels, input_gradient, product};
    use crate::simd::InstructionSet;
    use ndarray::Array2;
    use pulp::WithSimd;

    struct Op<'a>(&'a mut [f32], &'a [f32], PanelLayout);

    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            transpose_panels(simd, self.0, self.1, self.2);
        }
    }

    const SHAPES: [(usize, usize); 9] =
        [(1, 1), (8, 64), (64, 30), (64, 16), (17, 65), (100, 3), (50, 130), (33, 49), (130, 50)];

    #[test]
    fn the_panels_of_the_transposed_weights_again_and_again() {
        for (inputs, outputs) in SHAPES {
            for set in InstructionSet::available() {
                let layout = PanelLayout { inputs, outputs };
                let mut to = vec![0.0; transposed_layout(layout).len()];
                for salt in [1, 5] {
                    let weights = Array2::from_shape_fn((outputs, inputs), |(n, k)| {
                        (n * 1000 + k + salt) as f32
                    });
                    // Padding that is not zero must not come through.
                    let mut panels = Panels::zeros(inputs, outputs);
                    panels.fill(-1.0);
                    layout.pack(&mut panels, 0, weights.view(), &vec![7.0; outputs]);
                    set.dispatch(Op(&mut to, &panels, layout));
                    let expected = Panels::pack(weights.t(), &vec![0.0; inputs]).unwrap();
                    assert_eq!(to[..], expected[..], "{set} {inputs}x{outputs}");
                }
            }
        }
    }

    #[test]
    fn a_product_with_them_has_the_bits_of_the_input_gradient() {
        for (inputs, outputs) in SHAPES {
            let number = |i: usize, j: usize| ((i * 7919 + j * 331) % 1009) as f32 / 504.0 - 1.0;
            let weights = Array2::from_shape_fn((outputs, inputs), |(n, k)| number(n, k));
            let panels = Panels::pack(weights.view(), &vec![0.5; outputs]).unwrap();
            for rows in [1, 7, 24, 65] {
                let dy = Array2::from_shape_fn((rows, outputs), |(b, n)| number(b + 5, n + 3));
                for set in InstructionSet::available() {
                    let compute = Compute::new(set, 1).unwrap();
                    let mut plain = Array2::from_elem((rows, inputs), f32::NAN);
                    input_gradient(&compute, plain.view_mut(), dy.view(), &panels).unwrap();
                    let mut transposed = Panels::zeros(outputs, inputs);
                    set.dispatch(Op(&mut transposed, &panels, panels.layout()));
                    let mut found = Array2::from_elem((rows, inputs), f32::NAN);
                    product(&compute, found.view_mut(), dy.view(), &transposed).unwrap();
                    let bits = |array: &Array2<f32>| array.mapv(f32::to_bits);
                    assert_eq!(bits(&found), bits(&plain), "{set} {rows}x{inputs}x{outputs}");
                }
            }
        }
    }
}
