"""Training speed of `VAE.fit` beside the tool, on images of MNIST.

python fit.py TOOL IMAGES

IMAGES is an IDX file of bytes, plain or compressed with gzip. Both train the classic network for the same epochs with
the same seed, and validate after each; they alternate, and the best round counts.
"""

import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from elbo_vae import VAE, Compute

EPOCHS, ROUNDS = 3, 3


def read(path: Path) -> np.ndarray:
    """Images as rows of bytes."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    count = int.from_bytes(data[4:8], "big")
    return np.frombuffer(data, np.uint8, offset=16).reshape(count, -1)


def of_tool(tool: str, path: Path, threads: int, out: str) -> tuple[float, float]:
    """Images per second in training, and seconds of the whole run."""
    command = [tool, "train", "--data", path, "--epochs", EPOCHS, "--threads", threads, "--json"]
    command += ["--quiet", "--overwrite", "--out", out]
    began = perf_counter()
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["images_per_second"], perf_counter() - began


def of_estimator(images: np.ndarray, threads: int, out: str) -> tuple[float, float]:
    """Images per second in training, and seconds of the whole fit."""
    vae = VAE(
        likelihood="bernoulli",
        scale="bytes",
        validation_fraction=0.1,
        epochs=EPOCHS,
        random_state=1,
        n_jobs=threads,
    )
    began = perf_counter()
    vae.fit(images)
    seconds = perf_counter() - began
    vae.save(f"{out}/own.safetensors")
    rows = len(images) - len(images) // 10
    return EPOCHS * rows / vae.history_["seconds"].sum(), seconds


def main() -> None:
    """Print both rates."""
    tool, path = sys.argv[1], Path(sys.argv[2])
    images, threads = read(path), Compute(0).threads
    rates = {"tool": [], "VAE.fit": []}
    seconds = {"tool": [], "VAE.fit": []}
    with tempfile.TemporaryDirectory() as out:
        for _ in range(ROUNDS):
            for name, (rate, time) in (
                ("tool", of_tool(tool, path, threads, out)),
                ("VAE.fit", of_estimator(images, threads, out)),
            ):
                rates[name].append(rate)
                seconds[name].append(time)
        tensors = [
            (Path(out) / name).read_bytes() for name in ("model.safetensors", "own.safetensors")
        ]
    tensors = [data[8 + int.from_bytes(data[:8], "little") :] for data in tensors]
    print(f"same weights: {tensors[0] == tensors[1]}")
    for name in rates:
        print(
            f"{name}: {max(rates[name]):,.0f} images/s in training on {threads} threads, "
            f"{min(seconds[name]):.2f} s in all"
        )
    print(f"VAE.fit / tool: {max(rates['VAE.fit']) / max(rates['tool']):.3f}")


main()
