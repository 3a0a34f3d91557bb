"""Arguments, clock and JSON output shared by the Python programs."""

import json
import sys
import time

import numpy as np

WARM_UP, REPETITION, REPETITIONS = 0.15, 0.03, 15
# Training steps whose losses are compared between variants of a peer.
CHECKED_STEPS = 4

TRAIN = [((784, 400, 20), 128), ((784, 400, 20), 1024), ((2048, 1024, 64), 256), ((30, 64, 8), 64)]
LOSS_FEATURES, LOSS_LATENT, LOSS_ROWS = 784, 20, (128, 1024, 16384)
LOSS_SHAPE = f"{LOSS_FEATURES}-{LOSS_LATENT}"
INFER = [((784, 400, 20), 1), ((784, 400, 20), 64)]
PRODUCTS, PRODUCT_ROWS = [(784, 400), (400, 40), (20, 400), (400, 784)], 128
MATH_ELEMENTS = 4096


def shape_of(widths):
    return "-".join(str(w) for w in widths)


def uniform(shape, seed):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def binary(shape, seed):
    """Returns zeros and ones, a fifth of them ones."""
    return (uniform(shape, seed) < 0.2).astype(np.float32)


def dense(k, n, seed):
    """Returns a weight [N, K] and a bias [N] with the magnitudes of initial weights."""
    bound = k**-0.5
    u = 2 * uniform(n * k + n, seed) - 1
    return bound * u[: n * k].reshape(n, k), bound * u[n * k :]


def network(widths):
    """Returns the five layers: encoder, mu, logvar, decoder, output."""
    d, h, z = widths
    sizes = [(d, h), (h, z), (h, z), (z, h), (h, d)]
    return [dense(k, n, seed) for seed, (k, n) in enumerate(sizes)]


def reconstruct(layers, x):
    """Encodes to the mean, decodes and applies the sigmoid, in double precision."""
    x = x.astype(np.float64)
    (w1, b1), (wm, bm), _, (w3, b3), (w4, b4) = layers
    mu = np.maximum(x @ w1.T + b1, 0) @ wm.T + bm
    return 1 / (1 + np.exp(-(np.maximum(mu @ w3.T + b3, 0) @ w4.T + b4)))


def loss_inputs(rows):
    """Returns logits, targets, mu and logvar."""
    normal = lambda shape, seed: np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    wide, narrow = (rows, LOSS_FEATURES), (rows, LOSS_LATENT)
    return normal(wide, 1), uniform(wide, 2), normal(narrow, 3), normal(narrow, 4)


def loss_value(o, x, mu, logvar):
    """Computes the loss in double precision."""
    o, x, mu, logvar = (a.astype(np.float64) for a in (o, x, mu, logvar))
    bce = np.maximum(o, 0) - o * x + np.log1p(np.exp(-np.abs(o)))
    return bce.sum() - 0.5 * (1 + logvar - mu**2 - np.exp(logvar)).sum()


class Peer:
    """Program under measurement, called as `PROGRAM --threads N CASE …`."""

    def __init__(self, name, version, threads):
        self.name, self.version, self.threads = name, version, threads

    def time(self, case, shape, batch, work, wait=lambda last: None, variant=None, units=1):
        """Prints the best and the median time over the repetitions, each of which makes as many calls
        of `work` as fill it, and returns the best. A call does `units` times the work of the case.
        `wait` blocks until asynchronous work is done."""

        def seconds(calls):
            start = time.perf_counter()
            for _ in range(calls):
                last = work()
            wait(last)
            return time.perf_counter() - start

        start, calls = time.perf_counter(), 0
        while calls < 5 or time.perf_counter() - start < WARM_UP:
            seconds(1)
            calls += 1
        calls = max(1, round(REPETITION / min(seconds(1) for _ in range(5))))
        times = sorted(seconds(calls) / (calls * units) * 1e3 for _ in range(REPETITIONS))
        line = dict(
            peer=self.name, version=self.version, case=case, shape=shape, batch=batch,
            threads=self.threads, milliseconds=times[0], median=times[REPETITIONS // 2],
        )
        print(json.dumps(line | ({"variant": variant} if variant else {})), flush=True)
        return times[0]


def arguments():
    """Returns the number of threads and the cases."""
    if len(sys.argv) < 3 or sys.argv[1] != "--threads":
        sys.exit("usage: --threads N CASE …")
    return int(sys.argv[2]), sys.argv[3:]
