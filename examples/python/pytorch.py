"""A small network on two spirals, which are generated."""

import argparse

import torch
import trainyard as ty

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--width", type=int, default=16)
args = parser.parse_args()

torch.manual_seed(0)
angle = torch.rand(600) * 9
label = torch.arange(600) % 2
points = torch.stack([angle.cos(), angle.sin()], 1) * (angle * (1 - 2 * label))[:, None] / 9
points += torch.randn(600, 2) * 0.02
train, test = slice(0, 400), slice(400, 600)

model = torch.nn.Sequential(
    torch.nn.Linear(2, args.width), torch.nn.Tanh(),
    torch.nn.Linear(args.width, args.width), torch.nn.Tanh(),
    torch.nn.Linear(args.width, 2),
)
optimizer = torch.optim.Adam(model.parameters(), args.lr)
for epoch in range(9):
    for batch in torch.randperm(400).split(40):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(points[train][batch]), label[train][batch])
        loss.backward()
        optimizer.step()
    accuracy = (model(points[test]).argmax(1) == label[test]).float().mean()
    ty.report({"loss": loss, "accuracy": accuracy}, epoch=epoch)
    if ty.should_stop(): break
