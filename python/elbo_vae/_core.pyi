"""Types of the compiled module."""

from os import PathLike
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

__all__ = [
    "Compute",
    "Data",
    "Model",
    "Trainer",
    "__version__",
    "elbo_loss",
    "fit_scaling",
    "gaussian_dlogvar",
    "hold_out",
    "parse_activation",
    "parse_augmentation",
    "parse_optimizer",
    "penalty",
    "reconstruction",
    "total_correlation",
]
__version__: str

_F32: TypeAlias = NDArray[np.float32]
_F64: TypeAlias = NDArray[np.float64]
_U32: TypeAlias = NDArray[np.uint32]
_Path: TypeAlias = str | PathLike[str]
_Parameter: TypeAlias = float | _F32 | None

@final
class Compute:
    def __new__(cls, threads: int) -> Self: ...
    @property
    def threads(self) -> int: ...
    @property
    def instruction_set(self) -> str: ...

@final
class Data:
    def __new__(
        cls,
        x: NDArray[Any],
        *,
        order: _U32 | None = None,
        shift: _F64 | None = None,
        divisor: _F64 | None = None,
        limits: tuple[float, float] | None = None,
        conditions: _F32 | None = None,
    ) -> Self: ...
    def __len__(self) -> int: ...
    def read(self) -> _F32: ...
    def first_not_finite(self) -> tuple[int, int] | None: ...

@final
class Model:
    def __new__(cls, config: str, seed: int) -> Self: ...
    @staticmethod
    def load(path: _Path) -> tuple[Model, str | None]: ...
    def save(self, path: _Path, notes: str | None = None) -> None: ...
    @staticmethod
    def from_tensors(config: str, tensors: dict[str, _F32]) -> Model: ...
    def tensors(self) -> dict[str, _F32]: ...
    @property
    def config(self) -> str: ...
    @property
    def features(self) -> int: ...
    @property
    def latent(self) -> int: ...
    @property
    def conditions(self) -> int: ...
    @property
    def parameters(self) -> int: ...
    def close(self) -> None: ...
    def encode(self, data: Data, compute: Compute | None = None) -> tuple[_F32, _F32]: ...
    def decode(
        self,
        z: _F32,
        *,
        conditions: _F32 | None = None,
        logits: bool = False,
        compute: Compute | None = None,
    ) -> _F32: ...
    def reconstruct(self, data: Data, compute: Compute | None = None) -> _F32: ...
    def sample(
        self,
        count: int,
        seed: int,
        *,
        noise: bool = False,
        variance: float | None = None,
        conditions: _F32 | None = None,
        compute: Compute | None = None,
    ) -> _F32: ...
    def score(self, data: Data, compute: Compute | None = None) -> tuple[_F64, _F64]: ...
    def score_features(self, data: Data, compute: Compute | None = None) -> _F64: ...
    def evaluate(
        self,
        data: Data,
        *,
        objective: str | None = None,
        augmentation: str | None = None,
        seed: int = 1,
        compute: Compute | None = None,
    ) -> dict[str, Any]: ...
    def marginal_log_likelihood(
        self, data: Data, samples: int, *, seed: int = 1, compute: Compute | None = None
    ) -> _F64: ...

@final
class Trainer:
    def __new__(cls, model: Model, options: str, compute: Compute | None = None) -> Self: ...
    @staticmethod
    def resume(path: _Path, compute: Compute | None = None) -> Trainer: ...
    def save_checkpoint(self, path: _Path) -> None: ...
    def epoch(self, data: Data) -> tuple[int, int, float, float, float, float, float]: ...
    def observe(self, loss: float) -> None: ...
    def model(self) -> Model: ...
    @property
    def options(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def epochs(self) -> int: ...
    @property
    def is_objective_final(self) -> bool: ...

def hold_out(rows: int, fraction: float, seed: int) -> tuple[_U32, int]: ...
def fit_scaling(data: Data) -> tuple[_F64, _F64, _F64, _F64]: ...
def parse_activation(name: str) -> str: ...
def parse_augmentation(name: str) -> str: ...
def parse_optimizer(name: str) -> str: ...
def reconstruction(
    likelihood: str,
    parameter: _Parameter,
    reduction: str,
    doutputs: _F32 | None,
    outputs: _F32,
    targets: _F32,
    compute: Compute | None = None,
) -> float: ...
def gaussian_dlogvar(
    parameter: float | _F32,
    reduction: str,
    outputs: _F32,
    targets: _F32,
    compute: Compute | None = None,
) -> _F64: ...
def penalty(
    kind: str,
    amount: float,
    weight: float,
    per: str,
    prior: tuple[float, float],
    reduction: str,
    gradients: tuple[_F32, _F32] | None,
    mu: _F32,
    logvar: _F32,
    compute: Compute | None = None,
) -> float: ...
def elbo_loss(
    likelihood: str,
    parameter: _Parameter,
    kind: str,
    amount: float,
    weight: float,
    per: str,
    beta: float,
    prior: tuple[float, float],
    reduction: str,
    gradients: tuple[_F32, _F32, _F32] | None,
    outputs: _F32,
    targets: _F32,
    mu: _F32,
    logvar: _F32,
    compute: Compute | None = None,
) -> tuple[float, float, float]: ...
def total_correlation(
    weights: tuple[float, float, float],
    dataset_size: int,
    prior: tuple[float, float],
    gradients: tuple[_F32, _F32, _F32] | None,
    z: _F32,
    mu: _F32,
    logvar: _F32,
    compute: Compute | None = None,
) -> tuple[float, float, float]: ...
