"""Natural order of names: `frame_2.jpg` before `frame_10.jpg`."""

from __future__ import annotations

import re

_DIGITS = re.compile(r"([0-9]+)")


def natural_key(name: str) -> tuple[tuple[str | int, ...], str]:
    """Sort key that compares digits as numbers and the text between them without regard to case.

    Frames and clips are often numbered without leading zeros, and sorting such names as text shuffles time. Names that
    differ only in case or leading zeros are ordered as text, so the order never depends on the input's.
    """
    # Splitting on a group leaves text at even and digits at odd positions: no text is compared with a number.
    parts = _DIGITS.split(name.casefold())
    return tuple(int(part) if position % 2 else part for position, part in enumerate(parts)), name
