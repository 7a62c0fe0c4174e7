"""Follows the key points of a face by optical flow."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.faces.geometry import similarity, transform_points

# The face's surroundings, scaled to so many pixels: 2.2 times as wide and high as the key points.
_SIDE, _EXTENT = 160, 2.2
# Window, coarsest level of the pyramid, steps of the search and length of the last one.
_OPTIONS = (31, 31), 3, (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 20, 0.03)
_THERE_AND_BACK = 1.0  # largest distance from where a point came from when it is followed back, in scaled pixels


@dataclass(frozen=True)
class Pattern:
    """A face as it was when it was measured.

    Attributes:
        picture: uint8[160, 160], grey.
        points: float32[5, 2], its key points in the picture.
    """

    picture: NDArray[np.uint8]
    points: NDArray[np.float32]


def pattern(frame: NDArray[np.uint8], keypoints: NDArray[np.float32]) -> Pattern:
    """Cut a face out of a frame in grey, uint8[H, W], by its key points [5, 2]."""
    scale = _SIDE / (_EXTENT * max(float(np.ptp(keypoints, axis=0).max()), 1.0))
    shift = _SIDE / 2 - scale * keypoints.mean(axis=0)
    picture = cv2.warpAffine(frame, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]]), (_SIDE, _SIDE))
    return Pattern(np.asarray(picture, np.uint8), (keypoints * scale + shift).astype(np.float32))


def follow(face: Pattern, frame: NDArray[np.uint8], before: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The key points [5, 2] of a face in a frame; None if the flow contradicts itself.

    Pyramidal Lucas-Kanade (Bouguet, 2001) from the pattern to the frame, which is turned and scaled as the face was in
    the frame before, and back: a point that does not come back is lost (Kalal et al., "Forward-backward error", ICPR
    2010), and with it the face. Since it begins at the pattern each time, no error adds up.

    Args:
        frame: in grey, uint8[H, W].
        before: the key points in the frame before.
    """
    to_pattern = similarity(before, face.points)
    picture = cv2.warpAffine(frame, to_pattern, (_SIDE, _SIDE))
    start = face.points[:, None]
    end, tracked, _ = cv2.calcOpticalFlowPyrLK(face.picture, picture, start, start.copy(), None, None, *_OPTIONS)
    back, tracked_back, _ = cv2.calcOpticalFlowPyrLK(picture, face.picture, end, end.copy(), None, None, *_OPTIONS)
    away = np.linalg.norm(np.asarray(back) - start, axis=2).max()
    if not (np.all(tracked) and np.all(tracked_back) and away <= _THERE_AND_BACK):
        return None
    to_frame = np.asarray(cv2.invertAffineTransform(to_pattern), np.float64)
    return transform_points(np.asarray(end, np.float64)[:, 0], to_frame)
