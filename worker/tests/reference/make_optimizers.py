"""Writes optimizers.json: parameters after each step of PyTorch's optimizers (CPU, f32).

Run in this folder with a Python that has torch: python make_optimizers.py
The gradients are fixed numbers, so that only the update rules are compared.
"""

import json
from pathlib import Path

import torch

STEPS = 6
START = [0.5, -1.25, 2.0, 0.0, -0.003, 10.0]
CASES = {
    "sgd": (torch.optim.SGD, {"lr": 0.1}),
    "sgd_momentum": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "sgd_nesterov": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "sgd_nesterov_decay": (
        torch.optim.SGD,
        {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    ),
    "adam": (torch.optim.Adam, {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-7}),
    "adam_large_epsilon": (torch.optim.Adam, {"lr": 0.1, "betas": (0.8, 0.95), "eps": 0.1}),
    "adamw": (
        torch.optim.AdamW,
        {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-7, "weight_decay": 0.1},
    ),
}


def gradients():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(STEPS, len(START), generator=generator) * torch.tensor(
        [1.0, 10.0, 0.1, 1e-3, 1e-6, 1.0]
    )


def trajectory(make, options, steps):
    parameter = torch.nn.Parameter(torch.tensor(START))
    optimizer = make([parameter], **options)
    after = []
    for gradient in steps:
        parameter.grad = gradient.clone()
        optimizer.step()
        after.append(parameter.detach().tolist())
    return after


def main():
    steps = gradients()
    document = {
        "torch": torch.__version__,
        "start": START,
        "gradients": steps.tolist(),
        "after": {name: trajectory(make, options, steps) for name, (make, options) in CASES.items()},
    }
    Path(__file__).with_name("optimizers.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
