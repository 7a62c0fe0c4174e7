"""Who uses a work directory: runs, any number of them side by side, or who removes things from it, alone.

A lock of the operating system, so that a process that is killed holds nothing. Files are opened for reading and
writing: NFS wants the one for shared locks and the other for exclusive ones.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

_FILE = ".in-use.lock"


class InUseError(RuntimeError):
    """Runs are under way in a work directory."""


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Nothing is removed from the folder meanwhile. Waits for who does so now."""
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
    """No run begins in the folder meanwhile.

    Raises:
        InUseError: one is under way.
    """
    with (folder / _FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(f"a run is under way in {folder}: try again when it has ended") from None
        yield


def occupied(folder: Path) -> bool:
    """Whether a run is under way in the folder now. Writes nothing."""
    if not (folder / _FILE).exists():
        return False
    with (folder / _FILE).open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
