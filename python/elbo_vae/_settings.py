"""Keyword arguments of the estimators as the settings of model files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any

from . import _core

__all__ = ["LIKELIHOODS", "UNIT_LIKELIHOODS", "choice", "config", "epochs_of", "options", "spans"]

LIKELIHOODS = (
    "bernoulli",
    "bernoulli-probabilities",
    "continuous-bernoulli",
    "squared-error",
    "tanh-squared-error",
    "gaussian",
)
# Those of data in [0, 1].
UNIT_LIKELIHOODS = LIKELIHOODS[:3]

_REDUCTIONS = {"batch-mean": "BatchMean", "sum": "Sum", "mean": "Mean"}


def choice(setting: str, value: object, names: Iterable[str]) -> str:
    """Return the value, which must be one of these names."""
    names = list(names)
    if value not in names:
        listed = ", ".join(f"'{name}'" for name in names)
        raise ValueError(f"{setting}: expected one of {listed}; found {value!r}")
    return str(value)


def widths(setting: str, value: int | Sequence[int]) -> list[int]:
    """Return widths of hidden layers as a list."""
    listed = [value] if isinstance(value, int) else list(value)
    for width in listed:
        if int(width) != width or width < 1:
            raise ValueError(f"{setting}: expected widths of at least 1; found {value!r}")
    return [int(width) for width in listed]


def span(setting: str, value: int | str) -> dict[str, int]:
    """Return a number of epochs, or a text such as "10epochs" or "2000steps", as a span."""
    found = re.fullmatch(r"(\d+)(epochs|steps)?", str(value))
    if found is None or int(found[1]) < 1:
        raise ValueError(
            f"{setting}: expected a number of epochs, or a text such as '10epochs' or '2000steps'; "
            f"found {value!r}"
        )
    return {found[2] or "epochs": int(found[1])}


def likelihood(name: str, variance: float | str | None, pos_weight: float | None) -> Any:
    """Return the likelihood of these keywords."""
    choice("likelihood", name, LIKELIHOODS)
    if pos_weight is not None and name != "bernoulli":
        raise ValueError("pos_weight: it applies only to likelihood='bernoulli'")
    if name == "gaussian":
        if variance is None or isinstance(variance, str):
            kinds = ["shared", "per-feature", "optimal"]
            return {"gaussian": choice("variance", variance or "shared", kinds).replace("-", "_")}
        return {"gaussian": {"fixed": float(variance)}}
    if variance is not None:
        raise ValueError("variance: it applies only to likelihood='gaussian'")
    if pos_weight is not None:
        return {"weighted_bernoulli": {"pos_weight": float(pos_weight)}}
    return name.replace("-", "_")


def config(features: int, p: dict[str, Any]) -> str:
    """Return the configuration of a model of these parameters of an estimator, as JSON."""
    encoder = p["hidden"] if p["encoder"] is None else p["encoder"]
    decoder = p["decoder"]
    if decoder is None:
        hidden = p["hidden"]
        decoder = hidden if isinstance(hidden, int) else list(hidden)[::-1]
    clamp = p["logvar_clamp"]
    return json.dumps(
        {
            "features": features,
            "encoder": widths("encoder" if p["encoder"] is not None else "hidden", encoder),
            "latent": int(p["n_components"]),
            "decoder": widths("decoder" if p["decoder"] is not None else "hidden", decoder),
            "conditions": 0,
            "activation": json.loads(_core.parse_activation(p["activation"])),
            "layer_norm": bool(p["layer_norm"]),
            "dropout": float(p["dropout"]),
            "likelihood": likelihood(p["likelihood"], p["variance"], p["pos_weight"]),
            "prior": {"mean": float(p["prior_mean"]), "std": float(p["prior_std"])},
            "logvar_clamp": None if clamp is None else [float(clamp[0]), float(clamp[1])],
        }
    )


def spans(p: dict[str, Any]) -> list[str]:
    """Return the parameters whose default depends on the number of epochs."""
    missing = []
    if p["annealing"] != "constant" and p["anneal_over"] is None:
        missing.append("anneal_over")
    if p["capacity"] is not None and p["capacity_over"] is None:
        missing.append("capacity_over")
    if p["schedule"] == "cosine" and p["decay_over"] is None:
        missing.append("decay_over")
    return missing


def epochs_of(epochs: int | str, steps_per_epoch: int) -> int:
    """Return the number of epochs of a length, the last of them whole."""
    (unit, count), *_ = span("epochs", epochs).items()
    return count if unit == "epochs" else ceil(count / steps_per_epoch)


def options(p: dict[str, Any], seed: int, rows: int) -> str:
    """Return the training options for so many rows, as JSON."""
    steps_per_epoch = ceil(rows / max(1, int(p["batch_size"]) * int(p["accumulate"])))
    steps = steps_per_epoch * epochs_of(p["epochs"], steps_per_epoch)
    return json.dumps(
        {
            "batch": int(p["batch_size"]),
            "objective": _objective(p, steps),
            "optimiser": _optimizer(p),
            "seed": seed,
            "accumulate": int(p["accumulate"]),
            "clip": _clip(p),
            "schedule": {"warm_up": int(p["warm_up"]), "decay": _decay(p)},
            "augmentation": json.loads(_core.parse_augmentation(p["augmentation"])),
        }
    )


def _objective(p: dict[str, Any], steps: int) -> dict[str, Any]:
    half, whole = {"steps": ceil(steps / 2)}, {"steps": steps}
    names = ["constant", "linear", "cosine", "cyclical"]
    annealing: Any = choice("annealing", p["annealing"], names)
    over = p["anneal_over"]
    if annealing in ("linear", "cosine"):
        over = half if over is None else span("anneal_over", over)
        annealing = {annealing: {"from": float(p["anneal_from"]), "over": over}}
    elif annealing == "cyclical":
        over = whole if over is None else span("anneal_over", over)
        settings = {"cycles": int(p["cycles"]), "ratio": float(p["cycle_ratio"]), "over": over}
        annealing = {"cyclical": settings}
    return {
        "beta": float(p["beta"]),
        "reduction": _REDUCTIONS[choice("reduction", p["reduction"], _REDUCTIONS)],
        "annealing": annealing,
        "penalty": _penalty(p, half),
    }


def _penalty(p: dict[str, Any], half: dict[str, int]) -> Any:
    given = [
        name for name in ("free_bits", "capacity", "importance_samples") if p[name] is not None
    ]
    if p["total_correlation"]:
        given.append("total_correlation")
    if len(given) > 1:
        raise ValueError(f"{given[0]}: it excludes {given[1]}; give one of them")
    if not given:
        return "kl"
    if given == ["free_bits"]:
        per = choice("free_bits_per", p["free_bits_per"], ["element", "dimension", "sample"])
        return {"free_bits": {"lambda": float(p["free_bits"]), "per": per}}
    if given == ["capacity"]:
        over = p["capacity_over"]
        return {
            "capacity": {
                "gamma": float(p["capacity_gamma"]),
                "capacity": float(p["capacity"]),
                "over": half if over is None else span("capacity_over", over),
                "per": choice("capacity_per", p["capacity_per"], ["batch", "sample"]),
            }
        }
    if given == ["total_correlation"]:
        weights = {"alpha": float(p["tc_alpha"]), "gamma": float(p["tc_gamma"])}
        return {"total_correlation": weights}
    estimator = choice("gradient_estimator", p["gradient_estimator"], ["iwae", "dreg"])
    return {"importance": {"samples": int(p["importance_samples"]), "estimator": estimator}}


def _optimizer(p: dict[str, Any]) -> Any:
    (name, settings), *_ = json.loads(_core.parse_optimizer(str(p["optimizer"]))).items()
    given = {
        "learning_rate": p["learning_rate"],
        "weight_decay": p["weight_decay"],
        "beta1": p["adam_beta1"],
        "beta2": p["adam_beta2"],
        "epsilon": p["adam_epsilon"],
        "momentum": p["momentum"],
    }
    for setting, value in given.items():
        if value is None:
            continue
        if setting not in settings:
            keyword = f"adam_{setting}" if setting in ("beta1", "beta2", "epsilon") else setting
            raise ValueError(f"{keyword}: it does not apply to optimizer='{name}'")
        settings[setting] = float(value)
    if p["nesterov"]:
        if "nesterov" not in settings:
            raise ValueError(f"nesterov: it does not apply to optimizer='{name}'")
        settings["nesterov"] = True
    return {name: settings}


def _clip(p: dict[str, Any]) -> Any:
    if p["clip_norm"] is not None and p["clip_value"] is not None:
        raise ValueError("clip_norm: it excludes clip_value; give one of them")
    if p["clip_norm"] is not None:
        return {"norm": float(p["clip_norm"])}
    return None if p["clip_value"] is None else {"value": float(p["clip_value"])}


def _decay(p: dict[str, Any]) -> Any:
    names = ["constant", "step", "cosine", "plateau"]
    schedule = choice("schedule", p["schedule"], names)
    factor = float(p["decay_factor"])
    if schedule == "step":
        return {"step": {"epochs": int(p["decay_every"]), "factor": factor}}
    if schedule == "cosine":
        over = p["epochs"] if p["decay_over"] is None else p["decay_over"]
        return {"cosine": {"over": span("decay_over", over), "floor": float(p["decay_floor"])}}
    if schedule == "plateau":
        return {"plateau": {"patience": int(p["decay_patience"]), "factor": factor}}
    return "constant"
