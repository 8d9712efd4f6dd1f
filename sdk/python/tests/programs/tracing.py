"""What the programs of these tests say about themselves, beside what they report."""

import os
import pathlib

FOLDER = pathlib.Path(os.environ["FOLDER"])
TRIAL, ATTEMPT = os.environ["TRAINYARD_TRIAL_ID"], os.environ["TRAINYARD_ATTEMPT"]
RANK = os.environ["TRAINYARD_RANK"]


def trace(what):
    with open(FOLDER / f"trace-{TRIAL}-{int(ATTEMPT):03}-{RANK}", "a") as file:
        file.write(f"{TRIAL} {ATTEMPT} {RANK} {os.getpid()} {os.getppid()} {what}\n")
