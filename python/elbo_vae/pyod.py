"""Adapter to PyOD, whose scores are high for unusual rows and whose labels are 1 for them."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyod.models.base import BaseDetector
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from ._detector import VAEDetector

__all__ = ["VAE"]


class VAE(BaseDetector):  # type: ignore[misc]
    """Detector of PyOD around a `VAEDetector`.

    Parameters
    ----------
    contamination : float
        Share of unusual rows among the training rows, above 0 and at most 0.5.
    detector : VAEDetector, optional
        The detector to fit; a copy of it with this contamination is. By default one with the default parameters.

    Attributes
    ----------
    detector_ : VAEDetector
        The fitted detector.
    decision_scores_ : ndarray of float64, shape (n_samples,)
        Scores of the training rows, in nats: high for unusual rows.
    threshold_ : float
        The score above which a row is unusual.
    labels_ : ndarray of int, shape (n_samples,)
        1 for the unusual training rows, 0 for the others.
    """

    detector_: VAEDetector
    decision_scores_: NDArray[np.float64]

    def __init__(self, contamination: float = 0.1, detector: VAEDetector | None = None) -> None:
        super().__init__(contamination=contamination)
        self.detector = detector

    def fit(self, X: ArrayLike, y: object = None) -> VAE:
        """Fit the detector.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : ignored

        Returns
        -------
        VAE
            The fitted detector.
        """
        self._set_n_classes(None)
        detector: Any = VAEDetector() if self.detector is None else clone(self.detector)
        if isinstance(self.contamination, Real):
            detector.set_params(contamination=float(self.contamination))
        self.detector_ = detector.fit(X)
        self.decision_scores_ = -detector.score_samples(X)
        self._process_decision_scores()
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the negative evidence lower bound of each row: high for unusual rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of float64, shape (n_samples,)
            The scores, in nats.
        """
        check_is_fitted(self, ["decision_scores_", "threshold_", "labels_"])
        return -self.detector_.score_samples(X)
