"""Pictures of a person who acts, as a camera sees them."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.demo.acting import Performance
from dfer.demo.camera import Look, expose, picture_grid
from dfer.demo.expressions import WRINKLES
from dfer.demo.people import Person
from dfer.demo.warp import (
    STEP,
    WINDOW,
    Field,
    Mouth,
    expression_field,
    head_fields,
    invert,
    lip_distance,
    mouth_fields,
    wrinkles,
)


def film(who: Person, performance: Performance, look: Look) -> Iterator[NDArray[np.uint8]]:
    """Film a performance: yields each frame as planar YUV 4:2:0, uint8[1.5*H,W] (luma 16..235)."""
    for number, picture in enumerate(pictures(who, performance, look)):
        yield expose(picture, look, number)


def pictures(who: Person, performance: Performance, look: Look) -> Iterator[NDArray[np.uint8]]:
    """The animated portrait as the camera frames it, before light and noise: yields uint8[H,W] grey."""
    units, strength = performance.units, performance.strength
    basis = np.stack([expression_field(who, unit, side) for unit in units for side in (0, 1)] + list(head_fields()))
    weights = np.concatenate([strength.reshape(len(strength), -1), performance.head], axis=1)
    tears = {unit: field for unit, field in mouth_fields(who).items() if unit in units}
    folded = [unit for unit in units if any(wrinkle.unit == unit for wrinkle in WRINKLES)]
    folds = np.stack([wrinkles(who, unit) for unit in folded]) if folded else None
    distance, mouth = lip_distance(who), Mouth.of(who)
    x, y, width, height = WINDOW

    back = torn = None
    for frame, view in enumerate(look.views):
        portrait = who.picture
        if folds is not None:
            depth = np.array([strength[frame, units.index(unit)].mean() for unit in folded], np.float32)
            gain = np.exp(np.tensordot(np.maximum(depth, 0), folds, axes=1))
            portrait = portrait.copy()
            portrait[y : y + height, x : x + width] = np.rint(portrait[y : y + height, x : x + width] * gain)
        field = np.tensordot(weights[frame], basis, axes=1)
        grid = picture_grid(view, look.size)
        back = invert(field, back)
        upper = grid + _seen(back, view, look.size)
        if not tears:
            yield cv2.remap(portrait, upper, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            continue
        lower_field = field.copy()
        for unit, tear in tears.items():
            lower_field[..., 1] += max(float(strength[frame, units.index(unit)].mean()), 0.0) * tear
        torn = invert(lower_field, torn)
        lower = grid + _seen(torn, view, look.size)
        below_upper = _look_up(distance, upper)
        below_lower = _look_up(distance, lower)
        chosen = np.where((below_upper + below_lower > 0)[..., None], lower, upper)
        picture = cv2.remap(portrait, chosen, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        open_rows = np.flatnonzero(((below_upper > 0) & (below_lower < 0)).any(axis=1))
        if len(open_rows):
            part = slice(open_rows[0], open_rows[-1] + 1)
            teeth = (float(performance.teeth[frame, 0]), float(performance.teeth[frame, 1]))
            picture[part] = mouth.paint(
                picture[part], upper[part, :, 0], below_upper[part], -below_lower[part], teeth
            )
        yield picture


def _seen(field: Field, view: NDArray[np.float32], size: tuple[int, int]) -> Field:
    """A field on the window's grid, looked at through the camera: float32[H,W,2], zero outside the window."""
    to_node = view.astype(np.float64)
    to_node[:, 2] -= np.array(WINDOW[:2]) + (STEP - 1) / 2
    return cv2.warpAffine(field, to_node / STEP, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def _look_up(distance: NDArray[np.float32], places: NDArray[np.float32]) -> NDArray[np.float32]:
    origin = np.array(WINDOW[:2], np.float32)
    return cv2.remap(distance, places - origin, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
