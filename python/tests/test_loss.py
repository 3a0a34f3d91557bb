"""The loss terms against NumPy in float64."""

import numpy as np
import pytest

from elbo_vae import Compute, loss

REDUCTIONS = {"sum": lambda b, n: 1, "batch-mean": lambda b, n: b, "mean": lambda b, n: b * n}


def inputs(rows=9, features=21, latent=5, seed=0):
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(rows, features)).astype(np.float32)
    targets = rng.random((rows, features), dtype=np.float32)
    mu = rng.normal(size=(rows, latent)).astype(np.float32)
    logvar = rng.normal(size=(rows, latent)).astype(np.float32)
    return outputs, targets, mu, logvar


def wide(*arrays):
    return [array.astype(np.float64) for array in arrays]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def bce(outputs, targets):
    return np.logaddexp(0, outputs) - outputs * targets


def kl_of(mu, logvar):
    return 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_bernoulli(reduction):
    outputs, targets, *_ = inputs()
    value, doutputs = loss.bernoulli(outputs, targets, reduction=reduction)
    o, t = wide(outputs, targets)
    n = REDUCTIONS[reduction](*o.shape)
    np.testing.assert_allclose(value, bce(o, t).sum() / n, rtol=1e-6)
    np.testing.assert_allclose(doutputs, (sigmoid(o) - t) / n, rtol=1e-5, atol=1e-8)
    weighted, dweighted = loss.bernoulli(outputs, targets, pos_weight=3.0, reduction=reduction)
    by_hand = 3 * t * np.logaddexp(0, -o) + (1 - t) * np.logaddexp(0, o)
    np.testing.assert_allclose(weighted, by_hand.sum() / n, rtol=1e-6)
    slope = (-3 * t * sigmoid(-o) + (1 - t) * sigmoid(o)) / n
    np.testing.assert_allclose(dweighted, slope, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "value", "slope"),
    [
        ("squared_error", lambda o, t: (o - t) ** 2, lambda o, t: 2 * (o - t)),
        (
            "tanh_squared_error",
            lambda o, t: (np.tanh(o) - t) ** 2,
            lambda o, t: 2 * (np.tanh(o) - t) / np.cosh(o) ** 2,
        ),
        (
            "continuous_bernoulli",
            lambda o, t: bce(o, t) - np.log(o / np.tanh(o / 2)),
            lambda o, t: sigmoid(o) - t - 1 / o + 1 / np.sinh(o),
        ),
    ],
)
def test_other_reconstructions(name, value, slope):
    outputs, targets, *_ = inputs()
    found, doutputs = getattr(loss, name)(outputs, targets)
    o, t = wide(outputs, targets)
    np.testing.assert_allclose(found, value(o, t).sum() / len(o), rtol=1e-5)
    np.testing.assert_allclose(doutputs, slope(o, t) / len(o), rtol=1e-4, atol=1e-5)


def test_probabilities():
    outputs, targets, *_ = inputs()
    p = sigmoid(outputs.astype(np.float64)).astype(np.float32)
    value, dp = loss.bernoulli_probabilities(p, targets)
    q, t = wide(p, targets)
    np.testing.assert_allclose(
        value, -(t * np.log(q) + (1 - t) * np.log1p(-q)).sum() / 9, rtol=1e-6
    )
    np.testing.assert_allclose(dp, (q - t) / (q * (1 - q)) / 9, rtol=1e-4, atol=1e-6)


def test_gaussian():
    outputs, targets, *_ = inputs()
    o, t = wide(outputs, targets)

    def value(logvar):
        return 0.5 * ((t - o) ** 2 / np.exp(logvar) + logvar + np.log(2 * np.pi)).sum() / len(o)

    found = loss.gaussian(outputs, targets, 0.3)
    np.testing.assert_allclose(found.value, value(0.3), rtol=1e-6)
    np.testing.assert_allclose(found.doutputs, (o - t) / np.exp(0.3) / 9, rtol=1e-5, atol=1e-7)
    slope = (value(0.3 + 1e-5) - value(0.3 - 1e-5)) / 2e-5
    np.testing.assert_allclose(found.dlogvar, [slope], rtol=1e-5)

    logvar = np.linspace(-1, 1, 21).astype(np.float32)
    found = loss.gaussian(outputs, targets, logvar)
    np.testing.assert_allclose(found.value, value(logvar.astype(np.float64)), rtol=1e-6)
    for j in (0, 20):
        away = np.zeros(21)
        away[j] = 1e-5
        slope = (value(logvar + away) - value(logvar - away)) / 2e-5
        np.testing.assert_allclose(found.dlogvar[j], slope, rtol=1e-4)

    optimal = loss.gaussian(outputs, targets, None)
    np.testing.assert_allclose(optimal.value, value(np.log(((o - t) ** 2).mean())), rtol=1e-6)
    assert optimal.dlogvar is None


def test_penalties():
    _, _, mu, logvar = inputs()
    m, v = wide(mu, logvar)
    found = loss.kl(mu, logvar)
    np.testing.assert_allclose(found.value, kl_of(m, v).sum() / 9, rtol=1e-6)
    np.testing.assert_allclose(found.dmu, m / 9, rtol=1e-5)
    np.testing.assert_allclose(found.dlogvar, 0.5 * np.expm1(v) / 9, rtol=1e-5, atol=1e-8)
    prior = loss.kl(mu, logvar, prior=(0.5, 2.0)).value
    by_hand = 0.5 * ((m - 0.5) ** 2 / 4 + np.exp(v) / 4 - 1 - v + np.log(4))
    np.testing.assert_allclose(prior, by_hand.sum() / 9, rtol=1e-6)

    of_dimensions = kl_of(m, v).mean(axis=0)
    nats = float(np.median(of_dimensions))
    value = loss.free_bits(mu, logvar, nats).value
    np.testing.assert_allclose(value, np.maximum(of_dimensions, nats).sum(), rtol=1e-6)
    value = loss.free_bits(mu, logvar, nats, per="sample").value
    np.testing.assert_allclose(value, np.maximum(kl_of(m, v).sum(axis=1), nats).mean(), rtol=1e-6)
    value = loss.free_bits(mu, logvar, nats, per="element").value
    np.testing.assert_allclose(value, np.maximum(kl_of(m, v), nats).sum() / 9, rtol=1e-6)
    value = loss.capacity(mu, logvar, 2.0, gamma=3.0).value
    np.testing.assert_allclose(value, 3 * abs(kl_of(m, v).sum() / 9 - 2), rtol=1e-5)
    value = loss.capacity(mu, logvar, 2.0, per="sample").value
    np.testing.assert_allclose(value, abs(kl_of(m, v).sum(axis=1) - 2).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    "likelihood",
    [
        "bernoulli",
        "bernoulli-probabilities",
        "continuous-bernoulli",
        "squared-error",
        "tanh-squared-error",
        "gaussian",
    ],
)
@pytest.mark.parametrize("penalty", ["kl", "free-bits", "capacity"])
def test_elbo_has_the_bits_of_its_terms(likelihood, penalty):
    outputs, targets, mu, logvar = inputs()
    found = loss.elbo(
        outputs, targets, mu, logvar, likelihood=likelihood, penalty=penalty, nats=0.1
    )
    if likelihood == "bernoulli-probabilities":
        np.testing.assert_allclose(
            found.reconstruction, loss.bernoulli(outputs, targets).value, 1e-5
        )
    else:
        arguments = (None,) if likelihood == "gaussian" else ()
        term = getattr(loss, likelihood.replace("-", "_"))(outputs, targets, *arguments)
        assert found.reconstruction == term.value
        assert np.array_equal(found.doutputs, term.doutputs)
    of = {
        "kl": lambda: loss.kl(mu, logvar),
        "free-bits": lambda: loss.free_bits(mu, logvar, 0.1),
        "capacity": lambda: loss.capacity(mu, logvar, 0.1),
    }[penalty]()
    assert found.loss == found.reconstruction + of.value
    assert found.kl == loss.kl(mu, logvar).value
    assert np.array_equal(found.dmu, of.dmu) and np.array_equal(found.dlogvar, of.dlogvar)


def test_weights_and_parameters_of_elbo():
    outputs, targets, mu, logvar = inputs()
    tensors = (outputs, targets, mu, logvar)
    one, four = loss.elbo(*tensors), loss.elbo(*tensors, beta=4.0)
    np.testing.assert_allclose(four.loss, one.reconstruction + 4 * one.kl)
    np.testing.assert_allclose(four.dmu, 4 * one.dmu, rtol=1e-6)
    weighted = loss.elbo(*tensors, likelihood="weighted-bernoulli", parameter=3.0)
    assert weighted.reconstruction == loss.bernoulli(outputs, targets, pos_weight=3.0).value
    per_feature = np.linspace(-1, 1, 21).astype(np.float32)
    found = loss.elbo(*tensors, likelihood="gaussian", parameter=per_feature)
    assert found.reconstruction == loss.gaussian(outputs, targets, per_feature).value


def test_total_correlation():
    rng = np.random.default_rng(1)
    z, mu, logvar = rng.normal(size=(3, 8, 4)).astype(np.float32)
    weights = {"dataset_size": 100, "alpha": 0.5, "beta": 2.0, "gamma": 0.25}

    def weighted(mu):
        parts = loss.total_correlation(z, mu, logvar, gradient=False, **weights)
        return (
            0.5 * parts.mutual_information
            + 2 * parts.total_correlation
            + 0.25 * parts.dimension_wise_kl
        )

    found = loss.total_correlation(z, mu, logvar, **weights)
    away = np.zeros_like(mu)
    away[3, 2] = 2.0**-7
    slope = (weighted(mu + away) - weighted(mu - away)) / 2.0**-6
    np.testing.assert_allclose(found.dmu[3, 2], slope, rtol=2e-3)
    assert found.dz.shape == found.dlogvar.shape == (8, 4)


def test_results_go_where_the_caller_says():
    outputs, targets, mu, logvar = inputs()
    wanted = loss.elbo(outputs, targets, mu, logvar)
    places = np.full((9, 50), np.nan, np.float32)
    out = (places[:, :21], places[:, 21:26], places[:, 30:35])
    found = loss.elbo(outputs, targets, mu, logvar, out=out)
    assert found.loss == wanted.loss and found.doutputs is out[0]
    for place, expected in zip(out, (wanted.doutputs, wanted.dmu, wanted.dlogvar)):
        assert np.array_equal(place, expected)
    assert np.isnan(places[:, 26:30]).all() and np.isnan(places[:, 35:]).all()
    without = loss.elbo(outputs, targets, mu, logvar, gradient=False)
    assert without == (*wanted[:3], None, None, None)


def test_reads_strided_rows_and_columns_in_place():
    outputs, targets, mu, logvar = inputs(18, 40)
    views = (outputs[::2, 3:24], targets[::2, 3:24], mu[::-2], logvar[::-2])
    copies = [np.ascontiguousarray(view) for view in views]
    assert loss.elbo(*views).loss == loss.elbo(*copies).loss


def test_threads_change_no_bit():
    outputs, targets, mu, logvar = inputs(600, 300, 20)
    alone = loss.elbo(outputs, targets, mu, logvar)
    for threads in (1, 2, 3):
        compute = Compute(threads)
        shared = loss.elbo(outputs, targets, mu, logvar, compute=compute)
        assert shared.loss == alone.loss and np.array_equal(shared.doutputs, alone.doutputs)
