"""Variational autoencoders with hand-written SIMD kernels, on NumPy arrays.

``VAE`` and ``VAEDetector`` are scikit-learn estimators, ``elbo_vae.loss`` has the loss terms with their gradients,
``elbo_vae.torch`` the fused loss as a PyTorch operator, and ``elbo_vae.pyod`` an adapter to PyOD. ``Model``,
``Data``, ``Trainer`` and ``Compute`` are the parts of which the estimators are made.

scikit-learn, PyTorch and PyOD are imported when the names that need them are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import loss
from ._core import Compute, Data, Model, Trainer, __version__

if TYPE_CHECKING:
    from ._detector import VAEDetector
    from ._vae import VAE

__all__ = ["VAE", "Compute", "Data", "Model", "Trainer", "VAEDetector", "__version__", "loss"]


def __getattr__(name: str) -> Any:
    if name == "VAE":
        from ._vae import VAE

        return VAE
    if name == "VAEDetector":
        from ._detector import VAEDetector

        return VAEDetector
    raise AttributeError(f"module 'elbo_vae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
