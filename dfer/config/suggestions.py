"""What somebody may have meant by a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion to append to a message; empty if no known word is close."""
    close = difflib.get_close_matches(word, map(str, known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
