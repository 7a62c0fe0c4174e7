"""What is known of an input when it is made, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Plan:
    """What a check has to know of an input.

    Attributes:
        what: what is odd about it, for people.
        codes: the marks that its pictures may show.
        good: nothing is odd: everything must be kept as it is.
        frames: of a good one.
        more: what else the kind's own check has to know.
    """

    kind: str
    what: str
    codes: Sequence[int] = ()
    good: bool = False
    frames: int = 0
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes:
        result: "kept", "smeared" (kept, with frames whose damage hides the mark) or "refused".
        reason: why it was refused.
        problem: what must not happen; empty if all is well.
    """

    result: str
    reason: str = ""
    problem: str = ""


def traceback_of(error: BaseException) -> Outcome:
    """An error that is none of the project's own is a problem, named by the place that raised it."""
    import traceback

    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = [place for place in traceback.extract_tb(error.__traceback__) if "/dfer/" in place.filename]
    place = ours[-1] if ours else last
    where = f"{place.filename.rpartition('/dfer/')[2]}:{place.lineno} {place.name}"
    return Outcome("refused", "traceback", f"{type(error).__name__} at {where}: {str(error)[:200]}")
