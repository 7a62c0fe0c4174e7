"""Cuts a video into windows of time, each of which a model sees as one clip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfer.config.settings import ShardSettings
from dfer.sampling import kept_indices

SHORTEST = 0.04
"""Seconds that a window takes at least, and the next one begins after."""

_SAME = 1e-4  # seconds between times that are meant to be equal


class Window(NamedTuple):
    """Consecutive frames of a video: those at the positions `first` to `stop` - 1 in the list of its frames."""

    first: int
    stop: int


@dataclass(frozen=True)
class Sliding:
    """Windows of `window` seconds, a new one every `every` seconds. Raises ValueError if either is below `SHORTEST` or
    not finite."""

    window: float = 2.0
    every: float = 0.5

    def __post_init__(self) -> None:
        for name, seconds in (("window", self.window), ("every", self.every)):
            if not SHORTEST <= seconds < math.inf:
                raise ValueError(f"expected {name} to be finite and at least {SHORTEST} seconds, found {seconds:g}")

    def over(self, times: NDArray[np.float64]) -> list[Window]:
        """The windows of a video whose frames are shown at `times` float64[N] (seconds, never decreasing).

        The first begins with the first frame, and the last ends with the last frame, also if it begins less than
        `every` after the one before. A video that is not longer than a window is one. Windows without frames are left
        out, and so are those with the same frames as the one before.
        """
        if not len(times):
            return []
        step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
        begin, end = float(times[0]), float(times[-1]) + step
        if end - begin <= self.window + step / 2:
            return [Window(0, len(times))]
        number = int(np.floor((end - begin - self.window + step / 2) / self.every + _SAME)) + 1
        starts = [begin + place * self.every for place in range(number)]
        starts.append(min(end - self.window, float(times[-1])))  # the last frames, if no other window has them
        edges = np.array([[start, start + self.window] for start in starts]) - _SAME
        windows = [Window(*place) for place in np.searchsorted(times, edges).tolist() if place[0] < place[1]]
        if len(windows) > 1 and windows[-2].stop == len(times):
            windows.pop()
        return list(dict.fromkeys(windows))


def kept_positions(window: Window, shards: ShardSettings) -> NDArray[np.int64]:
    """The positions of the frames that are looked at in a window: those that are kept of a clip in training."""
    return window.first + kept_indices(window.stop - window.first, shards.segments, shards.frames_per_segment)


def all_kept(windows: Sequence[Window], shards: ShardSettings) -> NDArray[np.int64]:
    """The positions that are looked at in any of the windows, increasing."""
    if not windows:
        return np.empty(0, np.int64)
    return np.unique(np.concatenate([kept_positions(window, shards) for window in windows]))
