"""The fused loss as a PyTorch operator."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")

from torch.nn.functional import binary_cross_entropy_with_logits  # noqa: E402

import elbo_vae.torch as ops  # noqa: E402
from elbo_vae import loss  # noqa: E402


def batch(rows=16, features=12, latent=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    outputs, mu, logvar = normal(rows, features), normal(rows, latent), normal(rows, latent)
    targets = torch.rand(rows, features, generator=generator)
    for tensor in (outputs, mu, logvar):
        tensor.requires_grad_(True)
    return outputs, targets, mu, logvar


def reference(outputs, targets, mu, logvar, beta):
    """The loss from PyTorch's own operators."""
    rows = outputs.shape[0]
    reconstruction = binary_cross_entropy_with_logits(outputs, targets, reduction="sum") / rows
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum() / rows
    return reconstruction + beta * kl


SETTINGS = [
    {},
    {"gradient": False},
    {"likelihood": "gaussian", "penalty": "capacity", "per": "batch"},
    {"likelihood": "squared-error", "penalty": "free-bits", "per": "sample"},
]


def arguments(tensors, *, likelihood="bernoulli", penalty="kl", per="dimension", gradient=True):
    return (*tensors, likelihood, None, penalty, 0.1, 1.0, per, 0.7, "batch-mean", gradient)


@pytest.mark.parametrize("beta", [1.0, 0.25])
def test_replaces_cross_entropy_plus_kl(beta):
    tensors = batch()
    found = ops.elbo_loss(*tensors, beta=beta)
    wanted = reference(*tensors, beta)
    assert found.dtype == torch.float32 and found.shape == ()
    torch.testing.assert_close(found, wanted)
    inputs = [tensors[i] for i in (0, 2, 3)]
    gradients = torch.autograd.grad(3.0 * found, inputs)
    for gradient, expected in zip(gradients, torch.autograd.grad(3.0 * wanted, inputs)):
        torch.testing.assert_close(gradient, expected)


def test_has_the_bits_of_the_loss_on_arrays():
    tensors = batch()
    found = ops.elbo_loss(*tensors)
    arrays = loss.elbo(*(tensor.detach().numpy() for tensor in tensors))
    assert found.item() == np.float32(arrays.loss)
    found.backward()
    assert np.array_equal(tensors[0].grad.numpy(), arrays.doutputs)
    terms = ops.elbo_terms(*tensors)
    assert (terms.loss, terms.kl) == (arrays.loss, arrays.kl)
    assert terms.doutputs is None


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_operator_has_the_bits_of_the_eager_function(settings):
    tensors = batch()
    settings = {"likelihood": "bernoulli", "penalty": "kl", "per": "dimension"} | settings
    settings.pop("gradient", None)
    found = ops._elbo(*arguments(tensors, **settings))[0]
    wanted = ops.elbo_loss(*tensors, beta=0.7, nats=0.1, **settings)
    assert torch.equal(found, wanted) and wanted.grad_fn.name() == "_EagerBackward"
    inputs = [tensors[i] for i in (0, 2, 3)]
    for gradients in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(wanted, inputs)):
        assert torch.equal(*gradients)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(ops._elbo(*arguments(tensors))[0], inputs, create_graph=True)


@pytest.mark.parametrize("settings", SETTINGS)
def test_opcheck(settings):
    tensors = batch()
    if not settings.get("gradient", True):
        tensors = tuple(tensor.detach() for tensor in tensors)
    results = torch.library.opcheck(ops._elbo, arguments(tensors, **settings))
    assert len(results) == 4 and set(results.values()) == {"SUCCESS"}, results


@pytest.mark.parametrize("penalty", ["kl", "free-bits", "capacity"])
def test_gradcheck(penalty):
    """In float32, the only type of the kernels: differences of 2e-2 are large against its rounding."""
    outputs, targets, mu, logvar = batch(3, 4, 2)

    def compute(outputs, mu, logvar):
        return ops.elbo_loss(outputs, targets, mu, logvar, penalty=penalty, nats=0.01)

    assert torch.autograd.gradcheck(compute, (outputs, mu, logvar), eps=2e-2, atol=2e-3, rtol=2e-3)


def test_compiles_without_graph_breaks():
    encode, decode = torch.nn.Linear(12, 6), torch.nn.Linear(3, 12)

    def step(x, epsilon):
        mu, logvar = encode(x).chunk(2, dim=1)
        outputs = decode(mu + (0.5 * logvar).exp() * epsilon)
        return ops.elbo_loss(outputs, x, mu, logvar, beta=0.5)

    compiled = torch.compile(step, fullgraph=True)
    x, epsilon = torch.rand(16, 12), torch.randn(16, 3)
    found, wanted = [], []
    for function, gradients in ((compiled, found), (step, wanted)):
        encode.zero_grad(), decode.zero_grad()
        value = function(x, epsilon)
        value.backward()
        parameters = (*encode.parameters(), *decode.parameters())
        gradients += [value.detach(), *(parameter.grad.clone() for parameter in parameters)]
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b)


def test_shares_memory_with_the_tensors(monkeypatch):
    addresses = []
    compute = ops._core.elbo_loss

    def spy(*arguments):
        addresses.extend(array.ctypes.data for array in arguments[10:14])
        addresses.extend(place.ctypes.data for place in arguments[9])
        return compute(*arguments)

    monkeypatch.setattr(ops._core, "elbo_loss", spy)
    wide = torch.rand(16, 40)
    outputs, *_ = batch()
    # Columns of a wider tensor, as of a layer with two heads.
    tensors = (outputs, wide[:, 5:17], wide[:, 17:20].requires_grad_(), wide[:, 20:23])
    found = ops._elbo(*arguments(tensors))
    ops.elbo_loss(*tensors)
    assert addresses[7:11] == addresses[:4]
    assert addresses[:4] == [tensor.data_ptr() for tensor in tensors]
    assert addresses[4:7] == [tensor.data_ptr() for tensor in found[1:]]


def test_accepts_any_layout():
    outputs, targets, mu, logvar = (tensor.detach() for tensor in batch())
    wanted = ops.elbo_loss(outputs, targets, mu, logvar)
    transposed = [tensor.t().contiguous().t() for tensor in (outputs, targets, mu, logvar)]
    assert ops.elbo_loss(*transposed) == wanted


def test_refuses_what_it_cannot_compute():
    outputs, targets, mu, logvar = batch()
    with pytest.raises(
        TypeError, match=r"`mu`: expected torch.float32, found torch.float64; .*mu.float\(\)"
    ):
        ops.elbo_loss(outputs, targets, mu.double(), logvar)
    with pytest.raises(ValueError, match=r"`outputs`: expected 2 dimensions.*flatten"):
        ops.elbo_loss(outputs[0], targets, mu, logvar)
    with pytest.raises(ValueError, match=r"targets.detach\(\)"):
        ops.elbo_loss(outputs, targets.requires_grad_(), mu, logvar)
    with pytest.raises(ValueError, match="outside \\[0, 1\\]"):
        ops.elbo_loss(outputs, targets.detach() + 1, mu, logvar)
    with pytest.raises(ValueError, match="`targets`: expected"):
        ops.elbo_loss(outputs, targets.detach()[:, :5], mu, logvar)
    value = ops.elbo_loss(outputs, targets.detach(), mu, logvar)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(value, mu, create_graph=True)
