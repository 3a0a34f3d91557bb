"""The fused loss of a variational autoencoder as a PyTorch operator on the CPU.

`elbo_loss` replaces ``binary_cross_entropy_with_logits(..., reduction="sum")`` plus the KL divergence: one pass over the
tensors computes the loss and all its gradients. It shares memory with the tensors, works under ``torch.compile``, and
has the bits of `elbo_vae.loss.elbo`.

Tensors are float32, the type of the kernels; others raise an error that says what to convert.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _core
from .loss import Elbo
from .loss import elbo as _elbo_of_arrays

__all__ = ["elbo_loss", "elbo_terms"]

_NAMES = ("outputs", "targets", "mu", "logvar")


def _array(tensor: Tensor) -> Any:
    """Return the memory of a tensor as an array; a copy only if the elements of a row are apart."""
    tensor = tensor.detach()
    if tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
        tensor = tensor.contiguous()
    return tensor.numpy()


def _forward(
    outputs: Tensor,
    targets: Tensor,
    mu: Tensor,
    logvar: Tensor,
    likelihood: str,
    parameter: float | None,
    penalty: str,
    nats: float,
    gamma: float,
    per: str,
    beta: float,
    reduction: str,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    gradients = _gradients(outputs, mu, gradient)
    places: Any = tuple(place.numpy() for place in gradients) if gradient else None
    loss, _, _ = _core.elbo_loss(
        likelihood,
        parameter,
        penalty,
        nats,
        gamma,
        per,
        beta,
        (0.0, 1.0),
        reduction,
        places,
        _array(outputs),
        _array(targets),
        _array(mu),
        _array(logvar),
    )
    return torch.tensor(loss, dtype=torch.float32), *gradients


def _gradients(outputs: Tensor, mu: Tensor, gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return new contiguous tensors for the gradients, without elements if there are none to compute."""
    if not gradient:
        none = outputs.new_empty(0)
        return none, outputs.new_empty(0), outputs.new_empty(0)
    return (
        outputs.new_empty(outputs.shape),
        mu.new_empty(mu.shape),
        mu.new_empty(mu.shape),
    )


def _fake(
    outputs: Tensor,
    targets: Tensor,
    mu: Tensor,
    logvar: Tensor,
    likelihood: str,
    parameter: float | None,
    penalty: str,
    nats: float,
    gamma: float,
    per: str,
    beta: float,
    reduction: str,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return outputs.new_empty(()), *_gradients(outputs, mu, gradient)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.has_gradient = inputs[-1]
    ctx.save_for_backward(*output[1:])
    # The gradients are results, not functions to be differentiated again.
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx: Any, dloss: Tensor, *_: Tensor | None) -> tuple[Any, ...]:
    if not ctx.has_gradient:
        raise RuntimeError("elbo_vae::elbo: called with gradient=False, it has no gradient")
    if torch.is_grad_enabled():
        raise RuntimeError(
            "elbo_vae::elbo: its gradient cannot be differentiated again; call backward without create_graph"
        )
    doutputs, dmu, dlogvar = ctx.saved_tensors
    return dloss * doutputs, None, dloss * dmu, dloss * dlogvar, *(9 * [None])


class _Eager(torch.autograd.Function):
    """The same computation outside of compilers, without the 0.1 ms that a custom operator takes to be called."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        loss, *gradients = _forward(*inputs)
        ctx.has_gradient = inputs[-1]
        ctx.save_for_backward(*gradients)
        return loss

    backward = staticmethod(_backward)


_elbo: Any = torch.library.custom_op(
    "elbo_vae::elbo", _forward, mutates_args=(), device_types="cpu"
)
_elbo.register_fake(_fake)
_elbo.register_autograd(_backward, setup_context=_setup_context)


def _check(tensors: tuple[Tensor, ...]) -> None:
    for name, tensor in zip(_NAMES, tensors, strict=True):
        if tensor.dtype != torch.float32:
            raise TypeError(
                f"`{name}`: expected torch.float32, found {tensor.dtype}; convert it with {name}.float()"
            )
        if tensor.device.type != "cpu":
            raise ValueError(
                f"`{name}`: expected a tensor on the CPU, found {tensor.device}; move it with {name}.cpu()"
            )
        if tensor.dim() != 2:
            raise ValueError(
                f"`{name}`: expected 2 dimensions, found shape {list(tensor.shape)}; reshape it with "
                f"{name}.flatten(1)"
            )


def elbo_loss(
    outputs: Tensor,
    targets: Tensor,
    mu: Tensor,
    logvar: Tensor,
    *,
    beta: float = 1.0,
    likelihood: str = "bernoulli",
    parameter: float | None = None,
    penalty: str = "kl",
    nats: float = 0.0,
    gamma: float = 1.0,
    per: str | None = None,
    reduction: str = "batch-mean",
) -> Tensor:
    """Negative evidence lower bound of a batch.

    With the defaults it is ``binary_cross_entropy_with_logits(outputs, targets, reduction="sum") / B`` plus the KL
    divergence of N(mu, exp(logvar)) from N(0, 1), per row.

    Parameters
    ----------
    outputs : Tensor of float32, shape (B, D)
        The decoder's outputs, such as logits.
    targets : Tensor of float32, shape (B, D)
        The data, without gradient.
    mu, logvar : Tensor of float32, shape (B, Z)
        Mean and log-variance of each row's posterior.
    beta : float
        Weight of the KL divergence.
    likelihood, parameter, penalty, nats, gamma, per, reduction
        As in `elbo_vae.loss.elbo`; ``parameter`` is a number.

    Returns
    -------
    Tensor of float32, shape ()
        The loss, in nats. Its gradients can be taken once, not twice.
    """
    tensors = (outputs, targets, mu, logvar)
    _check(tensors)
    if targets.requires_grad:
        raise ValueError("`targets`: the loss has no gradient by the data; pass targets.detach()")
    if per is None:
        per = "batch" if penalty == "capacity" else "dimension"
    gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    is_eager = not torch.compiler.is_compiling() and all(
        type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors
    )
    compute = _Eager.apply if is_eager else _elbo
    found: Any = compute(
        outputs,
        targets,
        mu,
        logvar,
        likelihood,
        parameter,
        penalty,
        float(nats),
        float(gamma),
        per,
        float(beta),
        reduction,
        gradient,
    )
    loss: Tensor = found if is_eager else found[0]
    return loss


def elbo_terms(
    outputs: Tensor, targets: Tensor, mu: Tensor, logvar: Tensor, **settings: Any
) -> Elbo:
    """Loss, reconstruction and KL divergence of a batch as numbers, without gradients: for a log.

    Parameters
    ----------
    outputs, targets : Tensor of float32, shape (B, D)
        The decoder's outputs and the data.
    mu, logvar : Tensor of float32, shape (B, Z)
        Mean and log-variance of each row's posterior.
    **settings
        Keyword arguments of `elbo_vae.loss.elbo`.

    Returns
    -------
    elbo_vae.loss.Elbo
        The loss and its parts, in nats.
    """
    tensors = (outputs, targets, mu, logvar)
    _check(tensors)
    arrays = [_array(tensor) for tensor in tensors]
    return _elbo_of_arrays(*arrays, gradient=False, **settings)
