"""How the C library hands out memory, and how much of it is free."""

from __future__ import annotations

import ctypes
import platform
import resource
from pathlib import Path

import psutil

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Let this process keep memory that it frees, for the next time it needs as much.

    glibc maps every large block anew and unmaps it when it is freed, so that in each step of a training the kernel has
    to clear all pages of its activations again. The price is a higher peak (kept blocks do not fit every later size),
    and that the process gives nothing back until it ends. Returns whether the C library can; only glibc can.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # -1: never trimmed
    return all([mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, -1), mallopt(_M_TOP_PAD, 256 * 2**20)])


def available_memory() -> int:
    """Bytes of RAM that this process can still take: what the machine has free, or what its control groups leave it."""
    left = [_left_by(folder, *names) for folder, names in _control_groups()]
    return min([psutil.virtual_memory().available, *(one for one in left if one is not None)])


def peak_memory() -> int:
    """The most bytes of RAM that this process has held so far, its libraries included."""
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if platform.system() == "Darwin" else 1024 * usage  # macOS counts bytes, others KiB


def total_memory() -> int:
    """Bytes of RAM of this machine, or the most that its control groups let this process and its relatives take."""
    limits = [_limit(folder / names[0]) for folder, names in _control_groups()]
    return min([psutil.virtual_memory().total, *(one for one in limits if one is not None)])


def _control_groups() -> list[tuple[Path, tuple[str, str]]]:
    """The folders of this process's memory control group and all above it, with their files' names."""
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
        lowest = root / path.lstrip("/")
        groups += [(folder, names) for folder in (lowest, *lowest.parents) if folder.is_relative_to(root)]
    return groups


def _limit(file: Path) -> int | None:
    """The bytes in a control group's file; None without a limit."""
    try:
        most = file.read_text().strip()
        return None if most == "max" else int(most)
    except (OSError, ValueError):
        return None


def _left_by(folder: Path, limit: str, used: str) -> int | None:
    """Bytes that a control group still leaves, counting files' pages that can be dropped; None without a limit."""
    most = _limit(folder / limit)
    if most is None:
        return None
    try:
        taken = int((folder / used).read_text())
        droppable = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    inactive = int(droppable.get("total_inactive_file", droppable.get("inactive_file", 0)))
    return max(0, most - taken + inactive)
