"""How a clip is filmed: framing, camera motion, light, blur, noise and colour. None of it depends on the emotion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.demo.people import CENTRE

Range = tuple[float, float]


@dataclass(frozen=True)
class Camera:
    """The size in pixels of a data set's pictures, and the ranges that the `Look` of each clip is drawn from."""

    size: tuple[int, int]
    zoom: Range
    shift: float
    gain: Range
    gamma: Range
    blur: Range
    noise: Range
    tint: tuple[Range, Range]
    quality: tuple[int, int]


CAMERAS: Final = {
    "dfew": Camera(
        size=(320, 320),
        zoom=(0.82, 1.2),
        shift=16,
        gain=(0.85, 1.12),
        gamma=(0.85, 1.2),
        blur=(0.0, 1.3),
        noise=(1.0, 4.0),
        tint=((-12, 2), (0, 12)),
        quality=(20, 30),
    ),
    "afew": Camera(
        size=(480, 270),
        zoom=(0.74, 0.95),
        shift=24,
        gain=(0.7, 1.0),
        gamma=(0.8, 1.1),
        blur=(0.3, 1.0),
        noise=(4.0, 8.0),
        tint=((2, 14), (-14, -2)),
        quality=(4, 9),
    ),
    "ferv39k": Camera(
        size=(160, 160),
        zoom=(0.86, 1.02),
        shift=6,
        gain=(0.75, 1.1),
        gamma=(0.8, 1.2),
        blur=(0.0, 0.9),
        noise=(2.0, 6.0),
        tint=((-10, 8), (-8, 10)),
        quality=(75, 92),
    ),
}
"""Three different cameras: warm square pictures; wide, noisier, darker, bluish ones; and small ones that a face fills.

Quality: H.264 CRF, MPEG-4 qscale, JPEG quality.
"""


@dataclass(frozen=True, eq=False)
class Look:
    """How one clip is filmed."""

    size: tuple[int, int]  # width and height of the picture
    views: NDArray[np.float32]  # float32[T, 2, 3], affine maps from pixels of the picture to pixels of the portrait
    light: NDArray[np.float32]  # float32[H, W], gains
    curve: NDArray[np.uint8]  # uint8[256], grey level -> luma (16..235)
    blur: float  # sigma in pixels
    noise: NDArray[np.float32]  # float32[H, W] grey levels; each frame shifts it by its `rolls`
    rolls: NDArray[np.int64]  # int64[T, 2]
    tint: tuple[float, float]  # chroma offsets (U, V) at white
    quality: int  # see `CAMERAS`


def draw_look(camera: Camera, frames: int, generator: np.random.Generator) -> Look:
    """Draw the look of a clip of `frames` frames."""
    width, height = camera.size
    zoom = generator.uniform(*camera.zoom)
    mirror = -1.0 if generator.random() < 0.5 else 1.0
    roll = generator.uniform(-0.09, 0.09)
    shift = generator.uniform(-camera.shift, camera.shift, size=2)
    time = np.linspace(0, 1, frames)
    pan, speed, phase = generator.normal(0, 4, 2), generator.uniform(0.5, 1.5, 2), generator.uniform(0, 2 * np.pi, 2)
    drift = np.outer(time - 0.5, pan) + 1.5 * np.sin(2 * np.pi * np.outer(time, speed) + phase)
    creep = 1 + generator.uniform(-0.04, 0.04) * (time - 0.5)

    cos, sin = np.cos(roll) / (zoom * creep), np.sin(roll) / (zoom * creep)
    linear = np.stack([np.stack([mirror * cos, -mirror * sin], axis=1), np.stack([sin, cos], axis=1)], axis=1)
    offset = np.array(CENTRE) + (shift + drift) - linear @ np.array([width / 2, height / 2])
    views = np.concatenate([linear, offset[:, :, None]], axis=2).astype(np.float32)

    slope = generator.uniform(-0.15, 0.15, size=2)
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)
    light = generator.uniform(*camera.gain) * (1 + slope[0] * x[None, :] + slope[1] * y[:, None])
    level = (np.arange(256) / 255) ** generator.uniform(*camera.gamma)
    noise = generator.uniform(*camera.noise) * generator.standard_normal((height, width), dtype=np.float32)
    return Look(
        size=camera.size,
        views=views,
        light=light.astype(np.float32),
        curve=np.rint(16 + 219 * level).astype(np.uint8),
        blur=generator.uniform(*camera.blur),
        noise=noise.astype(np.float32),
        rolls=generator.integers(0, min(width, height), size=(frames, 2)),
        tint=(generator.uniform(*camera.tint[0]), generator.uniform(*camera.tint[1])),
        quality=int(generator.integers(camera.quality[0], camera.quality[1] + 1)),
    )


def picture_grid(view: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """The position in the portrait of each pixel of a picture of `size` (width, height): float32[H,W,2] (x, y)."""
    x = np.arange(size[0], dtype=np.float32)
    y = np.arange(size[1], dtype=np.float32)
    grid = np.empty((size[1], size[0], 2), np.float32)
    for axis in (0, 1):
        a, b, c = view[axis]
        np.add((a * x + c)[None, :], (b * y)[:, None], out=grid[..., axis])
    return grid


def expose(picture: NDArray[np.uint8], look: Look, frame: int) -> NDArray[np.uint8]:
    """Film a grey picture uint8[H,W]: light, blur, noise and tint. Returns planar YUV 4:2:0, uint8[1.5*H,W]."""
    if look.blur > 0.3:
        picture = cast("NDArray[np.uint8]", cv2.GaussianBlur(picture, (0, 0), look.blur))
    lit = picture * look.light
    lit += np.roll(look.noise, tuple(look.rolls[frame]), axis=(0, 1))
    luma = look.curve[np.clip(lit, 0, 255).astype(np.uint8)]
    return np.concatenate([luma, tinted(luma, look.tint)])


def tinted(luma: NDArray[np.uint8], tint: tuple[float, float]) -> NDArray[np.uint8]:
    """The two chroma planes of a luma plane uint8[H,W], stacked as uint8[H/2,W]; the tint grows with the brightness."""
    height, width = luma.shape
    small = np.asarray(cv2.resize(luma, (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    planes = [np.rint(128 + np.float32(offset / 235) * small).astype(np.uint8) for offset in tint]
    return np.concatenate(planes).reshape(height // 2, width)
