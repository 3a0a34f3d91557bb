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
//! `u = √(2/π)·(x + 0.044715·x³)`, `u′ = √(2/π)·(1 + 3·0.044715·x²)`. All are those of PyTorch; the two
//! forms of GELU correspond to its `approximate='none'` and `'tanh'`.
//!
//! # Derivation
//! `Φ′ = φ` gives the derivative of GELU by the product rule. `½(1 + tanh u) = σ(2u)`, and
//! `σ′ = σ(x)·(1 − σ(x)) = σ(x)·σ(−x)`. The kernels use the second form, which does not subtract a
//! number near 1 from 1: they compute the smaller of `σ(x)` and `σ(−x)`, and the other one as 1 minus it.
//!
//! # Method
//! 1. One function on registers gives value and derivative. Where the far tail would be a product 0·∞, x
//!    is limited to a value at which the other factor is already 0.
//! 2. The forward pass keeps the derivative, the *slope*. A pass that needs the value alone is compiled
//!    from the same function and has the same bits.
//! 3. The backward pass is one product, `dx = dy·slope`; behind the rectifier alone it is a selection by
//!    the sign of y.
//!
//! # Contract
//! | | error of f | error of f′ |
//! |---|---|---|
//! | `Relu` | exact | exact |
//! | `LeakyRelu` | 0.5·\|f\| | exact |
//! | `Elu` | 1.5·\|f\|, 1·\|f\| if α is a power of two, 0 above 0 | 1·α, 0 above 0 |
//! | `Gelu` | 5·\|f\| | 5·(Φ + \|x\|φ) |
//! | `GeluTanh` | (3 + 3·\|u\|)·\|f\| | (4 + 4·\|u\|)·(σ(2u) + 2u′\|x\|σ(2u)σ(−2u)) |
//! | `Silu` | 2.5·\|f\| | 2.5·(σ(x) + \|x\|σ(x)σ(−x)) |
//! | `Softplus` | 1.5·\|f\| | 2·f′ |
//! | `Tanh` | 2·\|f\| | 1.5, absolute |
//! | `Sigmoid` | 2·\|f\| | 2.5·f′ |
//!
//! Errors are in units of 2⁻²³, which is at most one ULP, plus 2⁻¹³⁸ (3e-42) where a factor is subnormal. At
//! ±∞ value and derivative are the limits; NaN gives NaN (the derivative of `Relu` and `LeakyRelu` is then
//! that below 0). At the kink of `Relu`, `LeakyRelu` and `Elu` the derivative is that from below, as in
//! PyTorch. f(0) = 0, except for `Softplus` (ln 2) and `Sigmoid` (½). `Relu` keeps −0.
//!
//! # Measured
//! Largest error over all 2³² arguments as a fraction of its bound, and the argument at which it occurs, as
//! printed by `cargo test --release --lib exhaustive -- --ignored --nocapture --test-threads 1`:
//!
//! | kernel | value | at | derivative | at |
//! |---|---|---|---|---|
//! | `relu` | exact |  | exact |  |
//! | `leaky-relu` | 0.985 | −4.3368127e−17 | exact |  |
//! | `elu` | 0.630 | −0.28787452 | 0.383 | −0.36508298 |
//! | `gelu` | 0.715 | −0.9733602 | 0.700 | 0.006237626 |
//! | `gelu-tanh` | 0.955 | −9.4799185 | 0.707 | −9.4799185 |
//! | `silu` | 0.756 | −1.0655404 | 0.728 | −17.034397 |
//! | `softplus` | 0.889 | 0.014532715 | 0.748 | −1.0392611 |
//! | `tanh` | 0.897 | 0.55104715 | 0.729 | 0.5536524 |
//! | `sigmoid` | 0.748 | −1.0392611 | 0.743 | 7.2650633 |
//! | `leaky-relu:0` | exact |  | exact |  |
//! | `leaky-relu:0.3` | 0.933 | −1.4456033e−18 | exact |  |
//! | `elu:0.25` | 0.630 | −0.28787452 | 0.383 | −0.36508298 |
//! | `elu:3` | 0.645 | −0.18275121 | 0.495 | −0.35393497 |

mod functions;
#[cfg(test)]
pub(crate) mod tests;

use crate::error::{Error, Result, expect_below_one, expect_length, expect_positive};
use crate::simd::InstructionSet;
use crate::simd::lanes::{Lanewise, Multiply, ZipOp, zip};
use functions::ActivationFunction;
pub(crate) use functions::Relu;
use functions::{Elu, Gelu, GeluTanh, LeakyRelu, Sigmoid, Silu, Softplus, Tanh};
use pulp::{Simd, WithSimd};
use std::fmt;
use std::str::FromStr;

/// Element-wise function after a hidden layer; see the [module](self) for formulas and error bounds.
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
    /// Rectified linear unit.
    #[default]
    Relu,
    /// Rectified linear unit with a small slope below 0.
    LeakyRelu {
        /// Slope s below 0, in [0, 1); 0.01 if only the name is given.
        slope: f32,
    },
    /// Exponential linear unit.
    Elu {
        /// Scale α above 0; the limit at −∞ is −α. 1 if only the name is given.
        alpha: f32,
    },
    /// Gaussian error linear unit, with the error function.
    Gelu,
    /// Gaussian error linear unit, approximated by a hyperbolic tangent.
    GeluTanh,
    /// Sigmoid linear unit, also called swish.
    Silu,
    /// Smooth rectifier.
    Softplus,
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function.
    Sigmoid,
}

/// Every activation by name, with its default setting.
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
    /// Name that [`FromStr`] reads: `relu`, `leaky-relu`, `elu`, `gelu`, `gelu-tanh`, `silu`, `softplus`, `tanh` or
    /// `sigmoid`.
    #[must_use]
    pub fn name(self) -> &'static str {
        // The setting is ignored: the name of `leaky-relu:0.2` is `leaky-relu`.
        let same = |other| std::mem::discriminant(&self) == std::mem::discriminant(other);
        NAMED.iter().find(|(_, named)| same(named)).map_or("", |(name, _)| name)
    }

    /// All activations, with their default settings.
    #[must_use]
    pub fn all() -> [Self; 9] {
        NAMED.map(|(_, activation)| activation)
    }

    /// Checks that the setting, if there is one, is within its domain.
    ///
    /// # Errors
    /// [`Error::Config`] for a slope outside [0, 1) or an α that is not positive and finite.
    pub fn validate(&self) -> Result<()> {
        match *self {
            Self::LeakyRelu { slope } => expect_below_one("slope", slope),
            Self::Elu { alpha } => expect_positive("alpha", alpha),
            _ => Ok(()),
        }
    }

    /// Overwrites each x in `y` with f(x), and `slope` with f′(x).
    ///
    /// Padding is mapped like all other elements, so zeros become ½ with a sigmoid.
    #[inline(always)]
    pub(crate) fn forward_row<S: Simd>(self, simd: S, y: &mut [f32], slope: &mut [f32]) {
        // A call instead of inlining, or every caller would contain nine loops.
        simd.vectorize(Forward(self, [y, slope]));
    }

    /// Overwrites each x in `y` with f(x), with the bits of [`Self::forward_row`].
    #[inline(always)]
    pub(crate) fn apply_row<S: Simd>(self, simd: S, y: &mut [f32]) {
        // One output: the same loops without the slope.
        simd.vectorize(Forward(self, [y]));
    }
}

/// Replaces `[x]` by the value, or `[x, _]` by value and derivative.
#[derive(Clone, Copy)]
struct InPlace<F>(F);

impl<F: ActivationFunction, const OUT: usize> Lanewise<OUT, 0> for InPlace<F> {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, mut x: [S::f32s; OUT], []: [S::f32s; 0]) -> [S::f32s; OUT] {
        // 1.
        let value_and_slope = self.0.value_and_slope(simd, x[0]);
        // 2. One output takes the value alone, and the compiler drops what only the derivative needs.
        for (new, result) in x.iter_mut().zip(value_and_slope) {
            *new = result;
        }
        x
    }
}

/// Keeps d where the output y of the rectifier is above 0, else 0.
#[derive(Clone, Copy)]
struct ReluBackward;

impl Lanewise<1, 1> for ReluBackward {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [d]: [S::f32s; 1], [y]: [S::f32s; 1]) -> [S::f32s; 1] {
        // 3. y = max(x, 0), so dx = d where y > 0. Selected, not multiplied: an infinite d behind an
        // inactive unit gives 0.
        let zero = simd.splat_f32s(0.0);
        [simd.select_f32s(simd.greater_than_f32s(y, zero), d, zero)]
    }
}

/// Turns the gradient of the rectifier's output `y` into that of its input, in place.
#[inline(always)]
pub(crate) fn relu_backward_row<S: Simd>(simd: S, d: &mut [f32], y: &[f32]) {
    zip(simd, [d], [y], ReluBackward);
}

/// The value, or value and derivative, in place of x.
struct Forward<'a, const OUT: usize>(Activation, [&'a mut [f32]; OUT]);

impl<const OUT: usize> WithSimd for Forward<'_, OUT> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(activation, outputs) = self;
        // The activation is chosen once for a row, not for each register: one loop for each.
        match activation {
            Activation::Relu => zip(simd, outputs, [], InPlace(Relu)),
            Activation::LeakyRelu { slope } => zip(simd, outputs, [], InPlace(LeakyRelu(slope))),
            Activation::Elu { alpha } => zip(simd, outputs, [], InPlace(Elu(alpha))),
            Activation::Gelu => zip(simd, outputs, [], InPlace(Gelu)),
            Activation::GeluTanh => zip(simd, outputs, [], InPlace(GeluTanh)),
            Activation::Silu => zip(simd, outputs, [], InPlace(Silu)),
            Activation::Softplus => zip(simd, outputs, [], InPlace(Softplus)),
            Activation::Tanh => zip(simd, outputs, [], InPlace(Tanh)),
            Activation::Sigmoid => zip(simd, outputs, [], InPlace(Sigmoid)),
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
    activation.validate()?;
    expect_length("slope", y.len(), slope.len())?;
    expect_length("x", y.len(), x.len())?;
    // The kernel works in place.
    y.copy_from_slice(x);
    simd.dispatch(Forward(activation, [y, slope]));
    Ok(())
}

/// Overwrites `y` with f(x), with the bits of [`forward`].
///
/// # Errors
/// [`Error::Config`] for a setting outside its domain, [`Error::Shape`] if the lengths differ.
pub fn apply(simd: InstructionSet, activation: Activation, y: &mut [f32], x: &[f32]) -> Result<()> {
    activation.validate()?;
    expect_length("x", y.len(), x.len())?;
    y.copy_from_slice(x);
    simd.dispatch(Forward(activation, [y]));
    Ok(())
}

/// Overwrites `dx` with the gradient of the input, `dy·slope`, in one rounding.
///
/// # Errors
/// [`Error::Shape`] if the lengths differ.
pub fn backward(simd: InstructionSet, dx: &mut [f32], dy: &[f32], slope: &[f32]) -> Result<()> {
    expect_length("dy", dx.len(), dy.len())?;
    expect_length("slope", dx.len(), slope.len())?;
    dx.copy_from_slice(dy);
    // 3. y = f(x), so dx = dy·f′(x).
    simd.dispatch(ZipOp([dx], [slope], Multiply));
    Ok(())
}

/// Overwrites `dx` with the gradient of the input of [`Activation::Relu`] from that of the output and
/// the output `y`: dy where y > 0, else 0. Exact.
///
/// Because y > 0 exactly where x > 0, the rectifier alone needs no slope.
///
/// ```
/// use elbo::layers::activation::{self, Activation};
/// use elbo::simd::InstructionSet;
///
/// let simd = InstructionSet::detect();
/// let (mut y, mut dx) = ([f32::NAN; 3], [f32::NAN; 3]);
/// activation::apply(simd, Activation::Relu, &mut y, &[-1.0, 0.0, 2.0])?;
/// activation::relu_backward(simd, &mut dx, &[5.0, 6.0, 7.0], &y)?;
/// assert_eq!((y, dx), ([0.0, 0.0, 2.0], [0.0, 0.0, 7.0]));
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] if the lengths differ.
pub fn relu_backward(simd: InstructionSet, dx: &mut [f32], dy: &[f32], y: &[f32]) -> Result<()> {
    expect_length("dy", dx.len(), dy.len())?;
    expect_length("y", dx.len(), y.len())?;
    dx.copy_from_slice(dy);
    simd.dispatch(ZipOp([dx], [y], ReluBackward));
    Ok(())
}

/// Writes the [name](Activation::name), followed by a colon and the setting if it is not the default.
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

    /// Parses a name; `leaky-relu` and `elu` may be followed by a colon and their setting.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown name or a setting outside its domain.
    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            let names = "relu, leaky-relu, elu, gelu, gelu-tanh, silu, softplus, tanh or sigmoid";
            Error::config("activation", names, text)
        };
        // A setting that does not parse is reported as an unknown name.
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
