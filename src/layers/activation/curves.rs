//! Each activation as a function on registers: value and derivative.

use crate::math::exp::expm1;
use crate::math::normal::{NORMAL_LIMIT, normal_cdf_and_density};
use crate::math::sigmoid::{sigmoid, softplus};
use crate::math::tanh::tanh;
use pulp::Simd;

/// A function and its derivative, on a register.
pub(super) trait Curve: Copy {
    /// `[f(x), f′(x)]`.
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2];
}

/// `above` where x > 0, else `below`: also for NaN.
#[inline(always)]
fn split<S: Simd>(simd: S, x: S::f32s, above: S::f32s, below: S::f32s) -> S::f32s {
    simd.select_f32s(simd.greater_than_f32s(x, simd.splat_f32s(0.0)), above, below)
}

/// x, but not below `−limit`; NaN stays.
#[inline(always)]
fn at_least<S: Simd>(simd: S, x: S::f32s, limit: f32) -> S::f32s {
    let low = simd.splat_f32s(-limit);
    simd.select_f32s(simd.less_than_f32s(x, low), low, x)
}

/// x, but not beyond `±limit`; NaN stays.
#[inline(always)]
fn within<S: Simd>(simd: S, x: S::f32s, limit: f32) -> S::f32s {
    let high = simd.splat_f32s(limit);
    let x = at_least(simd, x, limit);
    simd.select_f32s(simd.greater_than_f32s(x, high), high, x)
}

/// `σ(x)` and `σ(x)·σ(−x)`, both with the relative error of `σ(−|x|)`.
#[inline(always)]
fn sigmoid_and_slope<S: Simd>(simd: S, x: S::f32s) -> [S::f32s; 2] {
    let small = sigmoid(simd, simd.or_f32s(x, simd.splat_f32s(-0.0)));
    let large = simd.sub_f32s(simd.splat_f32s(1.0), small);
    [split(simd, x, large, small), simd.mul_f32s(small, large)]
}

#[derive(Clone, Copy)]
pub(super) struct Relu;

impl Curve for Relu {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
        let value = simd.select_f32s(simd.less_than_f32s(x, zero), zero, x);
        [value, split(simd, x, one, zero)]
    }
}

#[derive(Clone, Copy)]
pub(super) struct LeakyRelu(pub(super) f32);

impl Curve for LeakyRelu {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        let slope = split(simd, x, simd.splat_f32s(1.0), simd.splat_f32s(self.0));
        // With a slope of 0, −∞ would be NaN.
        [simd.mul_f32s(at_least(simd, x, f32::MAX), slope), slope]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Elu(pub(super) f32);

impl Curve for Elu {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        let (one, alpha) = (simd.splat_f32s(1.0), simd.splat_f32s(self.0));
        let below = expm1(simd, x);
        let value = split(simd, x, x, simd.mul_f32s(alpha, below));
        // α(eˣ − 1) + α, without the rounding of the product.
        [value, split(simd, x, one, simd.mul_add_f32s(alpha, below, alpha))]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Gelu;

impl Curve for Gelu {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        let [cdf, density] = normal_cdf_and_density(simd, x);
        let value = simd.mul_f32s(at_least(simd, x, NORMAL_LIMIT), cdf);
        [value, simd.mul_add_f32s(within(simd, x, NORMAL_LIMIT), density, cdf)]
    }
}

#[derive(Clone, Copy)]
pub(super) struct GeluTanh;

impl Curve for GeluTanh {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        /// Beyond it `σ(−2|u|)` is 0.
        const LIMIT: f32 = 12.0;
        /// 2·√(2/π), and 0.044715 and thrice that times it.
        const LINEAR: f32 = 1.595_769;
        const CUBIC: f32 = 0.071_354_815;
        const SQUARE: f32 = 3.0 * CUBIC;
        let bounded = within(simd, x, LIMIT);
        let square = simd.mul_f32s(bounded, bounded);
        let linear = simd.splat_f32s(LINEAR);
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

impl Curve for Silu {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        /// Beyond it `σ(−|x|)` is 0.
        const LIMIT: f32 = 105.0;
        let [s, ds] = sigmoid_and_slope(simd, x);
        let value = simd.mul_f32s(at_least(simd, x, LIMIT), s);
        [value, simd.mul_add_f32s(within(simd, x, LIMIT), ds, s)]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Softplus;

impl Curve for Softplus {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        [softplus(simd, x), sigmoid(simd, x)]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Tanh;

impl Curve for Tanh {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        let y = tanh(simd, x);
        [y, simd.negate_mul_add_f32s(y, y, simd.splat_f32s(1.0))]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Sigmoid;

impl Curve for Sigmoid {
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::f32s) -> [S::f32s; 2] {
        sigmoid_and_slope(simd, x)
    }
}
