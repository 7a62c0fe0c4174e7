"""Where a person's face is cut out of each frame, and whether it is a face at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dfer.config.settings import AlignmentSettings
from dfer.faces.clip_affine import clip_matrices
from dfer.faces.geometry import crop_matrix, misfit, template
from dfer.faces.tracking import Track, smooth_keypoints

_LARGEST_MISFIT, _LARGEST_TURN = 0.2, 100  # of key points, see `misfit`


def crop_matrices(
    track: Track, frame_indices: NDArray[np.int64], alignment: AlignmentSettings
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """The maps float64[K, 2, 3] from frames to crops, and the key points float32[K, 5, 2] without jitter.

    The track is taken for a whole clip: with `clip-affine` the proportions of its face are evened out over all of it.

    Args:
        frame_indices: int64[K], the increasing numbers of the track's frames in the source.
        alignment: with any transform but `none`.
    """
    target, times = template(alignment.size, alignment.margin), track.times(frame_indices)
    keypoints = smooth_keypoints(track.keypoints, times)
    if alignment.transform == "affine" or alignment.transform == "similarity":
        return np.stack([crop_matrix(points, target, alignment.transform) for points in keypoints]), keypoints
    return clip_matrices(track.keypoints, times, target), keypoints


def looks_wrong(keypoints: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of key points [K, 5, 2] which have no face's shape, and which stand on their head: bool[K] each."""
    misfits, turns = np.array([misfit(points) for points in keypoints]).T
    return misfits > _LARGEST_MISFIT, turns > _LARGEST_TURN
