"""A member of a population: what it goes on from, its own or another's, is what was saved, to the digit."""

import os

import torch
import trainyard as ty
from tracing import TRIAL, trace

EPOCHS = int(os.environ.get("EPOCHS", "4"))
config = ty.params()
ty.torch.init()
torch.set_num_threads(1)

x = torch.linspace(-1, 1, 64)[:, None]
y = torch.sin(3 * x)
model = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), config["lr"], momentum=0.9)


def loss_now():
    with torch.no_grad():
        return (model(x) - y).square().mean().item()


first, members = 0, []
if (kept := ty.latest_checkpoint()) is not None:
    state = torch.load(kept / "state.pt")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    first, members = state["epoch"] + 1, state["members"]
    assert loss_now() == state["loss"], "other weights than those that were saved"
    # The momentum is the source's, the rate the member's own.
    for group in optimizer.param_groups:
        group["lr"] = config["lr"]
if members[-1:] != [TRIAL]:
    members = [*members, TRIAL]
trace(f"from {first} {config['lr']!r}")

for epoch in range(first, EPOCHS):
    for batch in torch.randperm(64).split(8):
        optimizer.zero_grad()
        (model(x[batch]) - y[batch]).square().mean().backward()
        optimizer.step()
    loss = loss_now()
    ty.report({"loss": loss}, epoch=epoch)
    with ty.checkpoint_dir(epoch=epoch) as folder:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "epoch": epoch, "loss": loss, "members": members}, folder / "state.pt")
    trace(f"trained {epoch} {'<'.join(members)}")
    if ty.should_stop():
        break
