"""The estimator `VAEDetector`."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import OutlierMixin
from sklearn.utils._param_validation import Interval

from ._base import Callback, Estimator

__all__ = ["VAEDetector"]


class VAEDetector(OutlierMixin, Estimator):  # type: ignore[misc]
    """Detection of unusual rows by the evidence lower bound of a variational autoencoder.

    By default the features are standardized, and the model is linear with one variance for each feature, trained for
    3,000 steps: a factor analysis, which finds the directions in which the features vary together.

    Parameters
    ----------
    contamination : float
        Share of unusual rows among the training rows, above 0 and at most 0.5, which sets the threshold.
    n_components, hidden, ... : see `VAE`
        All parameters of `VAE`, with other defaults.

    Attributes
    ----------
    offset_ : float
        The threshold: ``decision_function = score_samples - offset_``.
    model_, history_, n_epochs_, best_epoch_, scaling_, seed_, n_features_in_ : see `VAE`
        Attributes of `VAE`.

    Examples
    --------
    >>> import numpy as np
    >>> from elbo_vae import VAEDetector
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> X[7] = 20.0
    >>> detector = VAEDetector(contamination=0.01, random_state=1).fit(X)
    >>> int(detector.score_samples(X).argmin())
    7
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Estimator._parameter_constraints,
        "contamination": [Interval(numbers.Real, 0, 0.5, closed="right")],
    }

    contamination: float
    offset_: float

    def __init__(
        self,
        n_components: int = 32,
        *,
        contamination: float = 0.1,
        hidden: int | Sequence[int] = (),
        encoder: int | Sequence[int] | None = None,
        decoder: int | Sequence[int] | None = None,
        activation: str = "relu",
        layer_norm: bool = False,
        dropout: float = 0.0,
        prior_mean: float = 0.0,
        prior_std: float = 1.0,
        logvar_clamp: tuple[float, float] | None = (-10.0, 1.0),
        likelihood: str = "gaussian",
        variance: float | str | None = "per-feature",
        pos_weight: float | None = None,
        scale: str | None = None,
        beta: float = 1.0,
        annealing: str = "constant",
        anneal_over: int | str | None = None,
        anneal_from: float = 0.0,
        cycles: int = 4,
        cycle_ratio: float = 0.5,
        free_bits: float | None = None,
        free_bits_per: str = "dimension",
        capacity: float | None = None,
        capacity_gamma: float = 10.0,
        capacity_per: str = "batch",
        capacity_over: int | str | None = None,
        total_correlation: bool = False,
        tc_alpha: float = 1.0,
        tc_gamma: float = 1.0,
        importance_samples: int | None = None,
        gradient_estimator: str = "iwae",
        reduction: str = "batch-mean",
        optimizer: str = "adam",
        learning_rate: float | None = 0.01,
        weight_decay: float | None = None,
        adam_beta1: float | None = None,
        adam_beta2: float | None = None,
        adam_epsilon: float | None = None,
        momentum: float | None = None,
        nesterov: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        warm_up: int = 0,
        schedule: str = "cosine",
        decay_every: int = 10,
        decay_factor: float = 0.5,
        decay_over: int | str | None = None,
        decay_floor: float = 0.0,
        decay_patience: int = 5,
        augmentation: str = "none",
        epochs: int | str = "3000steps",
        batch_size: int = 32,
        validation_fraction: float | None = None,
        patience: int | None = None,
        keep: str | None = None,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.contamination = contamination
        self.n_components = n_components
        self.hidden = hidden
        self.encoder = encoder
        self.decoder = decoder
        self.activation = activation
        self.layer_norm = layer_norm
        self.dropout = dropout
        self.prior_mean = prior_mean
        self.prior_std = prior_std
        self.logvar_clamp = logvar_clamp
        self.likelihood = likelihood
        self.variance = variance
        self.pos_weight = pos_weight
        self.scale = scale
        self.beta = beta
        self.annealing = annealing
        self.anneal_over = anneal_over
        self.anneal_from = anneal_from
        self.cycles = cycles
        self.cycle_ratio = cycle_ratio
        self.free_bits = free_bits
        self.free_bits_per = free_bits_per
        self.capacity = capacity
        self.capacity_gamma = capacity_gamma
        self.capacity_per = capacity_per
        self.capacity_over = capacity_over
        self.total_correlation = total_correlation
        self.tc_alpha = tc_alpha
        self.tc_gamma = tc_gamma
        self.importance_samples = importance_samples
        self.gradient_estimator = gradient_estimator
        self.reduction = reduction
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.adam_beta1 = adam_beta1
        self.adam_beta2 = adam_beta2
        self.adam_epsilon = adam_epsilon
        self.momentum = momentum
        self.nesterov = nesterov
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.accumulate = accumulate
        self.warm_up = warm_up
        self.schedule = schedule
        self.decay_every = decay_every
        self.decay_factor = decay_factor
        self.decay_over = decay_over
        self.decay_floor = decay_floor
        self.decay_patience = decay_patience
        self.augmentation = augmentation
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.keep = keep
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        validation: ArrayLike | None = None,
        callback: Callback | None = None,
    ) -> VAEDetector:
        """Fit the model to the rows of X, and set the threshold by their scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : ignored
        validation, callback
            As in `VAE.fit`.

        Returns
        -------
        VAEDetector
            The fitted estimator.
        """
        if self.likelihood == "gaussian" and self.variance == "optimal":
            raise ValueError(
                "variance: expected a fixed or learned one; under 'optimal' a single row has no score"
            )
        x = self._fit(X, validation, callback)
        scores = -self._negative_elbo_of(x)
        self.offset_ = float(np.percentile(scores, 100.0 * self.contamination))
        return self

    def _loaded(self) -> None:
        if self._scores is None:
            raise ValueError(
                "the model file has no scores of training rows, which set the threshold; fit a detector, or load the "
                "file as a VAE"
            )
        self.offset_ = -float(np.quantile(self._scores, 1.0 - self.contamination))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the score of each row above the threshold: negative for unusual rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of float64, shape (n_samples,)
            ``score_samples(X) - offset_``, in nats.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int_]:
        """Return 1 for each usual row and -1 for each unusual one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of int, shape (n_samples,)
            The labels.
        """
        return np.where(self.decision_function(X) < 0.0, -1, 1)
