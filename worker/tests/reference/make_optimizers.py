"""Writes optimizers.json: parameters after every tenth of 100 steps of PyTorch's optimizers (CPU, f32).

Run in this folder with a Python that has torch: python make_optimizers.py
The gradients are fixed numbers that f32 holds exactly, so that only the update rules are compared; the test
computes them by the same formula. PyTorch has no Lion: its rule is written down here with tensors (Chen et al. 2023,
algorithm 2).
"""

import json
from pathlib import Path

import torch

STEPS = 100
EVERY = 10
START = [0.5, -1.25, 2.0, 0.0, -0.003, 10.0]
SCALES = [1.0, 8.0, 0.125, 2.0**-10, 2.0**-20, 1.0]


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr, betas, weight_decay):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                direction = (beta1 * m + (1 - beta1) * p.grad).sign()
                p.sub_(group["lr"] * (direction + group["weight_decay"] * p))
                m.mul_(beta2).add_(p.grad, alpha=1 - beta2)


BETAS = (0.9, 0.999)
CASES = {
    "sgd": (torch.optim.SGD, {"lr": 0.1}),
    "sgd_momentum": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "sgd_dampening": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "dampening": 0.5}),
    "sgd_nesterov": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "sgd_nesterov_decay": (
        torch.optim.SGD,
        {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    ),
    "adagrad": (
        torch.optim.Adagrad,
        {"lr": 0.1, "initial_accumulator_value": 0.1, "eps": 1e-7},
    ),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.01, "alpha": 0.9, "eps": 1e-7}),
    "rmsprop_momentum": (
        torch.optim.RMSprop,
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-7, "momentum": 0.9},
    ),
    "rmsprop_centered": (
        torch.optim.RMSprop,
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-4, "centered": True},
    ),
    "rmsprop_centered_momentum": (
        torch.optim.RMSprop,
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-4, "centered": True, "momentum": 0.5},
    ),
    "adadelta": (torch.optim.Adadelta, {"lr": 1.0, "rho": 0.95, "eps": 1e-7}),
    "adam": (torch.optim.Adam, {"lr": 0.01, "betas": BETAS, "eps": 1e-7}),
    "adam_large_epsilon": (torch.optim.Adam, {"lr": 0.1, "betas": (0.8, 0.95), "eps": 0.1}),
    "adam_amsgrad": (
        torch.optim.Adam,
        {"lr": 0.01, "betas": (0.9, 0.9), "eps": 1e-7, "amsgrad": True},
    ),
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "betas": BETAS, "eps": 1e-7, "weight_decay": 0.1}),
    "adamw_amsgrad": (
        torch.optim.AdamW,
        {"lr": 0.01, "betas": (0.9, 0.9), "eps": 1e-7, "weight_decay": 0.1, "amsgrad": True},
    ),
    "nadam": (torch.optim.NAdam, {"lr": 0.01, "betas": BETAS, "eps": 1e-7}),
    "nadam_decay": (
        torch.optim.NAdam,
        {"lr": 0.01, "betas": BETAS, "eps": 1e-7, "momentum_decay": 1.0},
    ),
    "lion": (Lion, {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.1}),
}


def gradient(step):
    places = range(len(START))
    return [((step * 37 + at * 101) % 257 - 128) / 64 * SCALES[at] for at in places]


def trajectory(make, options):
    parameter = torch.nn.Parameter(torch.tensor(START))
    optimizer = make([parameter], **options)
    after = []
    for step in range(STEPS):
        parameter.grad = torch.tensor(gradient(step))
        optimizer.step()
        if (step + 1) % EVERY == 0:
            # The shortest digits that f32 reads as the same number.
            after.append([float(str(value)) for value in parameter.detach().numpy()])
    return after


def main():
    rows = (
        f"  {json.dumps(name)}: {json.dumps(trajectory(make, options))}"
        for name, (make, options) in CASES.items()
    )
    text = (
        f'{{\n "torch": {json.dumps(torch.__version__)},\n "start": {json.dumps(START)},\n'
        f' "scales": {json.dumps(SCALES)},\n "after": {{\n' + ",\n".join(rows) + "\n }\n}\n"
    )
    Path(__file__).with_name("optimizers.json").write_text(text)


if __name__ == "__main__":
    main()
