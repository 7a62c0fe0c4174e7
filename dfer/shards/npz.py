"""A shard as NPZ: one uncompressed archive of arrays, its frames as raw pixels.

numpy.load alone opens it: `np.load("clips.npz")["00000/frames"]` is uint8[T, H, W, 3]. About ten times as large as
JPEG in Parquet, and exact.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from dfer.shards.clip import FRAME_FIELDS, Clip

FILE_NAME = "clips.npz"


class NpzWriter:
    """Writes a shard row by row: a clip, or a part of a long one.

    Attributes:
        rows: how many are written.
    """

    def __init__(self, path: Path, metadata: dict[str, Any]) -> None:
        self.rows = 0
        self._metadata = metadata
        self._pieces: list[Clip] = []
        self._clip_ids: list[str] = []
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        with self._archive:
            if error is None:
                _add(self._archive, "clip_ids", np.array(self._clip_ids, dtype=np.str_))
                _add(self._archive, "metadata", np.array(json.dumps(self._metadata)))

    def add(self, piece: Clip) -> None:
        """Append a piece to the next row."""
        self._pieces.append(piece)

    def clear(self) -> None:
        """Forget the pieces of the next row."""
        self._pieces = []

    def write_row(self) -> None:
        """Write the pieces that were added as one row."""
        clip = Clip.joined(self._pieces)
        self.clear()
        for name in ("frames", *FRAME_FIELDS):
            _add(self._archive, f"{self.rows:05d}/{name}", getattr(clip, name))
        self._clip_ids.append(clip.clip_id)
        self.rows += 1

    def replace_metadata(self, metadata: dict[str, Any]) -> None:
        """Give the file other metadata."""
        self._metadata = metadata


class NpzFile:
    """Random access to the rows of an NPZ shard."""

    def __init__(self, file: Path | IO[bytes]) -> None:
        self._arrays = np.load(file, allow_pickle=False)
        self.metadata: dict[str, Any] = json.loads(str(self._arrays["metadata"]))
        self.clip_ids: list[str] = self._arrays["clip_ids"].tolist()
        self._frame_indices: list[NDArray[np.int64]] = [
            self._arrays[f"{row:05d}/frame_indices"] for row in range(len(self.clip_ids))
        ]
        self.num_frames = [len(indices) for indices in self._frame_indices]

    def frame_indices(self, row: int) -> NDArray[np.int64]:
        """The numbers of a row's frames in their source, int64[T]."""
        return self._frame_indices[row]

    def arrays(self, row: int) -> dict[str, NDArray[Any]]:
        """The arrays of a clip besides its frames."""
        return {name: self._arrays[f"{row:05d}/{name}"] for name in FRAME_FIELDS}

    def read(self, row: int, frames: NDArray[np.int64] | None) -> Clip:
        """The clip or part in a row, with all or some of its frames."""
        arrays = {name: self._arrays[f"{row:05d}/{name}"] for name in ("frames", *FRAME_FIELDS)}
        clip = Clip(clip_id=self.clip_ids[row], **arrays)
        return clip if frames is None else clip.take(frames)

    def frames(self, row: int, frames: NDArray[np.int64], out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """Frames of a row, without its other arrays. `out` is not used, since nothing is decoded."""
        stored: NDArray[np.uint8] = self._arrays[f"{row:05d}/frames"]
        return stored[frames]


def _add(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)
