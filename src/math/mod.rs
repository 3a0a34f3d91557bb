//! Elementary functions of f32, a register at a time.

pub(crate) mod exp;
pub(crate) mod fixed_point;
pub(crate) mod log;
mod polynomial;
pub(crate) mod sigmoid;
pub(crate) mod tanh;
pub(crate) mod trig;

use crate::error::{Error, Result};
use crate::simd::InstructionSet;
use crate::simd::lanes::{Unary, map};
use pulp::{Simd, WithSimd};

struct Map<'a, F> {
    out: &'a mut [f32],
    x: &'a [f32],
    f: F,
}

impl<F: Unary> WithSimd for Map<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        map(simd, self.out, self.x, self.f);
    }
}

/// A public function over slices for a lane function, with its bound.
macro_rules! slice_function {
    (
        $(#[$doc:meta])* $name:ident, $module:ident, $Op:ident;
        $(#[$bound_doc:meta])* $BOUND:ident = $bound:literal
    ) => {
        $(#[$bound_doc])*
        pub const $BOUND: f64 = $bound;

        #[derive(Clone, Copy)]
        struct $Op;

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
            simd.dispatch(Map { out, x, f: $Op });
            Ok(())
        }
    };
}

slice_function! {
    /// `out[i] = e^x[i]`.
    exp, exp, Exp;
    /// Largest error of [`exp()`], in ULP.
    EXP_MAX_ULP = 1.0
}
slice_function! {
    /// `out[i] = e^x[i] − 1`.
    expm1, exp, Expm1;
    /// Largest error of [`expm1()`], in ULP.
    EXPM1_MAX_ULP = 1.0
}
slice_function! {
    /// `out[i] = ln x[i]`.
    log, log, Log;
    /// Largest error of [`log()`], in ULP.
    LOG_MAX_ULP = 1.0
}
slice_function! {
    /// `out[i] = ln(1 + x[i])`.
    log1p, log, Log1p;
    /// Largest error of [`log1p()`], in ULP.
    LOG1P_MAX_ULP = 1.0
}
slice_function! {
    /// `out[i] = 1/(1 + e^−x[i])`.
    sigmoid, sigmoid, Sigmoid;
    /// Largest error of [`sigmoid()`], in ULP.
    SIGMOID_MAX_ULP = 2.0
}
slice_function! {
    /// `out[i] = ln(1 + e^x[i])`.
    softplus, sigmoid, Softplus;
    /// Largest error of [`softplus()`], in ULP.
    SOFTPLUS_MAX_ULP = 2.0
}
slice_function! {
    /// `out[i] = tanh x[i]`.
    tanh, tanh, Tanh;
    /// Largest error of [`tanh()`], in ULP.
    TANH_MAX_ULP = 2.0
}

#[cfg(test)]
mod tests;
