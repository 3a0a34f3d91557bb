"""The fused loss inside a PyTorch training loop, beside PyTorch's own operators.

python torch_loop.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from elbo_vae.torch import elbo_loss, elbo_terms

images = torch.tensor(load_digits().data / 16.0, dtype=torch.float32)


class Network(nn.Module):
    """An encoder with two heads beside each other, and a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2 * 8))
        self.decoder = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return logits, and mean and log-variance of the posterior."""
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
        return self.decoder(z), mu, logvar


def own_loss(logits, x, mu, logvar):
    """The same loss from PyTorch's operators."""
    reconstruction = binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
    return (reconstruction + kl) / len(x)


def train(loss_of, epochs=20):
    """Train a network; return the loss of each epoch."""
    torch.manual_seed(1)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    history = []
    for _ in range(epochs):
        total = 0.0
        for x in images[torch.randperm(len(images))].split(128):
            logits, mu, logvar = network(x)
            loss = loss_of(logits, x, mu, logvar)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        history.append(total / len(images))
    return network, history


network, fused = train(elbo_loss)
_, own = train(own_loss)
print(f"elbo_vae: {fused[0]:.3f} to {fused[-1]:.3f} nats per image; PyTorch: {own[-1]:.3f}")
assert fused[-1] < 0.8 * fused[0] and abs(fused[-1] - own[-1]) < 0.05

with torch.no_grad():
    logits, mu, logvar = network(images)
terms = elbo_terms(logits, images, mu, logvar)
print(f"all images: reconstruction {terms.reconstruction:.3f}, KL {terms.kl:.3f} nats")
