"""Epoch times of PyTorch loops and of `VAE.fit`, and fits of PCA and of PyOD's VAE on a table.

python peers.py [epochs|table]

Everything runs on the CPU with all threads that the process may use, in rounds that alternate; the best of each counts.
PyTorch runs its loop compiled (`torch.compile`) and eager, and the better counts.
"""

import sys
import warnings
from time import perf_counter

import numpy as np

from elbo_vae import VAE, Compute

THREADS = Compute(0).threads
ROUNDS = 8


def seconds(work) -> float:
    """Seconds of a call."""
    began = perf_counter()
    work()
    return perf_counter() - began


def torch_epoch(x, hidden, latent, batch, fused, compiled):
    """A function that trains a network of PyTorch for one epoch."""
    import torch
    from torch import nn
    from torch.nn.functional import binary_cross_entropy_with_logits

    from elbo_vae.torch import elbo_loss

    torch.set_num_threads(THREADS)
    torch.manual_seed(1)
    features = x.shape[1]
    encoder = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))
    decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, features))
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    rows = torch.from_numpy(x)

    def loss_of(rows):
        mu, logvar = encoder(rows).chunk(2, dim=1)
        logits = decoder(mu + (0.5 * logvar).exp() * torch.randn_like(mu))
        if fused:
            return elbo_loss(logits, rows, mu, logvar)
        reconstruction = binary_cross_entropy_with_logits(logits, rows, reduction="sum")
        return (reconstruction + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()) / len(rows)

    step_loss = torch.compile(loss_of) if compiled else loss_of

    def epoch():
        for indices in torch.randperm(len(rows)).split(batch):
            loss = step_loss(rows[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    return epoch


def epochs(features, hidden, latent, batch, count) -> None:
    """Print the epoch times of one network."""
    x = np.random.default_rng(1).random((count, features), dtype=np.float32)
    vae = VAE(
        latent,
        hidden=hidden,
        likelihood="bernoulli",
        batch_size=batch,
        random_state=1,
        n_jobs=THREADS,
    )
    contenders = {
        "VAE.fit": lambda: vae.partial_fit(x),
        **{
            f"PyTorch, {'elbo_vae' if fused else 'own'} loss{', compiled' if compiled else ''}": (
                torch_epoch(x, hidden, latent, batch, fused, compiled)
            )
            for fused in (False, True)
            for compiled in (False, True)
        },
    }
    for work in contenders.values():
        work()
    times = {name: float("inf") for name in contenders}
    for _ in range(ROUNDS):
        for name, work in contenders.items():
            times[name] = min(times[name], seconds(work))
    print(f"{features}-{hidden}-{latent}, batches of {batch}, {count:,} rows, {THREADS} threads")
    for name, time in times.items():
        print(f"  {name}: {1e3 * time:.1f} ms an epoch, {time / times['VAE.fit']:.2f}")


def table() -> None:
    """Print the times of fits on 100,000 rows of 30 features."""
    from pyod.models.vae import VAE as PyodVAE  # noqa: N811
    from sklearn.decomposition import PCA

    from elbo_vae import VAEDetector

    rng = np.random.default_rng(1)
    x = (rng.normal(size=(100_000, 5)) @ rng.normal(size=(5, 30))).astype(np.float64)
    x += rng.normal(size=x.shape) / 3
    network = {"hidden": (64,), "n_components": 8, "batch_size": 64, "random_state": 1}
    contenders = {
        "PCA(8)": lambda: PCA(8, random_state=1).fit(x),
        "VAE, 1 epoch of 30-64-8": lambda: VAE(**network, epochs=1, n_jobs=THREADS).fit(x),
        "VAEDetector, 1 epoch of 30-64-8": lambda: VAEDetector(
            **network, epochs=1, n_jobs=THREADS
        ).fit(x),
        "VAEDetector, default: 3,000 steps": lambda: VAEDetector(
            random_state=1, n_jobs=THREADS
        ).fit(x),
        "PyOD VAE, 1 epoch of 30-64-8": lambda: PyodVAE(
            encoder_neuron_list=[64],
            decoder_neuron_list=[64],
            latent_dim=8,
            batch_size=64,
            epoch_num=1,
            verbose=0,
        ).fit(x),
    }
    for name, work in contenders.items():
        rounds = 1 if "PyOD" in name else ROUNDS
        print(f"  {name}: {min(seconds(work) for _ in range(rounds)):.2f} s")


def main() -> None:
    """Print all times, or those that were asked for."""
    warnings.simplefilter("ignore")
    which = sys.argv[1:] or ["epochs", "table"]
    if "epochs" in which:
        epochs(784, 400, 20, 128, 60_000 // 10)
        epochs(30, 64, 8, 64, 6_400)
    if "table" in which:
        table()


main()
