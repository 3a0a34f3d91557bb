"""Writes deep.json and classic.json: golden values of PyTorch for two networks.

    python tests/golden/make.py

Inputs, weights and noise come from hashed.py. The values are those of a float64 run. Each has a field
`float32` with the difference between that run and the same run in float32, which is the error that
PyTorch itself makes.
"""

import json
import math
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

import hashed
from vae import VAE

FOLDER = pathlib.Path(__file__).parent
STEPS = 10
PROJECTIONS = 4
# Tensors up to this size are stored whole in `deep.json`, larger ones as a digest.
WHOLE = 2048


def objective(logits, x, mu, logvar, beta, reduction):
    """Returns reconstruction, KL and loss, with one reduction for both terms."""
    batch, features = x.shape
    rec = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    over = {
        "sum": (1, 1),
        "batch mean": (batch, batch),
        "mean": (batch * features, batch * mu.shape[1]),
    }[reduction]
    rec, kl = rec / over[0], kl / over[1]
    return rec, kl, rec + beta * kl


def parameters(case):
    """Returns the names, shapes and values of all parameters, and their checksums."""
    model = VAE(case["features"], case["hidden"], case["latent"])
    values, sums, fan_in = {}, {}, None
    for name, p in model.named_parameters():
        fan_in = p.shape[1] if p.dim() == 2 else fan_in  # a bias follows its weight
        full = f"{case['name']}/{case['seed']}/{name}"
        flat = hashed.weights(full, p.numel(), fan_in)
        values[name] = flat.reshape(p.shape)
        sums[full] = hashed.checksum(flat)
    return values, sums


def batches(case):
    """Returns data and noise of each step, and their checksums."""
    made, sums = [], {}
    for step in range(STEPS):
        of_step = f"{case['name']}/{case['seed']}/{step}"
        x_name, e_name = f"{of_step}/targets", f"{of_step}/noise"
        x = hashed.targets(x_name, case["batch"] * case["features"])
        e = hashed.noise(e_name, case["batch"] * case["latent"])
        sums |= {x_name: hashed.checksum(x), e_name: hashed.checksum(e)}
        made.append((x.reshape(case["batch"], -1), e.reshape(case["batch"], -1)))
    return made, sums


def run(case, variant, dtype):
    """Runs ten steps of Adam. Returns all values of the first, the losses of all, the final weights."""
    model = VAE(case["features"], case["hidden"], case["latent"]).to(dtype)
    values, _ = parameters(case)
    model.load_state_dict({k: torch.tensor(v, dtype=dtype) for k, v in values.items()})
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    relu_inputs = []
    for layer in [*model.encoder, *model.decoder[:-1]]:
        layer.register_forward_hook(lambda m, i, o: relu_inputs.append(o.detach().double().numpy()))
    tensors, terms = {}, []
    for step, (x, e) in enumerate(batches(case)[0]):
        x, e = torch.tensor(x, dtype=dtype), torch.tensor(e, dtype=dtype)
        mu, logvar = model.encode(x)
        z = mu + torch.exp(0.5 * logvar) * e
        logits = model.decode(z)
        rec, kl, loss = objective(logits, x, mu, logvar, variant["beta"], variant["reduction"])
        adam.zero_grad()
        loss.backward()
        if step == 0:
            tensors |= {"mu": mu, "logvar": logvar, "z": z, "logits": logits}
            tensors |= {f"gradient/{n}": p.grad.clone() for n, p in model.named_parameters()}
        terms.append([rec.item(), kl.item(), loss.item()])
        adam.step()
    tensors |= {f"after/{n}": p for n, p in model.named_parameters()}
    tensors = {k: v.detach().double().numpy() for k, v in tensors.items()}
    return tensors, np.array(terms), relu_inputs


def digest(name, tensor, whole):
    """Returns the shape and values of `tensor`, or its norm, projections and some entries."""
    flat = tensor.reshape(-1)
    entry = {"shape": list(tensor.shape)}
    if whole and len(flat) <= WHOLE:
        return entry | {"values": flat.tolist()}
    chosen = hashed.bits(f"entries/{name}", 14) % np.uint64(len(flat))
    chosen = sorted({0, len(flat) - 1, *(int(i) for i in chosen)})
    return entry | {
        "norm": float(np.linalg.norm(flat)),
        "projections": [
            float(hashed.uniform(f"projection/{k}", len(flat)) @ flat) for k in range(PROJECTIONS)
        ],
        "entries": [[i, float(flat[i])] for i in chosen],
    }


def distance(found, golden):
    """Returns the largest relative error of a digest, as tests/golden.rs measures it.

    The scale of an entry is its size or the root mean square of the tensor, whichever is larger. The
    scale of a projection is the root mean square of projections of such a tensor.
    """
    count = math.prod(golden["shape"])
    if "values" in golden:
        rms = math.sqrt(sum(v * v for v in golden["values"]) / count)
        pairs = zip(found["values"], golden["values"])
        return max(abs(f - g) / max(abs(g), rms) for f, g in pairs)
    norm, rms = golden["norm"], golden["norm"] / math.sqrt(count)
    errors = [abs(found["norm"] - norm) / norm]
    for f, g in zip(found["projections"], golden["projections"]):
        errors.append(abs(f - g) / (norm / math.sqrt(3)))
    for (_, f), (_, g) in zip(found["entries"], golden["entries"]):
        errors.append(abs(f - g) / max(abs(g), rms))
    return max(errors)


def compute(case, variant):
    exact, exact_terms, exact_relu = run(case, variant, torch.float64)
    single, single_terms, single_relu = run(case, variant, torch.float32)

    # A unit that is active in one precision and inactive in the other would leave the comparison to
    # chance. The margin is the distance of the closest unit from that, in units of its layer's error.
    # The seeds below were chosen from the first sixteen for a wide margin.
    margin = min(
        np.abs(e).min() / np.abs(e - s).max() for e, s in zip(exact_relu, single_relu)
    )
    label = f"{case['name']}, beta {variant['beta']}, {variant['reduction']}"
    print(f"{label}: closest unit to the ReLU's corner: {margin:.1f} times its layer's float32 error")
    if margin < 10:
        sys.exit("a unit is too close to the corner: choose another seed for this network")

    tensors = {}
    for name, value in exact.items():
        golden = digest(name, value, variant["whole"])
        golden["float32"] = distance(digest(name, single[name], variant["whole"]), golden)
        tensors[name] = golden
        rms = math.sqrt(np.mean(value**2))
        worst = np.max(np.abs(single[name] - value) / np.maximum(np.abs(value), rms))
        print(f"  {name:28} float32 {golden['float32']:.1e}   every entry {worst:.1e}")
    terms = {}
    for k, term in enumerate(["reconstruction", "kl", "loss"]):
        off = np.max(np.abs(single_terms[:, k] / exact_terms[:, k] - 1))
        terms[term] = {"values": exact_terms[:, k].tolist(), "float32": float(off)}
        print(f"  {term:28} float32 {off:.1e}   ({exact_terms[0, k]:.4f} to {exact_terms[-1, k]:.4f})")
    return {
        "beta": variant["beta"],
        "reduction": variant["reduction"],
        "terms": terms,
        "tensors": tensors,
    }


def text(value, depth):
    """Formats JSON with ten significant digits and a line break at each of the top `depth` levels."""
    if isinstance(value, float):
        return repr(float(f"{value:.10g}"))
    if isinstance(value, dict):
        parts, brackets = [f'"{k}": {text(v, depth - 1)}' for k, v in value.items()], "{}"
    elif isinstance(value, list):
        parts, brackets = [text(v, depth - 1) for v in value], "[]"
    else:
        return json.dumps(value)
    if depth > 0:
        return brackets[0] + "\n" + ",\n".join(parts) + "\n" + brackets[1]
    return brackets[0] + ",".join(parts) + brackets[1]


def variant(beta, reduction, whole):
    return {"beta": beta, "reduction": reduction, "whole": whole}


CASES = [
    (
        {"name": "deep", "seed": 5, "features": 37, "hidden": [29, 17], "latent": 3, "batch": 13},
        [
            variant(1.0, "batch mean", True),
            variant(0.5, "sum", False),
            variant(4.0, "mean", False),
        ],
    ),
    (
        {"name": "classic", "seed": 3, "features": 784, "hidden": [400], "latent": 20, "batch": 16},
        [variant(1.0, "batch mean", False)],
    ),
]

if __name__ == "__main__":
    torch.manual_seed(0)  # of no effect on the results: every parameter is overwritten
    for case, variants in CASES:
        golden = {
            "made_by": f"tests/golden/make.py, PyTorch {torch.__version__}, float64",
            "network": case,
            "checksums": parameters(case)[1] | batches(case)[1],
            "variants": [compute(case, v) for v in variants],
        }
        path = FOLDER / f"{case['name']}.json"
        path.write_text(text(golden, 5) + "\n")
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB\n")
