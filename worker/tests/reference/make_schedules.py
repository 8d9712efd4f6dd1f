"""Writes schedules.json: the rates of PyTorch's schedulers, step by step.

Run in this folder with a Python that has torch: python make_schedules.py
"""

import json
import warnings
from pathlib import Path

import torch
from torch.optim import lr_scheduler as lr

STEPS = 40
PER_EPOCH = 5
BASE = 0.1

# The spec, and what makes the same of an optimizer; whether PyTorch's is stepped after each epoch.
CASES = [
    ({"step": {"step_size": 3}}, lambda o: lr.StepLR(o, 3), True),
    (
        {"step": {"milestones": [2, 5], "gamma": 0.5}},
        lambda o: lr.MultiStepLR(o, [2, 5], gamma=0.5),
        True,
    ),
    ({"step": {"step_size": 7, "per": "step"}}, lambda o: lr.StepLR(o, 7), False),
    ({"exponential": {"gamma": 0.8}}, lambda o: lr.ExponentialLR(o, 0.8), True),
    (
        {"exponential": {"gamma": 0.95, "per": "step"}},
        lambda o: lr.ExponentialLR(o, 0.95),
        False,
    ),
    (
        {"cosine": {"min_lr": 0.01}},
        lambda o: lr.CosineAnnealingLR(o, STEPS, eta_min=0.01),
        False,
    ),
    (
        {"cosine": {"per": "epoch"}},
        lambda o: lr.CosineAnnealingLR(o, STEPS // PER_EPOCH),
        True,
    ),
    (
        {"cosine": {"period": 8, "restarts": True, "min_lr": 0.001}},
        lambda o: lr.CosineAnnealingWarmRestarts(o, 8, eta_min=0.001),
        False,
    ),
    (
        {"cosine": {"period": 4, "restarts": True, "period_factor": 2}},
        lambda o: lr.CosineAnnealingWarmRestarts(o, 4, T_mult=2),
        False,
    ),
    (
        {"one_cycle": {}},
        lambda o: lr.OneCycleLR(o, BASE, total_steps=STEPS, cycle_momentum=False),
        False,
    ),
    (
        {"one_cycle": {"anneal": "linear", "pct_start": 0.25, "div_factor": 10}},
        lambda o: lr.OneCycleLR(
            o,
            BASE,
            total_steps=STEPS,
            anneal_strategy="linear",
            pct_start=0.25,
            div_factor=10,
            cycle_momentum=False,
        ),
        False,
    ),
    (
        {"one_cycle": {"three_phase": True, "final_div_factor": 100}},
        lambda o: lr.OneCycleLR(
            o,
            BASE,
            total_steps=STEPS,
            three_phase=True,
            final_div_factor=100,
            cycle_momentum=False,
        ),
        False,
    ),
    ({"polynomial": {"period": 30}}, lambda o: lr.PolynomialLR(o, 30), False),
    ({"polynomial": {"power": 2.0}}, lambda o: lr.PolynomialLR(o, STEPS, power=2.0), False),
]

# With a warm-up of 10 steps.
WARM = [
    (
        {"cosine": {}},
        lambda o: lr.CosineAnnealingLR(o, STEPS - 10),
    ),
    (
        {"constant": {}},
        lambda o: lr.ConstantLR(o, factor=1.0),
    ),
]

# Losses of the epochs, and what reduces at a plateau of them. PyTorch waits one epoch more than `patience`.
LOSSES = [1.0, 0.9, 0.95, 0.9, 0.91, 0.92, 0.85, 0.86, 0.8499, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]
PLATEAUS = [
    {"patience": 2, "factor": 0.5},
    {"patience": 1, "factor": 0.1, "cooldown": 2},
    {"patience": 3, "factor": 0.2, "min_lr": 0.01, "min_delta": 0.01},
    {"patience": 2, "factor": 0.5, "mode": "maximize", "min_delta": 0.0},
]


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)


def rates(scheduled, scheduler, per_epoch):
    found = []
    for step in range(STEPS):
        found.append(scheduled.param_groups[0]["lr"])
        scheduled.step()
        if not per_epoch or (step + 1) % PER_EPOCH == 0:
            scheduler.step()
    return found


def warm(make):
    scheduled = optimizer()
    rise = lr.LinearLR(scheduled, start_factor=0.25, total_iters=10)
    return rates(scheduled, lr.SequentialLR(scheduled, [rise, make(scheduled)], [10]), False)


def plateau(spec):
    scheduled = optimizer()
    scheduler = lr.ReduceLROnPlateau(
        scheduled,
        mode=spec.get("mode", "minimize")[:3],
        factor=spec["factor"],
        patience=spec["patience"] - 1,
        threshold=spec.get("min_delta", 1e-4),
        threshold_mode="abs",
        cooldown=spec.get("cooldown", 0),
        min_lr=spec.get("min_lr", 0.0),
    )
    found = []
    for loss in LOSSES:
        scheduler.step(loss)
        found.append(scheduled.param_groups[0]["lr"])
    return found


def row(spec, found):
    return json.dumps({"spec": spec, "rates": [float(f"{rate:.12g}") for rate in found]})


def main():
    warnings.simplefilter("ignore")
    scheduled = []
    for spec, make, per_epoch in CASES:
        own = optimizer()
        scheduled.append(row(spec, rates(own, make(own), per_epoch)))
    warmed = [row(spec, warm(make)) for spec, make in WARM]
    plateaus = [row({"plateau": spec}, plateau(spec)) for spec in PLATEAUS]
    parts = ",\n".join(
        f' "{name}": [\n  ' + ",\n  ".join(rows) + "\n ]"
        for name, rows in (("scheduled", scheduled), ("warmed", warmed), ("plateaus", plateaus))
    )
    head = (
        f' "torch": {json.dumps(torch.__version__)}, "base": {BASE}, "steps": {STEPS}, '
        f'"steps_per_epoch": {PER_EPOCH},\n "losses": {json.dumps(LOSSES)},\n'
    )
    Path(__file__).with_name("schedules.json").write_text("{\n" + head + parts + "\n}\n")


if __name__ == "__main__":
    main()
