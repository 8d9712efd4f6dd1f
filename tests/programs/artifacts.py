"""Keeps a plot in each attempt, and a folder in the last; the first attempt waits until it is killed."""

import json
import os
import socket
import time
from pathlib import Path

connection = socket.socket(socket.AF_UNIX)
connection.connect(os.environ["TRAINYARD_CHANNEL"])
channel = connection.makefile("rwb")


def ask(**message):
    channel.write(json.dumps(message).encode() + b"\n")
    channel.flush()
    answer = json.loads(channel.readline())
    if answer["type"] == "error":
        raise SystemExit(answer["message"])
    return answer


welcome = ask(type="hello", version=1, token=os.environ["TRAINYARD_TOKEN"])
attempt = welcome["attempt"]
here = Path(welcome["checkpoint_dir"])
plot = here / "plot.png"
plot.write_text(f"plot of attempt {attempt}")
ask(type="artifact", id=1, path=str(plot))
while attempt == 0:
    time.sleep(0.05)
report = here / "report"
(report / "tables").mkdir(parents=True)
(report / "tables" / "one.csv").write_text("a,b\n1,2\n")
ask(type="artifact", id=2, path=str(report), name="reports/last")
ask(type="report", id=3, epoch=1, metrics={"loss": 0.5})
