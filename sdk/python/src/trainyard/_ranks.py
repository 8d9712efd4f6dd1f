"""Which of a group's processes this one is, and agreement among them.

Asks `torch.distributed` only where the program has imported and initialised it.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Optional

from . import _leaving

REASONS = (None, "rung", "leave", "cancel")


def distributed() -> Optional[Any]:
    """`torch.distributed`, if a group of several processes is initialised."""
    module = sys.modules.get("torch.distributed")
    try:
        if module and module.is_available() and module.is_initialized():
            if module.get_world_size() > 1:
                _leaving.in_order()
                return module
            return None
    except (AttributeError, RuntimeError, ValueError):
        pass  # Half imported, or being torn down.
    return None


def rank(of_attempt: int) -> int:
    """The rank of the group that trains: `torch.distributed`'s, a launcher's `RANK`, or the attempt's."""
    group = distributed()
    if group is not None:
        return int(group.get_rank())
    launched = os.environ.get("RANK", "")
    return int(launched) if launched.isdecimal() else of_attempt


def agreed(reason: Optional[str]) -> Optional[str]:
    """Rank 0's answer, on every rank: a collective operation where a group is initialised."""
    group = distributed()
    if group is None:
        return reason
    torch = sys.modules["torch"]
    device = "cuda" if group.get_backend() == "nccl" else "cpu"
    answer = torch.tensor([REASONS.index(reason)], dtype=torch.int64, device=device)
    group.broadcast(answer, src=0)
    return REASONS[int(answer.item())]
