"""Which frames of a clip are used: T equal segments, one frame of each (section 4.3), or some neighbouring ones."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray


def segment_indices(
    num_frames: int,
    num_segments: int,
    *,
    train: bool,
    generator: np.random.Generator | None = None,
    consecutive: int = 1,
) -> NDArray[np.int64]:
    """T frames: one of each of T equal segments, a random one for training, otherwise the one at its centre.

    A segment is num_frames / T frames long, which need not be a whole number. Returns int64[T], non-decreasing, in
    [0, num_frames); a clip with fewer frames than segments repeats frames in order.

    With V = `consecutive` above 1 these are the T / V segments of the frames that have V - 1 others behind them, and
    each frame is taken with those (Zhao & Liu, Former-DFER, 2021); a clip of fewer than V frames repeats its last one.
    Raises ValueError for a number below 1, T that is no multiple of V, or `train` without a generator.
    """
    if consecutive > 1:
        return _with_neighbours(num_frames, num_segments, consecutive, train=train, generator=generator)
    if num_frames < 1 or num_segments < 1:
        raise ValueError(f"expected at least 1 frame and 1 segment, found {num_frames} frames, {num_segments} segments")
    if train and generator is None:
        raise ValueError("sampling for training is random: pass generator=numpy.random.default_rng(seed)")
    if not train or generator is None:
        return _centres(num_frames, num_segments)
    positions = (np.arange(num_segments) + generator.random(num_segments)) * (num_frames / num_segments)
    return np.minimum(positions.astype(np.int64), num_frames - 1)  # rounding may reach num_frames itself


def kept_indices(num_frames: int, num_segments: int, per_segment: int | Literal["all"]) -> NDArray[np.int64]:
    """The frames of a clip to keep: some evenly spread ones of every segment, or all.

    The centre of each segment is among them, and is the frame that `segment_indices` takes of the kept frames for
    evaluation. An even number has the segment's first frame besides, so that all are evenly spread over the clip.
    Returns int64[N], strictly increasing, in [0, num_frames), N <= T * per_segment. ValueError for a number below 1.
    """
    if per_segment == "all":
        if num_frames < 1:
            raise ValueError(f"expected at least 1 frame, found {num_frames}")
        return np.arange(num_frames, dtype=np.int64)
    if per_segment < 1:
        raise ValueError(f"expected at least 1 frame per segment, found {per_segment}")
    if num_frames < 1 or num_segments < 1:
        raise ValueError(f"expected at least 1 frame and 1 segment, found {num_frames} frames, {num_segments} segments")
    parts = num_segments * per_segment
    if per_segment % 2:
        return np.unique(_centres(num_frames, parts))
    return np.unique(np.arange(parts) * num_frames // parts)


def _with_neighbours(
    num_frames: int, total: int, consecutive: int, *, train: bool, generator: np.random.Generator | None
) -> NDArray[np.int64]:
    if total % consecutive:
        raise ValueError(f"{total} frames cannot be taken in places of {consecutive}: expected a multiple of it")
    places = max(1, num_frames - consecutive + 1)
    starts = segment_indices(places, total // consecutive, train=train, generator=generator)
    return np.minimum(starts[:, None] + np.arange(consecutive), num_frames - 1).reshape(-1)


def _centres(num_frames: int, parts: int) -> NDArray[np.int64]:
    """The frame at the centre of each of a number of equal parts: int64[parts]. Exact, so without rounding."""
    return (2 * np.arange(parts, dtype=np.int64) + 1) * num_frames // (2 * parts)
