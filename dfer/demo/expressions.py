"""Facial expressions: action units (AU) of the Facial Action Coding System as displacements, emotions as sets of AUs.

Lengths are in inter-ocular distances (IOD). `out` is away from the middle of the face, `down` is down the picture.
The sizes were chosen by eye, not measured on people.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Final

from dfer.labels import EMOTIONS

Pair = tuple[tuple[int, ...], tuple[int, ...]]

# Anchors: mesh points on the left and on the right of the picture; their mean is the position.
BROW_INNER: Final[Pair] = ((55, 107), (285, 336))
BROW_RIM: Final[Pair] = ((107,), (336,))
BROW_MIDDLE: Final[Pair] = ((52, 105), (282, 334))
BROW_OUTER: Final[Pair] = ((46, 70), (276, 300))
LID_UPPER: Final[Pair] = ((158, 159, 160), (385, 386, 387))
LID_LOWER: Final[Pair] = ((144, 145, 153), (373, 374, 380))
EYE_OUTER: Final[Pair] = ((33,), (263,))
EYE_INNER: Final[Pair] = ((133,), (362,))
CHEEK: Final[Pair] = ((50, 205), (280, 425))
NOSE_WING: Final[Pair] = ((129,), (358,))
NOSE_ROOT: Final[Pair] = ((168,), (168,))
FOLD_MIDDLE: Final[Pair] = ((206,), (426,))
FOLD_END: Final[Pair] = ((216,), (436,))
LIP_UPPER: Final[Pair] = ((39, 40), (269, 270))
LIP_LOWER: Final[Pair] = ((181,), (405,))
LIP_MIDDLE: Final[Pair] = ((17,), (17,))
LIP_CORNER: Final[Pair] = ((61,), (291,))
CHIN_BOSS: Final[Pair] = ((199,), (199,))
CHIN: Final[Pair] = ((152,), (152,))

INNER_LIPS: Final = (
    *((78,), (191, 95), (80, 88), (81, 178), (82, 87), (13, 14)),
    *((312, 317), (311, 402), (310, 318), (415, 324), (308,)),
)

_ANCHORS: Final = (
    *(BROW_INNER, BROW_RIM, BROW_MIDDLE, BROW_OUTER, LID_UPPER, LID_LOWER, EYE_OUTER, EYE_INNER, CHEEK, NOSE_WING),
    *(NOSE_ROOT, FOLD_MIDDLE, FOLD_END, LIP_UPPER, LIP_LOWER, LIP_MIDDLE, LIP_CORNER, CHIN_BOSS, CHIN),
)
MESH_POINTS: Final = tuple(sorted({50, 280, *chain(*INNER_LIPS), *chain(*chain(*_ANCHORS))}))


@dataclass(frozen=True)
class Bump:
    """A Gaussian displacement of one half of the face around an anchor."""

    anchor: Pair
    out: float
    down: float
    sigma_x: float
    sigma_y: float


BLINK: Final = 45
LIPS_PART: Final = 25
JAW_DROP: Final = 26

ACTION_UNITS: Final[dict[int, tuple[Bump, ...]]] = {
    1: (Bump(BROW_RIM, 0, -0.20, 0.15, 0.125),),
    2: (Bump(BROW_OUTER, 0, -0.15, 0.16, 0.125), Bump(BROW_MIDDLE, 0, -0.10, 0.15, 0.12)),
    4: (Bump(BROW_INNER, -0.08, 0.14, 0.15, 0.14), Bump(BROW_MIDDLE, -0.03, 0.06, 0.15, 0.13)),
    5: (
        Bump(LID_UPPER, 0, -0.08, 0.16, 0.06),
        Bump(LID_LOWER, 0, 0.045, 0.16, 0.06),
        Bump(EYE_OUTER, 0.05, 0, 0.10, 0.10),
        Bump(EYE_INNER, -0.05, 0, 0.10, 0.10),
    ),
    6: (Bump(CHEEK, 0.02, -0.09, 0.20, 0.17), Bump(LID_LOWER, 0, -0.04, 0.17, 0.06)),
    7: (Bump(LID_UPPER, 0, 0.035, 0.16, 0.055), Bump(LID_LOWER, 0, -0.04, 0.16, 0.06)),
    9: (
        Bump(NOSE_WING, 0.02, -0.09, 0.12, 0.12),
        Bump(NOSE_ROOT, 0, 0.03, 0.12, 0.10),
        Bump(BROW_INNER, -0.03, 0.04, 0.13, 0.10),
    ),
    10: (Bump(LIP_UPPER, 0.02, -0.11, 0.14, 0.12), Bump(NOSE_WING, 0.02, -0.04, 0.12, 0.10)),
    12: (Bump(LIP_CORNER, 0.20, -0.20, 0.18, 0.17), Bump(CHEEK, 0.03, -0.05, 0.20, 0.16)),
    15: (Bump(LIP_CORNER, 0.03, 0.19, 0.15, 0.14),),
    17: (Bump(LIP_MIDDLE, 0, -0.07, 0.20, 0.12), Bump(CHIN_BOSS, 0, -0.05, 0.22, 0.14)),
    18: (Bump(LIP_CORNER, -0.11, 0.03, 0.15, 0.14), Bump(LIP_UPPER, 0, -0.06, 0.12, 0.09)),
    20: (Bump(LIP_CORNER, 0.22, 0.05, 0.17, 0.14),),
    23: (
        Bump(LIP_UPPER, 0, 0.045, 0.17, 0.07),
        Bump(LIP_LOWER, 0, -0.05, 0.17, 0.07),
        Bump(LIP_CORNER, -0.05, 0, 0.14, 0.12),
    ),
    JAW_DROP: (Bump(CHIN, 0, 0.34, 0.75, 0.38),),
    BLINK: (Bump(LID_UPPER, 0, 0.115, 0.18, 0.06), Bump(BROW_MIDDLE, 0, 0.02, 0.2, 0.1)),
}
"""Displacement at full strength. Lips part (25) and jaw drop (26/27) tear the lips apart: see `warp.mouth_fields`."""

LIP_GAP: Final = 0.15
JAW_DISTANCE: Final = 0.42


@dataclass(frozen=True)
class Wrinkle:
    """A soft dark stroke through anchors that comes with an action unit; `gain` is the natural logarithm of its depth.

    `path` holds (anchor, out, down): an offset from the anchor in IOD.
    """

    unit: int
    path: tuple[tuple[Pair, float, float], ...]
    gain: float
    width: float


_FOLD = ((NOSE_WING, 0.06, 0.0), (FOLD_MIDDLE, 0.0, 0.0), (FOLD_END, 0.02, 0.02))

WRINKLES: Final = (
    Wrinkle(1, ((BROW_INNER, -0.22, -0.30), (BROW_INNER, 0.22, -0.28)), -0.30, 0.040),
    Wrinkle(1, ((BROW_INNER, -0.22, -0.44), (BROW_INNER, 0.20, -0.42)), -0.25, 0.040),
    Wrinkle(2, ((BROW_MIDDLE, -0.15, -0.30), (BROW_OUTER, -0.05, -0.28)), -0.28, 0.040),
    Wrinkle(2, ((BROW_MIDDLE, -0.15, -0.44), (BROW_OUTER, -0.10, -0.40)), -0.22, 0.040),
    Wrinkle(4, ((BROW_INNER, -0.10, -0.14), (BROW_INNER, -0.08, 0.16)), -0.34, 0.050),
    Wrinkle(6, ((EYE_OUTER, 0.08, -0.03), (EYE_OUTER, 0.26, -0.10)), -0.28, 0.030),
    Wrinkle(6, ((EYE_OUTER, 0.08, 0.03), (EYE_OUTER, 0.26, 0.06)), -0.28, 0.030),
    Wrinkle(6, ((LID_LOWER, -0.16, 0.09), (LID_LOWER, 0.0, 0.13), (LID_LOWER, 0.18, 0.09)), -0.25, 0.035),
    Wrinkle(9, ((NOSE_ROOT, 0.0, -0.02), (NOSE_ROOT, 0.13, 0.05)), -0.40, 0.030),
    Wrinkle(9, ((NOSE_ROOT, 0.0, 0.10), (NOSE_ROOT, 0.15, 0.17)), -0.36, 0.030),
    Wrinkle(9, _FOLD[:2], -0.22, 0.050),
    Wrinkle(10, _FOLD, -0.30, 0.050),
    Wrinkle(12, _FOLD, -0.34, 0.045),
    Wrinkle(15, ((LIP_CORNER, 0.03, 0.02), (LIP_CORNER, 0.06, 0.20)), -0.36, 0.045),
    Wrinkle(17, ((LIP_MIDDLE, 0.0, 0.13), (LIP_MIDDLE, 0.20, 0.17)), -0.28, 0.050),
    Wrinkle(20, ((LIP_CORNER, 0.10, -0.12), (LIP_CORNER, 0.12, 0.10)), -0.28, 0.045),
)


@dataclass(frozen=True)
class Recipe:
    """An emotion as weights of action units, and the teeth that an open mouth shows (0..1)."""

    units: dict[int, float]
    upper_teeth: float = 0.0
    lower_teeth: float = 0.0
    pitch: float = 0.0


RECIPES: Final[dict[str, tuple[Recipe, ...]]] = {
    "happy": (
        Recipe({6: 1.0, 12: 1.0, LIPS_PART: 0.95}, upper_teeth=1.0),
        Recipe({6: 1.0, 12: 1.0, LIPS_PART: 0.8, JAW_DROP: 0.16}, upper_teeth=1.0),
        Recipe({6: 1.0, 12: 1.15}),
    ),
    "sad": (Recipe({1: 1.0, 4: 0.3, 15: 1.0, 17: 0.9, BLINK: 0.35}, pitch=0.6),),
    "neutral": (Recipe({}),),
    "angry": (
        Recipe({4: 1.35, 7: 1.0, 23: 1.1, 9: 0.25}),
        Recipe({4: 1.35, 7: 0.8, 10: 0.7, LIPS_PART: 1.0, JAW_DROP: 0.15, 15: 0.6}, upper_teeth=1.0, lower_teeth=1.0),
    ),
    "surprise": (Recipe({1: 0.9, 2: 1.05, 5: 1.0, JAW_DROP: 0.95, 18: 0.9}, pitch=-0.4),),
    "disgust": (Recipe({9: 1.25, 10: 1.1, 15: 0.75, 4: 0.25, 7: 0.8, 17: 0.7}),),
    "fear": (Recipe({1: 1.2, 2: 0.4, 4: 0.5, 5: 0.85, 20: 0.8, JAW_DROP: 0.32, 15: 0.45}, lower_teeth=0.8),),
}
"""The variants of each emotion; a clip uses one."""

assert set(RECIPES) == set(EMOTIONS)
