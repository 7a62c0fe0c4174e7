"""Corrects key points that optical flow followed to those that the detector would measure.

The flow keeps to a point of the skin, and drifts a little from the detector's points. In frames that have both, the
difference is known, in the coordinates of the face.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dfer.faces.geometry import similarity, template

_FACE = template(1, 0.0)


def correct_keypoints(
    keypoints: NDArray[np.float32],
    followed: NDArray[np.float32],
    measured: NDArray[np.bool_],
    frame_indices: NDArray[np.int64],
) -> NDArray[np.float32]:
    """One person's key points float32[K, 5, 2] (pixels of the frame), as the detector would measure them.

    In frames with both their difference is expressed in the coordinates of the face (turned and scaled with it); it is
    interpolated linearly over time to the frames that were only followed. Measured key points are unchanged, and all of
    them if no frame has both.

    Args:
        keypoints, followed: measured and followed; `followed` is nan in frames without.
        measured: bool[K], whether `keypoints` are measured.
        frame_indices: int64[K], increasing.
    """
    known = measured & np.isfinite(followed).all(axis=(1, 2))
    if measured.all() or not known.any():
        return keypoints
    both, rest = np.flatnonzero(known), np.flatnonzero(~measured)
    shifts = np.empty((len(both), 5, 2))
    for shift, k in zip(shifts, both, strict=True):
        shift[:] = (keypoints[k] - followed[k]) @ _to_face(followed[k]).T
    frames, known_frames = frame_indices[rest], frame_indices[both]
    between = [np.interp(frames, known_frames, column) for column in shifts.reshape(len(both), -1).T]
    result = keypoints.copy()
    for shift, k in zip(np.stack(between, axis=1).reshape(-1, 5, 2), rest, strict=True):
        result[k] += (shift @ np.linalg.inv(_to_face(followed[k])).T).astype(np.float32)
    return result


def _to_face(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """The linear part [2, 2] of the map from pixels of the frame to the coordinates of the face."""
    return similarity(points, _FACE)[:, :2]
