//! Losses with their gradients.

use crate::arguments::{Matrix, Place, expect_apart, expect_memory, shared};
use crate::compute::elbo_compute;
use crate::status::{Failure, Outcome, elbo_status, guard};
use elbo_rust::loss::total_correlation::{self, TcWeights};
use elbo_rust::loss::{
    Bernoulli, BernoulliProbabilities, Capacity, CapacityPer, ContinuousBernoulli, Elbo, FreeBits,
    FreeBitsPer, Gaussian, Kl, KlGradients, KlInputs, LossTerm, Prior, ReconstructionInputs,
    Reduction, SigmoidProbabilities, SquaredError, TanhSquaredError, WeightedBernoulli, elbo,
};

/// Reduction of a loss over a batch of `rows` to one number.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum elbo_reduction {
    /// Sum over columns, mean over rows: nats per example. The default of training.
    ELBO_BATCH_MEAN = 0,
    /// Sum over everything: nats of the batch.
    ELBO_SUM = 1,
    /// Mean over all elements. The KL divergence then weighs D/Z times as much as under the other two.
    ELBO_MEAN = 2,
}

/// Loss of the decoder's outputs l, given the data t, by its kind.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum elbo_reconstruction_kind {
    /// max(l, 0) - l t + ln(1 + exp(-|l|)): binary cross-entropy of logits. Data in [0, 1].
    ELBO_BERNOULLI = 0,
    /// The same, ones weighing `pos_weight` times as much as zeros. Data in [0, 1].
    ELBO_WEIGHTED_BERNOULLI = 1,
    /// Binary cross-entropy of probabilities, with the clamps of torch.nn.BCELoss. Data in [0, 1].
    ELBO_BERNOULLI_PROBABILITIES = 2,
    /// The same of sigmoid(l), with gradients for l.
    ELBO_SIGMOID_PROBABILITIES = 3,
    /// -l t + ln((exp(l) - 1) / l): continuous Bernoulli of logits. Data in [0, 1].
    ELBO_CONTINUOUS_BERNOULLI = 4,
    /// (l - t)^2. Finite data.
    ELBO_SQUARED_ERROR = 5,
    /// (tanh(l) - t)^2. Data in [-1, 1].
    ELBO_TANH_SQUARED_ERROR = 6,
    /// ((l - t)^2 exp(-s) + s + ln(2 pi)) / 2 with the log-variance s = `logvar`. Finite data.
    ELBO_GAUSSIAN = 7,
    /// The same with a log-variance for each feature: `logvars`.
    ELBO_GAUSSIAN_PER_FEATURE = 8,
    /// The same with the variance that maximizes the likelihood of the batch: its mean squared error.
    ELBO_GAUSSIAN_OPTIMAL = 9,
}

/// A reconstruction term: a kind and the numbers that it uses. Set the others to 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elbo_reconstruction {
    /// One of `elbo_reconstruction_kind`.
    pub kind: i32,
    /// ELBO_WEIGHTED_BERNOULLI: weight of a one relative to a zero, at least 0.
    pub pos_weight: f32,
    /// ELBO_GAUSSIAN: logarithm of the variance.
    pub logvar: f32,
    /// ELBO_GAUSSIAN_PER_FEATURE: logarithms of the variances, one for each column.
    pub logvars: *const f32,
}

/// Penalty on the posterior N(mu, exp(logvar)) of each example, by its kind.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum elbo_penalty_kind {
    /// The KL divergence from the prior.
    ELBO_KL = 0,
    /// max(lambda, KL), of each element, dimension or example (`per`).
    ELBO_FREE_BITS = 1,
    /// gamma |KL - nats|, of each example or of the mean over the batch (`per`).
    ELBO_CAPACITY = 2,
    /// Total correlation (beta-TCVAE). In training; alone it is `elbo_total_correlation_forward_backward`.
    ELBO_TOTAL_CORRELATION = 3,
    /// The importance-weighted bound. In training only.
    ELBO_IMPORTANCE = 4,
}

/// The divergence to which free bits or a capacity apply.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum elbo_per {
    /// Each latent dimension of each example. Free bits only.
    ELBO_PER_ELEMENT = 0,
    /// The mean over the batch of each latent dimension. Free bits only.
    ELBO_PER_DIMENSION = 1,
    /// The sum over latent dimensions of each example.
    ELBO_PER_SAMPLE = 2,
    /// The mean over the batch of that sum. Capacity only.
    ELBO_PER_BATCH = 3,
}

/// A penalty and the numbers that it uses. Set the others to 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elbo_penalty {
    /// One of `elbo_penalty_kind`.
    pub kind: i32,
    /// ELBO_FREE_BITS, ELBO_CAPACITY: one of `elbo_per`.
    pub per: i32,
    /// ELBO_FREE_BITS: the threshold, in nats.
    pub lambda: f32,
    /// ELBO_CAPACITY: the weight.
    pub gamma: f32,
    /// ELBO_CAPACITY: the divergence that costs nothing, in nats.
    pub nats: f32,
    /// Mean of the prior of each latent dimension; 0 for N(0, 1).
    pub prior_mean: f32,
    /// Standard deviation of the prior, from 1e-15 to 1e15; 1 for N(0, 1).
    pub prior_std: f32,
}

/// The negative evidence lower bound and its parts, reduced, in nats.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct elbo_value {
    /// reconstruction + beta * penalty, of which the gradients are taken.
    pub loss: f64,
    /// The negative log-likelihood of the data.
    pub reconstruction: f64,
    /// The KL divergence from the prior, neither weighted nor changed by a penalty.
    pub kl: f64,
}

/// The KL divergence of a batch in three parts, in nats per example (Chen et al. 2018).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct elbo_decomposition {
    /// Mutual information of example and code.
    pub mutual_information: f64,
    /// Total correlation: the dependence of the latent dimensions on one another.
    pub total_correlation: f64,
    /// KL divergence from the prior, dimension by dimension.
    pub dimension_wise_kl: f64,
}

impl From<Elbo> for elbo_value {
    fn from(Elbo { loss, reconstruction, kl }: Elbo) -> Self {
        Self { loss, reconstruction, kl }
    }
}

pub(crate) fn reduction(code: i32) -> Outcome<Reduction> {
    const CODES: [(elbo_reduction, Reduction); 3] = [
        (elbo_reduction::ELBO_BATCH_MEAN, Reduction::BatchMean),
        (elbo_reduction::ELBO_SUM, Reduction::Sum),
        (elbo_reduction::ELBO_MEAN, Reduction::Mean),
    ];
    let found = CODES.iter().find(|(known, _)| *known as i32 == code);
    found
        .map(|(_, reduction)| *reduction)
        .ok_or_else(|| Failure::option("reduction", "a value of elbo_reduction", code))
}

pub(crate) fn free_bits_per(code: i32) -> Outcome<FreeBitsPer> {
    match code {
        _ if code == elbo_per::ELBO_PER_ELEMENT as i32 => Ok(FreeBitsPer::Element),
        _ if code == elbo_per::ELBO_PER_DIMENSION as i32 => Ok(FreeBitsPer::Dimension),
        _ if code == elbo_per::ELBO_PER_SAMPLE as i32 => Ok(FreeBitsPer::Sample),
        _ => {
            let expected = "ELBO_PER_ELEMENT, ELBO_PER_DIMENSION or ELBO_PER_SAMPLE with free bits";
            Err(Failure::option("per", expected, code))
        }
    }
}

pub(crate) fn capacity_per(code: i32) -> Outcome<CapacityPer> {
    match code {
        _ if code == elbo_per::ELBO_PER_SAMPLE as i32 => Ok(CapacityPer::Sample),
        _ if code == elbo_per::ELBO_PER_BATCH as i32 => Ok(CapacityPer::Batch),
        _ => {
            let expected = "ELBO_PER_SAMPLE or ELBO_PER_BATCH with a capacity";
            Err(Failure::option("per", expected, code))
        }
    }
}

/// A reconstruction as a value.
#[derive(Clone, Copy)]
enum Term<'v> {
    Bernoulli(Bernoulli),
    WeightedBernoulli(WeightedBernoulli),
    BernoulliProbabilities(BernoulliProbabilities),
    SigmoidProbabilities(SigmoidProbabilities),
    ContinuousBernoulli(ContinuousBernoulli),
    SquaredError(SquaredError),
    TanhSquaredError(TanhSquaredError),
    Gaussian(Gaussian<'v>),
}

impl<'v> Term<'v> {
    /// The term, and the array that it reads: empty but for a variance of each feature.
    ///
    /// # Safety
    /// `term` is null, or the caller's as the header says, and so is what it points to.
    unsafe fn read(
        term: *const elbo_reconstruction,
        columns: usize,
    ) -> Outcome<(Self, Matrix<f32>)> {
        use elbo_reconstruction_kind as Kind;
        // SAFETY: a structure, by the contract.
        let elbo_reconstruction { kind, pos_weight, logvar, logvars } =
            *unsafe { shared("term", term) }?;
        let mut memory = Matrix::vector("logvars", logvars, 0)?;
        let term = match kind {
            _ if kind == Kind::ELBO_BERNOULLI as i32 => Self::Bernoulli(Bernoulli),
            _ if kind == Kind::ELBO_WEIGHTED_BERNOULLI as i32 => {
                Self::WeightedBernoulli(WeightedBernoulli { pos_weight })
            }
            _ if kind == Kind::ELBO_BERNOULLI_PROBABILITIES as i32 => {
                Self::BernoulliProbabilities(BernoulliProbabilities)
            }
            _ if kind == Kind::ELBO_SIGMOID_PROBABILITIES as i32 => {
                Self::SigmoidProbabilities(SigmoidProbabilities)
            }
            _ if kind == Kind::ELBO_CONTINUOUS_BERNOULLI as i32 => {
                Self::ContinuousBernoulli(ContinuousBernoulli)
            }
            _ if kind == Kind::ELBO_SQUARED_ERROR as i32 => Self::SquaredError(SquaredError),
            _ if kind == Kind::ELBO_TANH_SQUARED_ERROR as i32 => {
                Self::TanhSquaredError(TanhSquaredError)
            }
            _ if kind == Kind::ELBO_GAUSSIAN as i32 => Self::Gaussian(Gaussian::Shared { logvar }),
            _ if kind == Kind::ELBO_GAUSSIAN_PER_FEATURE as i32 => {
                let vector = Matrix::vector("logvars", logvars, columns)?;
                // SAFETY: memory of the caller, by the contract.
                let logvar = unsafe { vector.slice() };
                memory = vector;
                Self::Gaussian(Gaussian::PerFeature { logvar })
            }
            _ if kind == Kind::ELBO_GAUSSIAN_OPTIMAL as i32 => Self::Gaussian(Gaussian::Optimal),
            _ => {
                return Err(Failure::option("kind", "a value of elbo_reconstruction_kind", kind));
            }
        };
        Ok((term, memory))
    }
}

/// Evaluates an expression with the reconstruction as a value of its own type.
macro_rules! with_term {
    ($choice:expr, |$term:ident| $value:expr) => {
        match $choice {
            Term::Bernoulli($term) => $value,
            Term::WeightedBernoulli($term) => $value,
            Term::BernoulliProbabilities($term) => $value,
            Term::SigmoidProbabilities($term) => $value,
            Term::ContinuousBernoulli($term) => $value,
            Term::SquaredError($term) => $value,
            Term::TanhSquaredError($term) => $value,
            Term::Gaussian($term) => $value,
        }
    };
}

/// A penalty as a value.
#[derive(Clone, Copy)]
enum Penalty {
    Kl(Kl),
    FreeBits(FreeBits),
    Capacity(Capacity),
}

impl Penalty {
    /// # Safety
    /// `penalty` is null, or the caller's as the header says.
    unsafe fn read(penalty: *const elbo_penalty) -> Outcome<(Self, Prior)> {
        use elbo_penalty_kind as Kind;
        // SAFETY: a structure, by the contract.
        let elbo_penalty { kind, per, lambda, gamma, nats, prior_mean, prior_std } =
            *unsafe { shared("penalty", penalty) }?;
        let penalty = match kind {
            _ if kind == Kind::ELBO_KL as i32 => Self::Kl(Kl),
            _ if kind == Kind::ELBO_FREE_BITS as i32 => {
                Self::FreeBits(FreeBits { lambda, per: free_bits_per(per)? })
            }
            _ if kind == Kind::ELBO_CAPACITY as i32 => {
                Self::Capacity(Capacity { gamma, nats, per: capacity_per(per)? })
            }
            _ => {
                let expected = "ELBO_KL, ELBO_FREE_BITS or ELBO_CAPACITY";
                return Err(Failure::option("kind", expected, kind));
            }
        };
        Ok((penalty, Prior { mean: prior_mean, std: prior_std }))
    }
}

/// Evaluates an expression with the penalty as a value of its own type.
macro_rules! with_penalty {
    ($choice:expr, |$penalty:ident| $value:expr) => {
        match $choice {
            Penalty::Kl($penalty) => $value,
            Penalty::FreeBits($penalty) => $value,
            Penalty::Capacity($penalty) => $value,
        }
    };
}

/// Writes the reduced reconstruction term of `outputs` and `targets`, both [rows, columns], to `value`, in nats.
///
/// NaN in `outputs` gives NaN. Sums are of type double, within 1e-6 of the exact value. Allocates nothing.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_STRIDE, ELBO_OVERLAP; ELBO_SIZE for a mean of nothing; ELBO_OPTION
/// for a kind, a number or a reduction outside its domain; ELBO_DATA for the first target, in row order, that
/// the term does not accept.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_reconstruction_forward(
    compute: *const elbo_compute,
    term: *const elbo_reconstruction,
    value: *mut f64,
    outputs: *const f32,
    outputs_stride: usize,
    targets: *const f32,
    targets_stride: usize,
    rows: usize,
    columns: usize,
    reduction: i32,
) -> elbo_status {
    guard("elbo_reconstruction_forward", || {
        let shape = [rows, columns];
        let outputs = Matrix::new("outputs", outputs, shape, outputs_stride)?;
        let targets = Matrix::new("targets", targets, shape, targets_stride)?;
        let value = Matrix::vector("value", value, 1)?;
        let reduction = self::reduction(reduction)?;
        // SAFETY: handles and memory are the caller's, by the contract of the header; what is written is apart.
        unsafe {
            let (term, logvars) = Term::read(term, columns)?;
            expect_apart(
                &[value.region()],
                &[outputs.region(), targets.region(), logvars.region()],
            )?;
            let compute = shared("compute", compute)?.here()?;
            let inputs = ReconstructionInputs { outputs: outputs.view(), targets: targets.view() };
            value.slice_mut()[0] =
                with_term!(term, |term| term.forward(compute, inputs, reduction))?;
        }
        Ok(())
    })
}

/// As `elbo_reconstruction_forward`, and overwrites `doutputs` [rows, columns] with the gradient of `value` by
/// `outputs`. The value has the same bits.
///
/// Errors: as `elbo_reconstruction_forward`; `doutputs` and `value` then hold unspecified numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_reconstruction_forward_backward(
    compute: *const elbo_compute,
    term: *const elbo_reconstruction,
    value: *mut f64,
    doutputs: *mut f32,
    doutputs_stride: usize,
    outputs: *const f32,
    outputs_stride: usize,
    targets: *const f32,
    targets_stride: usize,
    rows: usize,
    columns: usize,
    reduction: i32,
) -> elbo_status {
    guard("elbo_reconstruction_forward_backward", || {
        let shape = [rows, columns];
        let doutputs = Matrix::new("doutputs", doutputs, shape, doutputs_stride)?;
        let outputs = Matrix::new("outputs", outputs, shape, outputs_stride)?;
        let targets = Matrix::new("targets", targets, shape, targets_stride)?;
        let value = Matrix::vector("value", value, 1)?;
        let reduction = self::reduction(reduction)?;
        // SAFETY: handles and memory are the caller's, by the contract of the header; what is written is apart.
        unsafe {
            let (term, logvars) = Term::read(term, columns)?;
            let inputs = [outputs.region(), targets.region(), logvars.region()];
            expect_apart(&[doutputs.region(), value.region()], &inputs)?;
            let compute = shared("compute", compute)?.here()?;
            let inputs = ReconstructionInputs { outputs: outputs.view(), targets: targets.view() };
            let gradient = doutputs.view_mut();
            value.slice_mut()[0] = with_term!(term, |term| {
                term.forward_backward(compute, gradient, inputs, reduction)
            })?;
        }
        Ok(())
    })
}

/// Overwrites `values` [rows] with the reconstruction term of each row, summed over its columns, in nats.
///
/// Errors: as `elbo_reconstruction_forward`; `values` then hold unspecified numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_reconstruction_per_example(
    compute: *const elbo_compute,
    term: *const elbo_reconstruction,
    values: *mut f64,
    outputs: *const f32,
    outputs_stride: usize,
    targets: *const f32,
    targets_stride: usize,
    rows: usize,
    columns: usize,
) -> elbo_status {
    guard("elbo_reconstruction_per_example", || {
        let shape = [rows, columns];
        let outputs = Matrix::new("outputs", outputs, shape, outputs_stride)?;
        let targets = Matrix::new("targets", targets, shape, targets_stride)?;
        let values = Matrix::vector("values", values, rows)?;
        // SAFETY: handles and memory are the caller's, by the contract of the header; what is written is apart.
        unsafe {
            let (term, logvars) = Term::read(term, columns)?;
            expect_apart(
                &[values.region()],
                &[outputs.region(), targets.region(), logvars.region()],
            )?;
            let compute = shared("compute", compute)?.here()?;
            let inputs = ReconstructionInputs { outputs: outputs.view(), targets: targets.view() };
            let values = values.slice_mut();
            with_term!(term, |term| term.per_example(compute, values, inputs))?;
        }
        Ok(())
    })
}

/// Overwrites `dlogvar` with the gradient of a Gaussian term by its log-variances: 1 number for ELBO_GAUSSIAN,
/// `columns` for ELBO_GAUSSIAN_PER_FEATURE. Takes a pass over the data of its own.
///
/// Errors: as `elbo_reconstruction_forward`; ELBO_OPTION for another kind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_gaussian_backward_logvar(
    compute: *const elbo_compute,
    term: *const elbo_reconstruction,
    dlogvar: *mut f64,
    outputs: *const f32,
    outputs_stride: usize,
    targets: *const f32,
    targets_stride: usize,
    rows: usize,
    columns: usize,
    reduction: i32,
) -> elbo_status {
    guard("elbo_gaussian_backward_logvar", || {
        let shape = [rows, columns];
        let outputs = Matrix::new("outputs", outputs, shape, outputs_stride)?;
        let targets = Matrix::new("targets", targets, shape, targets_stride)?;
        let reduction = self::reduction(reduction)?;
        // SAFETY: handles and memory are the caller's, by the contract of the header; what is written is apart.
        unsafe {
            let (term, logvars) = Term::read(term, columns)?;
            let (gaussian, count) = match term {
                Term::Gaussian(gaussian @ Gaussian::Shared { .. }) => (gaussian, 1),
                Term::Gaussian(gaussian @ Gaussian::PerFeature { .. }) => (gaussian, columns),
                _ => {
                    let expected =
                        "ELBO_GAUSSIAN or ELBO_GAUSSIAN_PER_FEATURE, which have log-variances";
                    return Err(Failure::option("kind", expected, "another"));
                }
            };
            let dlogvar = Matrix::vector("dlogvar", dlogvar, count)?;
            expect_apart(
                &[dlogvar.region()],
                &[outputs.region(), targets.region(), logvars.region()],
            )?;
            let compute = shared("compute", compute)?.here()?;
            let inputs = ReconstructionInputs { outputs: outputs.view(), targets: targets.view() };
            gaussian.backward_logvar(compute, dlogvar.slice_mut(), inputs, reduction)?;
        }
        Ok(())
    })
}

/// Writes the reduced penalty of the posteriors `mu` and `logvar`, both [rows, latent], to `value`, in nats.
///
/// Allocates nothing, except 2 * latent numbers for free bits of dimensions.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_STRIDE, ELBO_OVERLAP; ELBO_SIZE for a mean of nothing; ELBO_OPTION
/// for a kind, a number or a reduction outside its domain. NaN and infinities in `mu` and `logvar` are no error:
/// they show in the value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_penalty_forward(
    compute: *const elbo_compute,
    penalty: *const elbo_penalty,
    value: *mut f64,
    mu: *const f32,
    mu_stride: usize,
    logvar: *const f32,
    logvar_stride: usize,
    rows: usize,
    latent: usize,
    reduction: i32,
) -> elbo_status {
    guard("elbo_penalty_forward", || {
        let shape = [rows, latent];
        let mu = Matrix::new("mu", mu, shape, mu_stride)?;
        let logvar = Matrix::new("logvar", logvar, shape, logvar_stride)?;
        let value = Matrix::vector("value", value, 1)?;
        expect_apart(&[value.region()], &[mu.region(), logvar.region()])?;
        let reduction = self::reduction(reduction)?;
        // SAFETY: handles and memory are the caller's, by the contract of the header; what is written is apart.
        unsafe {
            let (penalty, prior) = Penalty::read(penalty)?;
            let compute = shared("compute", compute)?.here()?;
            let inputs = KlInputs { mu: mu.view(), logvar: logvar.view(), prior };
            value.slice_mut()[0] =
                with_penalty!(penalty, |penalty| penalty.forward(compute, inputs, reduction))?;
        }
        Ok(())
    })
}

/// As `elbo_penalty_forward`, and overwrites `dmu` and `dlogvar` [rows, latent] with the gradients of `value`.
///
/// Errors: as `elbo_penalty_forward`; the gradients and `value` then hold unspecified numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_penalty_forward_backward(
    compute: *const elbo_compute,
    penalty: *const elbo_penalty,
    value: *mut f64,
    dmu: *mut f32,
    dmu_stride: usize,
    dlogvar: *mut f32,
    dlogvar_stride: usize,
    mu: *const f32,
    mu_stride: usize,
    logvar: *const f32,
    logvar_stride: usize,
    rows: usize,
    latent: usize,
    reduction: i32,
) -> elbo_status {
    guard("elbo_penalty_forward_backward", || {
        let shape = [rows, latent];
        let dmu = Matrix::new("dmu", dmu, shape, dmu_stride)?;
        let dlogvar = Matrix::new("dlogvar", dlogvar, shape, dlogvar_stride)?;
        let mu = Matrix::new("mu", mu, shape, mu_stride)?;
        let logvar = Matrix::new("logvar", logvar, shape, logvar_stride)?;
        let value = Matrix::vector("value", value, 1)?;
        let outputs = [dmu.region(), dlogvar.region(), value.region()];
        expect_apart(&outputs, &[mu.region(), logvar.region()])?;
        let reduction = self::reduction(reduction)?;
        // SAFETY: handles and memory are the caller's, by the contract of the header; what is written is apart.
        unsafe {
            let (penalty, prior) = Penalty::read(penalty)?;
            let compute = shared("compute", compute)?.here()?;
            let gradients = KlGradients { dmu: dmu.view_mut(), dlogvar: dlogvar.view_mut() };
            let inputs = KlInputs { mu: mu.view(), logvar: logvar.view(), prior };
            value.slice_mut()[0] = with_penalty!(penalty, |penalty| {
                penalty.forward_backward(compute, gradients, inputs, reduction)
            })?;
        }
        Ok(())
    })
}

/// Overwrites `values` [rows] with the penalty of each row, summed over latent dimensions, in nats.
///
/// Errors: as `elbo_penalty_forward`; ELBO_OPTION for a penalty on the whole batch, which has no value for one
/// example: free bits of dimensions, a capacity of the batch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_penalty_per_example(
    compute: *const elbo_compute,
    penalty: *const elbo_penalty,
    values: *mut f64,
    mu: *const f32,
    mu_stride: usize,
    logvar: *const f32,
    logvar_stride: usize,
    rows: usize,
    latent: usize,
) -> elbo_status {
    guard("elbo_penalty_per_example", || {
        let shape = [rows, latent];
        let mu = Matrix::new("mu", mu, shape, mu_stride)?;
        let logvar = Matrix::new("logvar", logvar, shape, logvar_stride)?;
        let values = Matrix::vector("values", values, rows)?;
        expect_apart(&[values.region()], &[mu.region(), logvar.region()])?;
        // SAFETY: handles and memory are the caller's, by the contract of the header; what is written is apart.
        unsafe {
            let (penalty, prior) = Penalty::read(penalty)?;
            let compute = shared("compute", compute)?.here()?;
            let inputs = KlInputs { mu: mu.view(), logvar: logvar.view(), prior };
            let values = values.slice_mut();
            with_penalty!(penalty, |penalty| penalty.per_example(compute, values, inputs))?;
        }
        Ok(())
    })
}

/// Writes the objective of a variational autoencoder, reconstruction + beta * penalty, and its parts to `value`,
/// in nats: `outputs` and `targets` are [rows, columns], `mu` and `logvar` [rows, latent].
///
/// Each part has the bits of its term alone.
///
/// Errors: as `elbo_reconstruction_forward` and `elbo_penalty_forward`; ELBO_OPTION for a beta that is negative
/// or not finite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_objective_forward(
    compute: *const elbo_compute,
    term: *const elbo_reconstruction,
    penalty: *const elbo_penalty,
    beta: f32,
    value: *mut elbo_value,
    outputs: *const f32,
    outputs_stride: usize,
    targets: *const f32,
    targets_stride: usize,
    mu: *const f32,
    mu_stride: usize,
    logvar: *const f32,
    logvar_stride: usize,
    rows: usize,
    columns: usize,
    latent: usize,
    reduction: i32,
) -> elbo_status {
    guard("elbo_objective_forward", || {
        let outputs = Matrix::new("outputs", outputs, [rows, columns], outputs_stride)?;
        let targets = Matrix::new("targets", targets, [rows, columns], targets_stride)?;
        let mu = Matrix::new("mu", mu, [rows, latent], mu_stride)?;
        let logvar = Matrix::new("logvar", logvar, [rows, latent], logvar_stride)?;
        let inputs = [&outputs, &targets, &mu, &logvar].map(Matrix::region);
        expect_apart(&[Matrix::vector("value", value, 1)?.region()], &inputs)?;
        let value = Place::new("value", value)?;
        let reduction = self::reduction(reduction)?;
        // SAFETY: handles and memory are the caller's, by the contract of the header; what is written is apart.
        unsafe {
            let (reconstruction, _) = Term::read(term, columns)?;
            let (penalty, prior) = Penalty::read(penalty)?;
            let compute = shared("compute", compute)?.here()?;
            let (outputs, targets) = (outputs.view(), targets.view());
            let inputs =
                elbo::Inputs { outputs, targets, mu: mu.view(), logvar: logvar.view(), prior };
            let found = with_term!(reconstruction, |reconstruction| {
                with_penalty!(penalty, |penalty| {
                    let terms = elbo::Terms { reconstruction, penalty, beta };
                    elbo::forward(compute, terms, inputs, reduction)
                })
            })?;
            value.put(found.into());
        }
        Ok(())
    })
}

/// As `elbo_objective_forward`, and overwrites `doutputs` [rows, columns], `dmu` and `dlogvar` [rows, latent] with
/// the gradients of `value.loss`, in the same pass. `dmu` and `dlogvar` are the penalty's part: that of the
/// reconstruction comes through the decoder.
///
/// Errors: as `elbo_objective_forward`; the gradients then hold unspecified numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_objective_forward_backward(
    compute: *const elbo_compute,
    term: *const elbo_reconstruction,
    penalty: *const elbo_penalty,
    beta: f32,
    value: *mut elbo_value,
    doutputs: *mut f32,
    doutputs_stride: usize,
    dmu: *mut f32,
    dmu_stride: usize,
    dlogvar: *mut f32,
    dlogvar_stride: usize,
    outputs: *const f32,
    outputs_stride: usize,
    targets: *const f32,
    targets_stride: usize,
    mu: *const f32,
    mu_stride: usize,
    logvar: *const f32,
    logvar_stride: usize,
    rows: usize,
    columns: usize,
    latent: usize,
    reduction: i32,
) -> elbo_status {
    guard("elbo_objective_forward_backward", || {
        let doutputs = Matrix::new("doutputs", doutputs, [rows, columns], doutputs_stride)?;
        let dmu = Matrix::new("dmu", dmu, [rows, latent], dmu_stride)?;
        let dlogvar = Matrix::new("dlogvar", dlogvar, [rows, latent], dlogvar_stride)?;
        let outputs = Matrix::new("outputs", outputs, [rows, columns], outputs_stride)?;
        let targets = Matrix::new("targets", targets, [rows, columns], targets_stride)?;
        let mu = Matrix::new("mu", mu, [rows, latent], mu_stride)?;
        let logvar = Matrix::new("logvar", logvar, [rows, latent], logvar_stride)?;
        let written = Matrix::vector("value", value, 1)?.region();
        let value = Place::new("value", value)?;
        let reduction = self::reduction(reduction)?;
        // SAFETY: handles and memory are the caller's, by the contract of the header; what is written is apart.
        unsafe {
            let (reconstruction, logvars) = Term::read(term, columns)?;
            let (penalty, prior) = Penalty::read(penalty)?;
            let [gradient, of_mu, of_logvar] = [&doutputs, &dmu, &dlogvar].map(Matrix::region);
            let inputs = [&outputs, &targets, &mu, &logvar, &logvars].map(Matrix::region);
            expect_apart(&[gradient, of_mu, of_logvar, written], &inputs)?;
            let compute = shared("compute", compute)?.here()?;
            let (outputs, targets) = (outputs.view(), targets.view());
            let inputs =
                elbo::Inputs { outputs, targets, mu: mu.view(), logvar: logvar.view(), prior };
            let (doutputs, dmu, dlogvar) =
                (doutputs.view_mut(), dmu.view_mut(), dlogvar.view_mut());
            let gradients = elbo::Gradients { doutputs, dmu, dlogvar };
            let found = with_term!(reconstruction, |reconstruction| {
                with_penalty!(penalty, |penalty| {
                    let terms = elbo::Terms { reconstruction, penalty, beta };
                    elbo::forward_backward(compute, terms, gradients, inputs, reduction)
                })
            })?;
            value.put(found.into());
        }
        Ok(())
    })
}

/// Decomposes the KL divergence of a batch with codes `z`, means `mu` and log-variances `logvar`, all [rows,
/// latent], drawn from `dataset_size` examples, and overwrites `dz`, `dmu` and `dlogvar` with the gradients of
///
///   alpha * mutual information + beta * total correlation + gamma * dimension-wise KL   (beta-TCVAE)
///
/// in nats per example. Compares all pairs of rows; allocates rows^2 numbers.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_STRIDE, ELBO_OVERLAP; ELBO_SIZE without a row; ELBO_OPTION for a
/// weight that is negative or not finite, an empty data set, or a prior outside its domain.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_total_correlation_forward_backward(
    compute: *const elbo_compute,
    value: *mut elbo_decomposition,
    dz: *mut f32,
    dz_stride: usize,
    dmu: *mut f32,
    dmu_stride: usize,
    dlogvar: *mut f32,
    dlogvar_stride: usize,
    z: *const f32,
    z_stride: usize,
    mu: *const f32,
    mu_stride: usize,
    logvar: *const f32,
    logvar_stride: usize,
    rows: usize,
    latent: usize,
    dataset_size: usize,
    alpha: f32,
    beta: f32,
    gamma: f32,
    prior_mean: f32,
    prior_std: f32,
) -> elbo_status {
    guard("elbo_total_correlation_forward_backward", || {
        let shape = [rows, latent];
        let dz = Matrix::new("dz", dz, shape, dz_stride)?;
        let dmu = Matrix::new("dmu", dmu, shape, dmu_stride)?;
        let dlogvar = Matrix::new("dlogvar", dlogvar, shape, dlogvar_stride)?;
        let z = Matrix::new("z", z, shape, z_stride)?;
        let mu = Matrix::new("mu", mu, shape, mu_stride)?;
        let logvar = Matrix::new("logvar", logvar, shape, logvar_stride)?;
        let written = Matrix::vector("value", value, 1)?.region();
        let [of_z, of_mu, of_logvar] = [&dz, &dmu, &dlogvar].map(Matrix::region);
        let inputs = [&z, &mu, &logvar].map(Matrix::region);
        expect_apart(&[of_z, of_mu, of_logvar, written], &inputs)?;
        expect_memory("the pairs of the rows", rows.checked_mul(rows))?;
        let value = Place::new("value", value)?;
        let weights = TcWeights { alpha, beta, gamma };
        let prior = Prior { mean: prior_mean, std: prior_std };
        // SAFETY: handles and memory are the caller's, by the contract of the header; what is written is apart.
        unsafe {
            let compute = shared("compute", compute)?.here()?;
            let (dz, dmu, dlogvar) = (dz.view_mut(), dmu.view_mut(), dlogvar.view_mut());
            let gradients = total_correlation::Gradients { dz, dmu, dlogvar };
            let (z, mu, logvar) = (z.view(), mu.view(), logvar.view());
            let inputs = total_correlation::Inputs { z, mu, logvar, prior };
            let found = total_correlation::forward_backward(
                compute,
                gradients,
                inputs,
                weights,
                dataset_size,
            )?;
            value.put(elbo_decomposition {
                mutual_information: found.mutual_information,
                total_correlation: found.total_correlation,
                dimension_wise_kl: found.dimension_wise_kl,
            });
        }
        Ok(())
    })
}
