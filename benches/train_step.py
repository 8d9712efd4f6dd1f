#!/usr/bin/env python3
"""Samples a second of a training step in PyTorch, for the nets of worker/examples/step_speed.rs."""

import sys
import time

import torch
from torch import nn

SECONDS, ROUNDS = 2.0, 3


class Lstms(nn.Module):
    """Four of 50 units over 60 steps of one feature, dropout after each."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.LSTM(1 if at == 0 else 50, 50, batch_first=True) for at in range(4)])
        self.dropout, self.head = nn.Dropout(0.2), nn.Linear(50, 1)

    def forward(self, x):
        for layer in self.layers:
            x = self.dropout(layer(x)[0])
        return self.head(x[:, -1])


class LstmStack(nn.Module):
    """The same in one module, with dropout between its layers."""

    def __init__(self):
        super().__init__()
        self.layers = nn.LSTM(1, 50, num_layers=4, dropout=0.2, batch_first=True)
        self.dropout, self.head = nn.Dropout(0.2), nn.Linear(50, 1)

    def forward(self, x):
        return self.head(self.dropout(self.layers(x)[0][:, -1]))


class Encoder(nn.Module):
    """Two blocks, normalized first, over 64 words of a vocabulary of 1,000."""

    def __init__(self):
        super().__init__()
        self.table, self.places = nn.Embedding(1000, 64), nn.Parameter(torch.randn(64, 64) * 0.1)
        block = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, norm=nn.LayerNorm(64), enable_nested_tensor=False)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.blocks(self.table(x) + self.places).mean(1))


NETS = [
    ("A conv 32 3x3, pool, dropout, dense 256", [1, 28, 28], 64, lambda: [
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten(),
        nn.Linear(5408, 256), nn.ReLU(), nn.Linear(256, 10)]),
    ("B conv 80 3x3, conv 32 3x3, dense 96", [1, 28, 28], 32, lambda: [
        nn.Conv2d(1, 80, 3), nn.ReLU(), nn.Conv2d(80, 32, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(18432, 96), nn.ReLU(), nn.Linear(96, 10)]),
    ("E dense 512, dense 512", [784], 128, lambda: [
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)]),
    ("F four lstm 50, 60 steps, modules", [60, 1], 32, lambda: [Lstms()]),
    ("F four lstm 50, 60 steps, one module", [60, 1], 32, lambda: [LstmStack()]),
    ("I embedding 64, two blocks of 4 heads and dense 256, 64 steps", [64], 32, lambda: [Encoder()]),
]


def measure(name, shape, batch, layers):
    net = nn.Sequential(*layers())
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    features, labels = torch.rand(batch, *shape), torch.randint(10, (batch,))
    if name.startswith("I"):
        features = torch.randint(1000, (batch, *shape))
    values, one = labels[:, None] / 10, name.startswith("F")

    def step():
        optimizer.zero_grad()
        output = net(features)
        loss = nn.functional.mse_loss(output, values) if one else nn.functional.cross_entropy(output, labels)
        loss.backward()
        optimizer.step()

    for _ in range(3):
        step()
    start, cpu, steps = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < SECONDS:
        step()
        steps += 1
    samples = steps * batch
    return samples / (time.process_time() - cpu), samples / (time.perf_counter() - start)


# train_step.py [letters of nets] [numbers of threads], such as `FI 1`; all without.
letters = sys.argv[1] if len(sys.argv) > 1 else ""
for threads in [int(text) for text in sys.argv[2:]] or [1, 2]:
    torch.set_num_threads(threads)
    for name, shape, batch, layers in NETS:
        if letters and name[0] not in letters:
            continue
        rates = sorted(measure(name, shape, batch, layers) for _ in range(ROUNDS))
        cpu, clock = rates[ROUNDS // 2]
        print(f"{threads} threads, net {name}, batch {batch}: {clock:.0f} samples/s, {cpu:.0f} a processor second",
              flush=True)
