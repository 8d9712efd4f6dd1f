"""A program that trains nothing, in epochs, and makes a checkpoint after each: for tests.

Its value after an epoch depends on all before. It is held before epoch N for as long as the file
`go-N` is not in the folder GATES, if N is among HOLD, and notes in TRACE what it trained.
"""

import json
import os
import pathlib
import signal
import sys
import time

EPOCHS = int(os.environ.get("EPOCHS", "6"))
params = json.loads(os.environ["TRAINYARD_PARAMS"])
until = min(EPOCHS, int(os.environ.get("TRAINYARD_UNTIL_EPOCH", EPOCHS)))
checkpoints = pathlib.Path(os.environ["TRAINYARD_CHECKPOINT_DIR"])
trial, attempt = os.environ["TRAINYARD_TRIAL_ID"], os.environ["TRAINYARD_ATTEMPT"]
holds = [int(epoch) for epoch in os.environ.get("HOLD", "").split(",") if epoch]

state = {"epoch": 0, "value": 100.0, "trials": []}
restored = os.environ.get("TRAINYARD_RESTORE_DIR")
if restored:
    folder = pathlib.Path(restored)
    state = json.loads((folder / "state.json").read_text())
    assert state["epoch"] == int(os.environ["TRAINYARD_RESTORE_EPOCH"]), state
    assert state["epoch"] * 10 == int(os.environ["TRAINYARD_RESTORE_STEP"]), state
    assert os.access(folder / "run.sh", os.X_OK) and os.readlink(folder / "latest") == "state.json"
    (folder / "state.json").write_text("it is this process's own")

leaving = []
signal.signal(signal.SIGTERM, lambda *_: leaving.append(True))


def trace(text):
    with open(os.environ["TRACE"], "a") as file:
        file.write(f"{trial} {attempt} {os.getppid()} {os.getpid()} {text}\n")


trace(f"from {state['epoch']}")
while state["epoch"] < until and not leaving:
    epoch = state["epoch"] + 1
    gate = pathlib.Path(os.environ.get("GATES", "/")) / f"go-{epoch}"
    while epoch in holds and not gate.exists() and not leaving:
        print("held", flush=True)
        time.sleep(0.1)
    if leaving:
        break
    state["value"] = state["value"] * 0.5 + params["target"]
    state["epoch"] = epoch
    state["trials"] = [t for t in state["trials"] if t != trial] + [trial]
    made = checkpoints / f"epoch-{epoch}"
    (made / "weights").mkdir(parents=True)
    (made / "state.json").write_text(json.dumps(state))
    (made / "run.sh").write_text("#!/bin/sh\n")
    (made / "run.sh").chmod(0o755)
    (made / "latest").symlink_to("state.json")
    for number in range(20):
        # Each is small enough for a limit of 64 KiB a file; together they are not.
        (made / "weights" / f"{number:02}.bin").write_bytes(bytes([number]) * 40_000)
    trace(f"epoch {epoch} {state['value']!r}")
    report = {"metrics": {"loss": state["value"]}, "epoch": epoch, "step": epoch * 10}
    print(json.dumps({**report, "checkpoint": str(made)}), flush=True)
if leaving:
    sys.exit(0)
