"""Golden values: torch.nn.LayerNorm and its gradients, written to layer_norm.json.

    python tests/golden/layer_norm.py

Float64 throughout; the inputs are float32 numbers.
"""

import json
import pathlib

import torch

ROWS, COLUMNS = 3, 7


def numbers(*shape):
    """Standard normal float32 numbers as float64."""
    return torch.randn(*shape, dtype=torch.float32).double()


def main():
    torch.manual_seed(2)
    x, dy = (3 * numbers(ROWS, COLUMNS) + 10).float().double(), numbers(ROWS, COLUMNS)
    x.requires_grad_()
    layer = torch.nn.LayerNorm(COLUMNS, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(numbers(COLUMNS))
        layer.bias.copy_(numbers(COLUMNS))
    y = layer(x)
    y.backward(dy)
    golden = dict(
        x=x.tolist(), dy=dy.tolist(), gain=layer.weight.tolist(), shift=layer.bias.tolist(),
        y=y.tolist(), dx=x.grad.tolist(),
        dgain=layer.weight.grad.tolist(), dshift=layer.bias.grad.tolist(),
    )  # fmt: skip
    path = pathlib.Path(__file__).with_name("layer_norm.json")
    path.write_text(json.dumps(golden, indent=1) + "\n")


main()
