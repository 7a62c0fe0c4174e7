"""The people of the demo data: portraits cut from one photograph, with the mesh points that move their faces.

Every portrait is a grey picture of CANVAS pixels, turned upright and scaled so that the inter-ocular distance (IOD) is
IOD pixels and the middle between eyes and mouth lies at CENTRE. A point is named by its number in the MediaPipe face
mesh. Left and right are those of the picture.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

ASSETS = Path(__file__).parent / "assets"
CANVAS = (704, 448)
CENTRE = (352.0, 216.0)
IOD = 62.0


@dataclass(frozen=True, eq=False)
class Person:
    """A portrait `picture` uint8[448,704] and its mesh `points` (mesh number -> x, y in portrait pixels)."""

    name: str
    picture: NDArray[np.uint8]
    points: dict[int, tuple[float, float]]

    def at(self, *mesh: int) -> NDArray[np.float32]:
        """The mean of some mesh points, float32[2] (x, y) in portrait pixels."""
        return np.array([self.points[number] for number in mesh], np.float32).mean(axis=0, keepdims=True)[0]


@cache
def _points() -> dict[str, dict[int, tuple[float, float]]]:
    people = json.loads((ASSETS / "faces.json").read_text(encoding="utf-8"))["people"]
    return {name: {int(number): (x, y) for number, (x, y) in points.items()} for name, points in people.items()}


def names() -> tuple[str, ...]:
    """The names of all people, sorted."""
    return tuple(sorted(_points()))


@cache
def person(name: str) -> Person:
    """One person by name. Raises KeyError for a name that is not in `names()`."""
    return Person(name, read_picture(name), _points()[name])


@cache
def read_picture(name: str) -> NDArray[np.uint8]:
    """A shipped picture, uint8[448,704] grey: a person's portrait or "background" (part of the photo without a face).

    Raises FileNotFoundError if the package was installed without it.
    """
    path = ASSETS / f"{name}.jpg"
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise FileNotFoundError(f"{path} is missing or not a picture; install the package again, with its data files")
    return cast("NDArray[np.uint8]", picture)
