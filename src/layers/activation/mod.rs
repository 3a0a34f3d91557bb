//! Activations: the element-wise functions between dense layers, each with its derivative.
//!
//! # Formulas
//! With `σ(x) = 1/(1 + e⁻ˣ)`, `Φ` the distribution function of the standard normal distribution and
//! `φ` its density:
//!
//! | [`Activation`] | f(x) | f′(x) | source |
//! |---|---|---|---|
//! | `Relu` | `max(x, 0)` | 1 above 0, else 0 | Nair & Hinton 2010 |
//! | `LeakyRelu` | `x` above 0, else `s·x` | 1 above 0, else `s` | Maas, Hannun & Ng 2013 |
//! | `Elu` | `x` above 0, else `α(eˣ − 1)` | 1 above 0, else `α·eˣ` | Clevert et al. 2016 |
//! | `Gelu` | `x·Φ(x)` | `Φ(x) + x·φ(x)` | Hendrycks & Gimpel 2016 |
//! | `GeluTanh` | `½x(1 + tanh u) = x·σ(2u)` | `σ(2u) + 2u′·x·σ(2u)·σ(−2u)` | ibid. |
//! | `Silu` | `x·σ(x)` | `σ(x) + x·σ(x)·σ(−x)` | Elfwing, Uchibe & Doya 2018 |
//! | `Softplus` | `ln(1 + eˣ)` | `σ(x)` | Dugas et al. 2001 |
//! | `Tanh` | `tanh x` | `1 − tanh² x` | |
//! | `Sigmoid` | `σ(x)` | `σ(x)·σ(−x)` | |
//!
//! `u = √(2/π)·(x + 0.044715·x³)`, `u′ = √(2/π)·(1 + 3·0.044715·x²)`. All as in PyTorch, the `Gelu`
//! forms as its `approximate='none'` and `'tanh'`.
//!
//! # Derivation
//! `Φ′ = φ` gives that of GELU by the product rule. `½(1 + tanh u) = σ(2u)`, and
//! `σ′ = σ(x)·(1 − σ(x)) = σ(x)·σ(−x)`: the second form does not subtract from 1 a number near 1, and
//! the kernels use it: they compute the smaller one of `σ(x)` and `σ(−x)`, and the other as 1 less it.
//!
//! # Method
//! One function on registers gives value and derivative. The forward pass keeps the derivative (the
//! *slope*), and the backward pass is one product, `dx = dy·slope`; a pass that needs the value alone
//! compiles from the same function and has the same bits. Functions whose far tail is a product 0·∞
//! take a limit for `x` there, beyond which the other factor is 0.
//!
//! # Contract
//! | | error of f | error of f′ |
//! |---|---|---|
//! | `Relu` | exact | exact |
//! | `LeakyRelu` | 0.5·\|f\| | exact |
//! | `Elu` | 1·\|f\| | 1·α, 0 above 0 |
//! | `Gelu` | 5·\|f\| | 5·(Φ + \|x\|φ) |
//! | `GeluTanh` | (3 + 3·\|u\|)·\|f\| | (4 + 4·\|u\|)·(σ(2u) + 2u′\|x\|σ(2u)σ(−2u)) |
//! | `Silu` | 2.5·\|f\| | 2.5·(σ(x) + \|x\|σ(x)σ(−x)) |
//! | `Softplus` | 1.5·\|f\| | 2·f′ |
//! | `Tanh` | 2·\|f\| | 1.5, absolute |
//! | `Sigmoid` | 2·\|f\| | 2.5·f′ |
//!
//! In units of 2⁻²³, which is at most one ULP, plus 2⁻¹³⁸ (3e-42) where a factor is subnormal. At ±∞ value and
//! derivative are the limits; NaN gives NaN (the derivative of `Relu` and `LeakyRelu` is then that
//! below 0). At the kink of `Relu`, `LeakyRelu` and `Elu` the derivative is that from below, as in
//! PyTorch. f(0) = 0, but for `Softplus` (ln 2) and `Sigmoid` (½).

mod curves;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result, expect_below_one, expect_length, expect_positive};
use crate::simd::InstructionSet;
use crate::simd::lanes::{Lanewise, zip};
use curves::{Curve, Elu, Gelu, GeluTanh, LeakyRelu, Relu, Sigmoid, Silu, Softplus, Tanh};
use pulp::{Simd, WithSimd};
use std::fmt;
use std::str::FromStr;

/// The function between two dense layers; formulas and error bounds are the [module's](self).
///
/// ```
/// use elbo::layers::activation::Activation;
///
/// assert_eq!("gelu-tanh".parse::<Activation>()?, Activation::GeluTanh);
/// assert_eq!("leaky-relu:0.2".parse::<Activation>()?, Activation::LeakyRelu { slope: 0.2 });
/// assert_eq!(Activation::Elu { alpha: 1.0 }.to_string(), "elu");
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(rename_all = "kebab-case"))]
pub enum Activation {
    /// The rectified linear unit.
    #[default]
    Relu,
    /// The rectified linear unit with a gradient below 0 too.
    LeakyRelu {
        /// s, from 0 to below 1; 0.01 by name.
        slope: f32,
    },
    /// The exponential linear unit.
    Elu {
        /// α, minus the limit at −∞, above 0; 1 by name.
        alpha: f32,
    },
    /// The Gaussian error linear unit, with the error function.
    Gelu,
    /// Its approximation by a hyperbolic tangent.
    GeluTanh,
    /// The sigmoid linear unit, also called swish.
    Silu,
    /// A smooth rectifier.
    Softplus,
    /// The hyperbolic tangent.
    Tanh,
    /// The logistic function.
    Sigmoid,
}

/// Every activation under its name, with its default setting.
const NAMED: [(&str, Activation); 9] = [
    ("relu", Activation::Relu),
    ("leaky-relu", Activation::LeakyRelu { slope: 0.01 }),
    ("elu", Activation::Elu { alpha: 1.0 }),
    ("gelu", Activation::Gelu),
    ("gelu-tanh", Activation::GeluTanh),
    ("silu", Activation::Silu),
    ("softplus", Activation::Softplus),
    ("tanh", Activation::Tanh),
    ("sigmoid", Activation::Sigmoid),
];

impl Activation {
    /// Its name: `relu`, `leaky-relu`, `elu`, `gelu`, `gelu-tanh`, `silu`, `softplus`, `tanh` or
    /// `sigmoid`.
    #[must_use]
    pub fn name(self) -> &'static str {
        let same = |other| std::mem::discriminant(&self) == std::mem::discriminant(other);
        NAMED.iter().find(|(_, named)| same(named)).map_or("", |(name, _)| name)
    }

    /// All of them, with the settings they have by name.
    #[must_use]
    pub fn all() -> [Self; 9] {
        NAMED.map(|(_, activation)| activation)
    }

    /// # Errors
    /// [`Error::Config`] for a slope outside [0, 1) or an α that is not above 0 and finite.
    pub fn validate(&self) -> Result<()> {
        match *self {
            Self::LeakyRelu { slope } => expect_below_one("slope", slope),
            Self::Elu { alpha } => expect_positive("alpha", alpha),
            _ => Ok(()),
        }
    }

    /// Overwrites each x in `y` with f(x), and `slope` with f′(x).
    ///
    /// Any number of elements: the choice of the function is made once, behind one call. What pads
    /// rows is mapped like everything else, so zeros become ½ by a sigmoid.
    #[inline(always)]
    pub(crate) fn forward_row<S: Simd>(self, simd: S, y: &mut [f32], slope: &mut [f32]) {
        // A call of its own, or every caller would hold the nine loops.
        simd.vectorize(Forward(self, y, slope));
    }

    /// Overwrites each x in `y` with f(x), to the bits of [`Self::forward_row`].
    #[inline(always)]
    pub(crate) fn apply_row<S: Simd>(self, simd: S, y: &mut [f32]) {
        simd.vectorize(Apply(self, y));
    }
}

/// Turns the gradient of the output into that of the input, in place.
#[inline(always)]
pub(crate) fn backward_row<S: Simd>(simd: S, d: &mut [f32], slope: &[f32]) {
    zip(simd, [d], [slope], Product);
}

/// Value and derivative in place of x and whatever was there.
#[derive(Clone, Copy)]
struct Both<C>(C);

impl<C: Curve> Lanewise<2, 0> for Both<C> {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [x, _]: [S::f32s; 2], []: [S::f32s; 0]) -> [S::f32s; 2] {
        self.0.value_and_slope(simd, x)
    }
}

/// The value alone: what only the derivative needs is not computed.
#[derive(Clone, Copy)]
struct Value<C>(C);

impl<C: Curve> Lanewise<1, 0> for Value<C> {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [x]: [S::f32s; 1], []: [S::f32s; 0]) -> [S::f32s; 1] {
        let [value, _] = self.0.value_and_slope(simd, x);
        [value]
    }
}

#[derive(Clone, Copy)]
struct Product;

impl Lanewise<1, 1> for Product {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [d]: [S::f32s; 1], [slope]: [S::f32s; 1]) -> [S::f32s; 1] {
        [simd.mul_f32s(d, slope)]
    }
}

struct Forward<'a>(Activation, &'a mut [f32], &'a mut [f32]);

impl WithSimd for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(activation, y, slope) = self;
        let out = [y, slope];
        match activation {
            Activation::Relu => zip(simd, out, [], Both(Relu)),
            Activation::LeakyRelu { slope } => zip(simd, out, [], Both(LeakyRelu(slope))),
            Activation::Elu { alpha } => zip(simd, out, [], Both(Elu(alpha))),
            Activation::Gelu => zip(simd, out, [], Both(Gelu)),
            Activation::GeluTanh => zip(simd, out, [], Both(GeluTanh)),
            Activation::Silu => zip(simd, out, [], Both(Silu)),
            Activation::Softplus => zip(simd, out, [], Both(Softplus)),
            Activation::Tanh => zip(simd, out, [], Both(Tanh)),
            Activation::Sigmoid => zip(simd, out, [], Both(Sigmoid)),
        }
    }
}

struct Apply<'a>(Activation, &'a mut [f32]);

impl WithSimd for Apply<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(activation, y) = self;
        match activation {
            Activation::Relu => zip(simd, [y], [], Value(Relu)),
            Activation::LeakyRelu { slope } => zip(simd, [y], [], Value(LeakyRelu(slope))),
            Activation::Elu { alpha } => zip(simd, [y], [], Value(Elu(alpha))),
            Activation::Gelu => zip(simd, [y], [], Value(Gelu)),
            Activation::GeluTanh => zip(simd, [y], [], Value(GeluTanh)),
            Activation::Silu => zip(simd, [y], [], Value(Silu)),
            Activation::Softplus => zip(simd, [y], [], Value(Softplus)),
            Activation::Tanh => zip(simd, [y], [], Value(Tanh)),
            Activation::Sigmoid => zip(simd, [y], [], Value(Sigmoid)),
        }
    }
}

/// Overwrites `y` with f(x) and `slope` with f′(x).
///
/// ```
/// use elbo::layers::activation::{self, Activation};
/// use elbo::simd::InstructionSet;
///
/// let simd = InstructionSet::detect();
/// let (mut y, mut slope, mut dx) = ([f32::NAN; 2], [f32::NAN; 2], [f32::NAN; 2]);
/// activation::forward(simd, Activation::Silu, &mut y, &mut slope, &[0.0, 100.0])?;
/// assert_eq!((y, slope), ([0.0, 100.0], [0.5, 1.0]));
/// activation::backward(simd, &mut dx, &[3.0, 3.0], &slope)?;
/// assert_eq!(dx, [1.5, 3.0]);
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`] for a setting outside its domain, [`Error::Shape`] if the lengths differ.
pub fn forward(
    simd: InstructionSet,
    activation: Activation,
    y: &mut [f32],
    slope: &mut [f32],
    x: &[f32],
) -> Result<()> {
    struct Op<'a>(Activation, &'a mut [f32], &'a mut [f32]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            self.0.forward_row(simd, self.1, self.2);
        }
    }
    activation.validate()?;
    expect_length("slope", y.len(), slope.len())?;
    expect_length("x", y.len(), x.len())?;
    y.copy_from_slice(x);
    simd.dispatch(Op(activation, y, slope));
    Ok(())
}

/// Overwrites `y` with f(x), to the bits of [`forward`].
///
/// # Errors
/// [`Error::Config`] for a setting outside its domain, [`Error::Shape`] if the lengths differ.
pub fn apply(simd: InstructionSet, activation: Activation, y: &mut [f32], x: &[f32]) -> Result<()> {
    struct Op<'a>(Activation, &'a mut [f32]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            self.0.apply_row(simd, self.1);
        }
    }
    activation.validate()?;
    expect_length("x", y.len(), x.len())?;
    y.copy_from_slice(x);
    simd.dispatch(Op(activation, y));
    Ok(())
}

/// Overwrites `dx` with the gradient of the input, `dy·slope`: one rounding.
///
/// # Errors
/// [`Error::Shape`] if the lengths differ.
pub fn backward(simd: InstructionSet, dx: &mut [f32], dy: &[f32], slope: &[f32]) -> Result<()> {
    struct Op<'a>(&'a mut [f32], &'a [f32]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            backward_row(simd, self.0, self.1);
        }
    }
    expect_length("dy", dx.len(), dy.len())?;
    expect_length("slope", dx.len(), slope.len())?;
    dx.copy_from_slice(dy);
    simd.dispatch(Op(dx, slope));
    Ok(())
}

/// Its [name](Activation::name), then a colon and the setting where that is not the default.
impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match *self {
            Self::LeakyRelu { slope } if slope != 0.01 => write!(f, ":{slope}"),
            Self::Elu { alpha } if alpha != 1.0 => write!(f, ":{alpha}"),
            _ => Ok(()),
        }
    }
}

impl FromStr for Activation {
    type Err = Error;

    /// Reads a name, with the setting of `leaky-relu` and `elu` behind a colon if one is given.
    ///
    /// # Errors
    /// [`Error::Config`] for another name, with the names, or a setting outside its domain.
    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            let names = "relu, leaky-relu, elu, gelu, gelu-tanh, silu, softplus, tanh or sigmoid";
            Error::config("activation", names, text)
        };
        let (name, setting) = match text.split_once(':') {
            None => (text, None),
            Some((name, setting)) => (name, Some(setting.parse::<f32>().map_err(|_| unknown())?)),
        };
        let named = NAMED.iter().find(|(other, _)| *other == name).ok_or_else(unknown)?;
        let activation = match (named.1, setting) {
            (named, None) => named,
            (Self::LeakyRelu { .. }, Some(slope)) => Self::LeakyRelu { slope },
            (Self::Elu { .. }, Some(alpha)) => Self::Elu { alpha },
            _ => return Err(unknown()),
        };
        activation.validate()?;
        Ok(activation)
    }
}
