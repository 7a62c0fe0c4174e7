"""Durations, rates and sizes as people read them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """'42 s', '12 min', '3 h 07 min'."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def rate(per_second: float) -> str:
    """'12.3 a second', or below one a second '7.5 s each'."""
    if per_second <= 0:
        return ""
    return f"{per_second:.3g} a second" if per_second >= 1 else f"{1 / per_second:.3g} s each"


def size(num_bytes: float) -> str:
    """'312 B', '4.1 MB', '1.5 GB': powers of ten, as for disks."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 999.5:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"
