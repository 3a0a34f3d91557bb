"""Loss terms of a variational autoencoder on NumPy arrays: the value and its gradients from one call.

Arrays are float32, ``[B, D]`` (outputs and targets) or ``[B, Z]`` (mean and log-variance of the posterior), with
contiguous rows; views of some rows or columns of a larger array are read in place. Other types raise an error that
says what to convert. The interpreter's lock is released during the computation.

Values are sums in float64, in nats, divided by 1, B or B·D (B·Z for a penalty): ``reduction="sum"``,
``"batch-mean"`` (the default: nats per example) or ``"mean"``.

Gradients are new arrays, or those of ``out``. With ``gradient=False`` they are ``None`` and nothing is computed for
them. ``compute`` is a ``Compute`` whose threads share the rows of large batches; by default the
calling thread works alone. The number of threads changes no bit of a result.

>>> import numpy as np
>>> from elbo_vae import loss
>>> logits = np.array([[0.0, 2.0]], dtype=np.float32)
>>> targets = np.array([[1.0, 1.0]], dtype=np.float32)
>>> value, dlogits = loss.bernoulli(logits, targets)
>>> round(value, 4)
0.8201
>>> dlogits.round(4)
array([[-0.5   , -0.1192]], dtype=float32)
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._core import Compute

Array: TypeAlias = NDArray[np.float32]

__all__ = [
    "Elbo",
    "Gaussian",
    "Penalty",
    "Reconstruction",
    "TotalCorrelation",
    "bernoulli",
    "bernoulli_probabilities",
    "capacity",
    "continuous_bernoulli",
    "elbo",
    "free_bits",
    "gaussian",
    "kl",
    "squared_error",
    "tanh_squared_error",
    "total_correlation",
]


class Reconstruction(NamedTuple):
    """Reconstruction term and its gradient.

    Attributes
    ----------
    value : float
        The term, in nats.
    doutputs : ndarray of float32, shape (B, D), or None
        Its gradient with respect to the first argument.
    """

    value: float
    doutputs: Array | None


class Gaussian(NamedTuple):
    """Gaussian reconstruction term and its gradients.

    Attributes
    ----------
    value : float
        The term, in nats.
    doutputs : ndarray of float32, shape (B, D), or None
        Its gradient with respect to the means.
    dlogvar : ndarray of float64, shape (1,) or (D,), or None
        Its gradient with respect to ``logvar``; ``None`` for the optimal variance.
    """

    value: float
    doutputs: Array | None
    dlogvar: NDArray[np.float64] | None


class Penalty(NamedTuple):
    """Penalty on the posterior and its gradients.

    Attributes
    ----------
    value : float
        The penalty, in nats.
    dmu, dlogvar : ndarray of float32, shape (B, Z), or None
        Its gradients.
    """

    value: float
    dmu: Array | None
    dlogvar: Array | None


class Elbo(NamedTuple):
    """The negative evidence lower bound, its parts, and the gradients of the loss.

    Attributes
    ----------
    loss : float
        ``reconstruction + beta * penalty``, in nats.
    reconstruction : float
        The reconstruction term.
    kl : float
        The KL divergence, neither weighted nor changed by a penalty.
    doutputs : ndarray of float32, shape (B, D), or None
        Gradient of the loss with respect to the outputs.
    dmu, dlogvar : ndarray of float32, shape (B, Z), or None
        Gradients of the penalty's part of the loss; the reconstruction's part comes through the decoder.
    """

    loss: float
    reconstruction: float
    kl: float
    doutputs: Array | None
    dmu: Array | None
    dlogvar: Array | None


class TotalCorrelation(NamedTuple):
    """Parts of the KL divergence, and the gradients of their weighted sum.

    Attributes
    ----------
    mutual_information, total_correlation, dimension_wise_kl : float
        Mutual information of data and code, dependence of the latent dimensions on each other, and their
        distance from the prior, in nats per example.
    dz, dmu, dlogvar : ndarray of float32, shape (B, Z), or None
        Gradients of ``alpha * mutual_information + beta * total_correlation + gamma * dimension_wise_kl``.
    """

    mutual_information: float
    total_correlation: float
    dimension_wise_kl: float
    dz: Array | None
    dmu: Array | None
    dlogvar: Array | None


def _like(array: Array) -> Array:
    """A new array of the shape of another one, whose type the kernel checks."""
    return np.empty(getattr(array, "shape", ()), np.float32)


def _reconstruction(
    likelihood: str,
    parameter: float | Array | None,
    outputs: Array,
    targets: Array,
    reduction: str,
    gradient: bool,
    out: Array | None,
    compute: Compute | None,
) -> Reconstruction:
    if out is None and gradient:
        out = _like(outputs)
    value = _core.reconstruction(likelihood, parameter, reduction, out, outputs, targets, compute)
    return Reconstruction(value, out)


def bernoulli(
    logits: Array,
    targets: Array,
    *,
    pos_weight: float | None = None,
    reduction: str = "batch-mean",
    gradient: bool = True,
    out: Array | None = None,
    compute: Compute | None = None,
) -> Reconstruction:
    """Negative log-likelihood of a Bernoulli distribution from logits: ``max(l, 0) - l*t + log1p(exp(-|l|))``.

    Parameters
    ----------
    logits : ndarray of float32, shape (B, D)
        Logarithms of the odds.
    targets : ndarray of float32, shape (B, D)
        The data, in [0, 1].
    pos_weight : float, optional
        Weight of a one relative to a zero, above 0.
    reduction : {"batch-mean", "sum", "mean"}
        Divisor of the sum: B, 1 or B·D.
    gradient : bool
        Whether to compute the gradient.
    out : ndarray of float32, shape (B, D), optional
        Place of the gradient.
    compute : Compute, optional
        Threads; the calling thread by default.

    Returns
    -------
    Reconstruction
        The value, in nats, and its gradient with respect to the logits.

    Raises
    ------
    ValueError
        If the shapes differ, or for the first target outside of [0, 1].
    TypeError
        If an array is not of float32.
    """
    name = "bernoulli" if pos_weight is None else "weighted-bernoulli"
    return _reconstruction(name, pos_weight, logits, targets, reduction, gradient, out, compute)


def bernoulli_probabilities(
    probabilities: Array,
    targets: Array,
    *,
    reduction: str = "batch-mean",
    gradient: bool = True,
    out: Array | None = None,
    compute: Compute | None = None,
) -> Reconstruction:
    """Negative log-likelihood of a Bernoulli distribution from probabilities, with the clamps of ``torch.nn.BCELoss``.

    Parameters are those of `bernoulli`, with probabilities in [0, 1] in place of logits.
    """
    name = "bernoulli-of-probabilities"
    return _reconstruction(name, None, probabilities, targets, reduction, gradient, out, compute)


def continuous_bernoulli(
    logits: Array,
    targets: Array,
    *,
    reduction: str = "batch-mean",
    gradient: bool = True,
    out: Array | None = None,
    compute: Compute | None = None,
) -> Reconstruction:
    """Negative log-likelihood of the continuous Bernoulli distribution (Loaiza-Ganem & Cunningham 2019).

    Parameters are those of `bernoulli`.
    """
    name = "continuous-bernoulli"
    return _reconstruction(name, None, logits, targets, reduction, gradient, out, compute)


def squared_error(
    outputs: Array,
    targets: Array,
    *,
    reduction: str = "batch-mean",
    gradient: bool = True,
    out: Array | None = None,
    compute: Compute | None = None,
) -> Reconstruction:
    """Squared error ``(outputs - targets)**2``, for any finite targets.

    Other parameters are those of `bernoulli`.
    """
    return _reconstruction(
        "squared-error", None, outputs, targets, reduction, gradient, out, compute
    )


def tanh_squared_error(
    outputs: Array,
    targets: Array,
    *,
    reduction: str = "batch-mean",
    gradient: bool = True,
    out: Array | None = None,
    compute: Compute | None = None,
) -> Reconstruction:
    """Squared error of the hyperbolic tangent, ``(tanh(outputs) - targets)**2``, for targets in [-1, 1].

    Other parameters are those of `bernoulli`.
    """
    name = "tanh-squared-error"
    return _reconstruction(name, None, outputs, targets, reduction, gradient, out, compute)


def gaussian(
    outputs: Array,
    targets: Array,
    logvar: float | Array | None = 0.0,
    *,
    reduction: str = "batch-mean",
    gradient: bool = True,
    out: Array | None = None,
    compute: Compute | None = None,
) -> Gaussian:
    """Negative log-density of a Gaussian: ``((t - l)**2 / var + log(var) + log(2*pi)) / 2``.

    Parameters
    ----------
    outputs : ndarray of float32, shape (B, D)
        The means.
    targets : ndarray of float32, shape (B, D)
        The data: any finite numbers.
    logvar : float or ndarray of float32, shape (D,), or None
        Logarithm of the variance: one, or one for each feature. ``None`` takes the variance that maximizes the
        likelihood of the batch, its mean squared error (Rybkin et al. 2021).
    reduction, gradient, out, compute
        As in `bernoulli`.

    Returns
    -------
    Gaussian
        The value, in nats, and its gradients.
    """
    value, doutputs = _reconstruction(
        "gaussian", logvar, outputs, targets, reduction, gradient, out, compute
    )
    dlogvar = None
    if gradient and logvar is not None:
        dlogvar = _core.gaussian_dlogvar(logvar, reduction, outputs, targets, compute)
    return Gaussian(value, doutputs, dlogvar)


def _penalty(
    kind: str,
    amount: float,
    weight: float,
    per: str,
    mu: Array,
    logvar: Array,
    prior: tuple[float, float],
    reduction: str,
    gradient: bool,
    out: tuple[Array, Array] | None,
    compute: Compute | None,
) -> Penalty:
    if out is None and gradient:
        out = (_like(mu), _like(mu))
    value = _core.penalty(kind, amount, weight, per, prior, reduction, out, mu, logvar, compute)
    dmu, dlogvar = out if out is not None else (None, None)
    return Penalty(value, dmu, dlogvar)


def kl(
    mu: Array,
    logvar: Array,
    *,
    prior: tuple[float, float] = (0.0, 1.0),
    reduction: str = "batch-mean",
    gradient: bool = True,
    out: tuple[Array, Array] | None = None,
    compute: Compute | None = None,
) -> Penalty:
    """KL divergence of the posterior N(mu, exp(logvar)) from the prior.

    Parameters
    ----------
    mu, logvar : ndarray of float32, shape (B, Z)
        Mean and log-variance of each row's posterior.
    prior : (float, float)
        Mean and standard deviation of the prior.
    reduction : {"batch-mean", "sum", "mean"}
        Divisor of the sum: B, 1 or B·Z.
    gradient : bool
        Whether to compute the gradients.
    out : (ndarray, ndarray) of float32, shape (B, Z), optional
        Places of the gradients with respect to mu and logvar.
    compute : Compute, optional
        Threads; the calling thread by default.

    Returns
    -------
    Penalty
        The divergence, in nats, and its gradients.

    Examples
    --------
    >>> import numpy as np
    >>> from elbo_vae import loss
    >>> mu, logvar = np.ones((1, 2), np.float32), np.zeros((1, 2), np.float32)
    >>> loss.kl(mu, logvar).value
    1.0
    """
    return _penalty("kl", 0.0, 1.0, "", mu, logvar, prior, reduction, gradient, out, compute)


def free_bits(
    mu: Array,
    logvar: Array,
    nats: float,
    *,
    per: str = "dimension",
    prior: tuple[float, float] = (0.0, 1.0),
    reduction: str = "batch-mean",
    gradient: bool = True,
    out: tuple[Array, Array] | None = None,
    compute: Compute | None = None,
) -> Penalty:
    """KL divergence with no cost below a threshold (Kingma et al. 2016).

    Parameters
    ----------
    mu, logvar : ndarray of float32, shape (B, Z)
        Mean and log-variance of each row's posterior.
    nats : float
        The threshold lambda, in nats, not negative.
    per : {"dimension", "element", "sample"}
        What is compared with the threshold: the batch mean of a dimension, a single element, or the sum of a row.
    prior, reduction, gradient, out, compute
        As in `kl`.

    Returns
    -------
    Penalty
        The penalty, in nats, and its gradients.
    """
    return _penalty(
        "free-bits", nats, 1.0, per, mu, logvar, prior, reduction, gradient, out, compute
    )


def capacity(
    mu: Array,
    logvar: Array,
    nats: float,
    *,
    gamma: float = 1.0,
    per: str = "batch",
    prior: tuple[float, float] = (0.0, 1.0),
    reduction: str = "batch-mean",
    gradient: bool = True,
    out: tuple[Array, Array] | None = None,
    compute: Compute | None = None,
) -> Penalty:
    """Distance of the KL divergence from a capacity, ``gamma * |KL - nats|`` (Burgess et al. 2018).

    Parameters
    ----------
    mu, logvar : ndarray of float32, shape (B, Z)
        Mean and log-variance of each row's posterior.
    nats : float
        The capacity C, in nats per example, not negative.
    gamma : float
        Weight of the distance.
    per : {"batch", "sample"}
        Whether the mean of the batch or each row is held at the capacity.
    prior, reduction, gradient, out, compute
        As in `kl`.

    Returns
    -------
    Penalty
        The penalty, in nats, and its gradients.
    """
    return _penalty(
        "capacity", nats, gamma, per, mu, logvar, prior, reduction, gradient, out, compute
    )


def elbo(
    outputs: Array,
    targets: Array,
    mu: Array,
    logvar: Array,
    *,
    likelihood: str = "bernoulli",
    parameter: float | Array | None = None,
    beta: float = 1.0,
    penalty: str = "kl",
    nats: float = 0.0,
    gamma: float = 1.0,
    per: str | None = None,
    prior: tuple[float, float] = (0.0, 1.0),
    reduction: str = "batch-mean",
    gradient: bool = True,
    out: tuple[Array, Array, Array] | None = None,
    compute: Compute | None = None,
) -> Elbo:
    """Negative evidence lower bound and all its gradients, in one pass over the arrays.

    Parameters
    ----------
    outputs, targets : ndarray of float32, shape (B, D)
        The decoder's outputs and the data.
    mu, logvar : ndarray of float32, shape (B, Z)
        Mean and log-variance of each row's posterior.
    likelihood : str
        "bernoulli", "weighted-bernoulli", "bernoulli-probabilities" (of the sigmoid of the outputs),
        "continuous-bernoulli", "squared-error", "tanh-squared-error" or "gaussian".
    parameter : float or ndarray of float32, shape (D,), optional
        Weight of ones ("weighted-bernoulli"), or log-variance ("gaussian"; the optimal one by default).
    beta : float
        Weight of the penalty.
    penalty : {"kl", "free-bits", "capacity"}
        Penalty on the posterior, with ``nats``, ``gamma`` and ``per`` as in `free_bits` and `capacity`.
    prior, reduction, gradient, compute
        As in `kl`.
    out : (ndarray, ndarray, ndarray) of float32, optional
        Places of the gradients with respect to outputs, mu and logvar.

    Returns
    -------
    Elbo
        The loss, its parts, in nats, and its gradients.
    """
    if out is None and gradient:
        out = (_like(outputs), _like(mu), _like(mu))
    if per is None:
        per = "batch" if penalty == "capacity" else "dimension"
    value = _core.elbo_loss(
        likelihood,
        parameter,
        penalty,
        nats,
        gamma,
        per,
        beta,
        prior,
        reduction,
        out,
        outputs,
        targets,
        mu,
        logvar,
        compute,
    )
    gradients = out if out is not None else (None, None, None)
    return Elbo(*value, *gradients)


def total_correlation(
    z: Array,
    mu: Array,
    logvar: Array,
    *,
    dataset_size: int,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    prior: tuple[float, float] = (0.0, 1.0),
    gradient: bool = True,
    out: tuple[Array, Array, Array] | None = None,
    compute: Compute | None = None,
) -> TotalCorrelation:
    """Decomposition of the KL divergence of a batch, with the weights of beta-TCVAE (Chen et al. 2018).

    Parameters
    ----------
    z, mu, logvar : ndarray of float32, shape (B, Z)
        A code of each row, and mean and log-variance of its posterior.
    dataset_size : int
        Number of rows that the batch was drawn from.
    alpha, beta, gamma : float
        Weights of mutual information, total correlation and dimension-wise KL.
    prior, gradient, compute
        As in `kl`.
    out : (ndarray, ndarray, ndarray) of float32, shape (B, Z), optional
        Places of the gradients with respect to z, mu and logvar.

    Returns
    -------
    TotalCorrelation
        The three parts, in nats per example, and the gradients of their weighted sum.
    """
    if out is None and gradient:
        out = (_like(z), _like(z), _like(z))
    parts = _core.total_correlation(
        (alpha, beta, gamma), dataset_size, prior, out, z, mu, logvar, compute
    )
    gradients = out if out is not None else (None, None, None)
    return TotalCorrelation(*parts, *gradients)
