from torch import nn


class VAE(nn.Module):
    def __init__(self, features, hidden, latent):
        super().__init__()
        chain = lambda *w: nn.ModuleList(nn.Linear(a, b) for a, b in zip(w, w[1:]))
        self.encoder = chain(features, *hidden)
        self.mu, self.logvar = nn.Linear(hidden[-1], latent), nn.Linear(hidden[-1], latent)
        self.decoder = chain(latent, *hidden[::-1], features)
    def encode(self, x):
        for layer in self.encoder: x = layer(x).relu()
        return self.mu(x), self.logvar(x)
    def decode(self, z):  # to logits
        for layer in self.decoder[:-1]: z = layer(z).relu()
        return self.decoder[-1](z)
    def forward(self, x):  # the reconstruction of the mean
        return self.decode(self.encode(x)[0]).sigmoid()
