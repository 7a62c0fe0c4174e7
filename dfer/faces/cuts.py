"""Notices where a film cuts or dissolves from one person to another, whose face may be in the same place."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.faces.detector import Detections
from dfer.faces.geometry import similarity, template, warp

# Correlation of the pictures and of the aligned faces, both of which are lower after a cut. Within 26 clips of one
# person each, neighbouring frames correlate by at least 0.95 and 0.82, frames half a second apart by 0.62 and 0.66, a
# second apart by 0.54 and 0.59; two people in two places by 0.2 and 0.4 (medians of 820 pairs).
_NEAR, _FAR = (0.7, 0.75), (0.4, 0.55)
_NEIGHBOURS = 3  # source frames
_NEXT = 0.9  # correlation of the pictures of two frames that follow each other, below which the picture has changed
_IN_PLACE = 0.5  # face sizes
_MORE = 0.1  # correlation by which a face is more like another one than like that in its place
_DISSOLVES = 12, 30  # source frames
_UNCHANGED = 0.95  # correlation with the old scene, from which on it is still the old scene
_FACES = 3  # the most prominent ones of a frame
_SCENE, _FACE = 24, 32  # pixels, sides of the pictures that are compared
_TEMPLATE = template(_FACE, 0.0)


class Cut(NamedTuple):
    """A cut: the frame from which on it is no longer the old scene, and the last that is not yet the new one.

    `last` is the frame before `first` for a hard cut; a slow dissolve has the frames `first` to `last` in between.
    """

    first: int
    last: int


class _Seen(NamedTuple):
    """A frame: its number, its picture and most prominent faces as vectors of length 1, and where these are."""

    number: int
    scene: NDArray[np.float32]
    faces: NDArray[np.float32]
    centres: NDArray[np.float64]  # [F, 2], pixels
    sizes: NDArray[np.float64]  # [F], pixels


class CutFinder:
    """Collects the cuts of a clip from its scanned frames, in order."""

    def __init__(self) -> None:
        self.cuts: list[Cut] = []
        self._recent: deque[_Seen] = deque()  # since the latest cut

    def state(self) -> dict[str, NDArray[np.generic]]:
        """All that it takes to go on from here, as arrays."""
        recent = list(self._recent)
        return {
            "cuts": np.array(self.cuts, np.int64).reshape(-1, 2),
            "numbers": np.array([seen.number for seen in recent], np.int64),
            "scenes": np.array([seen.scene for seen in recent], np.float32).reshape(-1, _SCENE**2),
            "counts": np.array([len(seen.faces) for seen in recent], np.int64),
            "faces": np.concatenate([seen.faces for seen in recent] or [np.empty((0, _FACE**2), np.float32)]),
            "centres": np.concatenate([seen.centres for seen in recent] or [np.empty((0, 2))]),
            "sizes": np.concatenate([seen.sizes for seen in recent] or [np.empty(0)]),
        }

    @classmethod
    def restored(cls, state: Mapping[str, NDArray[Any]]) -> CutFinder:
        """From what `state` gave."""
        finder = cls()
        finder.cuts = [Cut(*cut) for cut in state["cuts"].tolist()]
        parts = [np.split(state[name], state["counts"].cumsum()[:-1]) for name in ("faces", "centres", "sizes")]
        numbers = state["numbers"].tolist()
        finder._recent.extend(map(_Seen, numbers, state["scenes"], *parts) if numbers else ())
        return finder

    def add(self, number: int, frame: NDArray[np.uint8], faces: Detections) -> None:
        """Compare a frame (uint8[H, W, 3], its number in the source) with earlier ones, by its most prominent faces."""
        if not len(faces):
            return
        sizes = np.sqrt(np.prod(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1))
        chosen = np.argsort(-faces.scores * sizes, kind="stable")[:_FACES]
        small = cv2.resize(frame, (_SCENE, _SCENE), interpolation=cv2.INTER_AREA)
        crops = [warp(frame, similarity(faces.keypoints[face], _TEMPLATE), _FACE) for face in chosen]
        centres = faces.boxes.astype(np.float64).reshape(-1, 2, 2).mean(axis=1)
        seen = _Seen(
            number,
            _normalized(np.asarray(small, np.uint8)),
            np.stack([_normalized(crop) for crop in crops]),
            centres[chosen],
            sizes[chosen].astype(np.float64),
        )
        while len(self._recent) > 1 and self._recent[1].number <= number - _DISSOLVES[-1]:
            self._recent.popleft()
        before = [earlier for earlier in self._compared(number) if _differ(earlier, seen)]
        if before:
            # a dissolve begins with the first frame that is not quite the old scene any more
            latest = max(before, key=lambda earlier: earlier.number)
            between = [other for other in self._recent if other.number > latest.number]
            begun = [other.number for other in between if float(other.scene @ latest.scene) < _UNCHANGED]
            self.cuts.append(Cut(min([*begun, number]), number - 1))
            self._recent.clear()
        self._recent.append(seen)

    def _compared(self, number: int) -> Iterator[_Seen]:
        """The frame before, and the newest that is half a second and a second older."""
        if self._recent:
            yield self._recent[-1]
        for distance in _DISSOLVES:
            older = [earlier for earlier in self._recent if earlier.number <= number - distance]
            yield from older[-1:]


def _differ(one: _Seen, other: _Seen) -> bool:
    """Whether the picture has changed and no face is in both; in the next frame also no face in the place where it was,
    since people who have changed places are in both."""
    scene, face = _NEAR if other.number - one.number <= _NEIGHBOURS else _FAR
    alike, faces = float(one.scene @ other.scene), one.faces @ other.faces.T
    if alike < scene and float(faces.max()) < face:
        return True
    if other.number - one.number > 1 or alike >= _NEXT:
        return False
    apart = np.linalg.norm(one.centres[:, None] - other.centres[None], axis=2)
    in_place = apart < _IN_PLACE * np.sqrt(one.sizes[:, None] * other.sizes[None])
    others = faces.max(axis=1, keepdims=True) - _MORE
    return bool(in_place.any()) and bool(((faces < face) | (faces < others))[in_place].all())


def _normalized(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The grey values of a BGR picture without their mean, as a vector of length 1."""
    values = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).ravel().astype(np.float32)
    values -= values.mean()
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-6), np.float32)
