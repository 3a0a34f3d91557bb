//! Each activation as a function on registers: value and derivative.

use crate::math::exp::expm1;
use crate::math::normal::{NORMAL_LIMIT, normal_cdf_and_density};
use crate::math::sigmoid::{sigmoid, softplus};
use crate::math::tanh::tanh;
use crate::simd::lanes::Unary;
use pulp::Simd;

/// A function and its derivative on registers.
pub(super) trait ActivationFunction: Copy {
    /// Returns `[f(x), f′(x)]`.
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2];
}

/// Returns `above` where x > 0, else `below`, also for NaN.
#[inline(always)]
fn split<S: Simd>(simd: S, x: S::f32s, above: S::f32s, below: S::f32s) -> S::f32s {
    simd.select_f32s(simd.greater_than_f32s(x, simd.splat_f32s(0.0)), above, below)
}

/// Returns x, but at least `−limit`; NaN stays.
#[inline(always)]
fn at_least<S: Simd>(simd: S, x: S::f32s, limit: f32) -> S::f32s {
    let low = simd.splat_f32s(-limit);
    simd.select_f32s(simd.less_than_f32s(x, low), low, x)
}

/// Returns x limited to `±limit`; NaN stays.
#[inline(always)]
fn within<S: Simd>(simd: S, x: S::f32s, limit: f32) -> S::f32s {
    let high = simd.splat_f32s(limit);
    let x = at_least(simd, x, limit);
    simd.select_f32s(simd.greater_than_f32s(x, high), high, x)
}

/// Returns `σ(x)` and `σ(x)·σ(−x)`, both with the relative error of `σ(−|x|)`.
#[inline(always)]
fn sigmoid_and_slope<S: Simd>(simd: S, x: S::f32s) -> [S::f32s; 2] {
    // At −|x| the sigmoid is at most ½, so 1 − small does not cancel.
    let small = sigmoid(simd, simd.or_f32s(x, simd.splat_f32s(-0.0)));
    let large = simd.sub_f32s(simd.splat_f32s(1.0), small);
    [split(simd, x, large, small), simd.mul_f32s(small, large)]
}

/// The rectifier; as a [`Unary`] it gives the value alone, for the store of a product.
#[derive(Clone, Copy)]
pub(crate) struct Relu;

impl Unary for Relu {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        // NaN and −0 are not below 0: they stay.
        let zero = simd.splat_f32s(0.0);
        simd.select_f32s(simd.less_than_f32s(x, zero), zero, x)
    }
}

impl ActivationFunction for Relu {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
        [Unary::apply(self, simd, x), split(simd, x, one, zero)]
    }
}

#[derive(Clone, Copy)]
pub(super) struct LeakyRelu(pub(super) f32);

impl ActivationFunction for LeakyRelu {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        let slope = split(simd, x, simd.splat_f32s(1.0), simd.splat_f32s(self.0));
        // With a slope of 0, −∞·0 would be NaN.
        let x = if self.0 == 0.0 { at_least(simd, x, f32::MAX) } else { x };
        [simd.mul_f32s(x, slope), slope]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Elu(pub(super) f32);

impl ActivationFunction for Elu {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        let (one, alpha) = (simd.splat_f32s(1.0), simd.splat_f32s(self.0));
        // eˣ − 1 is accurate near 0, where eˣ would have lost the digits of x.
        let below = expm1(simd, x);
        let value = split(simd, x, x, simd.mul_f32s(alpha, below));
        // The slope α·eˣ = α(eˣ − 1) + α, in one rounding.
        [value, split(simd, x, one, simd.mul_add_f32s(alpha, below, alpha))]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Gelu;

impl ActivationFunction for Gelu {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        let [cdf, density] = normal_cdf_and_density(simd, x);
        // Below the limit Φ is 0 and above it φ is: limited, x cannot make ∞·0.
        let value = simd.mul_f32s(at_least(simd, x, NORMAL_LIMIT), cdf);
        [value, simd.mul_add_f32s(within(simd, x, NORMAL_LIMIT), density, cdf)]
    }
}

#[derive(Clone, Copy)]
pub(super) struct GeluTanh;

impl ActivationFunction for GeluTanh {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        /// Value of |x| above which `σ(−2|u|)` is 0.
        const LIMIT: f32 = 12.0;
        /// 2·√(2/π).
        const LINEAR: f32 = 1.595_769;
        /// 0.044715·LINEAR.
        const CUBIC: f32 = 0.071_354_815;
        const SQUARE: f32 = 3.0 * CUBIC;
        // Without the limit x·du·σ·σ would be ∞·0 in the far tails.
        let bounded = within(simd, x, LIMIT);
        let square = simd.mul_f32s(bounded, bounded);
        let linear = simd.splat_f32s(LINEAR);
        // 2u = x·(LINEAR + CUBIC·x²), 2u′ = LINEAR + 3·CUBIC·x².
        let twice_u = simd.mul_add_f32s(simd.splat_f32s(CUBIC), square, linear);
        let twice_u = simd.mul_f32s(bounded, twice_u);
        let twice_du = simd.mul_add_f32s(simd.splat_f32s(SQUARE), square, linear);
        let [s, ds] = sigmoid_and_slope(simd, twice_u);
        let value = simd.mul_f32s(at_least(simd, x, LIMIT), s);
        let slope = simd.mul_add_f32s(simd.mul_f32s(bounded, twice_du), ds, s);
        [value, slope]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Silu;

impl ActivationFunction for Silu {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        /// Value of |x| above which `σ(−|x|)` is 0.
        const LIMIT: f32 = 105.0;
        let [s, ds] = sigmoid_and_slope(simd, x);
        // −∞·0 and ±∞·0 are avoided as in GELU.
        let value = simd.mul_f32s(at_least(simd, x, LIMIT), s);
        [value, simd.mul_add_f32s(within(simd, x, LIMIT), ds, s)]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Softplus;

impl ActivationFunction for Softplus {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        // The sigmoid is the derivative of the softplus.
        [softplus(simd, x), sigmoid(simd, x)]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Tanh;

impl ActivationFunction for Tanh {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        let y = tanh(simd, x);
        // 1 − y² in one rounding: absolute accuracy, since y itself is rounded near ±1.
        [y, simd.negate_mul_add_f32s(y, y, simd.splat_f32s(1.0))]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Sigmoid;

impl ActivationFunction for Sigmoid {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        sigmoid_and_slope(simd, x)
    }
}
