"""Metadata that the tool ``elbo`` keeps in model files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ._base import Estimator

__all__ = ["notes", "quantiles"]

# Largest number of quantiles: steps of 1/4096.
_MOST = 4097

# The columns of the history in the order and under the names of model files.
_HISTORY = {
    "train_loss": "train_loss",
    "train_reconstruction": "train_reconstruction",
    "train_kl": "train_kl",
    "test_loss": "validation_loss",
    "test_reconstruction": "validation_reconstruction",
    "test_kl": "validation_kl",
}


def notes(estimator: Estimator) -> dict[str, Any]:
    """Return the metadata of a fitted estimator, in the order of the tool's."""
    names = getattr(estimator, "feature_names_in_", None)
    found: dict[str, Any] = {
        "data": {
            "columns": [] if names is None else [str(name) for name in names],
            "image": None,
            "resized": False,
            "scaling": estimator.scaling_.to_json(),
            "signed": False,
            "classes": [],
            "label_column": None,
        }
    }
    if hasattr(estimator, "kl_per_dimension_") and estimator._options["objective"] is not None:
        found["training"] = {
            "objective": estimator._options["objective"],
            **estimator._trained,
            "history": _history(estimator.history_),
            "kl_per_dimension": estimator.kl_per_dimension_.tolist(),
            "mu_variance": estimator.mu_variance_.tolist(),
            "scores": estimator._scores,
        }
    else:
        found["training"] = None
    return found


def _history(history: dict[str, NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Return the epochs as records. The tool has no use for a history without validation losses."""
    if "validation_loss" not in history:
        return []
    return [
        {
            "epoch": int(epoch),
            **{key: float(history[name][i]) for key, name in _HISTORY.items()},
            "test_active_units": int(history["active_units"][i]),
            # The shortest decimal number of the float32.
            "beta": float(str(np.float32(history["beta"][i]))),
            "learning_rate": float(history["learning_rate"][i]),
        }
        for i, epoch in enumerate(history["epoch"])
    ]


def quantiles(numbers: NDArray[np.float64]) -> list[float]:
    """Return the numbers in order, or 4,097 evenly spaced quantiles of more of them."""
    limit = np.finfo(np.float64).max
    ordered = np.sort(np.clip(numbers, -limit, limit))
    if len(ordered) > _MOST:
        position = np.arange(_MOST) / (_MOST - 1) * (len(ordered) - 1)
        below, above = (
            ordered[np.floor(position).astype(int)],
            ordered[np.ceil(position).astype(int)],
        )
        ordered = below + (position % 1.0) * (above - below)
    return [float(number) for number in ordered]
