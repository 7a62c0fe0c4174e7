"""Where an output lies: `<root>/<stage>/<hash>`, with hidden neighbours while it is made, replaced or locked."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PARTIAL, _LOCK, _OLD = ".partial", ".lock", ".old-"


@dataclass(frozen=True)
class OutputPaths:
    """The paths of one output; `folder` is the finished one, named by its hash, in that of its stage."""

    folder: Path

    @property
    def partial(self) -> Path:
        """The folder in which the stage works."""
        return self.folder.with_name(f".{self.folder.name}{_PARTIAL}")

    @property
    def lock_file(self) -> Path:
        """Locked by the process that makes or removes the output."""
        return self.folder.with_name(f".{self.folder.name}{_LOCK}")

    @classmethod
    def of(cls, path: Path) -> OutputPaths:
        """From any path of an output."""
        return cls(path.with_name(path.name.lstrip(".").split(".")[0]))


def partial_folders(stage_folder: Path) -> Iterator[OutputPaths]:
    """The outputs of a stage that have a partial folder."""
    return map(OutputPaths.of, sorted(stage_folder.glob(f".*{_PARTIAL}")))


def lock_files(stage_folder: Path) -> Iterator[OutputPaths]:
    """The outputs of a stage that have a lock file."""
    return map(OutputPaths.of, sorted(stage_folder.glob(f".*{_LOCK}")))


def old_folders(stage_folder: Path) -> list[Path]:
    """Folders of a stage that were renamed to be removed."""
    return sorted(stage_folder.glob(f".*{_OLD}*"))


def move_aside(folder: Path) -> Path:
    """Rename a folder so that it no longer counts, and return its new path."""
    if _OLD in folder.name:
        return folder
    return folder.rename(folder.with_name(f".{folder.name.lstrip('.')}{_OLD}{uuid.uuid4().hex[:8]}"))


def put_in_place(partial: Path, final: Path) -> None:
    """Rename `partial` to `final`, replacing a folder of that name."""
    old = None
    with suppress(FileNotFoundError):
        old = move_aside(final)
    partial.rename(final)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)  # last: it takes a while, and this process may be killed meanwhile
