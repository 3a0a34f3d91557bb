"""Writes optimizers.json: golden values of ten steps of each optimizer of torch.optim, of clipped
gradients and of the learning rates of schedulers.

    python tests/golden/optimizers.py

The computation is in float64; the gradients are exact in float32.
"""

import json
import pathlib

import torch

STEPS, WEIGHTS = 10, 6
CASES = [
    ("adam", torch.optim.Adam, dict(lr=1e-3)),
    ("adam", torch.optim.Adam, dict(lr=0.01, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1)),
    ("adamw", torch.optim.AdamW, dict(lr=1e-3)),
    ("adamw", torch.optim.AdamW, dict(lr=0.02, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.5)),
    ("sgd", torch.optim.SGD, dict(lr=0.1)),
    ("sgd", torch.optim.SGD, dict(lr=0.1, momentum=0.9)),
    ("sgd", torch.optim.SGD, dict(lr=0.05, momentum=0.7, nesterov=True, weight_decay=0.2)),
    ("adamax", torch.optim.Adamax, dict()),
    ("adamax", torch.optim.Adamax, dict(lr=0.05, betas=(0.7, 0.9), eps=1e-3, weight_decay=0.1)),
]


def numbers(*shape):
    """Returns standard normal numbers, exact in float32, as float64."""
    return torch.randn(*shape, dtype=torch.float32).double()


def optimizers(start, gradients):
    for name, make, settings in CASES:
        w = torch.nn.Parameter(start.clone())
        optimizer = make([w], **settings)
        after = []
        for g in gradients:
            w.grad = g.clone()
            optimizer.step()
            after.append(w.detach().tolist())
        group = optimizer.param_groups[0]
        keys = ["lr", "betas", "eps", "weight_decay", "momentum", "nesterov"]
        kept = {key: group[key] for key in keys if key in group}
        yield dict(name=name, settings=kept, after=after)


def clipped(g):
    by_norm, by_value = torch.nn.Parameter(g.clone()), torch.nn.Parameter(g.clone())
    by_norm.grad, by_value.grad = g.clone(), g.clone()
    norm = torch.nn.utils.clip_grad_norm_([by_norm], 1.5)
    torch.nn.utils.clip_grad_value_([by_value], 0.5)
    return dict(norm=norm.item(), by_norm=by_norm.grad.tolist(), by_value=by_value.grad.tolist())


def rates(make, count, *metrics):
    """Returns the factor on the learning rate before each step of the scheduler."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, found = make(optimizer), []
    for i in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(*(metric[i] for metric in metrics))
    return found


def schedules():
    lr = torch.optim.lr_scheduler
    losses = [5.0, 4.0, 4.0, 3.9999, 3.9997, 3.9999, 4.5, 3.0, 3.1, 3.2, 3.3, 3.4, 3.5, 3.6, 2.0]
    return dict(
        losses=losses,
        step=rates(lambda o: lr.StepLR(o, step_size=3, gamma=0.5), 10),
        cosine=rates(lambda o: lr.CosineAnnealingLR(o, T_max=8, eta_min=0.1), 9),
        warm_up=rates(lambda o: lr.LinearLR(o, start_factor=1 / 5, total_iters=4), 8),
        plateau=rates(
            lambda o: lr.ReduceLROnPlateau(o, factor=0.5, patience=2), len(losses), losses
        ),
    )


def main():
    torch.manual_seed(1)
    start, gradients = numbers(WEIGHTS), numbers(STEPS, WEIGHTS)
    golden = dict(
        start=start.tolist(),
        gradients=gradients.tolist(),
        optimizers=list(optimizers(start, gradients)),
        clipped=clipped(gradients[0]),
        schedules=schedules(),
    )
    path = pathlib.Path(__file__).with_name("optimizers.json")
    path.write_text(json.dumps(golden, indent=1) + "\n")


main()
