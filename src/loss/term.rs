//! The trait of all loss terms, and the arrays that they take.

use super::Reduction;
use super::kernel::Term;
use super::kernel::batch::{KernelRows, RowKernel, RowSums, total};
use super::kernel::sums::row_values;
use super::prior::Prior;
use crate::error::expect_length;
use crate::simd::environment::FloatEnvironment;
use crate::{Compute, Error, Result};
use ndarray::{ArrayView2, ArrayViewMut2};

/// One term of a variational autoencoder's loss: a reconstruction ([`Reconstruction`]) or a KL
/// penalty ([`KlPenalty`]).
///
/// A term is a value, and its inputs are arrays. The module of each term documents its formula, error
/// bounds and edge cases.
///
/// # Shapes
/// Arrays are f32 and row-major, one example a row: `[B, D]` for a reconstruction, `[B, Z]` for a
/// penalty. The rows of each are contiguous but not necessarily adjacent, so a view of some columns of
/// a wider array is accepted.
///
/// # Reductions
/// The sum over all elements is divided by n = 1, B or B·D (B·Z for a penalty) according to the
/// [`Reduction`]. Values are in nats and f64.
///
/// # Errors
/// All methods return
/// - [`Error::Shape`] if the shapes do not fit together or a mean has nothing to reduce;
/// - [`Error::Layout`] if rows are not contiguous;
/// - [`Error::TargetOutOfRange`] for the first target, in row order, that the term does not accept, or
///   [`Error::NotFiniteData`] if it is NaN or ±∞;
/// - [`Error::Config`] if a parameter of the term, or the prior, is invalid.
///
/// NaN or ±∞ in other inputs is not an error; it shows in the value.
///
/// ```
/// use elbo::{Compute, loss::{LossTerm, ReconstructionInputs, Reduction, SquaredError}};
/// use ndarray::array;
///
/// let (x, t) = (array![[1.0, -1.0], [0.0, 2.0]], array![[0.5, 1.0], [0.0, 0.0]]);
/// let inputs = ReconstructionInputs { outputs: x.view(), targets: t.view() };
/// let compute = Compute::serial();
/// assert_eq!(SquaredError.forward(&compute, inputs, Reduction::Sum)?, 0.25 + 4.0 + 4.0);
/// let mut of_each = [0.0; 2];
/// SquaredError.per_example(&compute, &mut of_each, inputs)?;
/// assert_eq!(of_each, [0.25 + 4.0, 4.0]);
/// # Ok::<(), elbo::Error>(())
/// ```
pub trait LossTerm: sealed::Sealed {
    /// The arrays that the term is computed from.
    type Inputs<'a>: Arrays;

    /// The arrays that receive its gradients.
    type Gradients<'a>;

    /// Returns the reduced value.
    ///
    /// # Errors
    /// See the [trait](Self#errors).
    fn forward(
        &self,
        compute: &Compute,
        inputs: Self::Inputs<'_>,
        reduction: Reduction,
    ) -> Result<f64> {
        evaluate(self, compute, None, inputs, reduction)
    }

    /// Overwrites the gradients with those of [`forward`](Self::forward), and returns its value to the
    /// last bit.
    ///
    /// # Errors
    /// See the [trait](Self#errors); the gradients then hold unspecified values.
    fn forward_backward(
        &self,
        compute: &Compute,
        gradients: Self::Gradients<'_>,
        inputs: Self::Inputs<'_>,
        reduction: Reduction,
    ) -> Result<f64> {
        evaluate(self, compute, Some(gradients), inputs, reduction)
    }

    /// Overwrites `out[i]` with the value of example i, summed over its columns.
    ///
    /// # Errors
    /// See the [trait](Self#errors); [`Error::Shape`] if `out` does not have one element for each row;
    /// [`Error::Config`] for a penalty on the whole batch, which has no value for one example: free
    /// bits per dimension and a capacity of the batch.
    fn per_example(
        &self,
        compute: &Compute,
        out: &mut [f64],
        inputs: Self::Inputs<'_>,
    ) -> Result<()> {
        let _environment = FloatEnvironment::standard();
        let [rows, columns] = inputs.shape();
        expect_length("out", rows, out.len())?;
        self.validate(inputs)?;
        // Before `out` is touched.
        self.separable()?;
        let coupling = Coupling::default();
        let plan = RowPlan { coupling: &coupling, scale: 1.0, with_sums: false };
        // The main pass with each row's value kept, unscaled and without gradients.
        row_values(compute, self.rows(plan, None, inputs)?, out)?;
        self.complete(out, columns);
        Ok(())
    }

    /// Checks parameters, and inputs that are not arrays.
    #[doc(hidden)]
    fn validate(&self, inputs: Self::Inputs<'_>) -> Result<()>;

    /// Computes what depends on the whole batch, in a separate pass if that takes one.
    #[doc(hidden)]
    fn couple(&self, _: &Compute, _: Self::Inputs<'_>) -> Result<Coupling> {
        Ok(Coupling::default())
    }

    /// Rows of the main pass.
    #[doc(hidden)]
    fn rows(
        &self,
        plan: RowPlan<'_>,
        gradients: Option<Self::Gradients<'_>>,
        inputs: Self::Inputs<'_>,
    ) -> Result<impl RowSums<2>>;

    /// Value of the term over `elements` elements, from the sum over their rows.
    #[doc(hidden)]
    fn value(&self, sum: f64, _elements: f64) -> f64 {
        sum
    }

    /// Returns an error unless each example has a value of its own.
    #[doc(hidden)]
    fn separable(&self) -> Result<()> {
        Ok(())
    }

    /// Turns the sums over rows into the values of their examples.
    #[doc(hidden)]
    fn complete(&self, sums: &mut [f64], columns: usize) {
        for sum in sums {
            *sum = self.value(*sum, columns as f64);
        }
    }
}

/// A loss term of the decoder's outputs and the data, for [`elbo`](super::elbo).
pub trait Reconstruction:
    for<'a> LossTerm<Inputs<'a> = ReconstructionInputs<'a>, Gradients<'a> = ArrayViewMut2<'a, f32>>
{
}

/// A loss term of the posterior and the prior, for [`elbo`](super::elbo).
pub trait KlPenalty:
    for<'a> LossTerm<Inputs<'a> = KlInputs<'a>, Gradients<'a> = KlGradients<'a>>
{
}

/// Inputs of a [`Reconstruction`].
#[derive(Clone, Copy, Debug)]
pub struct ReconstructionInputs<'a> {
    /// The decoder's outputs `[B, D]`: logits, probabilities or predictions, as the term says.
    pub outputs: ArrayView2<'a, f32>,
    /// The data `[B, D]`.
    pub targets: ArrayView2<'a, f32>,
}

/// Inputs of a [`KlPenalty`]: the posterior N(μ, e^v) of each example, and the prior.
#[derive(Clone, Copy, Debug)]
pub struct KlInputs<'a> {
    /// The posterior's means μ `[B, Z]`.
    pub mu: ArrayView2<'a, f32>,
    /// The posterior's log-variances v `[B, Z]`.
    pub logvar: ArrayView2<'a, f32>,
    /// The prior of every latent dimension.
    pub prior: Prior,
}

/// Input arrays, all of the same shape.
pub trait Arrays: Copy {
    /// Name of the first array, for the error of an empty batch.
    const FIRST: &'static str;

    /// Rows and columns.
    fn shape(self) -> [usize; 2];
}

impl Arrays for ReconstructionInputs<'_> {
    const FIRST: &'static str = "outputs";

    fn shape(self) -> [usize; 2] {
        self.outputs.dim().into()
    }
}

impl Arrays for KlInputs<'_> {
    const FIRST: &'static str = "mu";

    fn shape(self) -> [usize; 2] {
        self.mu.dim().into()
    }
}

/// Outputs for the gradients of a [`KlPenalty`]; they are overwritten.
#[derive(Debug)]
pub struct KlGradients<'a> {
    /// ∂loss/∂mu `[B, Z]`.
    pub dmu: ArrayViewMut2<'a, f32>,
    /// ∂loss/∂logvar `[B, Z]`.
    pub dlogvar: ArrayViewMut2<'a, f32>,
}

/// Quantities of a term that depend on the whole batch.
#[derive(Debug)]
pub struct Coupling {
    /// The unreduced value, for a term that is not a sum over rows.
    pub(super) value: Option<f64>,
    /// Multiplies the gradients of the main pass.
    pub(super) slope: f64,
    /// Multiplies the gradients of each column; empty if there is no factor per column.
    pub(super) factors: Vec<f32>,
}

impl Default for Coupling {
    fn default() -> Self {
        Self { value: None, slope: 1.0, factors: Vec::new() }
    }
}

/// Settings of the main pass.
#[derive(Clone, Copy)]
pub struct RowPlan<'a> {
    pub(super) coupling: &'a Coupling,
    /// Multiplies the gradients.
    pub(super) scale: f32,
    /// True if the KL divergence of each row is needed beside the penalty.
    pub(super) with_sums: bool,
}

pub(super) mod sealed {
    pub trait Sealed: Copy + Send + Sync {}
}

/// Number by which the sum over a batch is divided.
pub(super) fn divisor<A: Arrays>(inputs: A, reduction: Reduction) -> Result<f64> {
    let shape = inputs.shape();
    reduction.divisor(shape[0], shape[1]).ok_or_else(|| Error::Shape {
        argument: A::FIRST,
        expected: "at least one element to take the mean of".to_owned(),
        found: format!("{shape:?}"),
    })
}

/// Evaluates one term alone and reduces it.
fn evaluate<T: LossTerm>(
    term: &T,
    compute: &Compute,
    gradients: Option<T::Gradients<'_>>,
    inputs: T::Inputs<'_>,
    reduction: Reduction,
) -> Result<f64> {
    let _environment = FloatEnvironment::standard();
    term.validate(inputs)?;
    let divisor = divisor(inputs, reduction)?;
    // A separate pass for the few terms that need one, nothing for the others.
    let coupling = term.couple(compute, inputs)?;
    // Without gradients the pass of the coupling was enough.
    if let (None, Some(value)) = (&gradients, coupling.value) {
        return Ok(value / divisor);
    }
    // In f64 up to here: the scale is rounded once.
    let scale = (coupling.slope / divisor) as f32;
    let plan = RowPlan { coupling: &coupling, scale, with_sums: false };
    let [sum, _] = total(compute, term.rows(plan, gradients, inputs)?)?;
    Ok(batch_value::<T>(term, &coupling, sum, inputs) / divisor)
}

/// The value of a batch, not reduced, from the sum of the main pass.
pub(super) fn batch_value<T: LossTerm>(
    term: &T,
    coupling: &Coupling,
    sum: f64,
    inputs: T::Inputs<'_>,
) -> f64 {
    let [rows, columns] = inputs.shape();
    // A coupled value is not the sum over the rows.
    coupling.value.unwrap_or_else(|| term.value(sum, rows as f64 * columns as f64))
}

/// A reconstruction whose value is the sum over its elements.
pub(super) trait Elementwise: Term<2, 1> + sealed::Sealed {
    /// Checks the parameters.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl<T: Elementwise> LossTerm for T {
    type Inputs<'a> = ReconstructionInputs<'a>;
    type Gradients<'a> = ArrayViewMut2<'a, f32>;

    fn validate(&self, _: ReconstructionInputs<'_>) -> Result<()> {
        self.check()
    }

    fn rows(
        &self,
        plan: RowPlan<'_>,
        gradients: Option<Self::Gradients<'_>>,
        inputs: Self::Inputs<'_>,
    ) -> Result<impl RowSums<2>> {
        // A term of elements is its own kernel of a row.
        reconstruction_rows(*self, plan.scale, gradients, inputs)
    }
}

/// The rows of a reconstruction.
pub(super) fn reconstruction_rows<'g, 'i, K: RowKernel<2, 1>>(
    kernel: K,
    scale: f32,
    doutputs: Option<ArrayViewMut2<'g, f32>>,
    inputs: ReconstructionInputs<'i>,
) -> Result<KernelRows<'g, 'i, K, 2, 1>> {
    let ReconstructionInputs { outputs, targets } = inputs;
    // Named for error messages; the target comes last, where the kernel looks for data.
    let gradients = doutputs.map(|view| [("doutputs", view)]);
    KernelRows::new(kernel, gradients, [("outputs", outputs), ("targets", targets)], scale)
}

/// The rows of a KL penalty.
pub(super) fn kl_rows<'g, 'i, K: RowKernel<2, 2>>(
    kernel: K,
    scale: f32,
    gradients: Option<KlGradients<'g>>,
    inputs: KlInputs<'i>,
) -> Result<KernelRows<'g, 'i, K, 2, 2>> {
    let gradients =
        // Two inputs, both with gradients: no data, nothing to reject.
        gradients.map(|KlGradients { dmu, dlogvar }| [("dmu", dmu), ("dlogvar", dlogvar)]);
    let inputs = [("mu", inputs.mu), ("logvar", inputs.logvar)];
    KernelRows::new(kernel, gradients, inputs, scale)
}
