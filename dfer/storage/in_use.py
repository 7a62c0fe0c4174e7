"""Keeps runs and removals apart: any number of runs share a work directory, a removal needs it alone.

Uses a lock of the operating system, which is released when a process is killed. The file is opened for reading and
writing: NFS requires the one for shared locks and the other for exclusive ones.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dfer.system.locks import is_locked

logger = logging.getLogger(__name__)

_FILE = ".in-use.lock"


class InUseError(RuntimeError):
    """A run is under way in a work directory."""


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keep anything from being removed from the folder during the block. Waits for a removal to end."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("waiting until `dfer clean` is done with %s", folder)
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep runs from starting in the folder during the block. Raises InUseError if one is under way."""
    with (folder / _FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(f"a run is under way in {folder}: try again when it has ended") from None
        yield


def occupied(folder: Path) -> bool:
    """Whether a run is under way in the folder now. Writes nothing."""
    return is_locked(folder / _FILE)
