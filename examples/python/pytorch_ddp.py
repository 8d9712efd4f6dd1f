"""Two ranks train one network together, go on from their last checkpoint, and stop when they are asked to.

By hand: `python3 pytorch_ddp.py`, or `torchrun --nproc-per-node 2 pytorch_ddp.py`.
"""

import torch
import trainyard as ty
from torch.utils.data import DataLoader, TensorDataset

config = ty.params({"lr": 0.01, "width": 16})
device = ty.torch.init()

# The same data on every rank, whatever its generator has drawn before.
generator = torch.Generator().manual_seed(0)
angle = torch.rand(600, generator=generator) * 9
label = torch.arange(600) % 2
points = torch.stack([angle.cos(), angle.sin()], 1) * (angle * (1 - 2 * label))[:, None] / 9
loader = DataLoader(TensorDataset(points[:400], label[:400]), batch_size=20, shuffle=True)

width = config["width"]
model = torch.nn.Sequential(
    torch.nn.Linear(2, width),
    torch.nn.Tanh(),
    torch.nn.Linear(width, width),
    torch.nn.Tanh(),
    torch.nn.Linear(width, 2),
)
model, loader = ty.torch.prepare(model, loader)
optimizer = torch.optim.Adam(model.parameters(), config["lr"])

first = 0
if (kept := ty.latest_checkpoint()) is not None:
    state = torch.load(kept / "state.pt", map_location=device)
    ty.torch.unwrap(model).load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    first = state["epoch"] + 1

for epoch in range(first, 27):
    for batch, target in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(batch), target)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        scores = ty.torch.unwrap(model)(points[400:].to(device)).argmax(1).cpu()
    accuracy = (scores == label[400:]).float().mean()
    ty.report({"loss": loss, "accuracy": accuracy}, epoch=epoch)
    with ty.checkpoint_dir(epoch=epoch) as folder:
        state = {"model": ty.torch.unwrap(model).state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "epoch": epoch}, folder / "state.pt")
    if ty.should_stop():
        break
