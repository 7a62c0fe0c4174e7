"""Key points of a smaller scale, corrected to those of the full one.

SCRFD sees a face differently at another scale. What differs is not the same for everybody, and no constant of the
detector, but it is much the same throughout a clip once it is expressed in the coordinates of the face.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dfer.faces.geometry import similarity, template

_FACE = template(1, 0.0)


def corrected(
    keypoints: NDArray[np.float32],
    followed: NDArray[np.float32],
    measured: NDArray[np.bool_],
    frame_indices: NDArray[np.int64],
) -> NDArray[np.float32]:
    """One person's key points, all as the full scale would show them.

    Where both scales were looked at, their difference is taken in the coordinates of the face (turned and scaled with
    it), and interpolated linearly over time to the frames where only the smaller one was.

    keypoints float32[K, 5, 2] and measured bool[K], whether they are from the full scale; followed float32[K, 5, 2],
    those of the smaller scale, nan where it was not looked at; frame_indices int64[K], increasing.
    Returns: float32[K, 5, 2]; what was measured is kept as it is, and all of it if nothing shows the difference.
    """
    known = measured & np.isfinite(followed).all(axis=(1, 2))
    if measured.all() or not known.any():
        return keypoints
    to_face = {k: similarity(followed[k], _FACE)[:, :2] for k in np.flatnonzero(known | ~measured)}
    places = np.flatnonzero(known)
    shifts = np.stack([(keypoints[k] - followed[k]) @ to_face[k].T for k in places]).reshape(len(places), -1)
    result = keypoints.copy()
    for k in np.flatnonzero(~measured):
        shift = [np.interp(frame_indices[k], frame_indices[places], column) for column in shifts.T]
        result[k] += (np.reshape(shift, (5, 2)) @ np.linalg.inv(to_face[k]).T).astype(np.float32)
    return result
