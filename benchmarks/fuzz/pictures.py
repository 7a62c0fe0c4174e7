"""Reads a video or a folder of frames as the pipeline does, and looks at the mark of every picture."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.fuzz import marks
from benchmarks.fuzz.outcomes import Outcome, Plan
from dfer.faces.index import REASONS
from dfer.sampling import kept_indices
from dfer.video import Video, VideoError


def look(source: Path, plan: Plan, others: frozenset[int]) -> Outcome:
    """Read all frames, then some of them again, and compare their marks with what they may show.

    Decoders fill the holes of a damaged frame with what their buffers hold, nothing or earlier frames of the same file.
    Such a frame may differ when it is read again, which is counted apart.

    Args:
        others: the marks of all other inputs.
    """
    shown: dict[int, int] = {}  # number of a frame -> checksum of its picture
    smeared, again, problem = 0, "", ""
    try:
        for index, picture in _all_frames(source):
            shown[index] = zlib.crc32(picture.tobytes())
            clear, wrong = _judge(picture, index, plan, others)
            smeared += not clear
            problem = problem or wrong
        some = sorted(shown)[::3]
        for index, picture in Video(source).frames(some):
            if zlib.crc32(picture.tobytes()) != shown[index]:
                again = f"frame {index} is another picture when it is read again"
    except VideoError as error:
        if error.reason not in REASONS or error.reason == "error" or not error.detail.strip():
            problem = f"refused without a reason that is known: {error}"
        if plan.good:
            problem = f"a good file is refused: {error}"
        return Outcome("refused", error.reason, problem)
    if not shown:
        problem = problem or "neither a frame nor an error"
    if again and not smeared:
        problem = problem or again
    if plan.good and len(shown) != plan.frames:
        problem = problem or f"{len(shown)} frames of a good file with {plan.frames}"
    return Outcome("smeared" if smeared else "kept", "other pixels when read again" if again else "", problem)


def _all_frames(source: Path) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """All frames, chosen anew while the announced number of frames turns out to be wrong, as when faces are aligned."""
    video = Video(source)
    seen: set[int] = set()
    while missing := [i for i in kept_indices(video.num_frames, 8, "all").tolist() if i not in seen]:
        before = len(seen)
        for index, picture in video.frames(missing):
            seen.add(index)
            yield index, picture
        if len(seen) == before:
            return


def _judge(picture: NDArray[np.uint8], index: int, plan: Plan, others: frozenset[int]) -> tuple[bool, str]:
    """Whether a frame clearly shows a mark that it may show; and what must not be."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        return False, f"frame {index} is {picture.dtype}{list(picture.shape)}"
    mark = marks.read(picture)
    if plan.good and mark != (plan.codes[0], index):
        return False, f"frame {index} of a good file shows {mark}, expected {(plan.codes[0], index)}"
    if plan.good and marks.channels_exchanged(picture):
        return False, f"red and blue of frame {index} are exchanged"
    if mark is not None and mark[0] in plan.codes:
        return True, ""
    if mark is not None and mark[0] in others:
        return False, f"frame {index} shows the picture of another input, mark {mark[0]:06x}"
    return marks.read_turned(picture, plan.codes) is not None, ""
