"""Which uploads the page takes, and in a sentence why it does not take another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dfer.system.units import size
from dfer.video import Video

_MOST_FRAMES_A_SECOND = 120
"""On average; a file of few bytes can hold a million frames in a second."""


class RefusedError(Exception):
    """A video is more than the page takes; the text says what was found, what is taken, and what to do."""


@dataclass(frozen=True)
class Limits:
    """The longest and the largest upload: seconds, and megabytes of a million bytes."""

    seconds: float
    megabytes: float

    @property
    def num_bytes(self) -> int:
        return int(self.megabytes * 1_000_000)

    @property
    def in_words(self) -> str:
        """'at most 300 s and 200 MB'."""
        return f"at most {self.seconds:g} s and {size(self.num_bytes)}"


def check(video: Path, limits: Limits) -> None:
    """Check an upload before anything is decoded; how long it is, its packets say.

    Raises RefusedError if it is too large or too long, VideoError if it is no video.
    """
    found = video.stat().st_size
    advice = "Cut it shorter, or use `dfer predict`, which takes films of hours."
    if found > limits.num_bytes:
        raise RefusedError(f"It has {size(found)}, and this page takes {size(limits.num_bytes)} at most. {advice}")
    times = Video(video).times
    long = float(times[-1] - times[0]) if len(times) else 0.0
    if long > limits.seconds:
        raise RefusedError(f"It is {long:.0f} s long, and this page takes {limits.seconds:g} s at most. {advice}")
    most = max(1, int(limits.seconds * _MOST_FRAMES_A_SECOND))
    if len(times) > most:
        raise RefusedError(f"It has {len(times):,} frames, and this page takes {most:,} at most. {advice}")
