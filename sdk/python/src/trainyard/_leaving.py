"""How a rank ends: Gloo's threads have to be at rest before the interpreter is torn down.

Such a thread drops what a collective operation has sent, and needs the interpreter for that. If it comes too late
the whole process is aborted ("terminate called without an active exception", pytorch/pytorch#190489), although all it
had to do is done: more often the fuller the machine. `destroy_process_group` does not prevent it, since it leaves
the threads to whoever else holds the group, as every `DistributedDataParallel` does.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from typing import List

# Threads that still compute after so long are the program's own, and none of Gloo's.
REST_S = 1.0
LOOK_AGAIN_S = 0.001
# A thread that waits for the interpreter in one look has had it by the next.
QUIET_LOOKS = 2
TASKS = "/proc/self/task"

_registered: List[bool] = []


def in_order() -> None:
    """From now on this process ends only when Gloo's threads are at rest. Does nothing twice."""
    if not _registered:
        _registered.append(True)
        atexit.register(rest)


def destroy_group() -> None:
    """For a group that this package has made."""
    rest()
    dist = sys.modules["torch.distributed"]
    if dist.is_initialized():
        dist.destroy_process_group()


def rest(limit_s: float = REST_S) -> bool:
    """Waits until no other thread of this process computes; false: the time is over."""
    deadline = time.monotonic() + limit_s
    quiet = 0
    while quiet < QUIET_LOOKS and time.monotonic() < deadline:
        # Gives the interpreter away, too.
        time.sleep(LOOK_AGAIN_S)
        quiet = 0 if _is_computing() else quiet + 1
    return quiet >= QUIET_LOOKS


def _is_computing() -> bool:
    """Whether a thread beside this one runs or would like to; false where the system does not say."""
    try:
        tasks = os.listdir(TASKS)
    except OSError:
        return False
    own = str(threading.get_native_id())
    return any(_state(task) == "R" for task in tasks if task != own)


def _state(task: str) -> str:
    try:
        with open(f"{TASKS}/{task}/stat") as file:
            # The name, in brackets, may hold anything.
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""  # It has ended.
