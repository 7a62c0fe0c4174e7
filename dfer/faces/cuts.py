"""Notices where a film cuts or dissolves from one person to another, whose face may be in the same place."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.faces.detector import Detections
from dfer.faces.geometry import similarity, template, warp

# Correlation of the pictures and of the aligned faces, both of which are lower after a cut. Within 40 clips of one
# person each, neighbouring frames correlate by at least 0.95 and 0.82, frames half a second apart by 0.62 and 0.66; two
# people in two places by 0.2 and 0.4 (medians).
_NEAR, _FAR = (0.7, 0.75), (0.4, 0.55)
_NEIGHBOURS = 3  # source frames
_DISSOLVE = 12  # source frames
_SCENE, _FACE = 24, 32  # pixels, sides of the pictures that are compared
_TEMPLATE = template(_FACE, 0.0)


class Cut(NamedTuple):
    """A cut: the frame from which on it is no longer the old scene, and the last that is not yet the new one.

    `last` is the frame before `first` for a hard cut; a slow dissolve has the frames `first` to `last` in between.
    """

    first: int
    last: int


class CutFinder:
    """Collects the cuts of a clip from its scanned frames, in order."""

    def __init__(self) -> None:
        self.cuts: list[Cut] = []
        self._recent: deque[tuple[int, NDArray[np.float32], NDArray[np.float32]]] = deque()
        self._in_cut = False

    def add(self, number: int, frame: NDArray[np.uint8], faces: Detections) -> None:
        """Compare a frame (uint8[H, W, 3], its number in the source) with earlier ones, by its most prominent face."""
        if not len(faces):
            return
        sizes = np.sqrt(np.prod(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1))
        keypoints = faces.keypoints[int((faces.scores * sizes).argmax())]
        scene = _normalized(np.asarray(cv2.resize(frame, (_SCENE, _SCENE), interpolation=cv2.INTER_AREA), np.uint8))
        face = _normalized(warp(frame, similarity(keypoints, _TEMPLATE), _FACE))
        before = [
            earlier
            for earlier, *pictures in self._compared(number)
            if _differ(number - earlier, pictures, (scene, face))
        ]
        if before:
            first = self.cuts.pop().first if self._in_cut else number
            self.cuts.append(Cut(first, max(first - 1, *before)))
        self._in_cut = bool(before)
        self._recent.append((number, scene, face))

    def _compared(self, number: int) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
        """The frame before, and the one half a second before."""
        while len(self._recent) > 1 and self._recent[1][0] <= number - _DISSOLVE:
            self._recent.popleft()
        if self._recent:
            yield self._recent[-1]
            if len(self._recent) > 1:
                yield self._recent[0]


def _differ(distance: int, first: list[NDArray[np.float32]], second: tuple[NDArray[np.float32], ...]) -> bool:
    limits = _NEAR if distance <= _NEIGHBOURS else _FAR
    return all(float(one @ other) < limit for one, other, limit in zip(first, second, limits, strict=True))


def _normalized(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The grey values of a BGR picture without their mean, as a vector of length 1."""
    values = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).ravel().astype(np.float32)
    values -= values.mean()
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-6), np.float32)
