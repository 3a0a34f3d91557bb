//! The panels of Wᵀ: with them the input gradient `dx = dy·W` is a forward product.
//!
//! Its usual form ([`super::input_gradient`]) transposes dy and dx, which for a layer of few
//! weights are larger than W. The chains are the same: over the outputs, ascending, from zero.

use super::PanelLayout;
use super::tile::MAX_WIDTH;
use super::transpose::transpose;
use crate::simd::LANES;
use pulp::Simd;

/// The layout of Wᵀ's panels, where `layout` is that of W's.
pub(crate) fn across_layout(layout: PanelLayout) -> PanelLayout {
    PanelLayout { inputs: layout.outputs, outputs: layout.inputs }
}

/// Elements of a buffer for Wᵀ's panels: [`transpose_panels`] writes beyond the last one.
pub(crate) fn across_len(layout: PanelLayout) -> usize {
    across_layout(layout).len() + (LANES - 1) * MAX_WIDTH
}

/// Overwrites the weights in `to`, which are laid out by [`across_layout`], with those of
/// `panels`. Bias rows and padding inputs are left as they are: they have to be zero.
///
/// The padding of W, which is zero, is carried over with the weights, so that whole blocks change
/// places. It falls into the bias row of Wᵀ's next panel, and into rows that are written after.
#[inline(always)]
pub(crate) fn transpose_panels<S: Simd>(
    simd: S,
    to: &mut [f32],
    panels: &[f32],
    layout: PanelLayout,
) {
    for across in across_layout(layout).panels() {
        for from in layout.panels() {
            let source = &panels[from.offset + (across.start + 1) * from.width..];
            let target = &mut to[across.offset + (from.start + 1) * across.width..];
            transpose(simd, target, across.width, source, from.width, across.outputs, from.width);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::Panels;
    use crate::simd::InstructionSet;
    use ndarray::Array2;
    use pulp::WithSimd;

    struct Op<'a>(&'a mut [f32], &'a Panels);

    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            transpose_panels(simd, self.0, self.1, self.1.layout());
        }
    }

    #[test]
    fn the_panels_of_the_transposed_weights_again_and_again() {
        for (inputs, outputs) in
            [(1, 1), (8, 64), (64, 30), (64, 16), (17, 65), (100, 3), (50, 130)]
        {
            for set in InstructionSet::available() {
                let layout = PanelLayout { inputs, outputs };
                let mut to = vec![0.0; across_len(layout)];
                for salt in [1, 5] {
                    let weights = Array2::from_shape_fn((outputs, inputs), |(n, k)| {
                        (n * 1000 + k + salt) as f32
                    });
                    let panels = Panels::pack(weights.view(), &vec![7.0; outputs]).unwrap();
                    set.dispatch(Op(&mut to, &panels));
                    let expected = Panels::pack(weights.t(), &vec![0.0; inputs]).unwrap();
                    assert_eq!(to[..expected.len()], expected[..], "{set} {inputs}x{outputs}");
                }
            }
        }
    }
}
