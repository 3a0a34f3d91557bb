"""Fitting, model files and pickles, which the estimators have in common."""

from __future__ import annotations

import json
import numbers
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, TypeAlias, TypeVar

import joblib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from . import _core, _settings
from ._notes import notes, quantiles
from ._scaling import KINDS, Scaling

__all__ = ["Callback", "Estimator"]

# Called with the record of each epoch; a true result ends the fit.
Callback: TypeAlias = Callable[[dict[str, float]], object]

Self = TypeVar("Self", bound="Estimator")

# Rows of which the evaluation at the end of a fit without validation rows makes its means.
_EVALUATED = 10_000
# Largest number of training rows, evenly spaced, for the quantiles of the scores: that of the tool.
_SCORED = 1 << 18
# Version of the state in a pickle, to be raised when an old reader would misread a new state.
_PICKLE_FORMAT = 1


class Estimator(BaseEstimator):  # type: ignore[misc]
    """Base class of the estimators: a model of the distribution of the rows of X."""

    likelihood: str
    n_jobs: int | None
    random_state: Any
    scale: str | None

    model_: _core.Model
    history_: dict[str, NDArray[np.float64]]
    scaling_: Scaling
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]
    best_epoch_: int
    n_epochs_: int
    seed_: int
    kl_per_dimension_: NDArray[np.float64]
    mu_variance_: NDArray[np.float64]

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(numbers.Integral, 1, None, closed="left")],
        "likelihood": [StrOptions(set(_settings.LIKELIHOODS))],
        "scale": [None, StrOptions(set(KINDS))],
        "batch_size": [Interval(numbers.Integral, 1, None, closed="left")],
        "accumulate": [Interval(numbers.Integral, 1, None, closed="left")],
        "validation_fraction": [None, Interval(numbers.Real, 0, 1, closed="left")],
        "patience": [None, Interval(numbers.Integral, 1, None, closed="left")],
        "keep": [None, StrOptions({"last", "best"})],
        "n_jobs": [None, numbers.Integral],
        "random_state": [None, numbers.Integral, np.random.RandomState],
        "verbose": ["verbose"],
    }

    # Fitting

    def _fit(
        self,
        X: ArrayLike,
        validation: ArrayLike | None,
        callback: Callback | None,
    ) -> NDArray[Any]:
        """Fit the model and set the attributes, also if the fit is interrupted. Return X as an array."""
        self._validate_params()
        p = self.get_params(deep=False)
        x = self._rows(X, reset=True)
        seed = self._seed()
        train, held = self._split(x, validation, seed)
        rows = len(x) if train is None else len(train)
        unit = p["likelihood"] in _settings.UNIT_LIKELIHOODS
        scaling = Scaling.fit(self._scale(), x, train, (0.0, 1.0) if unit else None)
        # Everything that can be wrong with the parameters, before anything is replaced.
        options = _settings.options(p, seed, rows)
        model = _core.Model(_settings.config(x.shape[1], p), seed)
        compute = self._compute()
        trainer = _core.Trainer(model, options, compute)
        data = scaling.data(x, train)
        if held is None:
            validated = None
        elif isinstance(held, tuple):
            validated = scaling.data(x, held[0])
        else:
            validated = scaling.data(held)
        # An interrupted fit keeps the bits of a whole one up to there.
        everything = np.arange(len(x), dtype=np.uint32) if train is None else train
        run = _Run(
            p,
            trainer,
            data,
            validated,
            lambda part: scaling.data(x, np.ascontiguousarray(everything[part])),
            seed,
            callback,
            compute,
        )
        try:
            run.train()
        finally:
            # A fit that fails at its first step leaves the estimator as it was.
            if trainer.steps > 0:
                self.scaling_, self.seed_ = scaling, seed
                self._set_results(run)
        return x

    _trainer: _core.Trainer | None
    _options: dict[str, Any]
    _trained: dict[str, Any]
    _scores: list[float] | None

    def _set_results(self, run: _Run) -> None:
        """Set the attributes of a fit."""
        self.model_ = run.kept if run.kept is not None else run.trainer.model()
        self._trainer = None
        self.history_ = run.arrays()
        self.n_epochs_ = len(run.records)
        self.best_epoch_ = run.best or self.n_epochs_
        self._options = json.loads(run.trainer.options)
        self._trained = {"seed": run.seed, "rows": run.rows, "epoch": run.kept_epoch}
        self._scores = None
        evaluated = run.evaluated
        if evaluated is None:
            return
        self.kl_per_dimension_ = evaluated["kl_per_dimension"]
        self.mu_variance_ = evaluated["mu_variance"]
        if run.is_over:
            self._scores = run.quantiles(self.model_)

    def _scale(self) -> str:
        """Return the kind of scaling: by default that of the likelihood."""
        if self.scale is not None:
            return self.scale
        return "standardize" if self.likelihood in ("gaussian", "squared-error") else "none"

    def _seed(self) -> int:
        """Return the seed of the fit: ``random_state`` itself if it is a whole number."""
        state = self.random_state
        if isinstance(state, numbers.Integral):
            if not 0 <= int(state) < 1 << 64:
                raise ValueError(f"random_state: expected 0 to 2**64 - 1; found {state}")
            return int(state)
        return int(check_random_state(state).randint(np.iinfo(np.int32).max))

    def _compute(self) -> _core.Compute:
        """Return the threads of ``n_jobs``, by the rules of joblib."""
        jobs = self.n_jobs
        return _core.Compute(int(joblib.effective_n_jobs(jobs)))

    def _rows(self, X: ArrayLike, *, reset: bool) -> NDArray[Any]:
        """Return X as an array that the model reads in place, with its number and names of features checked."""
        is_bytes = self.scale == "bytes"
        if is_bytes:
            found = getattr(X, "dtype", None)
            if found != np.uint8:
                raise TypeError(
                    f"X: expected uint8 with scale='bytes', found {found}; convert it with "
                    "X.astype(numpy.uint8), or choose another scale"
                )
        x: NDArray[Any] = validate_data(
            self, X, reset=reset, dtype=np.uint8 if is_bytes else [np.float64, np.float32]
        )
        if not x.flags.aligned:
            x = np.ascontiguousarray(x)
        return x

    def _split(
        self, x: NDArray[Any], validation: ArrayLike | None, seed: int
    ) -> tuple[NDArray[np.uint32] | None, tuple[NDArray[np.uint32]] | NDArray[Any] | None]:
        """Return the training rows (all for ``None``), and the validation rows: rows of X, or another array."""
        p = self.get_params(deep=False)
        fraction = p["validation_fraction"]
        if validation is not None:
            if fraction is not None:
                raise ValueError(
                    "validation_fraction: it excludes validation rows of their own (fit(X, validation=…))"
                )
            return None, self._rows(validation, reset=False)
        selects = p["patience"] is not None or p["keep"] == "best" or p["schedule"] == "plateau"
        if fraction is None:
            fraction = 0.1 if selects else 0.0
        if fraction == 0.0:
            if selects:
                raise ValueError(
                    "validation_fraction: patience, keep='best' and schedule='plateau' need validation rows; "
                    "expected a fraction above 0"
                )
            return None, None
        order, start = _core.hold_out(len(x), float(fraction), seed)
        return order[:start], (order[start:],)

    # Rows in and out

    def _data(self, X: ArrayLike) -> tuple[_core.Data, NDArray[Any]]:
        """Return rows for a fitted model, and the array that they are read from."""
        check_is_fitted(self, "model_")
        x = self._rows(X, reset=False)
        return self.scaling_.data(x), x

    def _negative_elbo(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the negative ELBO of each row at the mean of its code, in nats."""
        check_is_fitted(self, "model_")
        return self._negative_elbo_of(self._rows(X, reset=False))

    def _negative_elbo_of(self, x: NDArray[Any]) -> NDArray[np.float64]:
        reconstruction, kl = self.model_.score(self.scaling_.data(x), self._compute())
        excess = self.scaling_.excess(x)
        if excess is not None:
            reconstruction = reconstruction + excess.sum(axis=1)
        return reconstruction + kl

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the evidence lower bound of each row at the mean of its latent code: high is normal.

        It is a function of the row and the model alone, without noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of float64, shape (n_samples,)
            ``ln p(x | z = mu(x)) - KL``, in nats, without the constants that a squared error leaves out.
        """
        return -self._negative_elbo(X)

    def score_features(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the log-likelihood of each feature of each row at the mean of its latent code: low is unusual.

        The sum of a row, minus the KL divergence of its code, is `score_samples`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of float64, shape (n_samples, n_features)
            ``ln p(x_j | z = mu(x))``, in nats.
        """
        data, x = self._data(X)
        scores = self.model_.score_features(data, self._compute())
        excess = self.scaling_.excess(x)
        if excess is not None:
            scores += excess
        np.negative(scores, out=scores)
        return scores

    # Model files and pickles

    def save(self, path: str | Path) -> None:
        """Write a model file that the tool ``elbo`` reads, and that `load` reads.

        Parameters
        ----------
        path : path-like
            The file, usually ``model.safetensors``: tensors and configuration, the scaling of the features,
            their names, and the history.
        """
        check_is_fitted(self, "model_")
        self.model_.save(path, json.dumps(notes(self), allow_nan=False))

    @classmethod
    def load(cls: type[Self], path: str | Path) -> Self:
        """Read a model file of `save` or of the tool ``elbo``.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        estimator
            A fitted estimator, with the parameters of the network that the file describes.

        Raises
        ------
        ValueError
            If the file is not a model file, or if it needs data that the estimator cannot prepare.
        """
        model, text = _core.Model.load(path)
        found = json.loads(text) if text is not None else {}
        data, training = found.get("data") or {}, found.get("training") or {}
        if model.conditions:
            raise ValueError(
                f"{path}: the model is conditional; the estimators have no conditions, elbo_vae.Model does"
            )
        for setting in ("signed", "white"):
            if data.get(setting):
                raise ValueError(
                    f"{path}: the data were read with --{setting}, which the estimators do not know; read the "
                    "model with elbo_vae.Model.load and prepare the rows yourself"
                )
        config = json.loads(model.config)
        estimator = cls(**_settings_of(config))
        unit = estimator.likelihood in _settings.UNIT_LIKELIHOODS
        scaling = Scaling.from_json(data.get("scaling"), (0.0, 1.0) if unit else None)
        estimator.set_params(scale=scaling.kind)
        estimator.model_, estimator.scaling_ = model, scaling
        estimator.n_features_in_ = model.features
        if data.get("columns"):
            estimator.feature_names_in_ = np.array(data["columns"], dtype=object)
        history = training.get("history") or []
        renamed = {key: key.replace("test_", "validation_") for key in (history or [{}])[0]}
        estimator.history_ = {
            name.replace("validation_active_units", "active_units"): np.array(
                [record[key] for record in history], dtype=np.float64
            )
            for key, name in renamed.items()
        }
        estimator.seed_ = training.get("seed", 0)
        estimator.n_epochs_ = len(history)
        estimator.best_epoch_ = training.get("epoch", 0)
        estimator._options = {"objective": training.get("objective")}
        estimator._trained = {key: training.get(key) for key in ("seed", "rows", "epoch")}
        estimator._scores = training.get("scores")
        estimator._trainer = None
        for name in ("kl_per_dimension", "mu_variance"):
            if name in training:
                setattr(estimator, f"{name}_", np.array(training[name]))
        estimator._loaded()
        return estimator

    def _loaded(self) -> None:
        """Set what a subclass derives from a model file."""

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        # The state of the optimizer stays behind; partial_fit goes on with a new one.
        state["_trainer"] = None
        state["_elbo_vae"] = (_PICKLE_FORMAT, _core.__version__)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        found, version = state.pop("_elbo_vae", (0, "an unknown version"))
        if found != _PICKLE_FORMAT:
            raise ValueError(
                f"this pickle has format {found}, written by elbo-vae {version}; elbo-vae {_core.__version__} "
                f"reads format {_PICKLE_FORMAT}. Load it with that version and use save(), whose model files "
                "all versions read"
            )
        super().__setstate__(state)


def _settings_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of an estimator for the configuration in a model file."""
    likelihood: Any = config["likelihood"]
    found: dict[str, Any] = {
        "n_components": config["latent"],
        "encoder": tuple(config["encoder"]),
        "decoder": tuple(config["decoder"]),
        "layer_norm": config["layer_norm"],
        "dropout": config["dropout"],
        "prior_mean": config["prior"]["mean"],
        "prior_std": config["prior"]["std"],
    }
    activation = config["activation"]
    if isinstance(activation, dict):
        (name, settings), *_ = activation.items()
        activation = f"{name}:{next(iter(settings.values()))}"
    found["activation"] = activation
    if config["logvar_clamp"] is not None:
        found["logvar_clamp"] = tuple(config["logvar_clamp"])
    if isinstance(likelihood, str):
        found["likelihood"], found["variance"] = likelihood.replace("_", "-"), None
    elif "weighted_bernoulli" in likelihood:
        found["likelihood"], found["variance"] = "bernoulli", None
        found["pos_weight"] = likelihood["weighted_bernoulli"]["pos_weight"]
    else:
        variance = likelihood["gaussian"]
        found["likelihood"] = "gaussian"
        found["variance"] = (
            variance["fixed"] if isinstance(variance, dict) else variance.replace("_", "-")
        )
    return found


class _Run:
    """Epochs of a fit, with validation and early stopping by the rules of the tool."""

    def __init__(
        self,
        p: dict[str, Any],
        trainer: _core.Trainer,
        data: _core.Data,
        validation: _core.Data | None,
        part: Callable[[slice], _core.Data],
        seed: int,
        callback: Callback | None,
        compute: _core.Compute,
    ) -> None:
        self.trainer, self.data, self.validation = trainer, data, validation
        self.rows, self.part, self.seed, self.compute = len(data), part, seed, compute
        self.callback, self.verbose = callback, bool(p["verbose"])
        self.patience = p["patience"]
        keep = p["keep"] or ("last" if self.patience is None else "best")
        self.keeps_best = keep == "best"
        steps = -(-self.rows // (int(p["batch_size"]) * int(p["accumulate"])))
        self.epochs = _settings.epochs_of(p["epochs"], steps)
        options = json.loads(trainer.options)
        self.objective = json.dumps(options["objective"])
        self.augmentation = json.dumps(options["augmentation"])
        self.records: list[dict[str, float]] = []
        # The best epoch so far, counted from 1, and its loss.
        self.best, self.best_loss = 0, float("inf")
        self.kept: _core.Model | None = None
        self.kept_epoch = 0
        self.evaluated: dict[str, Any] | None = None
        self.is_over = False

    def train(self) -> None:
        """Train all epochs, or until the validation loss has stopped falling or the callback says so."""
        bar = _progress_bar(self.epochs) if self.verbose else None
        try:
            while len(self.records) < self.epochs and not self._is_out_of_patience():
                record = self._epoch()
                if bar is not None:
                    bar(record)
                if self.callback is not None and self.callback(dict(record)):
                    break
        finally:
            if bar is not None:
                bar(None)
        if not self.keeps_best:
            self.kept, self.kept_epoch = None, len(self.records)
        self.is_over = True
        if self.evaluated is None:
            model = self.trainer.model()
            rows = self.part(slice(_EVALUATED))
            self.evaluated = _or_none(lambda: self._evaluate(model, rows))

    def _epoch(self) -> dict[str, float]:
        began = perf_counter()
        epoch, _, loss, reconstruction, kl, beta, rate = self.trainer.epoch(self.data)
        seconds = perf_counter() - began
        record = {
            "epoch": float(epoch),
            "train_loss": loss,
            "train_reconstruction": reconstruction,
            "train_kl": kl,
        }
        if self.validation is not None:
            found = self._evaluate(self.trainer, self.validation)
            self.trainer.observe(found["loss"])
            record["validation_loss"] = found["loss"]
            record["validation_reconstruction"] = found["reconstruction"]
            record["validation_kl"] = found["kl"]
            record["active_units"] = float(found["active_units"])
        record |= {"beta": beta, "learning_rate": rate, "seconds": seconds}
        self.records.append(record)
        if self.validation is not None:
            # Epochs before the objective has its final form do not count.
            if self.trainer.is_objective_final and found["loss"] < self.best_loss:
                self.best, self.best_loss = len(self.records), found["loss"]
            # Until an epoch counts, the last model is the one to keep.
            if not self.keeps_best or self.best in (0, len(self.records)):
                self.evaluated, self.kept_epoch = found, len(self.records)
                self.kept = self.trainer.model() if self.keeps_best else None
        return record

    def _evaluate(self, model: _core.Model | _core.Trainer, data: _core.Data) -> dict[str, Any]:
        if isinstance(model, _core.Trainer):
            model = model.model()
        return model.evaluate(
            data,
            objective=self.objective,
            augmentation=self.augmentation,
            seed=self.seed,
            compute=self.compute,
        )

    def _is_out_of_patience(self) -> bool:
        if self.patience is None or not self.best:
            return False
        return len(self.records) - self.best >= int(self.patience)

    def quantiles(self, model: _core.Model) -> list[float] | None:
        """Return quantiles of the negative ELBO of the training rows, as the tool stores them."""
        rows = self.part(slice(None, None, -(-self.rows // _SCORED)))
        scores = _or_none(lambda: model.score(rows, self.compute))
        return None if scores is None else quantiles(scores[0] + scores[1])

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return the history as arrays, one element for each epoch."""
        names: Sequence[str] = list(self.records[0]) if self.records else []
        return {name: np.array([record[name] for record in self.records]) for name in names}


T = TypeVar("T")


def _or_none(compute: Callable[[], T]) -> T | None:
    """Return a result; none if a row cannot be scored, or if rows have no likelihood of their own."""
    try:
        return compute()
    except (ArithmeticError, ValueError):
        return None


def _progress_bar(epochs: int) -> Callable[[dict[str, float] | None], None]:
    """Return a function that shows the record of an epoch, and the end for ``None``."""
    try:
        from tqdm.auto import tqdm
    except ImportError:

        def show(record: dict[str, float] | None) -> None:
            if record is not None:
                print(_line(record, epochs))

        return show
    with warnings.catch_warnings():
        # In a notebook without widgets.
        warnings.simplefilter("ignore")
        bar = tqdm(total=epochs, unit="epoch")

    def update(record: dict[str, float] | None) -> None:
        if record is None:
            bar.close()
            return
        losses = {
            name: record[f"{name}_loss"]
            for name in ("train", "validation")
            if f"{name}_loss" in record
        }
        bar.set_postfix(losses, refresh=False)
        bar.update()

    return update


def _line(record: dict[str, float], epochs: int) -> str:
    line = f"epoch {int(record['epoch'])}/{epochs}: train {record['train_loss']:.2f}"
    if "validation_loss" in record:
        line += f", validation {record['validation_loss']:.2f}"
    return line
