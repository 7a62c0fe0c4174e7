"""Notices pictures that lie on their side or stand on their head without the file saying so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dfer.faces.detector import Detections, FaceDetector
from dfer.faces.geometry import similarity, template

# Faces that stand upright are detected with a higher score than turned ones: on their side some 0.1, on their head
# 0.15 to 0.3. A clip that is already detected well is not examined.
_GOOD_SCORE = 0.7
_BETTER, _BETTER_IN_EACH = 0.1, 0.05
_BETTER_ON_ITS_SIDE = 0.03  # where the key points themselves say which way is up
_SAMPLE = 3


def turn_to_upright(pictures: Sequence[NDArray[np.uint8]], faces: Sequence[Detections], detector: FaceDetector) -> int:
    """The number of quarter turns clockwise, 0 to 3, after which the faces of some frames are upright.

    Args:
        pictures: frames of a clip, uint8[H, W, 3] BGR; some of them are looked at.
        faces: of each picture, as it is.
    """
    if not pictures:
        return 0
    chosen = np.unique(np.linspace(0, len(pictures) - 1, _SAMPLE).round().astype(int))
    on_its_side = _quarter_turns(faces[chosen[0]])
    if np.mean([faces[n].scores.max(initial=0.0) for n in chosen]) >= _GOOD_SCORE and on_its_side == 0:
        return 0
    gains = np.zeros((4, len(chosen)))
    candidates = [1, 2, 3]
    for column, n in enumerate(chosen):
        score = detector.detect(pictures[n]).scores.max(initial=0.0)
        for turn in candidates:
            turned = detector.detect(np.ascontiguousarray(np.rot90(pictures[n], -turn)))
            upright = len(turned) > 0 and _quarter_turns(turned) == 0
            gains[turn, column] = turned.scores.max() - score if upright else -1.0
        candidates = [turn for turn in candidates if gains[turn, column] >= _needed(turn, on_its_side, in_each=True)]
    better = [turn for turn in candidates if gains[turn].mean() >= _needed(turn, on_its_side, in_each=False)]
    return max(better, key=lambda turn: gains[turn].mean(), default=0)


def _needed(turn: int, on_its_side: int, *, in_each: bool) -> float:
    if turn == on_its_side:
        return 0.0 if in_each else _BETTER_ON_ITS_SIDE
    return _BETTER_IN_EACH if in_each else _BETTER


def _quarter_turns(faces: Detections) -> int:
    """The quarter turns clockwise after which the best face's key points are upright."""
    if not len(faces):
        return 0
    keypoints = faces.keypoints[int(faces.scores.argmax())]
    map_to_upright = similarity(keypoints, template(1, 0.0))
    clockwise = np.degrees(np.arctan2(map_to_upright[1, 0], map_to_upright[0, 0]))
    return round(float(clockwise) / 90) % 4
