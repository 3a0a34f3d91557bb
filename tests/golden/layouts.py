"""Writes small state dicts of VAEs from other programs, and checks that those programs load what
`elbo convert` writes.

    python tests/golden/layouts.py               writes pythae_state_dict.{safetensors,json} and
                                                 mapped_state_dict.{safetensors,json,toml}
    python tests/golden/layouts.py check ELBO    converts every fixture to elbo and back with the tool
                                                 ELBO, loads the result with strict=True and compares

The pythae model is the real class, `pythae.models.VAE` of pythae 0.1.2 with its default networks, whose
hidden layers are 512 wide; to stay small, it has 6 features and 2 latent dimensions. The mapped model is
a custom module: two GELU layers with layer normalization, and an output without a sigmoid.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from torch import nn

import hashed
from classic_state_dict import Classic

FOLDER = pathlib.Path(__file__).parent
ROWS = 5


class Pythae:
    """Wraps pythae's class with the method names of `Classic`."""

    features = 6

    def __init__(self):
        from pythae.models import VAE, VAEConfig

        self.module = VAE(VAEConfig(input_dim=(self.features,), latent_dim=2))

    def encode(self, x):
        output = self.module.encoder(x)
        return output.embedding, output.log_covariance

    def decode(self, z):
        return self.module.decoder(z).reconstruction


class Mapped(nn.Module):
    features = 9

    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(
            nn.Linear(9, 7), nn.LayerNorm(7), nn.GELU(), nn.Linear(7, 5), nn.LayerNorm(5), nn.GELU()
        )
        self.to_mean, self.to_logvar = nn.Linear(5, 3), nn.Linear(5, 3)
        self.dec = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 9))

    def encode(self, x):
        h = self.enc(x)
        return self.to_mean(h), self.to_logvar(h)

    def decode(self, z):
        return self.dec(z)


MODELS = {"classic": Classic, "pythae": Pythae, "mapped": Mapped}


def module(model):
    return getattr(model, "module", model)


def fill(model, name):
    """Returns weights that are functions of their names. Gains vary around 1, so that they have an effect."""
    state, fan_in = {}, 1
    for key, p in module(model).named_parameters():
        fan_in = p.shape[1] if p.dim() == 2 else fan_in
        values = torch.tensor(hashed.weights(f"{name}/{key}", p.numel(), fan_in)).float()
        is_gain = p.dim() == 1 and key.endswith("weight")
        state[key] = (values + 1 if is_gain else values).reshape(p.shape)
    module(model).load_state_dict(state)


def outputs(model, x):
    with torch.no_grad():
        mu, logvar = model.encode(x)
        return {"x": x, "mu": mu, "logvar": logvar, "reconstruction": model.decode(mu)}


def write(name):
    model = MODELS[name]()
    fill(model, name)
    save_file(module(model).state_dict(), FOLDER / f"{name}_state_dict.safetensors")
    module(model).double()
    x = torch.tensor(hashed.targets(f"{name}/x", ROWS * model.features)).double()
    lines = []
    for key, tensor in outputs(model, x.reshape(ROWS, model.features)).items():
        values = [float(f"{v:.10g}") for v in tensor.flatten().tolist()]
        lines.append(f'"{key}": {{"shape": {list(tensor.shape)}, "values": {json.dumps(values)}}}')
    (FOLDER / f"{name}_state_dict.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def check(elbo):
    for name, make in MODELS.items():
        theirs = FOLDER / f"{name}_state_dict.safetensors"
        mapping = ["--map", FOLDER / "mapped_state_dict.toml"] if name == "mapped" else []
        to = "map" if name == "mapped" else name
        with tempfile.TemporaryDirectory() as folder:
            ours, back = [pathlib.Path(folder) / f"{part}.safetensors" for part in ("ours", "back")]
            convert = lambda *words: subprocess.run([elbo, "convert", *words], check=True)
            convert(theirs, ours, "--to", "elbo", *mapping)
            convert(ours, back, "--to", to, *mapping)
            model = make()
            module(model).load_state_dict(load_file(back), strict=True)
        golden = json.loads((FOLDER / f"{name}_state_dict.json").read_text())
        module(model).double()
        x = torch.tensor(golden["x"]["values"], dtype=torch.float64).reshape(golden["x"]["shape"])
        worst = 0.0
        for key, tensor in outputs(model, x).items():
            expected = torch.tensor(golden[key]["values"], dtype=torch.float64)
            worst = max(worst, (tensor.flatten() - expected).abs().max().item())
        # The JSON holds ten digits.
        assert worst < 1e-9, (name, worst)
        print(f"{name}: loads with strict=True, outputs within {worst:.1e}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        check(sys.argv[2])
    else:
        for name in ("pythae", "mapped"):
            write(name)
