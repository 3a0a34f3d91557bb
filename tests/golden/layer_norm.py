"""Writes layer_norm.json: golden values of torch.nn.LayerNorm and its gradients.

    python tests/golden/layer_norm.py

The computation is in float64; the inputs are exact in float32.
"""

import json
import pathlib

import torch

ROWS, COLUMNS = 3, 7


def numbers(*shape):
    """Returns standard normal numbers, exact in float32, as float64."""
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
