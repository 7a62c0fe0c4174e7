"""What the network has said about the views of a long video, in files, so that it goes on after a kill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dfer.storage.files import replacing

_VIEWS = 64  # or more, that are saved at a time: some seconds of work


@dataclass(frozen=True, eq=False)
class Seen:
    """A view that the network has been shown: its number, its probabilities float64[K], and a face for pictures."""

    view: int
    probabilities: NDArray[np.float64]
    face: NDArray[np.uint8] | None


class SavedViews:
    """Whole batches of views in files of a folder; without a folder nothing is saved.

    A network may round otherwise in a batch of another size. Since batches are saved whole, those that follow are the
    same as without a kill.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._number = 0
        self._waiting: list[Seen] = []

    def load(self) -> Iterator[Seen]:
        """The views that were saved, up to the first file that is missing or damaged."""
        with suppress(OSError, ValueError, KeyError, BadZipFile):
            while self._folder is not None:
                with np.load(self._path(), allow_pickle=False) as file:
                    content = dict(file)
                self._number += 1
                faces = dict(zip(content["illustrated"].tolist(), content["faces"], strict=True))
                for view, probabilities in zip(content["views"].tolist(), content["probabilities"], strict=True):
                    yield Seen(view, probabilities, faces.get(view))

    def add(self, batch: Sequence[Seen]) -> None:
        """Add a batch, and save it with those before it now and then."""
        if self._folder is None:
            return
        self._waiting += batch
        if len(self._waiting) < _VIEWS:
            return
        faces = [seen.face for seen in self._waiting if seen.face is not None]
        arrays = {
            "views": np.array([seen.view for seen in self._waiting]),
            "probabilities": np.stack([seen.probabilities for seen in self._waiting]),
            "illustrated": np.array([seen.view for seen in self._waiting if seen.face is not None], np.int64),
            "faces": np.stack(faces) if faces else np.empty((0, 1, 1, 3), np.uint8),
        }
        with replacing(self._path()) as unfinished, unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        self._number += 1
        self._waiting = []

    def _path(self) -> Path:
        assert self._folder is not None
        return self._folder / f"views-{self._number:05d}.npz"
