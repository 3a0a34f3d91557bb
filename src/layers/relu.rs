//! The rectified linear unit: `y = x` where `x > 0`, else `0`.
//!
//! Exact. NaN stays NaN, −0 stays −0. The gradient at 0 is 0, as in PyTorch. Because `y > 0`
//! just where `x > 0`, the backward pass needs the output alone.

use crate::error::{Result, expect_length};
use crate::simd::InstructionSet;
use crate::simd::lanes::{Lanewise, Unary, zip};
use pulp::{Simd, WithSimd};

/// The lane function, for the store of a product.
#[derive(Clone, Copy)]
pub(crate) struct Relu;

impl Unary for Relu {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let zero = simd.splat_f32s(0.0);
        simd.select_f32s(simd.less_than_f32s(x, zero), zero, x)
    }
}

impl Lanewise<1, 1> for Relu {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, _: [S::f32s; 1], [x]: [S::f32s; 1]) -> [S::f32s; 1] {
        [Unary::apply(self, simd, x)]
    }
}

#[derive(Clone, Copy)]
struct Mask;

impl Lanewise<1, 1> for Mask {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [d]: [S::f32s; 1], [y]: [S::f32s; 1]) -> [S::f32s; 1] {
        let zero = simd.splat_f32s(0.0);
        [simd.select_f32s(simd.greater_than_f32s(y, zero), d, zero)]
    }
}

/// Turns the gradient of the output `y` into that of the input, in place: 0 unless y > 0.
#[inline(always)]
pub(crate) fn backward_row<S: Simd>(simd: S, d: &mut [f32], y: &[f32]) {
    zip(simd, [d], [y], Mask);
}

/// Overwrites `y` with the rectified `x`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the lengths differ.
pub fn forward(simd: InstructionSet, y: &mut [f32], x: &[f32]) -> Result<()> {
    struct Op<'a>(&'a mut [f32], &'a [f32]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            zip(simd, [self.0], [self.1], Relu);
        }
    }
    expect_length("x", y.len(), x.len())?;
    simd.dispatch(Op(y, x));
    Ok(())
}

/// Overwrites `dx` with the gradient of the input, from that of the output and the output.
///
/// ```
/// use elbo::{layers::relu, simd::InstructionSet};
///
/// let simd = InstructionSet::detect();
/// let (mut y, mut dx) = ([f32::NAN; 3], [f32::NAN; 3]);
/// relu::forward(simd, &mut y, &[-1.0, 0.0, 2.0])?;
/// relu::backward(simd, &mut dx, &[5.0, 6.0, 7.0], &y)?;
/// assert_eq!((y, dx), ([0.0, 0.0, 2.0], [0.0, 0.0, 7.0]));
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the lengths differ.
pub fn backward(simd: InstructionSet, dx: &mut [f32], dy: &[f32], y: &[f32]) -> Result<()> {
    struct Op<'a>(&'a mut [f32], &'a [f32]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            backward_row(simd, self.0, self.1);
        }
    }
    expect_length("dy", dx.len(), dy.len())?;
    expect_length("y", dx.len(), y.len())?;
    dx.copy_from_slice(dy);
    simd.dispatch(Op(dx, y));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_on_every_instruction_set() {
        for simd in InstructionSet::available() {
            for n in 0..=67 {
                let x: Vec<f32> = (0..n).map(|i| ((i * 29) % 23) as f32 - 11.0).collect();
                let dy: Vec<f32> = (0..n).map(|i| i as f32 + 0.5).collect();
                let (mut y, mut dx) = (vec![f32::NAN; n], vec![f32::NAN; n]);
                forward(simd, &mut y, &x).unwrap();
                backward(simd, &mut dx, &dy, &y).unwrap();
                for i in 0..n {
                    assert_eq!(y[i], if x[i] > 0.0 { x[i] } else { 0.0 }, "{simd}, {i} of {n}");
                    assert_eq!(dx[i], if x[i] > 0.0 { dy[i] } else { 0.0 }, "{simd}, {i} of {n}");
                }
            }
            let mut y = [0.0; 3];
            forward(simd, &mut y, &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]).unwrap();
            assert!(y[0].is_nan() && y[1] == f32::INFINITY && y[2] == 0.0);
        }
    }

    #[test]
    fn lengths_are_checked() {
        let error = forward(InstructionSet::detect(), &mut [0.0; 2], &[0.0; 3]).unwrap_err();
        assert_eq!(error.to_string(), "`x`: expected length 2, found length 3");
    }
}
