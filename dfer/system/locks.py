"""Whether another process, or another open file of this one, holds a lock of the operating system."""

from __future__ import annotations

import fcntl
from pathlib import Path


def is_locked(path: Path) -> bool:
    """Whether a file exists and is locked by `fcntl.flock`, as `filelock.FileLock` does. Writes nothing."""
    if not path.exists():
        return False
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
