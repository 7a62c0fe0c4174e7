"""Moves pixels by action units: displacement fields, their inverse, and a mouth that opens.

All fields cover a WINDOW of the portrait around the face, on a grid of every second pixel (STEP), and contain
displacements in portrait pixels: a field d moves the point p to p + d(p).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.demo.expressions import ACTION_UNITS, CHIN, INNER_LIPS, JAW_DISTANCE, JAW_DROP, LIP_GAP, LIPS_PART, WRINKLES
from dfer.demo.people import CENTRE, IOD, Person

Field = NDArray[np.float32]
_Pixel = TypeVar("_Pixel", np.uint8, np.float32)

WINDOW: Final = (192, 40, 320, 352)
"""x, y, width, height in portrait pixels."""
STEP: Final = 2
GRID: Final = (WINDOW[3] // STEP, WINDOW[2] // STEP)

_DAMPING: Final = (0.8, 0.6, 0.6, 0.5, 0.5)
_SHADE_OF_MOUTH: Final = 0.17

_GRID_X: Final = (WINDOW[0] + STEP * np.arange(GRID[1], dtype=np.float32) + (STEP - 1) / 2).astype(np.float32)
_GRID_Y: Final = (WINDOW[1] + STEP * np.arange(GRID[0], dtype=np.float32) + (STEP - 1) / 2).astype(np.float32)
_NODES: Final = np.dstack(np.meshgrid(np.arange(GRID[1]), np.arange(GRID[0]))).astype(np.float32)


def _smooth(x: NDArray[np.float32]) -> NDArray[np.float32]:
    clipped = np.clip(x, 0, 1)
    return cast("NDArray[np.float32]", clipped * clipped * (3 - 2 * clipped))


def expression_field(who: Person, unit: int, side: int) -> Field:
    """Displacement of one action unit at full strength on one side (0 left, 1 right), float32[176,160,2]."""
    field = np.zeros((*GRID, 2), np.float32)
    sign = -1.0 if side == 0 else 1.0
    for bump in ACTION_UNITS.get(unit, ()):
        x, y = who.at(*bump.anchor[side])
        fall_x = np.exp(-0.5 * ((_GRID_X - x) / (bump.sigma_x * IOD)) ** 2)
        fall_y = np.exp(-0.5 * ((_GRID_Y - y) / (bump.sigma_y * IOD)) ** 2)
        bell = np.outer(fall_y, fall_x)
        if bump.anchor[0] == bump.anchor[1]:
            bell *= 0.5
        field[..., 0] += np.float32(sign * bump.out * IOD) * bell
        field[..., 1] += np.float32(bump.down * IOD) * bell
    return field


def head_fields() -> Field:
    """Small head motions, float32[5,176,160,2]: right by 1 IOD, down by 1 IOD, roll by 1 radian, yaw and pitch.

    Yaw and pitch move the middle of the face by 1 IOD and its rim not at all. All fade out towards the window's rim.
    """
    u = ((_GRID_X - CENTRE[0]) / IOD)[None, :]
    v = ((_GRID_Y - CENTRE[1]) / IOD)[:, None]
    fade = 1 - _smooth((np.hypot(u / 2.5, v / 2.75) - 0.5) / 0.48)
    bulge = fade * np.clip(1 - np.hypot(u / 1.5, (v + 0.1) / 2.1) ** 2, 0, None)
    none = np.zeros(GRID, np.float32)
    neck = v - 1.2
    pairs = [(fade, none), (none, fade), (-neck * fade, u * fade), (bulge, none), (none, bulge)]
    return (np.stack([np.dstack(np.broadcast_arrays(*pair)) for pair in pairs]) * IOD).astype(np.float32)


def mouth_fields(who: Person) -> dict[int, Field]:
    """The fields that open the lips, at full strength: lips part (25) and jaw drop (26), float32[176,160] pixels down.

    They move only the part below the lip line, and are zero at the corners of the mouth.
    """
    lips = lip_line(who)
    left, right = lips[0], lips[-1]
    middle, half = (left[0] + right[0]) / 2, (right[0] - left[0]) / 2
    below = (_GRID_Y[:, None] - np.interp(_GRID_X, lips[:, 0], lips[:, 1])[None, :]).astype(np.float32) / IOD
    chin = (who.at(*CHIN[0])[1] - lips[:, 1].mean()) / IOD
    across = np.abs(_GRID_X - middle)[None, :]

    part = np.clip(1 - (across / (0.95 * half)) ** 2, 0, None) * np.exp(-0.5 * (np.clip(below, 0, None) / 0.22) ** 2)
    narrow = 0.92 * half
    width = narrow + (0.8 * IOD - narrow) * _smooth(below / 0.5)
    drop = np.clip(1 - (across / width) ** 2, 0, None) ** 0.65 * (1 - _smooth(below / (1.2 * chin)))
    return {
        LIPS_PART: (part * LIP_GAP * IOD).astype(np.float32),
        JAW_DROP: (drop * JAW_DISTANCE * IOD).astype(np.float32),
    }


def lip_line(who: Person) -> NDArray[np.float32]:
    """Where the lips meet, float32[11,2] (x, y) in portrait pixels, from the left corner to the right one."""
    return np.stack([who.at(*points) for points in INNER_LIPS])


def lip_distance(who: Person) -> NDArray[np.float32]:
    """The distance of each pixel of the window below the line where the lips meet, float32[352,320] pixels."""
    lips = lip_line(who)
    x = np.arange(WINDOW[2], dtype=np.float32) + WINDOW[0]
    y = np.arange(WINDOW[3], dtype=np.float32) + WINDOW[1]
    return (y[:, None] - np.interp(x, lips[:, 0], lips[:, 1])[None, :]).astype(np.float32)


def wrinkles(who: Person, unit: int) -> NDArray[np.float32]:
    """The wrinkles of one action unit at full strength as logarithm of a gain, float32[352,320] (0 = no change)."""
    total = np.zeros((WINDOW[3], WINDOW[2]), np.float32)
    for wrinkle in (each for each in WRINKLES if each.unit == unit):
        for side, sign in ((0, -1.0), (1, 1.0)):
            path = np.array(
                [who.at(*anchor[side]) + IOD * np.array([sign * out, down]) for anchor, out, down in wrinkle.path]
            )
            canvas = np.zeros(total.shape, np.float32)
            points = np.rint((path - WINDOW[:2]) * 16).astype(np.int32)
            cv2.polylines(canvas, [points], False, 1.0, thickness=3, lineType=cv2.LINE_8, shift=4)
            soft = np.asarray(cv2.GaussianBlur(canvas, (0, 0), wrinkle.width * IOD), np.float32)
            total += np.float32(wrinkle.gain) * soft / soft.max()
    return total


def invert(field: Field, start: Field | None = None) -> Field:
    """The inverse field b with d(q + b(q)) = -b(q): the pixel q shows the point q + b(q).

    `field` is d, float32[176,160,2]; `start` is a first guess, such as the last frame's result. Fixed-point iteration
    oscillates where d is steep, so its steps are damped.
    """
    back = -field if start is None else start
    for damping in _DAMPING:
        displacement = sample(field, back)
        back = back - np.float32(damping) * (back + displacement)
    return back


def sample(field: Field, offset: Field) -> Field:
    """`field` at each grid node plus `offset` (portrait pixels), bilinear; both on the grid."""
    positions = offset * np.float32(1 / STEP)
    positions += _NODES
    return look_up(field, positions)


def look_up(image: NDArray[_Pixel], positions: NDArray[np.float32]) -> NDArray[_Pixel]:
    """`image` [h,w] or [h,w,C] at `positions` float32[H,W,2] (x, y), bilinear; outside, the border is repeated."""
    # The stubs do not know that the second map may be left out when the first holds both coordinates.
    result = cv2.remap(image, positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return cast("NDArray[_Pixel]", result)


@dataclass(frozen=True, eq=False)
class Mouth:
    """The inside of the mouth: size of the mouth in portrait pixels, and brightness of the skin (0..255)."""

    middle: float
    half_width: float
    skin: float

    @classmethod
    def of(cls, who: Person) -> Mouth:
        """Measure the mouth and the cheeks of a person."""
        lips = lip_line(who)
        cheeks = [
            who.picture[round(float(y)) - 6 : round(float(y)) + 7, round(float(x)) - 6 : round(float(x)) + 7]
            for x, y in (who.at(50), who.at(280))
        ]
        half = float(lips[-1, 0] - lips[0, 0]) / 2
        return cls(float(lips[:, 0].mean()), half, float(np.median(np.stack(cheeks))))

    def paint(
        self,
        picture: NDArray[np.uint8],
        x: NDArray[np.float32],
        from_upper: NDArray[np.float32],
        from_lower: NDArray[np.float32],
        teeth: tuple[float, float],
    ) -> NDArray[np.uint8]:
        """Paint the inside of the mouth wherever a pixel lies below the upper lip and above the lower one.

        `x`: position of the pixel across the face; `from_upper`: pixels below the upper lip; `from_lower`: pixels above
        the lower lip; all float32 of the shape of `picture`. `teeth`: strength (0..1) of the upper and the lower row.
        """
        inside = np.clip(from_upper, 0, 1) * np.clip(from_lower, 0, 1)
        across = np.abs(x - self.middle) / self.half_width
        round_off = np.clip(1 - across**4, 0, 1)
        gaps = 0.93 + 0.07 * np.cos((x - self.middle) * (2 * np.pi / (0.105 * IOD)))
        upper = teeth[0] * np.clip((0.17 * IOD * (1 - 0.35 * across**2) - from_upper) / 1.5, 0, 1)
        lower = teeth[1] * np.clip((0.11 * IOD * (1 - 0.35 * across**2) - from_lower) / 1.5, 0, 1)
        tooth = np.maximum(upper, lower) * round_off * gaps
        # The lips' shadow on the teeth keeps them from looking like a strip of paper.
        shadow = np.clip(0.55 + np.minimum(from_upper, from_lower) * 0.12, 0, 1)
        bright = min(self.skin * 0.95, 215.0)
        colour = self.skin * _SHADE_OF_MOUTH * (1 - tooth) + bright * tooth * shadow
        return np.rint(picture + inside * (colour - picture)).astype(np.uint8)
