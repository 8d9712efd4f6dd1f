"""A network on two spirals, by as many ranks as there are, which goes on from its checkpoints to the digit.

It is held before epoch N, if that is among HOLD, until the file `go-N` is in FOLDER.
"""

import os
import sys
import time

import torch
import trainyard as ty
from torch.utils.data import DataLoader, TensorDataset
from tracing import FOLDER, trace

EPOCHS = int(os.environ.get("EPOCHS", "4"))
HOLD = [int(epoch) for epoch in os.environ.get("HOLD", "").split(",") if epoch]
dist = torch.distributed

config = ty.params({"lr": 0.01})
device = ty.torch.init()
torch.set_num_threads(1)


def leave(epoch, batch):
    trace(f"left {epoch} {batch}")
    sys.exit(0)


def held(epoch):
    """All ranks wait together, and ask together whether they are to leave."""
    while epoch in HOLD:
        is_open = torch.tensor([int((FOLDER / f"go-{epoch}").exists())])
        if dist.is_initialized():
            dist.broadcast(is_open, src=0)
        if is_open.item():
            return
        trace(f"held {epoch}")
        if ty.should_stop():
            leave(epoch, "held")
        time.sleep(0.1)


generator = torch.Generator().manual_seed(0)
angle = torch.rand(300, generator=generator) * 9
label = torch.arange(300) % 2
points = torch.stack([angle.cos(), angle.sin()], 1) * (angle * (1 - 2 * label))[:, None] / 9
loader = DataLoader(TensorDataset(points[:200], label[:200]), batch_size=20, shuffle=True)
model = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
model, loader = ty.torch.prepare(model, loader)
optimizer = torch.optim.Adam(model.parameters(), config["lr"])

first = 0
if (kept := ty.latest_checkpoint()) is not None:
    state = torch.load(kept / "state.pt", map_location=device)
    ty.torch.unwrap(model).load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    first = state["epoch"] + 1
    if dist.is_initialized():
        weights = torch.cat([p.detach().flatten() for p in model.parameters()])
        everyones = [torch.empty_like(weights) for _ in range(dist.get_world_size())]
        dist.all_gather(everyones, weights)
        assert all(torch.equal(weights, other) for other in everyones)
trace(f"from {first}")

for epoch in range(first, EPOCHS):
    held(epoch)
    for number, (batch, target) in enumerate(loader):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(batch), target)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        scores = ty.torch.unwrap(model)(points[200:])
        test_loss = torch.nn.functional.cross_entropy(scores, label[200:])
        accuracy = (scores.argmax(1) == label[200:]).float().mean()
    trace(f"trained {epoch}")
    ty.report({"loss": loss, "test_loss": test_loss, "accuracy": accuracy}, epoch=epoch)
    with ty.checkpoint_dir(epoch=epoch) as folder:
        state = {"model": ty.torch.unwrap(model).state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "epoch": epoch}, folder / "state.pt")
    if ty.should_stop():
        leave(epoch, "end")
trace("done")
