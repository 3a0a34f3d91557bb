"""The estimator `VAE`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_array
from sklearn.utils.validation import check_is_fitted

from . import _core, _settings
from ._base import Callback, Estimator
from ._scaling import Scaling

__all__ = ["VAE"]


class VAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Estimator):  # type: ignore[misc]
    """Variational autoencoder of dense layers (Kingma & Welling 2014).

    `transform` maps rows to the means of their latent codes, `inverse_transform` maps codes to rows.

    The same parameters, data and seed give the same weights as the tool ``elbo train``, to the last bit, on any number
    of threads and any instruction set. X is read in place: float32 and float64 arrays, with any strides, are not
    copied. They must not be changed by another thread during a fit, which would train on a mixture of both states.

    Parameters
    ----------
    n_components : int
        Latent dimensions Z.
    hidden : int or sequence of int
        Widths of the encoder's hidden layers, from the data inward; the decoder mirrors them. ``()`` for none.
    encoder, decoder : int or sequence of int, optional
        Widths of each side, in place of ``hidden``.
    activation : str
        "relu", "leaky-relu", "elu", "gelu", "gelu-tanh", "silu", "softplus", "tanh" or "sigmoid";
        "leaky-relu:0.2" and "elu:1.5" set the slope or alpha.
    layer_norm : bool
        Whether each hidden layer is normalized before its activation.
    dropout : float
        Probability that a hidden unit is dropped in training.
    prior_mean, prior_std : float
        Mean and standard deviation of the prior of each latent dimension.
    logvar_clamp : (float, float), optional
        Interval to which the encoder's log-variance is softly clamped.
    likelihood : str
        "gaussian" or "squared-error" for any numbers; "bernoulli", "bernoulli-probabilities" (by way of clamped
        logarithms) or "continuous-bernoulli" for data in [0, 1]; "tanh-squared-error" for data in [-1, 1].
    variance : float or {"shared", "per-feature", "optimal"}, optional
        Variance of the Gaussian likelihood: fixed, learned (one, the default, or one for each feature), or that of each
        batch (Rybkin et al. 2021), under which a single row has no score.
    pos_weight : float, optional
        Weight of ones against zeros under "bernoulli".
    scale : {"standardize", "min-max", "bytes", "none"}, optional
        Scaling of each feature, fitted to the training rows and undone on output; by default "standardize" for
        "gaussian" and "squared-error", otherwise "none". "bytes" takes arrays of uint8, which
        are divided by 255 as they are read. With "min-max" and data in [0, 1], other rows are clipped to that range.
    beta : float
        Weight of the KL divergence (Higgins et al. 2017).
    annealing : {"constant", "linear", "cosine", "cyclical"}
        Schedule of beta (Bowman et al. 2016, Fu et al. 2019).
    anneal_over : int or str, optional
        Epochs, or a text such as "2000steps", over which beta increases; half of the fit, or all of it with
        "cyclical", by default.
    anneal_from : float
        Initial beta ("linear" and "cosine").
    cycles, cycle_ratio : int, float
        Number of cycles, and share of a cycle in which beta increases ("cyclical").
    free_bits : float, optional
        Nats of KL divergence without cost (Kingma et al. 2016), per "dimension", "element" or "sample" by
        ``free_bits_per``.
    free_bits_per : str
        Unit of ``free_bits``.
    capacity : float, optional
        Nats at which the KL divergence is held (Burgess et al. 2018), with the weight ``capacity_gamma``, per
        "batch" or "sample" by ``capacity_per``, growing from 0 over ``capacity_over`` (half of the fit by default).
    capacity_gamma, capacity_per, capacity_over : float, str, int or str
        Settings of ``capacity``.
    total_correlation : bool
        beta-TCVAE (Chen et al. 2018): ``tc_alpha`` weighs the mutual information, beta the total correlation,
        ``tc_gamma`` the dimension-wise KL divergence.
    tc_alpha, tc_gamma : float
        Settings of ``total_correlation``.
    importance_samples : int, optional
        Samples of the importance-weighted bound (IWAE, Burda et al. 2016).
    gradient_estimator : {"iwae", "dreg"}
        Estimator of the gradient of that bound; "dreg" is doubly reparameterized (Tucker et al. 2019).
    reduction : {"batch-mean", "sum", "mean"}
        Reduction of a batch.
    optimizer : {"adam", "adamw", "sgd", "adamax"}
        The optimizer.
    learning_rate : float, optional
        Learning rate; 0.001 by default, 0.002 with "adamax".
    weight_decay : float, optional
        Weight decay; 0 by default, 0.01 with "adamw".
    adam_beta1, adam_beta2, adam_epsilon : float, optional
        Decay of the moments and epsilon; 0.9, 0.999 and 1e-8 by default.
    momentum, nesterov : float, bool
        Momentum ("sgd").
    clip_norm, clip_value : float, optional
        Norm to which a gradient is scaled down, or magnitude to which its elements are clipped.
    accumulate : int
        Batches whose gradients are added up for one step.
    warm_up : int
        Steps over which the learning rate rises linearly.
    schedule : {"constant", "step", "cosine", "plateau"}
        Decay of the learning rate.
    decay_every, decay_factor : int, float
        Epochs between two decays ("step"), and their factor ("step" and "plateau").
    decay_over, decay_floor : int or str, float
        Span of the decay, the whole fit by default, and final share of the learning rate ("cosine").
    decay_patience : int
        Epochs without improvement before a decay ("plateau").
    augmentation : str
        "none", "binarize" or "dequantize", applied anew at each pass; "dequantize:16" sets the levels.
    epochs : int or str
        Passes over the training rows, or steps, such as "3000steps".
    batch_size : int
        Rows of a batch.
    validation_fraction : float, optional
        Share of the rows to hold out for validation; 0.1 by default if ``patience``, ``keep`` or ``schedule`` need
        validation rows, otherwise none.
    patience : int, optional
        Epochs without a lower validation loss after which the fit stops.
    keep : {"last", "best"}, optional
        Epoch whose weights are kept; "best" by default with ``patience``.
    random_state : int, RandomState or None
        Seed of weights, order, noise and held-out rows. A whole number is the seed of the tool.
    n_jobs : int, optional
        Threads, by the rules of joblib: one by default, all for -1. They change no bit of the result.
    verbose : bool
        Whether to show a progress bar (with tqdm, if it is installed) or a line for each epoch.

    Attributes
    ----------
    model_ : Model
        The model.
    history_ : dict of str to ndarray of float64, shape (n_epochs,)
        "epoch", "train_loss", "train_reconstruction", "train_kl", "beta", "learning_rate" and "seconds" of each
        epoch; with validation rows also "validation_loss", "validation_reconstruction", "validation_kl" and
        "active_units". Losses are in nats per row.
    n_epochs_ : int
        Number of epochs trained.
    best_epoch_ : int
        The epoch of the lowest validation loss, counted from 1; the last one without validation rows.
    kl_per_dimension_ : ndarray of float64, shape (n_components,)
        KL divergence of each latent dimension, in nats: the mean over the validation rows, or without any over up to
        10,000 training rows.
    mu_variance_ : ndarray of float64, shape (n_components,)
        Variance over the same rows of the mean of each latent dimension; a dimension is active above 0.01.
    scaling_ : Scaling
        The scaling of the features.
    seed_ : int
        The seed of the fit.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Names of the features, if X has names that are all strings.

    Examples
    --------
    >>> import numpy as np
    >>> from elbo_vae import VAE
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> vae = VAE(n_components=2, hidden=(16,), epochs=5, random_state=1).fit(X)
    >>> vae.transform(X).shape
    (200, 2)
    """

    def __init__(
        self,
        n_components: int = 20,
        *,
        hidden: int | Sequence[int] = (400,),
        encoder: int | Sequence[int] | None = None,
        decoder: int | Sequence[int] | None = None,
        activation: str = "relu",
        layer_norm: bool = False,
        dropout: float = 0.0,
        prior_mean: float = 0.0,
        prior_std: float = 1.0,
        logvar_clamp: tuple[float, float] | None = None,
        likelihood: str = "gaussian",
        variance: float | str | None = None,
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
        learning_rate: float | None = None,
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
        schedule: str = "constant",
        decay_every: int = 10,
        decay_factor: float = 0.5,
        decay_over: int | str | None = None,
        decay_floor: float = 0.0,
        decay_patience: int = 5,
        augmentation: str = "none",
        epochs: int | str = 10,
        batch_size: int = 128,
        validation_fraction: float | None = None,
        patience: int | None = None,
        keep: str | None = None,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
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
    ) -> VAE:
        """Fit the model to the rows of X.

        Ctrl-C stops the fit at the next step; the estimator then has the weights of that step (those of the best
        epoch with ``keep="best"``), and ``KeyboardInterrupt`` is raised. The same holds for exceptions of the callback.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows: finite numbers, in [0, 1] for a Bernoulli likelihood after scaling.
        y : ignored
        validation : array-like of shape (n_rows, n_features), optional
            Validation rows, in place of ``validation_fraction``.
        callback : callable, optional
            Called after each epoch with a dictionary of the epoch's entries of ``history_``. A true result ends the
            fit.

        Returns
        -------
        VAE
            The fitted estimator.
        """
        self._fit(X, validation, callback)
        return self

    def partial_fit(self, X: ArrayLike, y: object = None) -> VAE:
        """Train for one epoch on the rows of X, from the present weights on.

        The first call fits the scaling to its rows and starts from random weights, or goes on from the weights and the
        scaling of `fit` with a new state of the optimizer. Later
        calls keep the state of the optimizer, which copies and pickles of the estimator do not have.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : ignored

        Returns
        -------
        VAE
            The estimator.
        """
        first = not hasattr(self, "model_")
        p = self.get_params(deep=False)
        if first:
            self._validate_params()
        if missing := _settings.spans(p):
            raise ValueError(
                f"{missing[0]}: its default depends on the number of epochs, which partial_fit does not know; set it"
            )
        x = self._rows(X, reset=first)
        if first:
            seed = self._seed()
            model = _core.Model(_settings.config(x.shape[1], p), seed)
        else:
            seed, model = self.seed_, self.model_
        trainer = getattr(self, "_trainer", None)
        if trainer is None:
            options = _settings.options(p, seed, len(x))
            trainer = _core.Trainer(model, options, self._compute())
        unit = self.likelihood in _settings.UNIT_LIKELIHOODS
        limits = (0.0, 1.0) if unit else None
        scaling = Scaling.fit(self._scale(), x, None, limits) if first else self.scaling_
        _, rows, loss, reconstruction, kl, beta, rate = trainer.epoch(scaling.data(x))
        history = {} if first else self.history_
        epochs = len(next(iter(history.values()), ()))
        record = {
            "epoch": epochs + 1,
            "train_loss": loss,
            "train_reconstruction": reconstruction,
            "train_kl": kl,
            "beta": beta,
            "learning_rate": rate,
        }
        empty = np.full(epochs, np.nan)
        self.history_ = {
            name: np.append(history.get(name, empty), value) for name, value in record.items()
        }
        self.model_, self._trainer = trainer.model(), trainer
        self.scaling_, self.seed_ = scaling, seed
        self.n_epochs_ = self.best_epoch_ = epochs + 1
        self._options = {"objective": None}
        self._trained = {"seed": seed, "rows": rows, "epoch": epochs + 1}
        self._scores = None
        return self

    @property
    def _n_features_out(self) -> int:
        return self.model_.latent

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the mean of the latent code of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of float32, shape (n_samples, n_components)
            The means of the posterior.
        """
        return self.encode(X)[0]

    def encode(self, X: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the mean and the log-variance of the posterior of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        mu, logvar : ndarray of float32, shape (n_samples, n_components)
            Mean and logarithm of the variance of each latent dimension.
        """
        data, _ = self._data(X)
        return self.model_.encode(data, self._compute())

    def inverse_transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return the mean of the likelihood for each latent code, in the units of the data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            The codes.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The decoded rows: float64 if features are scaled, otherwise float32.
        """
        check_is_fitted(self, "model_")
        z = check_array(X, dtype=np.float32, input_name="X")
        return self.scaling_.undo(self.model_.decode(z, compute=self._compute()))

    def reconstruct(self, X: ArrayLike) -> NDArray[Any]:
        """Return the mean of the likelihood at the mean of each row's latent code, in the units of the data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The reconstructions: float64 if features are scaled, otherwise float32.
        """
        data, _ = self._data(X)
        return self.scaling_.undo(self.model_.reconstruct(data, self._compute()))

    def sample(
        self,
        n_samples: int = 1,
        *,
        random_state: int | None = None,
        noise: bool = False,
        variance: float | None = None,
    ) -> NDArray[Any]:
        """Draw new rows: codes from the prior, decoded.

        Parameters
        ----------
        n_samples : int
            Number of rows.
        random_state : int, optional
            Seed; by default that of the fit. Row i depends on the seed and i alone.
        noise : bool
            Whether to draw from the likelihood of each code; by default its mean is returned.
        variance : float, optional
            Variance of that draw, in scaled units, in place of the model's; ``variance="optimal"`` needs one.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The rows, in the units of the data.
        """
        check_is_fitted(self, "model_")
        seed = self.seed_ if random_state is None else random_state
        rows = self.model_.sample(
            n_samples, seed, noise=noise, variance=variance, compute=self._compute()
        )
        return self.scaling_.undo(rows)

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Return the evidence lower bound per row, with one draw of the noise for each: high is better.

        The noise is the same at every call. beta and penalties do not enter, so that models can be compared.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        y : ignored

        Returns
        -------
        float
            The mean over the rows, in nats.
        """
        data, _ = self._data(X)
        return -float(self.model_.evaluate(data, compute=self._compute())["loss"])

    def marginal_log_likelihood(
        self, X: ArrayLike, samples: int = 100, *, random_state: int = 1
    ) -> NDArray[np.float64]:
        """Estimate ln p(x) of each row from importance samples (Burda et al. 2016).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        samples : int
            Samples of each row.
        random_state : int
            Seed of the samples.

        Returns
        -------
        ndarray of float64, shape (n_samples,)
            The importance-weighted bound of each row, in nats.
        """
        data, _ = self._data(X)
        return self.model_.marginal_log_likelihood(
            data, samples, seed=random_state, compute=self._compute()
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
