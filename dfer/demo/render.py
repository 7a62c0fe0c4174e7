"""Renders an acting person as a camera sees it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.demo import warp
from dfer.demo.acting import Performance
from dfer.demo.camera import Look, expose, picture_grid
from dfer.demo.expressions import WRINKLES
from dfer.demo.people import IOD, Person
from dfer.demo.warp import STEP, WINDOW, Field, Mouth, invert, look_up

_MOUTH_BOX = (1.0, 0.5, 2.0)
"""Extent of an open mouth to the sides, up and down from the middle of the lips, in IOD."""


def film(who: Person, performance: Performance, look: Look) -> Iterator[NDArray[np.uint8]]:
    """Film a performance: yields each frame as planar YUV 4:2:0, uint8[1.5*H,W] (luma 16..235)."""
    for number, picture in enumerate(pictures(who, performance, look)):
        yield expose(picture, look, number)


def pictures(who: Person, performance: Performance, look: Look) -> Iterator[NDArray[np.uint8]]:
    """The animated portrait as the camera frames it, before light and noise: yields uint8[H,W] grey."""
    puppet = _Puppet.of(who, performance)
    back = torn_back = None
    for frame, view in enumerate(look.views):
        portrait = puppet.wrinkled(frame)
        field = puppet.field(frame)
        back = invert(field, back)
        positions = picture_grid(view, look.size) + _through_camera(back, view, look.size)
        tear = puppet.tear(frame)
        if tear is None:
            yield look_up(portrait, positions)
            continue
        field[..., 1] += tear
        torn_back = invert(field, torn_back)
        box = _mouth_box(warp.lip_line(who), view, look.size)
        upper = positions[box].copy()
        view_of_box = view.copy()
        view_of_box[:, 2] += view[:, :2] @ np.array([box[1].start, box[0].start], np.float32)
        size = (upper.shape[1], upper.shape[0])
        lower = picture_grid(view_of_box, size) + _through_camera(torn_back, view_of_box, size)
        below_upper, below_lower = puppet.below_lips(upper), puppet.below_lips(lower)
        # Each pixel belongs to the nearer lip; between both is the inside of the mouth, which is painted last.
        positions[box] = np.where((below_upper + below_lower > 0)[..., None], lower, upper)
        picture = look_up(portrait, positions)
        teeth = (float(performance.teeth[frame, 0]), float(performance.teeth[frame, 1]))
        picture[box] = puppet.mouth.paint(picture[box], upper[..., 0], below_upper, -below_lower, teeth)
        yield picture


@dataclass(frozen=True, eq=False)
class _Puppet:
    """A person's fields for the action units of one performance."""

    who: Person
    performance: Performance
    basis: Field
    weights: NDArray[np.float32]
    tears: dict[int, Field]
    folds: dict[int, NDArray[np.float32]]
    distance: NDArray[np.float32]
    mouth: Mouth

    @classmethod
    def of(cls, who: Person, performance: Performance) -> _Puppet:
        units = performance.units
        expressions = [warp.expression_field(who, unit, side) for unit in units for side in (0, 1)]
        strength = performance.strength.reshape(len(performance.strength), -1)
        return cls(
            who=who,
            performance=performance,
            basis=np.stack([*expressions, *warp.head_fields()]),
            weights=np.concatenate([strength, performance.head], axis=1),
            tears={unit: field for unit, field in warp.mouth_fields(who).items() if unit in units},
            folds={unit: warp.wrinkles(who, unit) for unit in units if any(each.unit == unit for each in WRINKLES)},
            distance=warp.lip_distance(who),
            mouth=Mouth.of(who),
        )

    def strength(self, unit: int, frame: int) -> np.float32:
        both = self.performance.strength[frame, self.performance.units.index(unit)]
        return np.float32(max(both.mean(), 0.0))

    def field(self, frame: int) -> Field:
        # Not tensordot: that is threaded, and every process of the pool would start a thread for each CPU.
        return cast("Field", np.einsum("n,nhwc->hwc", self.weights[frame], self.basis))

    def tear(self, frame: int) -> Field | None:
        """How far the part below the lips moves down from the part above, in pixels; None for a closed mouth."""
        parts = [(self.strength(unit, frame), field) for unit, field in self.tears.items()]
        if not any(strength > 0 for strength, _ in parts):
            return None
        return functools.reduce(np.add, (strength * field for strength, field in parts))

    def wrinkled(self, frame: int) -> NDArray[np.uint8]:
        if not self.folds:
            return self.who.picture
        depth = functools.reduce(np.add, (self.strength(unit, frame) * fold for unit, fold in self.folds.items()))
        x, y, width, height = WINDOW
        portrait = self.who.picture.copy()
        inside = portrait[y : y + height, x : x + width]
        np.rint(inside * np.exp(depth), out=inside, casting="unsafe")
        return portrait

    def below_lips(self, positions: NDArray[np.float32]) -> NDArray[np.float32]:
        return look_up(self.distance, positions - np.array(WINDOW[:2], np.float32))


def _mouth_box(lips: NDArray[np.float32], view: NDArray[np.float32], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the picture that an open mouth can cover; never empty."""
    side, up, down = (IOD * reach for reach in _MOUTH_BOX)
    x, y = lips.mean(axis=0)
    corners = np.array([[x + i, y + j] for i in (-side, side) for j in (-up, down)]) - view[:, 2]
    visible = np.linalg.solve(view[:, :2].astype(np.float64), corners.T)
    (left, top), (right, bottom) = visible.min(axis=1), visible.max(axis=1)
    columns = np.clip([np.floor(left), np.ceil(right)], 0, size[0] - 1).astype(int)
    rows = np.clip([np.floor(top), np.ceil(bottom)], 0, size[1] - 1).astype(int)
    return slice(rows[0], rows[1] + 1), slice(columns[0], columns[1] + 1)


def _through_camera(field: Field, view: NDArray[np.float32], size: tuple[int, int]) -> Field:
    """A field on the window's grid, mapped to the picture: float32[H,W,2], zero outside the window."""
    to_node = view.astype(np.float64)
    to_node[:, 2] -= np.array(WINDOW[:2]) + (STEP - 1) / 2
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cast("Field", cv2.warpAffine(field, to_node / STEP, size, flags=flags))
