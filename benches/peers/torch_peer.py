"""Measures PyTorch, eager or compiled: `torch_peer.py eager|compile --threads N CASE …`."""

import sys

import numpy as np
import torch
import torch._inductor.config
import torch.nn.functional as F
from torch import nn

import measure

compiled = sys.argv.pop(1) == "compile"
threads, cases = measure.arguments()
torch.set_num_threads(threads)
torch.manual_seed(0)
# The eager random number generator is faster than the compiled one.
torch._inductor.config.fallback_random = True
peer = measure.Peer("torch.compile" if compiled else "PyTorch", torch.__version__, threads)

# PyTorch's log1p loads the results of its special cases under a mask. As long as no argument is
# special, the page of those constants may stay unmapped, and each masked load from it takes the
# processor's slow path, which makes log1p about twenty times as slow. One special argument of each
# kind maps the page.
torch.log1p(torch.tensor([-0.0, -1.0, -2.0, float("inf")] * 1024))


def objective(o, x, mu, logvar):
    bce = F.binary_cross_entropy_with_logits(o, x, reduction="sum")
    return bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


class Vae(nn.Module):
    def __init__(self, widths):
        super().__init__()
        layers = []
        for weight, bias in measure.network(widths):
            layer = nn.Linear(*weight.shape[::-1])
            layer.weight.data, layer.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
            layers.append(layer)
        self.encoder, self.mu, self.logvar, self.decoder, self.output = layers

    def forward(self, x):
        hidden = F.relu(self.encoder(x))
        mu, logvar = self.mu(hidden), self.logvar(hidden)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return objective(self.output(F.relu(self.decoder(z))), x, mu, logvar)

    def reconstruct(self, x):
        return torch.sigmoid(self.output(F.relu(self.decoder(self.mu(F.relu(self.encoder(x)))))))


def train(widths, batch):
    model = Vae(widths)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    x = torch.from_numpy(measure.binary((batch, widths[0]), 1))
    loss_of = torch.compile(model, dynamic=False) if compiled else model

    def work():
        adam.zero_grad()
        loss = loss_of(x)
        loss.backward()
        adam.step()
        return loss

    first = work().item()
    peer.time("train_step", measure.shape_of(widths), batch, work)
    assert work().item() < first, "training does not reduce the loss"


def loss(rows):
    inputs = measure.loss_inputs(rows)
    o, x, mu, logvar = (torch.from_numpy(a) for a in inputs)
    differentiated = [t.requires_grad_() for t in (o, mu, logvar)]
    loss_of = torch.compile(objective, dynamic=False) if compiled else objective

    def work():
        for t in differentiated:
            t.grad = None
        value = loss_of(o, x, mu, logvar)
        value.backward()
        return value

    assert np.isclose(work().item(), measure.loss_value(*inputs), rtol=1e-4)
    peer.time("loss", measure.LOSS_SHAPE, rows, work)


def infer(widths, batch):
    model = Vae(widths).eval()
    array = measure.binary((batch, widths[0]), 1)
    x = torch.from_numpy(array)
    call = model.reconstruct
    if compiled:
        # Freezing turns the weights into constants that are packed once.
        torch._inductor.config.freezing = True
        call = torch.compile(call, mode="max-autotune", dynamic=False)
    with torch.inference_mode():
        expected = measure.reconstruct(measure.network(widths), array)
        assert np.allclose(call(x).numpy(), expected, atol=1e-5)
        peer.time("infer", measure.shape_of(widths), batch, lambda: call(x))


def products():
    rows = measure.PRODUCT_ROWS
    for k, n in measure.PRODUCTS:
        x, weight, dy = (
            torch.from_numpy(measure.uniform(shape, seed))
            for seed, shape in enumerate([(rows, k), (n, k), (rows, n)])
        )
        for kind, a, b in [
            ("forward", x, weight.T),
            ("input gradient", dy, weight),
            ("weight gradient", dy.T, x),
        ]:
            out = torch.empty(a.shape[0], b.shape[1])
            work = lambda: torch.mm(a, b, out=out)
            assert np.allclose(work().numpy(), (a.double() @ b.double()).numpy(), rtol=1e-4)
            peer.time("product", f"{k}-{n} {kind}", rows, work)


def functions():
    x = torch.from_numpy(measure.uniform(measure.MATH_ELEMENTS, 1))
    out = torch.empty_like(x)
    for name in ("exp", "log1p", "tanh", "sigmoid"):
        function = getattr(torch, name)
        peer.time("math", f"{name} {measure.MATH_ELEMENTS}", None, lambda: function(x, out=out))


with torch.no_grad():
    if "product" in cases and not compiled:
        products()
    if "math" in cases and not compiled:
        functions()
if "train_step" in cases:
    for widths, batch in measure.TRAIN:
        train(widths, batch)
if "loss" in cases:
    for rows in measure.LOSS_ROWS:
        loss(rows)
if "infer" in cases:
    for widths, batch in measure.INFER:
        infer(widths, batch)
