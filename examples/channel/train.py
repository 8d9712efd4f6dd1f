"""Gradient descent on x^2. Reports each epoch over the channel; ends once it is told to stop."""

import json
import os
import socket

connection = socket.socket(socket.AF_UNIX)
connection.connect(os.environ["TRAINYARD_CHANNEL"])
channel = connection.makefile("rwb")


def ask(**message):
    """The answer to a request; what comes before it is a stop, which is asked about anyway."""
    channel.write(json.dumps(message).encode() + b"\n")
    channel.flush()
    while True:
        answer = json.loads(channel.readline())
        if answer["type"] == "error":
            raise SystemExit(answer["message"])
        if answer["type"] == "welcome" or answer.get("id") == message.get("id"):
            return answer


begin = ask(type="hello", version=1, token=os.environ["TRAINYARD_TOKEN"])
x, rate = 1.0, begin["params"]["model.lr"]
for epoch in range(9):
    x -= rate * 2 * x
    ask(type="report", id=2 * epoch, epoch=epoch, metrics={"loss": x * x})
    reason = ask(type="should_stop", id=2 * epoch + 1)["reason"]
    if reason:
        print(f"stops after epoch {epoch}: {reason}")
        break
