"""A shard as NPZ: one uncompressed archive of arrays, its frames as raw pixels.

numpy.load alone opens it: `np.load("clips.npz")["00000/frames"]` is uint8[T, H, W, 3]. About ten times as large as
JPEG in Parquet, and exact.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dfer.shards.clip import FRAME_FIELDS, Clip

FILE_NAME = "clips.npz"


def write(path: Path, clips: Iterable[Clip], *, metadata: dict[str, Any]) -> Iterator[int]:
    """Write clips one at a time; yields the number of frames of each written clip."""
    clip_ids: list[str] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for row, clip in enumerate(clips):
            for name in ("frames", *FRAME_FIELDS):
                _add(archive, f"{row:05d}/{name}", getattr(clip, name))
            clip_ids.append(clip.clip_id)
            yield len(clip)
        _add(archive, "clip_ids", np.array(clip_ids, dtype=np.str_))
        _add(archive, "metadata", np.array(json.dumps(metadata)))


class NpzFile:
    """Random access to the clips of an NPZ shard."""

    def __init__(self, file: Path | IO[bytes]) -> None:
        self._arrays = np.load(file, allow_pickle=False)
        self.metadata: dict[str, Any] = json.loads(str(self._arrays["metadata"]))
        self.clip_ids: list[str] = self._arrays["clip_ids"].tolist()
        self._frame_indices: list[NDArray[np.int64]] = [
            self._arrays[f"{row:05d}/frame_indices"] for row in range(len(self.clip_ids))
        ]
        self.num_frames = [len(indices) for indices in self._frame_indices]

    def frame_indices(self, row: int) -> NDArray[np.int64]:
        """The frame numbers of a clip in its source, int64[T]."""
        return self._frame_indices[row]

    def arrays(self, row: int) -> dict[str, NDArray[Any]]:
        """The arrays of a clip besides its frames."""
        return {name: self._arrays[f"{row:05d}/{name}"] for name in FRAME_FIELDS}

    def read(self, row: int, frames: NDArray[np.int64] | None) -> Clip:
        """The clip of a row, with all or some of its frames."""
        arrays = {name: self._arrays[f"{row:05d}/{name}"] for name in ("frames", *FRAME_FIELDS)}
        clip = Clip(clip_id=self.clip_ids[row], **arrays)
        return clip if frames is None else clip.take(frames)

    def frames(self, row: int, frames: NDArray[np.int64], out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """Frames of a clip, without its other arrays. `out` is not used, since nothing is decoded."""
        stored: NDArray[np.uint8] = self._arrays[f"{row:05d}/frames"]
        return stored[frames]


def _add(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)
