#!/usr/bin/env python3
"""Samples a second of a training step in PyTorch, for the nets of worker/examples/step_speed.rs."""

import time

import torch
from torch import nn

SECONDS, ROUNDS = 2.0, 3

NETS = [
    ("A conv 32 3x3, pool, dropout, dense 256", [1, 28, 28], 64, lambda: [
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten(),
        nn.Linear(5408, 256), nn.ReLU(), nn.Linear(256, 10)]),
    ("B conv 80 3x3, conv 32 3x3, dense 96", [1, 28, 28], 32, lambda: [
        nn.Conv2d(1, 80, 3), nn.ReLU(), nn.Conv2d(80, 32, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(18432, 96), nn.ReLU(), nn.Linear(96, 10)]),
    ("E dense 512, dense 512", [784], 128, lambda: [
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)]),
]


def measure(shape, batch, layers):
    net = nn.Sequential(*layers())
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    features, labels = torch.rand(batch, *shape), torch.randint(10, (batch,))

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(features), labels).backward()
        optimizer.step()

    for _ in range(3):
        step()
    start, cpu, steps = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < SECONDS:
        step()
        steps += 1
    samples = steps * batch
    return samples / (time.process_time() - cpu), samples / (time.perf_counter() - start)


for threads in [1, 2]:
    torch.set_num_threads(threads)
    for name, shape, batch, layers in NETS:
        rates = sorted(measure(shape, batch, layers) for _ in range(ROUNDS))
        cpu, clock = rates[ROUNDS // 2]
        print(f"{threads} threads, net {name}, batch {batch}: {clock:.0f} samples/s, {cpu:.0f} a processor second",
              flush=True)
