"""The word that was probably meant."""

from __future__ import annotations

import difflib
from typing import Iterable

# As alike as Python's own suggestions are.
LEAST = 0.6


def near(given: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    found = difflib.get_close_matches(given, list(known), n=1, cutoff=LEAST)
    return f"; did you mean {found[0]!r}?" if found else ""
