"""A folder as Ray calls a checkpoint."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Union

from .. import _values

METADATA = ".metadata.json"


class Checkpoint:
    """A folder on this machine, as `path`."""

    def __init__(self, path: Union[str, "os.PathLike[str]"]) -> None:
        self.path = _values.existing_path("path", path)
        self.filesystem = None

    @classmethod
    def from_directory(cls, path: Union[str, "os.PathLike[str]"]) -> "Checkpoint":
        """The checkpoint of a folder.

        Raises:
            TypeError, ValueError: it is none.
        """
        return cls(path)

    def __repr__(self) -> str:
        return f"Checkpoint(path={self.path!r})"

    def __fspath__(self) -> str:
        return self.path

    @contextlib.contextmanager
    def as_directory(self) -> Iterator[str]:
        """The folder itself."""
        yield self.path

    def to_directory(self, path: Union[None, str, "os.PathLike[str]"] = None) -> str:
        """A copy of the folder; without `path` in a temporary one."""
        target = tempfile.mkdtemp(prefix="checkpoint-") if path is None else os.fspath(path)
        shutil.copytree(self.path, target, dirs_exist_ok=True)
        return target

    def get_metadata(self) -> Dict[str, Any]:
        """What `set_metadata` was given."""
        file = Path(self.path) / METADATA
        found: Dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found

    def set_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Keeps something with the checkpoint, in its folder."""
        (Path(self.path) / METADATA).write_text(json.dumps(dict(metadata)))

    def update_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Adds to what is kept."""
        self.set_metadata({**self.get_metadata(), **metadata})


def path_of(given: Optional[Checkpoint]) -> Optional[str]:
    """The folder to report.

    Raises:
        TypeError: it is no checkpoint.
    """
    if given is None:
        return None
    if not isinstance(given, Checkpoint):
        raise TypeError(
            f"checkpoint is {given!r:.80}, expected Checkpoint.from_directory(...) of this package"
        )
    return given.path
