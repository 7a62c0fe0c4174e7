"""Follows one person through a clip, instead of taking the largest face of each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import linear_sum_assignment

from dfer.faces.correction import correct_keypoints
from dfer.faces.detector import Detections

# A face continues an earlier one if its centre is within so many face sizes of the expected position. The reach grows
# with the source frames in between, and stays below the usual distance of people side by side.
_REACH = 0.5
_REACH_PER_FRAME = 0.05
_REACH_LIMIT = 1.5
_SIZE_RATIO = 1.8  # nobody comes this much closer between two frames
_VELOCITY_FRAMES = 5  # detections from which a face's motion is estimated
_SMOOTHING = 1.0  # standard deviation, source frames


@dataclass(frozen=True)
class Track:
    """One person's face in K of the scanned frames.

    Attributes:
        positions: int64[K], positions in the list of scanned frames, increasing.
        keypoints: float32[K, 5, 2], pixels of the frame.
        scores: float32[K], 0 for interpolated frames.
        interpolated: bool[K], whether the face was not detected but lies between two detections.
        close_up: bool[K], whether the detector's close-up fall-back detected it.
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
    """The detections linked so far: position among the scanned frames, number in that frame, source frame, box."""

    positions: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    centres: list[NDArray[np.float64]] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)
    prominence: float = 0.0

    def expected_centre(self, frame: int) -> NDArray[np.float64]:
        """The face's position if it kept its motion; at most one face size from the last one."""
        recent = slice(-_VELOCITY_FRAMES, None)
        frames, centres = self.frames[recent], self.centres[recent]
        if len(frames) < 2:
            return centres[-1]
        step = (centres[-1] - centres[0]) / (frames[-1] - frames[0]) * (frame - frames[-1])
        return centres[-1] + step * min(1.0, self.sizes[-1] / max(float(np.linalg.norm(step)), 1e-9))


def track_person(detections: Sequence[Detections], frame_indices: NDArray[np.int64], *, max_gap: int) -> Track | None:
    """Track the most prominent person of a clip.

    Faces are linked from frame to frame by the assignment with the least total distance from their expected positions,
    among faces that are near enough and of similar size; a person may be out of sight for any time. The person with the
    greatest sum of score x face size over the frames is tracked: a long presence outweighs a short large one.
    Returns None if no frame has a face.

    Args:
        detections: of each scanned frame.
        frame_indices: int64[T], the increasing numbers of these frames in the source. ValueError for another length.
        max_gap: up to so many source frames between two detections are filled by linear interpolation of the key
            points. The frames of a longer gap, and before the first and after the last detection, are left out.
    """
    if len(detections) != len(frame_indices):
        raise ValueError(f"expected detections of each frame, found {len(detections)} for {len(frame_indices)} frames")
    paths = _link(detections, frame_indices)
    if not paths:
        return None
    return _bridge(max(paths, key=lambda path: path.prominence), detections, frame_indices, max_gap)


def smooth_keypoints(keypoints: NDArray[np.float32], frame_indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Remove the detector's jitter between consecutive source frames from key points [K, 5, 2].

    A Gaussian filter over time with a standard deviation of one frame, for each run of consecutive frames separately.
    Motion at constant speed is kept exactly, also at the ends of a run.
    """
    smoothed = keypoints.copy()
    starts = np.flatnonzero(np.diff(frame_indices, prepend=frame_indices[:1] - 2) != 1)
    for start, stop in zip(starts, [*starts[1:], len(frame_indices)], strict=True):
        if stop - start < 3:
            continue
        padding = min(4, stop - start - 1)
        # Reflected at its end points, a straight motion continues straight.
        widths = ((padding, padding), (0, 0), (0, 0))
        run = np.pad(keypoints[start:stop].astype(np.float64), widths, mode="reflect", reflect_type="odd")
        smoothed[start:stop] = gaussian_filter1d(run, _SMOOTHING, axis=0, mode="nearest")[padding:-padding]
    return smoothed


def _link(detections: Sequence[Detections], frame_indices: NDArray[np.int64]) -> list[_Path]:
    paths: list[_Path] = []
    for position, (faces, frame) in enumerate(zip(detections, frame_indices.tolist(), strict=True)):
        corners = faces.boxes.astype(np.float64).reshape(-1, 2, 2)
        centres = corners.mean(axis=1)
        sizes = np.sqrt(np.prod(np.maximum(corners[:, 1] - corners[:, 0], 1e-3), axis=1))
        owners = _assign(paths, frame, centres, sizes)
        for number in range(len(faces)):
            path = owners.get(number)
            if path is None:
                path = _Path()
                paths.append(path)
            path.positions.append(position)
            path.numbers.append(number)
            path.frames.append(frame)
            path.centres.append(centres[number])
            path.sizes.append(float(sizes[number]))
            path.prominence += float(faces.scores[number]) * float(sizes[number])
    return paths


def _assign(
    paths: list[_Path], frame: int, centres: NDArray[np.float64], sizes: NDArray[np.float64]
) -> dict[int, _Path]:
    """The number of each of this frame's faces that continues a path -> the path."""
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
    # A pair that is not allowed costs more than all allowed ones together, so it is assigned only as a last resort.
    cost = np.where(allowed, distance + growth, 1e3 * (1 + min(allowed.shape)))
    return {int(n): paths[p] for p, n in zip(*linear_sum_assignment(cost), strict=True) if allowed[p, n]}


def _keypoints(path: _Path, detections: Sequence[Detections]) -> NDArray[np.float32]:
    """The key points of all detections of a path, corrected to the full scale."""
    unknown = np.full((5, 2), np.nan, np.float32)
    keypoints, followed, measured = [], [], []
    for position, number in zip(path.positions, path.numbers, strict=True):
        faces = detections[position]
        keypoints.append(faces.keypoints[number])
        followed.append(unknown if faces.followed is None else faces.followed[number])
        measured.append(faces.measured is None or bool(faces.measured[number]))
    return correct_keypoints(np.stack(keypoints), np.stack(followed), np.array(measured), np.array(path.frames))


def _bridge(path: _Path, detections: Sequence[Detections], frame_indices: NDArray[np.int64], max_gap: int) -> Track:
    detected = np.array(path.positions)
    points = _keypoints(path, detections)
    between = np.arange(detected[0], detected[-1] + 1)
    after = np.searchsorted(detected, between)  # the first detection at or after each frame
    before = np.where(detected[after] == between, after, after - 1)
    gap = frame_indices[detected[after]] - frame_indices[detected[before]] - 1
    kept = gap <= max_gap  # where detected, before and after are the same and the gap is -1
    between, before, after = between[kept], before[kept], after[kept]
    start, stop = frame_indices[detected[before]], frame_indices[detected[after]]
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
