"""Animates a face: the strength of every action unit and the position of the head in each frame of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dfer.demo.expressions import BLINK, RECIPES
from dfer.labels import EMOTIONS

_IDLE_UNITS: Final = (1, 2, 4, 7, 12, 15, 17, 23)
_HEAD_SWAY: Final = (0.07, 0.05, 0.05, 0.07, 0.06)


@dataclass(frozen=True, eq=False)
class Performance:
    """The motion of one clip.

    Attributes:
        units: the n action units that it uses.
        strength: float32[T, n, 2], of the left and the right half of the face; 0 is at rest, about 1 is full.
        head: float32[T, 5], the weights of `warp.head_fields`.
        teeth: float32[T, 2], visibility (0..1) of the upper and the lower row.
    """

    units: tuple[int, ...]
    strength: NDArray[np.float32]
    head: NDArray[np.float32]
    teeth: NDArray[np.float32]


def perform(intensities: Sequence[float], frames: int, generator: np.random.Generator) -> Performance:
    """Act out emotions of some intensities (seven, in the order of EMOTIONS, 0..1) over `frames` frames.

    Each emotion starts at 0-18 % of the clip, reaches its apex at 15-43 % and may fade from 80 % on; each action unit
    has a random lag, strength and asymmetry. Blinks, small idle movements and the sway of the head are added to every
    emotion, so that a neutral face moves as well.
    """
    time = (np.arange(frames) + 0.5) / frames
    strength: dict[int, NDArray[np.float64]] = {}
    teeth = np.zeros((frames, 2))
    head = np.stack([size * _sway(time, generator) for size in _HEAD_SWAY], axis=1)

    def add(unit: int, envelope: NDArray[np.float64], asymmetry: float = 0.0) -> None:
        sides = np.outer(envelope, [1 + asymmetry, 1 - asymmetry])
        strength[unit] = strength.get(unit, 0.0) + sides

    for emotion, intensity in zip(EMOTIONS, intensities, strict=True):
        if intensity == 0:
            continue
        recipes = RECIPES[emotion]
        recipe = recipes[int(generator.integers(len(recipes)))]
        start = generator.uniform(0, 0.18)
        apex = start + generator.uniform(0.15, 0.25)
        end = generator.uniform(0.80, 1.10)
        envelope = np.zeros(frames)
        for unit, weight in recipe.units.items():
            lag = generator.uniform(-0.03, 0.04)
            envelope = _ramp(time, start + lag, apex + lag) * (1 - _ramp(time, end + lag, end + lag + 0.25))
            size = intensity * weight * (1 + generator.uniform(-0.10, 0.15))
            asymmetry = float(np.clip(generator.normal(0, 0.06), -0.15, 0.15))
            add(unit, size * envelope, asymmetry)
        shown = np.array([recipe.upper_teeth, recipe.lower_teeth]) * min(1.0, 1.6 * intensity)
        teeth = np.maximum(teeth, np.outer(np.minimum(1, 1.5 * envelope), shown))
        head[:, 4] += 0.12 * recipe.pitch * intensity * envelope

    for unit in generator.choice(_IDLE_UNITS, size=2, replace=False):
        add(int(unit), 0.09 * _sway(time, generator))
    if generator.random() < 0.5:
        middle = generator.uniform(0.1, 0.9) * frames
        add(BLINK, np.clip(1 - np.abs(np.arange(frames) - middle) / 3.0, 0, 1) ** 0.7)
        strength[BLINK] = np.minimum(strength[BLINK], 1.0)

    units = tuple(sorted(strength))
    stacked = np.stack([strength[unit] for unit in units], axis=1)
    return Performance(units, stacked.astype(np.float32), head.astype(np.float32), teeth.astype(np.float32))


def _ramp(time: NDArray[np.float64], start: float, end: float) -> NDArray[np.float64]:
    x = np.clip((time - start) / (end - start), 0, 1)
    return x * x * (3 - 2 * x)


def _sway(time: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """A slow irregular movement within -1..1."""
    slow, fast = generator.uniform(0.3, 0.8), generator.uniform(0.9, 1.8)
    first, second = generator.uniform(0, 2 * np.pi, size=2)
    return 0.65 * np.sin(2 * np.pi * slow * time + first) + 0.35 * np.sin(2 * np.pi * fast * time + second)
