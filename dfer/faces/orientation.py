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
        followed = faces[n].measured is not None and not np.all(faces[n].measured)  # with an earlier frame's score
        as_it_is = _detect_turned(pictures[n], faces[n], 0, detector) if followed else None
        score = (as_it_is or faces[n]).scores.max(initial=0.0)
        for turn in candidates:
            turned = _detect_turned(pictures[n], faces[n], turn, detector)
            upright = turned if turned and _quarter_turns(turned) == 0 else None
            gains[turn, column] = upright.scores.max() - score if upright else -1.0
        candidates = [turn for turn in candidates if gains[turn, column] >= _needed(turn, on_its_side, in_each=True)]
    better = [turn for turn in candidates if gains[turn].mean() >= _needed(turn, on_its_side, in_each=False)]
    return max(better, key=lambda turn: gains[turn].mean(), default=0)


def _detect_turned(
    picture: NDArray[np.uint8], faces: Detections, turn: int, detector: FaceDetector
) -> Detections | None:
    """The faces of a picture after quarter turns clockwise, if it has any.

    If the picture has faces as it is, only the surroundings of the best one are turned and measured; a search with all
    fall-backs of each turned picture costs more than all else of a short clip.
    """
    turned = np.ascontiguousarray(np.rot90(picture, -turn))
    if not len(faces):
        return detector.detect(turned)
    box = _turned_box(faces.boxes[int(faces.scores.argmax())], picture.shape[:2], turn)
    return detector.detect_near(turned, box[None])


def _turned_box(box: NDArray[np.float32], shape: tuple[int, ...], turn: int) -> NDArray[np.float32]:
    """A box (left, top, right, bottom) of a picture of `shape` (height, width) after quarter turns clockwise."""
    left, top, right, bottom = box
    height, width = shape
    for _ in range(turn):
        left, top, right, bottom, height, width = height - bottom, left, height - top, right, width, height
    return np.array([left, top, right, bottom], np.float32)


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
