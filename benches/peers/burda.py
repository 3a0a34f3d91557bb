"""Trains the one-layer network of Burda et al. (2016) on MNIST in JAX, as a reference for elbo.

    python benches/peers/burda.py MNIST --seed 1                  the VAE
    python benches/peers/burda.py MNIST --seed 1 --samples 5      the IWAE with k = 5

MNIST is the directory of the four IDX files, plain or with .gz. The network is
784-200-200-50-200-200-784 with tanh, trained with Adam on batches that are binarized anew. Prints one
line of JSON: the settings, the training bound of each epoch, and for the test set, which is binarized
once, the ELBO and the negative log-likelihood by importance weighting, both in nats per example.
"""

import argparse
import gzip
import json
import math
import pathlib
import platform
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

WIDTHS = (784, 200, 200, 50, 200, 200, 784)
LATENT = WIDTHS[3]
# Number of factors 1 + exp(−|l|) that are multiplied before the logarithm; the product is at most
# 2¹¹², so it is finite.
FACTORS = 112


def images(folder, name):
    """Reads gray values from 0 to 1, [rows, 784]."""
    path = pathlib.Path(folder) / name
    if path.exists():
        data = path.read_bytes()
    else:
        data = gzip.decompress(path.with_name(name + ".gz").read_bytes())
    assert data[:4] == b"\0\0\x08\x03", f"{path}: not an IDX file of images"
    return np.frombuffer(data, np.uint8, offset=16).reshape(-1, WIDTHS[0]) / np.float32(255)


def linear(rng, fan_in, fan_out):
    """Initializes weight [in, out] and bias uniformly in ±1/√in, as torch.nn.Linear does."""
    bound = fan_in**-0.5
    uniform = lambda *shape: jnp.asarray(rng.uniform(-bound, bound, shape), jnp.float32)
    return uniform(fan_in, fan_out), uniform(fan_out)


def network(seed):
    rng = np.random.default_rng([seed, 0])
    pairs = list(zip(WIDTHS, WIDTHS[1:]))
    return {
        "encoder": [linear(rng, *pair) for pair in pairs[:2]],
        "mu": linear(rng, *pairs[2]),
        "logvar": linear(rng, *pairs[2]),
        "decoder": [linear(rng, *pair) for pair in pairs[3:]],
    }


def apply(layer, x):
    weight, bias = layer
    return x @ weight + bias


def encode(layers, x):
    for layer in layers["encoder"]:
        x = jnp.tanh(apply(layer, x))
    return apply(layers["mu"], x), apply(layers["logvar"], x)


def decode(layers, z):
    """Returns logits."""
    *hidden, output = layers["decoder"]
    for layer in hidden:
        z = jnp.tanh(apply(layer, z))
    return apply(output, z)


def reconstruction(logits, x):
    """Returns −ln p(x|z), summed over the pixels."""
    bce = jnp.maximum(logits, 0) - logits * x + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    return jnp.sum(bce, axis=-1)


def divergence(mu, logvar):
    return 0.5 * jnp.sum(mu**2 + jnp.expm1(logvar) - logvar, axis=-1)


def prior_over_posterior(z, noise, logvar):
    """Returns ln p(z) − ln q(z|x) at z = mu + σ·noise. The term −½·Z·ln 2π of both cancels."""
    return 0.5 * jnp.sum(noise**2 - z**2 + logvar, axis=-1)


def objective(layers, x, key, samples):
    """Returns the negative bound: the ELBO with a closed-form KL for one sample, otherwise that of IWAE."""
    mu, logvar = encode(layers, x)
    noise = jax.random.normal(key, (samples, *mu.shape))
    z = mu + jnp.exp(0.5 * logvar) * noise
    nll = reconstruction(decode(layers, z), x)
    if samples == 1:
        return jnp.mean(nll[0] + divergence(mu, logvar))
    weights = prior_over_posterior(z, noise, logvar) - nll
    return math.log(samples) - jnp.mean(jax.nn.logsumexp(weights, axis=0))


def train(gray, args):
    layers, adam = network(args.seed), optax.adam(args.lr)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(layers, moments, gray, key):
        binarized, noise = jax.random.split(key)
        x = jax.random.bernoulli(binarized, gray).astype(jnp.float32)
        loss, gradients = jax.value_and_grad(objective)(layers, x, noise, args.samples)
        updates, moments = adam.update(gradients, moments, layers)
        return optax.apply_updates(layers, updates), moments, loss

    moments, bounds = adam.init(layers), []
    rng, key = np.random.default_rng([args.seed, 1]), jax.random.PRNGKey(args.seed)
    for epoch in range(args.epochs):
        order, losses = rng.permutation(len(gray)), []
        for first in range(0, len(gray), args.batch):
            key, now = jax.random.split(key)
            rows = gray[order[first : first + args.batch]]
            layers, moments, loss = step(layers, moments, rows, now)
            losses.append(loss)
        bounds.append(round(-float(np.mean(jax.device_get(losses))), 4))
        print(f"epoch {epoch + 1}: {bounds[-1]:.3f}", file=sys.stderr, flush=True)
    return layers, bounds


@jax.jit
def elbo_of(layers, x, key):
    """Returns the ELBO of each row, with one draw for the reconstruction."""
    mu, logvar = encode(layers, x)
    z = mu + jnp.exp(0.5 * logvar) * jax.random.normal(key, mu.shape)
    return -reconstruction(decode(layers, z), x) - divergence(mu, logvar)


@jax.jit
def log_weights(layers, x, noise):
    """Returns ln w, [rows, draws], for noise of shape [Z, rows·draws]. Each draw is a column of the
    decoder's activations, so sums over the pixels run down columns, which XLA vectorizes."""
    draws = noise.shape[1] // len(x)
    mu, logvar = (jnp.repeat(a.T, draws, axis=1) for a in encode(layers, x))
    z = mu + jnp.exp(0.5 * logvar) * noise
    value = prior_over_posterior(z.T, noise.T, logvar.T)
    *hidden, (weight, bias) = layers["decoder"]
    for w, b in hidden:
        z = jnp.tanh(w.T @ z + b[:, None])
    logits = weight.T @ z + bias[:, None]
    factors = (1 + jnp.exp(-jnp.abs(logits))).reshape(-1, FACTORS, noise.shape[1])
    softplus = jnp.sum(jnp.log(jnp.prod(factors, axis=1)), axis=0)
    targets = jnp.repeat(x.T, draws, axis=1)
    value -= jnp.sum(jnp.maximum(logits, 0) - logits * targets, axis=0) + softplus
    return value.reshape(len(x), draws)


def log_sum_exp(a):
    top = a.max(axis=1, keepdims=True)
    return top[:, 0] + np.log(np.exp(a - top).sum(axis=1))


def marginal(layers, x, draws, seed):
    """Estimates ln p(x) of each row by importance weighting with draws from q(z|x), in blocks of 4
    rows by at most 500 draws."""
    block = math.gcd(draws, 500)
    normal = jax.jit(jax.random.normal, static_argnums=1)
    key, values = jax.random.PRNGKey(seed), []
    for first in range(0, len(x), 4):
        rows, weights = x[first : first + 4], []
        for _ in range(draws // block):
            key, now = jax.random.split(key)
            weights.append(log_weights(layers, rows, normal(now, (LATENT, len(rows) * block))))
        weights = np.concatenate(weights, axis=1).astype(np.float64)
        values.append(log_sum_exp(weights) - math.log(draws))
    return np.concatenate(values)


def check(layers, x, draws, seed):
    """Compares `log_weights` with plain NumPy in double precision for the same noise, and `marginal`
    with the integral of p(x|z)·p(z) for a decoder that uses only one latent dimension."""
    double = jax.tree.map(lambda a: np.asarray(a, np.float64), layers)
    layer = lambda pair, x: x @ pair[0] + pair[1]

    def log_likelihood(layers, z, row):
        for pair in layers["decoder"][:-1]:
            z = np.tanh(layer(pair, z))
        logits = layer(layers["decoder"][-1], z)
        return (logits * row - np.logaddexp(0, logits)).sum(-1)

    noise = np.random.default_rng(seed).standard_normal((LATENT, len(x), draws), np.float32)
    single = log_weights(layers, x, jnp.asarray(noise.reshape(LATENT, -1)))
    hidden = x.astype(np.float64)
    for pair in double["encoder"]:
        hidden = np.tanh(layer(pair, hidden))
    mu, sigma = layer(double["mu"], hidden), np.exp(layer(double["logvar"], hidden) / 2)
    normal = lambda z, m, s: (-(((z - m) / s) ** 2) / 2 - np.log(s)).sum(-1)
    differences = []
    for i, row in enumerate(x):
        z = mu[i] + sigma[i] * noise[:, i].T.astype(np.float64)
        exact = log_likelihood(double, z, row) + normal(z, 0, 1) - normal(z, mu[i], sigma[i])
        differences.append(np.abs(np.asarray(single[i], np.float64) - exact).max())

    # Logits scaled by 0.2 keep the posteriors within reach of a single wide q that is not the prior.
    first = jnp.arange(LATENT) == 0
    (weight, bias), *between, (output, output_bias) = layers["decoder"]
    one = {
        "encoder": layers["encoder"],
        "mu": (jnp.zeros_like(layers["mu"][0]), 0.3 * first),
        "logvar": (jnp.zeros_like(layers["mu"][0]), 1.0 * first),
        "decoder": [(weight * first[:, None], bias), *between, (0.2 * output, output_bias)],
    }
    grid = np.linspace(-9, 9, 3001)
    z = np.zeros((len(grid), LATENT))
    z[:, 0] = grid
    density = -(grid**2) / 2 + math.log((grid[1] - grid[0]) / math.sqrt(2 * math.pi))
    double = jax.tree.map(lambda a: np.asarray(a, np.float64), one)
    integral = log_sum_exp(np.stack([log_likelihood(double, z, row) + density for row in x]))
    difference = marginal(one, x, draws, seed) - integral
    return {
        "rows": len(x),
        "log_weights_to_double": round(float(max(differences)), 6),
        "marginal_to_integral": round(float(np.abs(difference).max()), 4),
        "marginal_to_integral_mean": round(float(difference.mean()), 4),
    }


def save(layers, path):
    """Writes the weights with the names of a PyTorch module that has lists `encoder` and `decoder`."""
    from safetensors.numpy import save_file

    named = {"mu": layers["mu"], "logvar": layers["logvar"]}
    for side in ("encoder", "decoder"):
        named |= {f"{side}.{i}": layer for i, layer in enumerate(layers[side])}
    tensors = {}
    for name, (weight, bias) in named.items():
        tensors[f"{name}.weight"] = np.ascontiguousarray(np.asarray(weight).T)
        tensors[f"{name}.bias"] = np.asarray(bias)
    save_file(tensors, path)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="directory of the MNIST IDX files")
    for name, kind, default, text in [
        ("--seed", int, 1, "seed of the weights, the order and the draws in training"),
        ("--samples", int, 1, "k of the training bound"),
        ("--epochs", int, 30, None),
        ("--batch", int, 100, None),
        ("--lr", float, 1e-3, "Adam's learning rate"),
        ("--marginal", int, 5000, "draws per test row"),
        ("--test-seed", int, 0, "seed of the binarization and the draws of the test set"),
        ("--test-rows", int, 10_000, "number of test rows"),
        ("--check", int, 0, "number of rows on which to check the evaluation"),
        ("--test-binarized", str, None, "read a binarized test set (.npy; values above 0 count as 1)"),
        ("--save-test", str, None, "write the binarized test set (.npy)"),
        ("--save", str, None, "write the weights (.safetensors)"),
    ]:
        parser.add_argument(name, type=kind, default=default, help=text)
    return parser.parse_args()


def main():
    args = arguments()
    if args.test_binarized:
        test = (np.load(args.test_binarized).reshape(-1, WIDTHS[0]) > 0).astype(np.float32)
    else:
        gray = images(args.folder, "t10k-images-idx3-ubyte")
        uniform = np.random.default_rng(args.test_seed).random(gray.shape, np.float32)
        test = (uniform < gray).astype(np.float32)
    if args.save_test:
        # elbo divides bytes by 255.
        np.save(args.save_test, (255 * test).astype(np.uint8))

    layers, bounds = train(images(args.folder, "train-images-idx3-ubyte"), args)
    if args.save:
        save(layers, args.save)

    test = test[: args.test_rows]
    elbo = np.asarray(elbo_of(layers, test, jax.random.PRNGKey(args.test_seed)), np.float64)
    values = marginal(layers, test, args.marginal, args.test_seed)
    error = lambda a: round(float(a.std(ddof=1) / math.sqrt(len(a))), 4)
    result = {
        "samples": args.samples, "seed": args.seed, "epochs": args.epochs, "batch": args.batch,
        "lr": args.lr, "test_rows": len(test), "test_seed": args.test_seed,
        "importance_samples": args.marginal,
        "negative_log_likelihood": round(-values.mean(), 4), "standard_error": error(values),
        "test_elbo": round(elbo.mean(), 4), "test_elbo_standard_error": error(elbo),
    }
    if args.check:
        result["check"] = check(layers, test[: args.check], args.marginal, args.test_seed)
    result |= {
        "train_bound": bounds,
        "versions": {
            "python": platform.python_version(), "jax": jax.__version__,
            "optax": optax.__version__, "numpy": np.__version__,
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
