"""Writes losses.json: values and gradients of every loss, by PyTorch's automatic differentiation.

`tests/losses.rs` compares the kernels with these values. The computation is in float64. The inputs are
hashed multiples of 2**-10, exact in float32, and are stored with the results. The losses follow the
formulas of the papers, without the rearrangements of the kernels.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hashed import uniform

torch.set_default_dtype(torch.float64)
ROWS, FEATURES, LATENT = 5, 6, 4
LN_2_PI = math.log(2 * math.pi)


def array(name, columns, low, high, rows=ROWS):
    unit = (uniform(name, rows * columns) + 1) / 2
    values = np.round((low + (high - low) * unit) * 1024) / 1024
    return torch.tensor(values.reshape(rows, columns))


def numbers(tensor):
    return [float(f"{x:.12g}") for x in tensor.detach().reshape(-1).tolist()]


cases = {}


def case(name, loss, inputs, wanted, **parameters):
    """Returns the value of `loss(**inputs)` and its gradients with respect to the selected inputs."""
    leaves = {key: value.clone().requires_grad_(key in wanted) for key, value in inputs.items()}
    value = loss(**leaves)
    gradients = torch.autograd.grad(value, [leaves[key] for key in wanted])
    cases[name] = {
        "inputs": {key: numbers(value) for key, value in inputs.items()},
        "value": float(f"{value.item():.14g}"),
        "gradients": {key: numbers(g) for key, g in zip(wanted, gradients)},
        **parameters,
    }


logits = array("losses.logits", FEATURES, -6, 6)
unit = array("losses.unit", FEATURES, 0, 1)
signed = array("losses.signed", FEATURES, -1, 1)
data = {"logits": logits, "targets": unit}


def bernoulli(logits, targets, weight=None):
    weight = None if weight is None else torch.tensor(weight)
    return F.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=weight, reduction="sum"
    )


case("bernoulli", bernoulli, data, ["logits"])
case(
    "weighted_bernoulli",
    lambda logits, targets: bernoulli(logits, targets, 2.5),
    data,
    ["logits"],
    weight=2.5,
)
case(
    "sigmoid_probabilities",
    lambda logits, targets: F.binary_cross_entropy(
        torch.sigmoid(logits), targets, reduction="sum"
    ),
    data,
    ["logits"],
)
case(
    "continuous_bernoulli",
    lambda logits, targets: -torch.distributions.ContinuousBernoulli(
        logits=logits, lims=(0.5, 0.5)
    )
    .log_prob(targets)
    .sum(),
    data,
    ["logits"],
)
case(
    "tanh_squared_error",
    lambda logits, targets: F.mse_loss(torch.tanh(logits), targets, reduction="sum"),
    {"logits": logits / 2, "targets": signed},
    ["logits"],
)


def gaussian(predictions, targets, logvar):
    return 0.5 * ((targets - predictions) ** 2 * torch.exp(-logvar) + logvar + LN_2_PI).sum()


predictions = array("losses.predictions", FEATURES, -2, 2)
pair = {"predictions": predictions, "targets": signed}
shared = torch.tensor([[-1.25]])
case("gaussian", gaussian, {**pair, "logvar": shared}, ["predictions", "logvar"])
features = array("losses.features", FEATURES, -3, 1, rows=1)
case("feature_gaussian", gaussian, {**pair, "logvar": features}, ["predictions", "logvar"])


def optimal(predictions, targets):
    variance = ((targets - predictions) ** 2).mean()
    return gaussian(predictions, targets, torch.log(variance))


case("optimal_gaussian", optimal, pair, ["predictions"])

mu = array("losses.mu", LATENT, -1.5, 1.5)
logvar = array("losses.logvar", LATENT, -2.5, 1)
posterior = {"mu": mu, "logvar": logvar}
PRIOR = (0.25, 1.5)


def kl(mu, logvar, mean=PRIOR[0], std=PRIOR[1]):
    q = torch.distributions.Normal(mu, torch.exp(logvar / 2))
    return torch.distributions.kl_divergence(q, torch.distributions.Normal(mean, std))


both = ["mu", "logvar"]
case("kl", lambda mu, logvar: kl(mu, logvar, 0.0, 1.0).sum(), posterior, both)
case("prior_kl", lambda mu, logvar: kl(mu, logvar).sum(), posterior, both)
for name, of, limit in (
    ("free_bits_elements", lambda k, l: k.clamp(min=l).sum(), 0.4),
    ("free_bits_dimensions", lambda k, l: k.mean(0).clamp(min=l).sum(), 0.55),
    ("free_bits_samples", lambda k, l: k.sum(1).clamp(min=l).sum(), 2.25),
    ("capacity_batch", lambda k, l: 7 * (k.sum(1).mean() - l).abs(), 3.0),
    ("capacity_samples", lambda k, l: 7 * (k.sum(1) - l).abs().mean(), 2.25),
):
    divergences = kl(mu, logvar)
    for sizes in (divergences, divergences.mean(0), divergences.sum(1)):
        assert (sizes - limit).abs().min() > 1e-4, "too near to the kink"
    case(
        name,
        lambda mu, logvar, of=of, limit=limit: of(kl(mu, logvar), limit),
        posterior,
        both,
        limit=limit,
    )


def log_normal(x, mu, logvar):
    return -0.5 * ((x - mu) ** 2 * torch.exp(-logvar) + logvar + LN_2_PI)


def total_correlation(z, mu, logvar, alpha, beta, gamma, dataset=1000):
    pairs = log_normal(z[:, None, :], mu[None], logvar[None])
    weight = math.log(dataset * len(z))
    posterior = log_normal(z, mu, logvar).sum(1)
    aggregate = torch.logsumexp(pairs.sum(2), 1) - weight
    product = (torch.logsumexp(pairs, 1) - weight).sum(1)
    prior = torch.distributions.Normal(*PRIOR).log_prob(z).sum(1)
    return (
        alpha * (posterior - aggregate) + beta * (aggregate - product) + gamma * (product - prior)
    ).mean()


z = mu + array("losses.offset", LATENT, -1, 1)
case(
    "total_correlation",
    lambda z, mu, logvar: total_correlation(z, mu, logvar, 0.5, 6.0, 1.25),
    {"z": z, **posterior},
    ["z", "mu", "logvar"],
    weights=[0.5, 6.0, 1.25],
    dataset=1000,
)

# Importance weighting, with SAMPLES samples of each row and a reconstruction that is quadratic in z.
SAMPLES = 3
epsilon = array("losses.epsilon", LATENT, -2, 2, rows=ROWS * SAMPLES)
center = array("losses.center", LATENT, -1, 1)


def log_weights(mu, logvar, epsilon, center, stop):
    noise = epsilon.reshape(ROWS, SAMPLES, LATENT)
    z = mu[:, None] + torch.exp(logvar / 2)[:, None] * noise
    if stop:  # the parameters of the density, not those of the sample
        mu, logvar = mu.detach(), logvar.detach()
    likelihood = -0.5 * 1.75 * ((z - center[:, None]) ** 2).sum(2)
    prior = torch.distributions.Normal(*PRIOR).log_prob(z).sum(2)
    return likelihood + prior - log_normal(z, mu[:, None], logvar[:, None]).sum(2)


def iwae(mu, logvar, epsilon, center):
    logs = log_weights(mu, logvar, epsilon, center, False)
    return -(torch.logsumexp(logs, 1) - math.log(SAMPLES)).sum()


def dreg(mu, logvar, epsilon, center):
    logs = log_weights(mu, logvar, epsilon, center, True)
    surrogate = -(torch.softmax(logs, 1).detach() ** 2 * logs).sum()
    # Has the value of the bound and the gradient of the surrogate.
    return surrogate + (iwae(mu, logvar, epsilon, center) - surrogate).detach()


samples = {**posterior, "epsilon": epsilon, "center": center}
case("iwae", iwae, samples, both, stiffness=1.75)
case("dreg", dreg, samples, both, stiffness=1.75)

document = {
    "rows": ROWS,
    "features": FEATURES,
    "latent": LATENT,
    "samples": SAMPLES,
    "prior": PRIOR,
    "cases": cases,
}
path = Path(__file__).with_name("losses.json")
path.write_text(json.dumps(document, separators=(",", ":")).replace('},"', '},\n"') + "\n")
