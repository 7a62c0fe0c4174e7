"""Natural order of names: `frame_2.jpg` before `frame_10.jpg`."""

from __future__ import annotations

import re

_DIGITS = re.compile(r"([0-9]+)")


def natural_key(name: str) -> tuple[tuple[str | int, ...], str]:
    """Sort key that compares runs of digits as numbers and the text between them without regard to case.

    Frames and clips are often numbered without leading zeros, and sorting such names as text shuffles time. Names that
    differ only in case or in leading zeros are ordered by the name itself, so the order never depends on the input's.
    """
    # Splitting on a group leaves text at even and digits at odd positions: keys never compare a text with a number.
    parts = _DIGITS.split(name.casefold())
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts)), name
