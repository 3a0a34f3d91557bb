"""Writes a small state dict of the VAE of pytorch/examples, to test that elbo loads it.

    python tests/golden/classic_state_dict.py

Writes classic_state_dict.safetensors (fc1, fc21, fc22, fc3, fc4; 12-7-2) and
classic_state_dict.json, which holds a few inputs, their mu and logvar, and the reconstructions of mu.
"""

import json
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

import hashed

FOLDER = pathlib.Path(__file__).parent
FEATURES, HIDDEN, LATENT, ROWS = 12, 7, 2, 5


class Classic(nn.Module):
    """The VAE of pytorch/examples, as far as the reconstruction of mu needs it."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(FEATURES, HIDDEN)
        self.fc21 = nn.Linear(HIDDEN, LATENT)
        self.fc22 = nn.Linear(HIDDEN, LATENT)
        self.fc3 = nn.Linear(LATENT, HIDDEN)
        self.fc4 = nn.Linear(HIDDEN, FEATURES)

    def encode(self, x):
        h = F.relu(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def decode(self, z):
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))


def hashed_state(model):
    state, fan_in = {}, None
    for name, p in model.named_parameters():
        fan_in = p.shape[1] if p.dim() == 2 else fan_in
        values = hashed.weights(f"state dict/{name}", p.numel(), fan_in)
        state[name] = torch.tensor(values, dtype=torch.float32).reshape(p.shape)
    return state


if __name__ == "__main__":
    model = Classic()
    state = hashed_state(model)
    model.load_state_dict(state)
    save_file(model.state_dict(), FOLDER / "classic_state_dict.safetensors")

    model = model.double()
    x = torch.tensor(hashed.targets("state dict/x", ROWS * FEATURES)).reshape(ROWS, FEATURES)
    with torch.no_grad():
        mu, logvar = model.encode(x)
        tensors = {"x": x, "mu": mu, "logvar": logvar, "reconstruction": model.decode(mu)}
    lines = []
    for name, tensor in tensors.items():
        values = [float(f"{v:.10g}") for v in tensor.flatten().tolist()]
        lines.append(f'"{name}": {{"shape": {list(tensor.shape)}, "values": {json.dumps(values)}}}')
    (FOLDER / "classic_state_dict.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
