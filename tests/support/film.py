"""A film of two drawn people whose expressions are known, on screen in turn and together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfer.demo.acting import Performance, perform
from dfer.demo.annotators import _CONFUSION
from dfer.demo.camera import CAMERAS, Look, draw_look, tinted
from dfer.demo.casting import plan_clips
from dfer.demo.encoding import FRAME_RATE, write_h264
from dfer.demo.expressions import RECIPES
from dfer.demo.people import names, person
from dfer.demo.render import film
from dfer.labels import EMOTIONS

CAST = slice(1, 3)  # of those whom no training clip shows: nobody stands behind these
PART = 40  # frames of one expression
HEIGHT, WIDTH = 320, 400

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Film:
    """A film and what is acted in it.

    Attributes:
        seen: float64[people, frames, 7], what annotators would see in each frame (`dfer.demo.annotators`), rows that
            sum to 1; nan where somebody is not on screen.
    """

    path: Path
    seen: Array

    def truth(self, person: int, start: float, end: float) -> Array:
        """What is seen of a person, float64[7], from one second to another; nan if they are never there."""
        frames = self.seen[person, round(start * FRAME_RATE) : round(end * FRAME_RATE)]
        there = frames[~np.isnan(frames[:, 0])]
        return there.mean(axis=0) if len(there) else np.full(len(EMOTIONS), np.nan)


def write_film(
    path: Path, *, shots: Sequence[str] = ("A", "B", "AB", "A", "AB", "B"), parts: int = 4, seed: int = 0
) -> Film:
    """Write a film of shots with a cut between them; 'A' has the first person alone, 'AB' both side by side.

    A shot has as many expressions of each person as `parts`, every emotion about as often. The two are among those
    whom no clip of the demo's DFEW-like set shows.
    """
    generator = np.random.default_rng(seed)
    shown = {name for plan in plan_clips(320, 0) if plan.dataset == "dfew" for name in plan.people}
    people = [name for name in names() if name not in shown][CAST]
    count = [parts * sum(letter in shot for shot in shots) for letter in "AB"]
    turns = [generator.permutation(np.arange(number) % len(EMOTIONS)).tolist() for number in count]
    seen, lumas = [], []
    for shot in shots:
        truth = np.full((2, parts * PART, len(EMOTIONS)), np.nan)
        sides = []
        for letter in shot:
            who = "AB".index(letter)
            emotions = [turns[who].pop() for _ in range(parts)]
            pictures, truth[who] = _play(people[who], emotions, WIDTH // len(shot), generator)
            sides.append(pictures)
        lumas += [np.hstack(pair) for pair in zip(*sides, strict=True)]
        seen.append(truth)
    write_h264(path, (np.concatenate([luma, tinted(luma, (-6.0, 6.0))]) for luma in lumas), crf=20)
    return Film(path, np.concatenate(seen, axis=1))


def _play(
    name: str, emotions: Sequence[int], width: int, generator: np.random.Generator
) -> tuple[list[NDArray[np.uint8]], Array]:
    """A person who acts one emotion after another in one take: grey pictures, and what annotators would see."""
    look = _look(width, PART * len(emotions), generator)
    pictures, seen = [], []
    for number, emotion in enumerate(emotions):
        part = slice(number * PART, (number + 1) * PART)
        performance = perform(np.eye(len(EMOTIONS))[emotion].tolist(), PART, generator)
        taken = replace(look, views=look.views[part], rolls=look.rolls[part])
        pictures += [planes[:HEIGHT] for planes in film(person(name), performance, taken)]
        strength = _strength(performance, emotion)[:, None]
        acted = strength * np.eye(len(EMOTIONS))[emotion] + (1 - strength) * np.eye(len(EMOTIONS))[2]
        seen.append(acted @ _CONFUSION)
    return pictures, np.concatenate(seen)


def _look(width: int, frames: int, generator: np.random.Generator) -> Look:
    """As one camera films one scene: nobody is mirrored."""
    camera = replace(CAMERAS["dfew"], size=(width, HEIGHT), zoom=(0.85, 0.95), shift=6, noise=(1.0, 2.0))
    while (look := draw_look(camera, frames, generator)).views[0, 0, 0] < 0:
        pass
    return look


def _strength(performance: Performance, emotion: int) -> Array:
    """How strongly an emotion is shown in each frame, float64[T], as a share of its most."""
    units = {unit for recipe in RECIPES[EMOTIONS[emotion]] for unit in recipe.units}
    rows = [row for row, unit in enumerate(performance.units) if unit in units]
    if not rows:  # neutral
        return np.ones(len(performance.strength))
    total = performance.strength[:, rows].astype(np.float64).sum(axis=(1, 2))
    return np.clip(total / max(total.max(), 1e-6), 0, 1)
