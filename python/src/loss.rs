//! Loss terms and the fused objective on arrays: value and gradients from one call.

use crate::Compute;
use crate::arrays::{Input, Place, vector_of, views};
use crate::errors::OrRaise;
use elbo::loss::elbo as fused;
use elbo::loss::total_correlation as tc;
use elbo::loss::{
    Bernoulli, BernoulliProbabilities, Capacity, CapacityPer, ContinuousBernoulli, FreeBits,
    FreeBitsPer, Gaussian, Kl, KlGradients, KlInputs, LossTerm, Prior, ReconstructionInputs,
    Reduction, SigmoidProbabilities, SquaredError, TanhSquaredError, WeightedBernoulli,
};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Runs a block with `$term` bound to the reconstruction term of a name.
macro_rules! with_reconstruction {
    ($choice:expr, |$term:ident| $block:expr) => {
        match $choice {
            Choice::Bernoulli => {
                let $term = Bernoulli;
                $block
            }
            Choice::WeightedBernoulli(pos_weight) => {
                let $term = WeightedBernoulli { pos_weight };
                $block
            }
            Choice::BernoulliProbabilities => {
                let $term = BernoulliProbabilities;
                $block
            }
            Choice::SigmoidProbabilities => {
                let $term = SigmoidProbabilities;
                $block
            }
            Choice::ContinuousBernoulli => {
                let $term = ContinuousBernoulli;
                $block
            }
            Choice::SquaredError => {
                let $term = SquaredError;
                $block
            }
            Choice::TanhSquaredError => {
                let $term = TanhSquaredError;
                $block
            }
            Choice::Gaussian(gaussian) => {
                let $term = gaussian;
                $block
            }
        }
    };
}

/// Runs a block with `$term` bound to a penalty.
macro_rules! with_penalty {
    ($penalty:expr, |$term:ident| $block:expr) => {
        match $penalty {
            Penalty::Kl => {
                let $term = Kl;
                $block
            }
            Penalty::FreeBits($term) => $block,
            Penalty::Capacity($term) => $block,
        }
    };
}

#[derive(Clone, Copy)]
enum Choice<'v> {
    Bernoulli,
    WeightedBernoulli(f32),
    BernoulliProbabilities,
    SigmoidProbabilities,
    ContinuousBernoulli,
    SquaredError,
    TanhSquaredError,
    Gaussian(Gaussian<'v>),
}

#[derive(Clone, Copy)]
enum Penalty {
    Kl,
    FreeBits(FreeBits),
    Capacity(Capacity),
}

/// The parameter of a reconstruction term: the weight of ones, or the log-variance.
#[derive(FromPyObject)]
pub enum Parameter<'py> {
    /// One number.
    Number(f32),
    /// One number for each feature, float32 `[D]`.
    Array(Bound<'py, PyAny>),
}

/// A parameter whose array is borrowed.
enum Borrowed<'py> {
    None,
    Number(f32),
    Array(PyReadonlyArray1<'py, f32>),
}

impl<'py> Borrowed<'py> {
    fn new(parameter: Option<&Parameter<'py>>) -> PyResult<Self> {
        Ok(match parameter {
            None => Self::None,
            Some(Parameter::Number(number)) => Self::Number(*number),
            Some(Parameter::Array(array)) => {
                Self::Array(vector_of::<f32>("logvar", array, "float32")?)
            }
        })
    }

    fn choice(&self, likelihood: &str) -> PyResult<Choice<'_>> {
        let weight = match self {
            Self::Number(weight) => *weight,
            _ => 1.0,
        };
        Ok(match likelihood {
            "bernoulli" => Choice::Bernoulli,
            "weighted-bernoulli" => Choice::WeightedBernoulli(weight),
            "bernoulli-of-probabilities" => Choice::BernoulliProbabilities,
            "bernoulli-probabilities" => Choice::SigmoidProbabilities,
            "continuous-bernoulli" => Choice::ContinuousBernoulli,
            "squared-error" => Choice::SquaredError,
            "tanh-squared-error" => Choice::TanhSquaredError,
            "gaussian" => Choice::Gaussian(match self {
                Self::None => Gaussian::Optimal,
                Self::Number(logvar) => Gaussian::Shared { logvar: *logvar },
                Self::Array(logvar) => Gaussian::PerFeature {
                    logvar: logvar.as_slice().map_err(|_| {
                        PyValueError::new_err(
                            "`logvar`: expected contiguous elements; convert it with \
                             numpy.ascontiguousarray(logvar)",
                        )
                    })?,
                },
            }),
            _ => return Err(unknown("likelihood", likelihood)),
        })
    }
}

fn unknown(setting: &str, name: &str) -> PyErr {
    PyValueError::new_err(format!("`{setting}`: there is none named '{name}'"))
}

fn reduction_named(name: &str) -> PyResult<Reduction> {
    match name {
        "batch-mean" => Ok(Reduction::BatchMean),
        "sum" => Ok(Reduction::Sum),
        "mean" => Ok(Reduction::Mean),
        _ => Err(PyValueError::new_err(format!(
            "`reduction`: expected batch-mean, sum or mean, found '{name}'"
        ))),
    }
}

fn penalty_named(name: &str, amount: f32, weight: f32, per: &str) -> PyResult<Penalty> {
    Ok(match (name, per) {
        ("kl", _) => Penalty::Kl,
        ("free-bits", per) => Penalty::FreeBits(FreeBits {
            lambda: amount,
            per: match per {
                "element" => FreeBitsPer::Element,
                "dimension" => FreeBitsPer::Dimension,
                "sample" => FreeBitsPer::Sample,
                _ => return Err(unknown("per", per)),
            },
        }),
        ("capacity", per) => Penalty::Capacity(Capacity {
            gamma: weight,
            nats: amount,
            per: match per {
                "batch" => CapacityPer::Batch,
                "sample" => CapacityPer::Sample,
                _ => return Err(unknown("per", per)),
            },
        }),
        _ => return Err(unknown("penalty", name)),
    })
}

/// Returns the reconstruction term of a batch, in nats; overwrites `doutputs` with its gradient if that is given.
#[pyfunction]
#[pyo3(signature = (likelihood, parameter, reduction, doutputs, outputs, targets, compute=None))]
pub fn reconstruction(
    py: Python<'_>,
    likelihood: &str,
    parameter: Option<Parameter<'_>>,
    reduction: &str,
    doutputs: Option<&Bound<'_, PyAny>>,
    outputs: &Bound<'_, PyAny>,
    targets: &Bound<'_, PyAny>,
    compute: Option<&Compute>,
) -> PyResult<f64> {
    let parameter = Borrowed::new(parameter.as_ref())?;
    let (choice, reduction) = (parameter.choice(likelihood)?, reduction_named(reduction)?);
    let (outputs, targets) = (Input::new("outputs", outputs)?, Input::new("targets", targets)?);
    let mut places = match doutputs {
        None => None,
        Some(doutputs) => Some([Place::new("doutputs", doutputs)?]),
    };
    let doutputs = match &mut places {
        None => None,
        Some(places) => {
            let [doutputs] = views(places, &[&outputs, &targets])?;
            Some(doutputs)
        }
    };
    let inputs = ReconstructionInputs { outputs: outputs.view(), targets: targets.view() };
    let compute = crate::compute(compute);
    let value = py.detach(|| {
        with_reconstruction!(choice, |term| match doutputs {
            None => term.forward(&compute, inputs, reduction),
            Some(doutputs) => term.forward_backward(&compute, doutputs, inputs, reduction),
        })
    });
    value.or_raise()
}

/// Returns the gradient of a Gaussian term by its log-variance, float64 `[1]` or `[D]`.
#[pyfunction]
#[pyo3(signature = (parameter, reduction, outputs, targets, compute=None))]
pub fn gaussian_dlogvar<'py>(
    py: Python<'py>,
    parameter: Parameter<'_>,
    reduction: &str,
    outputs: &Bound<'_, PyAny>,
    targets: &Bound<'_, PyAny>,
    compute: Option<&Compute>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let parameter = Borrowed::new(Some(&parameter))?;
    let reduction = reduction_named(reduction)?;
    let Choice::Gaussian(gaussian) = parameter.choice("gaussian")? else { unreachable!() };
    let (outputs, targets) = (Input::new("outputs", outputs)?, Input::new("targets", targets)?);
    let inputs = ReconstructionInputs { outputs: outputs.view(), targets: targets.view() };
    let compute = crate::compute(compute);
    let mut dlogvar = match gaussian {
        Gaussian::PerFeature { logvar } => vec![0.0; logvar.len()],
        _ => vec![0.0],
    };
    py.detach(|| gaussian.backward_logvar(&compute, &mut dlogvar, inputs, reduction)).or_raise()?;
    Ok(dlogvar.into_pyarray(py))
}

/// Returns the penalty of a batch, in nats; overwrites `dmu` and `dlogvar` with its gradients if they are given.
///
/// `amount` and `weight` are lambda of free bits, or nats and gamma of a capacity; `prior` is its mean and standard
/// deviation.
#[pyfunction]
#[pyo3(signature = (kind, amount, weight, per, prior, reduction, gradients, mu, logvar, compute=None))]
pub fn penalty(
    py: Python<'_>,
    kind: &str,
    amount: f32,
    weight: f32,
    per: &str,
    prior: (f32, f32),
    reduction: &str,
    gradients: Option<(Bound<'_, PyAny>, Bound<'_, PyAny>)>,
    mu: &Bound<'_, PyAny>,
    logvar: &Bound<'_, PyAny>,
    compute: Option<&Compute>,
) -> PyResult<f64> {
    let (kind, reduction) =
        (penalty_named(kind, amount, weight, per)?, reduction_named(reduction)?);
    let (mu, logvar) = (Input::new("mu", mu)?, Input::new("logvar", logvar)?);
    let mut places = match &gradients {
        None => None,
        Some((dmu, dlogvar)) => Some([Place::new("dmu", dmu)?, Place::new("dlogvar", dlogvar)?]),
    };
    let gradients = match &mut places {
        None => None,
        Some(places) => {
            let [dmu, dlogvar] = views(places, &[&mu, &logvar])?;
            Some(KlGradients { dmu, dlogvar })
        }
    };
    let prior = Prior { mean: prior.0, std: prior.1 };
    let inputs = KlInputs { mu: mu.view(), logvar: logvar.view(), prior };
    let compute = crate::compute(compute);
    let value = py.detach(|| {
        with_penalty!(kind, |term| match gradients {
            None => term.forward(&compute, inputs, reduction),
            Some(gradients) => term.forward_backward(&compute, gradients, inputs, reduction),
        })
    });
    value.or_raise()
}

/// Returns the loss of a batch, its reconstruction and its KL divergence, in nats; overwrites `doutputs`, `dmu` and
/// `dlogvar` with the gradients of the loss if they are given. One pass over all arrays.
#[pyfunction]
#[pyo3(signature = (likelihood, parameter, kind, amount, weight, per, beta, prior, reduction, gradients, outputs,
    targets, mu, logvar, compute=None))]
pub fn elbo_loss(
    py: Python<'_>,
    likelihood: &str,
    parameter: Option<Parameter<'_>>,
    kind: &str,
    amount: f32,
    weight: f32,
    per: &str,
    beta: f32,
    prior: (f32, f32),
    reduction: &str,
    gradients: Option<(Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>)>,
    outputs: &Bound<'_, PyAny>,
    targets: &Bound<'_, PyAny>,
    mu: &Bound<'_, PyAny>,
    logvar: &Bound<'_, PyAny>,
    compute: Option<&Compute>,
) -> PyResult<(f64, f64, f64)> {
    let parameter = Borrowed::new(parameter.as_ref())?;
    let (choice, reduction) = (parameter.choice(likelihood)?, reduction_named(reduction)?);
    let penalty = penalty_named(kind, amount, weight, per)?;
    let (outputs, targets) = (Input::new("outputs", outputs)?, Input::new("targets", targets)?);
    let (mu, logvar) = (Input::new("mu", mu)?, Input::new("logvar", logvar)?);
    let mut places = match &gradients {
        None => None,
        Some((doutputs, dmu, dlogvar)) => Some([
            Place::new("doutputs", doutputs)?,
            Place::new("dmu", dmu)?,
            Place::new("dlogvar", dlogvar)?,
        ]),
    };
    let gradients = match &mut places {
        None => None,
        Some(places) => {
            let [doutputs, dmu, dlogvar] = views(places, &[&outputs, &targets, &mu, &logvar])?;
            Some(fused::Gradients { doutputs, dmu, dlogvar })
        }
    };
    let inputs = fused::Inputs {
        outputs: outputs.view(),
        targets: targets.view(),
        mu: mu.view(),
        logvar: logvar.view(),
        prior: Prior { mean: prior.0, std: prior.1 },
    };
    let compute = crate::compute(compute);
    let value = py.detach(|| {
        with_reconstruction!(choice, |reconstruction| with_penalty!(penalty, |penalty| {
            let terms = fused::Terms { reconstruction, penalty, beta };
            match gradients {
                None => fused::forward(&compute, terms, inputs, reduction),
                Some(gradients) => {
                    fused::forward_backward(&compute, terms, gradients, inputs, reduction)
                }
            }
        }))
    });
    let value = value.or_raise()?;
    Ok((value.loss, value.reconstruction, value.kl))
}

/// Returns the parts of the KL divergence of a batch, in nats: mutual information, total correlation and dimension-wise
/// KL; overwrites `dz`, `dmu` and `dlogvar` with the gradients of their weighted sum if they are given.
#[pyfunction]
#[pyo3(signature = (weights, dataset_size, prior, gradients, z, mu, logvar, compute=None))]
pub fn total_correlation(
    py: Python<'_>,
    weights: (f32, f32, f32),
    dataset_size: usize,
    prior: (f32, f32),
    gradients: Option<(Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>)>,
    z: &Bound<'_, PyAny>,
    mu: &Bound<'_, PyAny>,
    logvar: &Bound<'_, PyAny>,
    compute: Option<&Compute>,
) -> PyResult<(f64, f64, f64)> {
    let (z, mu, logvar) =
        (Input::new("z", z)?, Input::new("mu", mu)?, Input::new("logvar", logvar)?);
    let mut places = match &gradients {
        None => None,
        Some((dz, dmu, dlogvar)) => {
            Some([Place::new("dz", dz)?, Place::new("dmu", dmu)?, Place::new("dlogvar", dlogvar)?])
        }
    };
    let gradients = match &mut places {
        None => None,
        Some(places) => {
            let [dz, dmu, dlogvar] = views(places, &[&z, &mu, &logvar])?;
            Some(tc::Gradients { dz, dmu, dlogvar })
        }
    };
    let inputs = tc::Inputs {
        z: z.view(),
        mu: mu.view(),
        logvar: logvar.view(),
        prior: Prior { mean: prior.0, std: prior.1 },
    };
    let (alpha, beta, gamma) = weights;
    let weights = tc::TcWeights { alpha, beta, gamma };
    let compute = crate::compute(compute);
    let parts = py.detach(|| match gradients {
        None => tc::forward(&compute, inputs, dataset_size),
        Some(gradients) => tc::forward_backward(&compute, gradients, inputs, weights, dataset_size),
    });
    let parts = parts.or_raise()?;
    Ok((parts.mutual_information, parts.total_correlation, parts.dimension_wise_kl))
}
