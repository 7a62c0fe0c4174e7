"""Following one person through a clip, rather than taking the largest face of each frame by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import linear_sum_assignment

from dfer.faces.correction import corrected
from dfer.faces.detector import Detections

# A face is taken for the one seen before if its centre lies within this many face sizes of where it was expected. The
# reach grows with the source frames in between, and stays below the distance at which heads sit side by side for long.
_REACH = 0.5
_REACH_PER_FRAME = 0.05
_REACH_LIMIT = 1.5
_SIZE_RATIO = 1.8  # nobody comes this much closer between two looks
_VELOCITY_FRAMES = 5  # detections from which a face's motion is estimated
_SMOOTHING = 1.0  # standard deviation, source frames


@dataclass(frozen=True)
class Track:
    """One person's face in K of the frames looked at.

    positions int64[K] in the list of frames looked at, increasing; keypoints float32[K, 5, 2] in frame pixels; scores
    float32[K], 0 where interpolated; interpolated and close_up bool[K].
    """

    positions: NDArray[np.int64]
    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    interpolated: NDArray[np.bool_]
    close_up: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.positions)


@dataclass
class _Path:
    """The detections linked so far: position among the frames looked at, number in that frame, source frame, box."""

    positions: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    centres: list[NDArray[np.float64]] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)
    prominence: float = 0.0

    def expected_centre(self, frame: int) -> NDArray[np.float64]:
        """Where the face should be, had it kept its motion; the step is never longer than one face size."""
        recent = slice(-_VELOCITY_FRAMES, None)
        frames, centres = self.frames[recent], self.centres[recent]
        if len(frames) < 2:
            return centres[-1]
        step = (centres[-1] - centres[0]) / (frames[-1] - frames[0]) * (frame - frames[-1])
        return centres[-1] + step * min(1.0, self.sizes[-1] / max(float(np.linalg.norm(step)), 1e-9))


def follow(detections: Sequence[Detections], frame_indices: NDArray[np.int64], *, max_gap: int) -> Track | None:
    """The most prominent person of a clip, in every frame where that person's key points are known.

    Faces are linked from look to look by the assignment with the least total distance from where each is expected,
    among those near enough and of similar size; a person may be out of sight for any time. The person with the greatest
    sum of score x face size over the frames is followed: being there throughout outweighs being large for a moment.

    Up to `max_gap` source frames between two detections are bridged by linear interpolation of the key points; the
    frames of a longer gap, and those before the first and after the last detection, are left out.

    detections: one for each frame looked at; frame_indices: int64[T], their increasing numbers in the source.
    Returns: the track, or None if there is no face at all. Raises: ValueError if the lengths differ.
    """
    if len(detections) != len(frame_indices):
        raise ValueError(f"expected detections of each frame, found {len(detections)} for {len(frame_indices)} frames")
    paths = _link(detections, frame_indices)
    if not paths:
        return None
    return _bridge(max(paths, key=lambda path: path.prominence), detections, frame_indices, max_gap)


def smooth(keypoints: NDArray[np.float32], frame_indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Key points [K, 5, 2] with the detector's jitter between consecutive source frames taken out.

    A Gaussian over time with a standard deviation of one frame, run by run of consecutive frames; frames that lie
    further apart do not touch each other. Motion at constant speed is kept exactly, also at the ends of a run.
    """
    smoothed = keypoints.copy()
    starts = np.flatnonzero(np.diff(frame_indices, prepend=frame_indices[:1] - 2) != 1)
    for start, stop in zip(starts, [*starts[1:], len(frame_indices)], strict=True):
        if stop - start < 3:
            continue
        room = min(4, stop - start - 1)
        # Mirrored through its end points, a straight motion goes on straight.
        run = np.pad(
            keypoints[start:stop].astype(np.float64), ((room, room), (0, 0), (0, 0)), mode="reflect", reflect_type="odd"
        )
        smoothed[start:stop] = gaussian_filter1d(run, _SMOOTHING, axis=0, mode="nearest")[room:-room]
    return smoothed


def _link(detections: Sequence[Detections], frame_indices: NDArray[np.int64]) -> list[_Path]:
    paths: list[_Path] = []
    for position, (found, frame) in enumerate(zip(detections, frame_indices.tolist(), strict=True)):
        corners = found.boxes.astype(np.float64).reshape(-1, 2, 2)
        centres = corners.mean(axis=1)
        sizes = np.sqrt(np.prod(np.maximum(corners[:, 1] - corners[:, 0], 1e-3), axis=1))
        owners = _assign(paths, frame, centres, sizes)
        for number in range(len(found)):
            path = owners.get(number)
            if path is None:
                path = _Path()
                paths.append(path)
            path.positions.append(position)
            path.numbers.append(number)
            path.frames.append(frame)
            path.centres.append(centres[number])
            path.sizes.append(float(sizes[number]))
            path.prominence += float(found.scores[number]) * float(sizes[number])
    return paths


def _assign(
    paths: list[_Path], frame: int, centres: NDArray[np.float64], sizes: NDArray[np.float64]
) -> dict[int, _Path]:
    """Which of this frame's faces continues which path."""
    if not paths or not len(centres):
        return {}
    expected = np.stack([path.expected_centre(frame) for path in paths])
    last_sizes = np.array([path.sizes[-1] for path in paths])
    gaps = frame - np.array([path.frames[-1] for path in paths])
    scale = np.sqrt(last_sizes[:, None] * sizes[None])
    distance = np.linalg.norm(expected[:, None] - centres[None], axis=2) / scale
    growth = np.abs(np.log(sizes[None] / last_sizes[:, None]))
    reach = np.minimum(_REACH + _REACH_PER_FRAME * (gaps - 1), _REACH_LIMIT)
    allowed = (distance <= reach[:, None]) & (growth <= np.log(_SIZE_RATIO))
    # A pair that is not allowed costs more than all allowed ones together: it is only assigned where nothing else is.
    cost = np.where(allowed, distance + growth, 1e3 * (1 + min(allowed.shape)))
    return {int(n): paths[p] for p, n in zip(*linear_sum_assignment(cost), strict=True) if allowed[p, n]}


def _points(path: _Path, detections: Sequence[Detections]) -> NDArray[np.float32]:
    """The key points of all detections of a path, as the full scale shows them."""
    unknown = np.full((5, 2), np.nan, np.float32)
    keypoints, followed, measured = [], [], []
    for position, number in zip(path.positions, path.numbers, strict=True):
        found = detections[position]
        keypoints.append(found.keypoints[number])
        followed.append(unknown if found.followed is None else found.followed[number])
        measured.append(found.measured is None or bool(found.measured[number]))
    return corrected(np.stack(keypoints), np.stack(followed), np.array(measured), np.array(path.frames))


def _bridge(path: _Path, detections: Sequence[Detections], frame_indices: NDArray[np.int64], max_gap: int) -> Track:
    seen = np.array(path.positions)
    points = _points(path, detections)
    between = np.arange(seen[0], seen[-1] + 1)
    after = np.searchsorted(seen, between)  # the first detection at or after each frame
    before = np.where(seen[after] == between, after, after - 1)
    gap = frame_indices[seen[after]] - frame_indices[seen[before]] - 1
    kept = gap <= max_gap  # where detected, before and after are the same and the gap is -1
    between, before, after = between[kept], before[kept], after[kept]
    start, stop = frame_indices[seen[before]], frame_indices[seen[after]]
    share = ((frame_indices[between] - start) / np.maximum(stop - start, 1)).astype(np.float32)[:, None, None]
    interpolated = before != after
    scores = np.array([detections[p].scores[n] for p, n in zip(path.positions, path.numbers, strict=True)], np.float32)
    close_up = np.array([detections[p].close_up for p in path.positions])
    return Track(
        positions=between.astype(np.int64),
        keypoints=(points[before] * (1 - share) + points[after] * share).astype(np.float32),
        scores=np.where(interpolated, np.float32(0), scores[before]).astype(np.float32),
        interpolated=interpolated,
        close_up=close_up[before] & ~interpolated,
    )
