"""A long search for faces in chapters, each of which is saved when it is done, so that a search can go on after a kill.

In each chapter the search begins anew: what it comes to does not depend on where an earlier one was killed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dfer.faces.detections import DetectionTable
from dfer.storage.files import replacing, write_atomically

FRAMES = 1024
"""Frames of a chapter."""


@dataclass(frozen=True, eq=False)
class Chapter:
    """Consecutive frames that were searched.

    Attributes:
        numbers: int64[T], of the frames in the source.
        cuts: the state of the `CutFinder` after them.
    """

    numbers: NDArray[np.int64]
    detections: DetectionTable
    cuts: Mapping[str, NDArray[Any]]


class Chapters:
    """The chapters of one video in a folder; without a folder nothing is saved.

    Attributes:
        frames: of a chapter.
    """

    def __init__(self, folder: Path | None, frames: int = FRAMES) -> None:
        self.frames, self._folder = frames, folder
        self._saved = 0

    @property
    def turn(self) -> int | None:
        """By how many quarter turns frames are turned upright; None before that is known."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return int(json.loads((self._path("turn.json")).read_text())["turn"])
        return None

    @turn.setter
    def turn(self, turn: int) -> None:
        if self._folder is not None:
            write_atomically(self._path("turn.json"), json.dumps({"turn": turn}).encode())

    def saved(self, turn: int) -> list[Chapter]:
        """The chapters that were saved of a search of frames that are turned so, up to the first that is missing."""
        chapters: list[Chapter] = []
        with suppress(OSError, ValueError, KeyError, BadZipFile):
            while self._folder is not None:
                with np.load(self._path(f"faces-{turn}-{len(chapters):05d}.npz"), allow_pickle=False) as file:
                    content = dict(file)
                cuts = {name.removeprefix("cuts_"): value for name, value in content.items() if "cuts_" in name}
                table = DetectionTable(content["frames"], content["faces"])
                chapters.append(Chapter(content["numbers"], table, cuts))
        self._saved = len(chapters)
        return chapters

    def save(self, turn: int, chapter: Chapter) -> None:
        """Save the next chapter."""
        if self._folder is None:
            return
        arrays = {
            "numbers": chapter.numbers,
            "frames": chapter.detections.frames,
            "faces": chapter.detections.faces,
            **{f"cuts_{name}": value for name, value in chapter.cuts.items()},
        }
        with replacing(self._path(f"faces-{turn}-{self._saved:05d}.npz")) as unfinished, unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        self._saved += 1

    def _path(self, name: str) -> Path:
        if self._folder is None:
            raise FileNotFoundError(name)
        return self._folder / name
