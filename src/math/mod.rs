//! Elementary functions of f32: `eˣ`, `ln x`, the sigmoid and related functions, over slices.
//!
//! | function | formula | bound | worst of all 2³² inputs |
//! |---|---|---|---|
//! | [`exp()`] | `eˣ` | 1 ULP | 0.935 at −5.8616295 |
//! | [`expm1()`] | `eˣ − 1` | 1 ULP | 0.918 at 0.35688066 |
//! | [`log()`] | `ln x` | 1 ULP | 0.947 at 0.7140743 |
//! | [`log1p()`] | `ln(1 + x)` | 1 ULP | 0.957 at −0.28727737 |
//! | [`sigmoid()`] | `1/(1 + e⁻ˣ)` | 2 ULP | 1.976 at −5.1568737 |
//! | [`softplus()`] | `ln(1 + eˣ)` | 2 ULP | 1.868 at 0.014532715 |
//! | [`tanh()`] | `tanh x` | 2 ULP | 1.799 at 0.55104715 |
//! | [`normal_cdf()`] | `Φ(x) = ½·erfc(−x/√2)` | 6 ULP | 5.978 at −0.68425715 |
//!
//! `cargo test --release --lib exhaustive -- --ignored --nocapture --test-threads 1` prints the last column
//! anew, and the same for the activations, the soft clamp and the elements of the losses.
//!
//! Each bound is also a constant beside its function ([`EXP_MAX_ULP`] and so on), which the tests
//! check. One ULP is the spacing of f32 in the binade of the exact value, 2⁻¹⁴⁹ where that
//! is subnormal or 0; exact values are those of the standard library's f64 functions. The bounds hold
//! for all inputs, with subnormal arguments and results. Where the exact value rounds to ∞ the
//! result is ∞, where it is ±0 the sign is right, and NaN gives NaN (which one is not specified).
//!
//! The functions have no branches. The bits of the results are the same on every
//! [`InstructionSet`], and those of an element depend neither on its neighbors nor on its position in
//! the slice.
//!
//! ```
//! use elbo::{math, simd::InstructionSet};
//!
//! let logits = [0.0, 2.0, -2.0, f32::INFINITY];
//! let mut probabilities = [f32::NAN; 4];
//! math::sigmoid(InstructionSet::detect(), &mut probabilities, &logits)?;
//! assert_eq!(probabilities[0], 0.5);
//! assert_eq!(probabilities[3], 1.0);
//! assert!((probabilities[1] + probabilities[2] - 1.0).abs() < 1e-7);
//! # Ok::<(), elbo::Error>(())
//! ```

pub(crate) mod exp;
pub(crate) mod fixed_point;
mod limit;
pub(crate) mod log;
pub(crate) mod normal;
pub(crate) mod polynomial;
pub(crate) mod scalar;
pub(crate) mod sigmoid;
pub(crate) mod tanh;
pub(crate) mod trig;

use crate::error::{Error, Result};
use crate::simd::InstructionSet;
use crate::simd::lanes::{MapOp, Unary};
use pulp::Simd;

/// A public function over slices for a lane function, with its bound.
macro_rules! slice_function {
    (
        $(#[$doc:meta])* $name:ident, $module:ident, $Op:ident;
        $(#[$bound_doc:meta])* $BOUND:ident = $bound:literal
    ) => {
        $(#[$bound_doc])*
        pub const $BOUND: f64 = $bound;

        #[derive(Clone, Copy)]
        pub(crate) struct $Op;

        impl Unary for $Op {
            #[inline(always)]
            fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
                $module::$name(simd, x)
            }
        }

        $(#[$doc])*
        ///
        /// # Errors
        /// [`Error::Shape`] if `out` and `x` differ in length; `out` is then left as it was.
        pub fn $name(simd: InstructionSet, out: &mut [f32], x: &[f32]) -> Result<()> {
            if out.len() != x.len() {
                return Err(Error::shape("out", [1, x.len()], &[1, out.len()]));
            }
            simd.dispatch(MapOp(out, x, $Op));
            Ok(())
        }
    };
}

slice_function! {
    /// `out[i] = eˣ`, `x = x[i]`.
    ///
    /// −∞ gives 0, ∞ and values above 88.72284 give ∞, ±0 give 1.
    exp, exp, Exp;
    /// Largest error of [`exp()`] for any input, in ULP.
    EXP_MAX_ULP = 1.0
}
slice_function! {
    /// `out[i] = eˣ − 1`, `x = x[i]`, with full relative accuracy near 0.
    ///
    /// −∞ gives −1, ∞ and values above 88.72284 give ∞, ±0 give themselves.
    expm1, exp, Expm1;
    /// Largest error of [`expm1()`] for any input, in ULP.
    EXPM1_MAX_ULP = 1.0
}
slice_function! {
    /// `out[i] = ln x`, `x = x[i]`.
    ///
    /// ±0 give −∞, ∞ gives ∞, values below 0 give NaN.
    log, log, Log;
    /// Largest error of [`log()`] for any input, in ULP.
    LOG_MAX_ULP = 1.0
}
slice_function! {
    /// `out[i] = ln(1 + x)`, `x = x[i]`, with full relative accuracy near 0.
    ///
    /// −1 gives −∞, ∞ gives ∞, values below −1 give NaN, ±0 give themselves.
    log1p, log, Log1p;
    /// Largest error of [`log1p()`] for any input, in ULP.
    LOG1P_MAX_ULP = 1.0
}
slice_function! {
    /// `out[i] = σ(x) = 1/(1 + e⁻ˣ)`, `x = x[i]`, with full relative accuracy down to the
    /// subnormal results of `x` near −104.
    ///
    /// −∞ gives 0, ∞ gives 1, ±0 give ½.
    sigmoid, sigmoid, Sigmoid;
    /// Largest error of [`sigmoid()`] for any input, in ULP.
    SIGMOID_MAX_ULP = 2.0
}
slice_function! {
    /// `out[i] = ln(1 + eˣ)`, `x = x[i]`: the integral of the sigmoid, and `−ln σ(−x)`.
    ///
    /// −∞ gives 0, ∞ gives ∞, ±0 give ln 2.
    softplus, sigmoid, Softplus;
    /// Largest error of [`softplus()`] for any input, in ULP.
    SOFTPLUS_MAX_ULP = 2.0
}
slice_function! {
    /// `out[i] = tanh x`, `x = x[i]`. Odd to the bit.
    ///
    /// ±∞ give ±1, ±0 give themselves.
    tanh, tanh, Tanh;
    /// Largest error of [`tanh()`] for any input, in ULP.
    TANH_MAX_ULP = 2.0
}
slice_function! {
    /// `out[i] = Φ(x) = ½·erfc(−x/√2) = ½(1 + erf(x/√2))`, `x = x[i]`: the probability that a standard
    /// normal number is below `x`, with full relative accuracy down to the subnormal results of `x`
    /// near −14.
    ///
    /// −∞ gives 0, ∞ gives 1.
    normal_cdf, normal, NormalCdf;
    /// Largest error of [`normal_cdf()`] for any input, in ULP.
    NORMAL_CDF_MAX_ULP = 6.0
}

#[cfg(test)]
pub(crate) mod tests;
