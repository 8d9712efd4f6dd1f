"""The folder that goes along with a function: its own, and this package beside it, which a worker need not have.

What of it stays behind `coordinatorctl` decides (docs/programs.md, "Code"); here is left out only what it never takes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Iterator, List, Optional, Set

from . import _code
from ._log import warn_once

# What a bundle may hold at most; a larger folder goes along as it is.
MAX_FILES = 20_000
MAX_BYTES = 1024**3
# `coordinatorctl` leaves them out anyhow, and they are large.
LEFT_OUT = {".git", ".hg", ".svn", "__pycache__", "node_modules", ".venv", ".tox", ".mypy_cache"}
PACKAGE = Path(__file__).resolve().parent


class _TooLarge(Exception):
    """The folder has more than is shipped."""


@contextlib.contextmanager
def folder(code: _code.Code, with_package: bool) -> Iterator[Optional[Path]]:
    """What a trial needs of this machine, as a folder that is there as long as the block; `None`: nothing.

    Args:
        code: the function's.
        with_package: whether this package goes along.
    """
    own = code.folder
    if code.source is None and not (with_package and _can_be_joined(own)):
        yield own
        return
    with tempfile.TemporaryDirectory(prefix="trainyard-") as name:
        made = Path(name)
        if code.source is not None:
            (made / f"{_code.WRITTEN}.py").write_text(code.source, encoding="utf-8")
        elif own is not None:
            _copy(own, made)
        if with_package:
            _copy(PACKAGE, made / PACKAGE.name)
        yield made


def _can_be_joined(own: Optional[Path]) -> bool:
    if own is None or (own / PACKAGE.name).exists():
        return own is None
    try:
        _measure(own)
    except _TooLarge:
        warn_once(
            "folder",
            f"{own} has more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB: it goes along without "
            "this package, which has to be installed on the workers",
        )
        return False
    return True


def _measure(own: Path) -> None:
    files = size = 0
    for above, folders, names in os.walk(own):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        files += len(names)
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(above, name)).st_size
        if files > MAX_FILES or size > MAX_BYTES:
            raise _TooLarge


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(
        source, target, symlinks=True, ignore=_ignored, copy_function=_link, dirs_exist_ok=True
    )


def _ignored(_: str, names: List[str]) -> Set[str]:
    return LEFT_OUT.intersection(names)


def _link(source: str, target: str) -> None:
    """The same file under another name where that is possible: it is only read."""
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(source, target, follow_symlinks=False)
