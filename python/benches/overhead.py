"""Time of the loss and its gradients from Python beside the same call in Rust.

python overhead.py TOOL

TOOL is a release build of `elbo`, whose bench calls the kernel from Rust; both alternate. One thread, best of the rounds.
"""

import json
import subprocess
import sys
from timeit import repeat

import numpy as np

from elbo_vae import loss

ROUNDS = 5


def in_rust(tool: str, shape: str) -> float:
    """Microseconds of a call from Rust."""
    command = [tool, "bench", "--quiet", "--json", "--threads", "1", "--filter", shape]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    (case,) = [line for line in lines if line["case"] == "loss"]
    return 1e3 * case["milliseconds"]


def in_python(rows: int, features: int, latent: int) -> dict[str, float]:
    """Microseconds of a call with arrays of the caller, with new arrays, and of the value alone."""
    rng = np.random.default_rng(1)
    outputs, mu, logvar = (
        rng.normal(size=(rows, width)).astype(np.float32) for width in (features, latent, latent)
    )
    targets = rng.random((rows, features), dtype=np.float32)
    out = tuple(np.empty_like(array) for array in (outputs, mu, logvar))
    calls = {
        "out": lambda: loss.elbo(outputs, targets, mu, logvar, out=out),
        "new arrays": lambda: loss.elbo(outputs, targets, mu, logvar),
        "value": lambda: loss.elbo(outputs, targets, mu, logvar, gradient=False),
    }
    return {
        name: 1e6 * min(repeat(call, number=500, repeat=9)) / 500 for name, call in calls.items()
    }


def main() -> None:
    """Print both times."""
    tool = sys.argv[1]
    rust, python = [], []
    for _ in range(ROUNDS):
        rust.append(in_rust(tool, "loss/784-20/128"))
        python.append(in_python(128, 784, 20))
    best = min(rust)
    print(f"loss and gradients, 128 x 784, Rust: {best:.2f} us")
    for name in python[0]:
        found = min(times[name] for times in python)
        print(f"Python, {name}: {found:.2f} us, {found - best:+.2f} us")
    empty = min(times["out"] for times in (in_python(1, 1, 1) for _ in range(3)))
    print(f"Python, arrays of one element: {empty:.2f} us")


main()
