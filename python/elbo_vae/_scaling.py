"""Scaling of features, as ``elbo train --scale`` fits it and model files hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core

__all__ = ["KINDS", "Scaling"]

KINDS = ("none", "standardize", "min-max", "bytes")


@dataclass(frozen=True)
class Scaling:
    """Scaling of each feature, ``(x - shift) / divisor`` in float64, rounded once to float32.

    Attributes
    ----------
    kind : str
        "none", "standardize", "min-max", or "bytes" (uint8 divided by 255).
    shift, spread : ndarray of float64, shape (D,), or None
        Mean and standard deviation, or smallest value and range. A spread of 0 belongs to a constant feature,
        which is only shifted.
    high : ndarray of float64, shape (D,), or None
        Largest value ("min-max").
    limits : (float, float) or None
        Interval to which scaled values are clipped.
    """

    kind: str = "none"
    shift: NDArray[np.float64] | None = None
    spread: NDArray[np.float64] | None = None
    limits: tuple[float, float] | None = None
    high: NDArray[np.float64] | None = None

    @staticmethod
    def fit(
        kind: str,
        x: NDArray[Any],
        order: NDArray[np.uint32] | None,
        limits: tuple[float, float] | None,
    ) -> Scaling:
        """Fit a scaling to these rows of an array."""
        if kind in ("none", "bytes"):
            return Scaling(kind)
        # In the order of the array, so that the bits are those of the tool.
        rows = None if order is None else np.sort(order)
        low, high, mean, std = _core.fit_scaling(_core.Data(x, order=rows))
        if not np.isfinite(high - low).all():
            feature = int(np.flatnonzero(~np.isfinite(high - low))[0])
            raise ValueError(
                f"scale: the values of feature {feature} span {low[feature]} to {high[feature]}, more than "
                "float64 can subtract"
            )
        if kind == "standardize":
            return Scaling(kind, mean, std)
        return Scaling(kind, low, high - low, limits, high)

    @property
    def divisor(self) -> NDArray[np.float64] | None:
        """The spread of each feature, 1 where it is constant."""
        return None if self.spread is None else np.where(self.spread > 0.0, self.spread, 1.0)

    def data(self, x: NDArray[Any], order: NDArray[np.uint32] | None = None) -> _core.Data:
        """Rows of an array as the model reads them, without a copy."""
        return _core.Data(
            x, order=order, shift=self.shift, divisor=self.divisor, limits=self.limits
        )

    def undo(self, rows: NDArray[np.float32]) -> NDArray[Any]:
        """Convert outputs of the model to the units of the data: float64 if features are scaled."""
        if self.kind == "bytes":
            whole: NDArray[np.float32] = rows * np.float32(255.0)
            return whole
        if self.shift is None or self.spread is None:
            return rows
        wide = rows.astype(np.float64)
        wide *= self.spread
        wide += self.shift
        return wide

    def excess(self, x: NDArray[Any]) -> NDArray[np.float64] | None:
        """Distance of each element from the interval that it is clipped to, in units of the feature's range."""
        if self.limits is None or self.shift is None or self.divisor is None:
            return None
        low, high = self.limits
        scaled = (x.astype(np.float64) - self.shift) / self.divisor
        away: NDArray[np.float64] = np.maximum(np.maximum(low - scaled, scaled - high), 0.0)
        return away

    def to_json(self) -> Any:
        """Return the form in which model files hold the scaling."""
        if self.shift is None or self.spread is None:
            return "none"
        if self.high is None:
            return {"standardise": {"mean": self.shift.tolist(), "std": self.spread.tolist()}}
        low, high = self.shift.tolist(), self.high.tolist()
        return {"min-max": {"low": low, "high": high, "clip": False}}

    @staticmethod
    def from_json(found: Any, limits: tuple[float, float] | None) -> Scaling:
        """Read the scaling of a model file."""
        if not isinstance(found, dict):
            return Scaling()
        (kind, values), *_ = found.items()
        if kind in ("standardise", "standardize"):
            return Scaling("standardize", np.array(values["mean"]), np.array(values["std"]))
        low, high = np.array(values["low"]), np.array(values["high"])
        if values.get("clip"):
            limits = (0.0, 1.0)
        return Scaling("min-max", low, high - low, limits, high)
