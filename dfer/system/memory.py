"""Memory: how the C library hands it out, and how much of it there is."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import psutil

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Let this process keep memory that it frees, for the next time it needs as much; whether the C library can.

    glibc maps every large block anew and gives it back when it is freed, so that each step of a training has the kernel
    clear all of its activations' pages again. The price is a higher peak (kept blocks do not fit every later size), and
    that the process gives nothing back until it ends. A no-op where the C library is another one.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # -1: never trimmed
    return all([mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, -1), mallopt(_M_TOP_PAD, 256 * 2**20)])


def available_memory() -> int:
    """Bytes of RAM that this process can still take: what the machine has free, or what its control groups leave it."""
    rooms = [_room(folder, *names) for folder, names in _control_groups()]
    return min([psutil.virtual_memory().available, *(room for room in rooms if room is not None)])


def _control_groups() -> list[tuple[Path, tuple[str, str]]]:
    """The folders of this process's memory control groups, its own and all above it, with their files' names."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    groups: list[tuple[Path, tuple[str, str]]] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = Path("/sys/fs/cgroup/memory"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        own = root / path.lstrip("/")
        groups += [(folder, names) for folder in (own, *own.parents) if folder.is_relative_to(root)]
    return groups


def _room(folder: Path, limit: str, used: str) -> int | None:
    """What a control group still leaves, counting files' pages that can be dropped; None without a limit."""
    try:
        most = (folder / limit).read_text().strip()
        taken = int((folder / used).read_text())
        droppable = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if most == "max":
        return None
    inactive = int(droppable.get("total_inactive_file", droppable.get("inactive_file", 0)))
    return max(0, int(most) - taken + inactive)
