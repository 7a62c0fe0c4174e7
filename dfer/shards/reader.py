"""Reads shards: one clip after the other, or any clip by its row."""

from __future__ import annotations

import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dfer.shards import npz, parquet
from dfer.shards.clip import FRAME_FIELDS, Clip
from dfer.shards.writer import PARTS_SCHEMA_VERSION, SCHEMA_VERSION
from dfer.storage import copies, remote
from dfer.storage.remote import Location, RemoteError, below, is_url
from dfer.system.natural_order import natural_key

# The last two: headers of arrays, which are Python.
_DAMAGED_ARCHIVE = (EOFError, zipfile.BadZipFile, zlib.error, SyntaxError, tokenize.TokenError)
_UNREADABLE = (pa.ArrowException, RemoteError, OSError, ValueError, KeyError, *_DAMAGED_ARCHIVE)

_NPZ_AHEAD = 64 * 2**10
_FILE_NAMES = (parquet.FILE_NAME, npz.FILE_NAME)


class ShardError(Exception):
    """A shard is missing, damaged or of another version."""


class _Opened(NamedTuple):
    process: int
    file: parquet.ParquetFile | npz.NpzFile
    rows: list[range]  # of the file, for each clip
    clip_ids: list[str]


class Shard:
    """Random access to the clips of one shard, a file on this machine or in an object store.

    A clip is known by its number among the clips of the shard, `row`. Long clips are stored in parts, of which only
    those are read that hold the frames that are asked for.

    Can be pickled and used in other processes, forked ones included: each process opens the file at first use.
    """

    def __init__(self, path: Location) -> None:
        self.path = path
        self._opened: _Opened | None = None
        version = self.metadata.get("schema_version")
        if version not in (SCHEMA_VERSION, PARTS_SCHEMA_VERSION):
            raise ShardError(
                f"{path} has schema version {version}, this program reads {SCHEMA_VERSION} and "
                f"{PARTS_SCHEMA_VERSION}; align again"
            )

    def __len__(self) -> int:
        return len(self.clip_ids)

    @property
    def clip_ids(self) -> list[str]:
        """The clip of each row."""
        return self._open().clip_ids

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the shard: settings, template, detector, versions."""
        return self._open().file.metadata

    def num_frames(self, row: int) -> int:
        """The number of frames of a clip; reads nothing."""
        opened = self._open()
        return sum(opened.file.num_frames[part] for part in opened.rows[row])

    def frame_indices(self, row: int) -> NDArray[np.int64]:
        """The frame numbers of a clip in its source, int64[T]; reads no picture."""
        opened = self._open()
        return np.concatenate([opened.file.frame_indices(part) for part in opened.rows[row]])

    def arrays(self, row: int) -> dict[str, NDArray[Any]]:
        """The arrays of a clip besides its frames, by their names in `Clip`; reads no picture.

        Raises as `read` does.
        """
        with self._reading(row, None) as (file, parts):
            pieces = [file.arrays(part) for part in parts]
            return {name: np.concatenate([piece[name] for piece in pieces]) for name in FRAME_FIELDS}

    def read(self, row: int, frames: Sequence[int] | NDArray[np.int64] | None = None) -> Clip:
        """The clip of a row; with positions in 0..T-1 (repeats allowed) only these `frames`, in this order.

        Raises ShardError if the clip cannot be read, IndexError if the row or a frame does not exist.
        """
        positions = None if frames is None else np.asarray(frames, dtype=np.int64)
        with self._reading(row, positions) as (file, parts):
            if positions is None:
                return Clip.joined([file.read(part, None) for part in parts])
            pieces, order = [], []
            for part, within, places in _by_part(file, parts, positions):
                pieces.append(file.read(part, within))
                order.append(places)
            joined = Clip.joined(pieces)
            return joined if len(pieces) == 1 else joined.take(np.argsort(np.concatenate(order)))

    def parts(self, row: int) -> Iterator[Clip]:
        """The clip of a row in consecutive parts of at most 1,024 frames, one in memory at a time.

        A clip of a shard of schema version 1 is one part, whatever its length. Raises as `read` does.
        """
        with self._reading(row, None) as (file, parts):
            for part in parts:
                yield file.read(part, None)

    def frames(
        self, row: int, frames: Sequence[int] | NDArray[np.int64], out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """`read(row, frames).frames`, without reading the rest: uint8[T, H, W, 3] RGB.

        The result may be `out`, if it has the right shape, to save a copy. Raises as `read` does.
        """
        positions = np.asarray(frames, dtype=np.int64)
        with self._reading(row, positions) as (file, parts):
            if len(parts) == 1:
                return file.frames(parts[0], positions, out)
            result: NDArray[np.uint8] | None = None
            for part, within, places in _by_part(file, parts, positions):
                decoded = file.frames(part, within, None)
                if result is None:
                    shape = (len(positions), *decoded.shape[1:])
                    result = out if out is not None and out.shape == shape else np.empty(shape, np.uint8)
                result[places] = decoded  # ValueError if parts differ in the size of their frames
            assert result is not None
            return result

    @contextmanager
    def _reading(
        self, row: int, positions: NDArray[np.int64] | None
    ) -> Iterator[tuple[parquet.ParquetFile | npz.NpzFile, range]]:
        """The file, and the rows in it of a clip."""
        if not 0 <= row < len(self):
            raise IndexError(f"{self.path} has rows 0 to {len(self) - 1}, asked for {row}")
        length = self.num_frames(row)
        if positions is not None and (positions.size == 0 or positions.min() < 0 or positions.max() >= length):
            raise IndexError(f"clip {self.clip_ids[row]} has frames 0 to {length - 1}, asked for {positions.tolist()}")
        opened = self._open()
        try:
            yield opened.file, opened.rows[row]
        except _UNREADABLE as error:
            raise ShardError(f"{self.path}: clip {self.clip_ids[row]} (row {row}) cannot be read: {error}") from error

    def _open(self) -> _Opened:
        # Two processes that share a file handle would share its position.
        if self._opened is None or self._opened.process != os.getpid():
            try:
                file = _open(self.path)
                rows = _rows_of_clips(file)
                names = [_name(file.clip_ids[clip.start : clip.stop]) for clip in rows]
            except _UNREADABLE as error:
                raise ShardError(f"{self.path} is not a readable shard: {error}") from error
            self._opened = _Opened(os.getpid(), file, rows, names)
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_opened": None}


def open_shard(folder: Location) -> Shard:
    """The shard in a folder. From an object store only the clips that are used are read.

    Raises ShardError if the folder has no shard, or it cannot be read.
    """
    files = _shard_files(copies.nearest(folder) if isinstance(folder, str) else folder)
    if len(files) != 1:
        names = " and ".join(str(path).rpartition("/")[2] for path in files) or "neither"
        raise ShardError(f"expected {parquet.FILE_NAME} or {npz.FILE_NAME} in {folder}, found {names}")
    return Shard(files[0])


def shard_folders(path: Location) -> list[Location]:
    """The shard folders at `path`: itself if it is one, else those in it, in natural order.

    In an object store also those one folder deeper. Raises ShardError if there is none.
    """
    if _shard_files(path):
        return [path]
    folders = _shards_inside(path)
    if not folders:
        raise ShardError(
            f"no shard at {path}: expected {parquet.FILE_NAME} or {npz.FILE_NAME} there or one folder below"
        )
    return sorted(folders, key=lambda child: natural_key(str(child)))


def read(path: Location, *, by_part: bool = False) -> Iterator[Clip]:
    """Every clip of a shard folder, or of a folder of shard folders, one in memory at a time; also by URL.

    With `by_part` a long clip comes as several consecutive ones, its parts, for films that do not fit into memory.
    Raises ShardError, possibly before the first clip.
    """
    shards = [open_shard(folder) for folder in shard_folders(path if is_url(path) else Path(path))]
    rows = ((shard, row) for shard in shards for row in range(len(shard)))
    if by_part:
        return (part for shard, row in rows for part in shard.parts(row))
    return (shard.read(row) for shard, row in rows)


def _shard_files(folder: Location) -> list[Location]:
    """The shard files directly in a folder: one, if it is a shard."""
    if isinstance(folder, Path):
        return [folder / name for name in _FILE_NAMES if (folder / name).is_file()]
    with _as_shard_error():
        files = remote.listing(folder)
    return [below(folder, name) for name in _FILE_NAMES if name in files]


def _shards_inside(folder: Location) -> list[Location]:
    if isinstance(folder, Path):
        return [child for child in folder.iterdir() if _shard_files(child)] if folder.is_dir() else []
    with _as_shard_error():
        files = [name.rpartition("/") for name in remote.listing(folder)]
    return [below(folder, inner) for inner, _, name in files if name in _FILE_NAMES and inner.count("/") < 2]


@contextmanager
def _as_shard_error() -> Iterator[None]:
    try:
        yield
    except (RemoteError, FileNotFoundError) as error:
        raise ShardError(str(error)) from error


def _open(path: Location) -> parquet.ParquetFile | npz.NpzFile:
    # Parquet is read in large pieces, the members of an archive in many of a few KiB.
    if str(path).endswith(".parquet"):
        return parquet.ParquetFile(remote.open_file(path) if isinstance(path, str) else path)
    return npz.NpzFile(remote.open_file(path, ahead=_NPZ_AHEAD) if isinstance(path, str) else path)


def _rows_of_clips(file: parquet.ParquetFile | npz.NpzFile) -> list[range]:
    """The rows of each clip, one in schema version 1. Raises ValueError if they are not those of the file."""
    if file.metadata.get("schema_version") != PARTS_SCHEMA_VERSION:
        return [range(row, row + 1) for row in range(len(file.clip_ids))]
    try:
        rows = [range(first, first + count) for first, count in file.metadata["rows_of_clips"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its metadata do not say which rows are a clip: {error!r}") from error
    if any(not clip or clip.start < 0 or clip.stop > len(file.clip_ids) for clip in rows):
        raise ValueError(f"its metadata name rows that are not there: it has {len(file.clip_ids)}")
    return rows


def _name(rows: list[str]) -> str:
    """The name of a clip, which all its rows have. Raises ValueError if they differ."""
    if len(set(rows)) != 1:
        raise ValueError(f"expected rows of one clip, found {rows[0]} and {rows[-1]}")
    return rows[0]


def _by_part(
    file: parquet.ParquetFile | npz.NpzFile, parts: range, positions: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """For each part that holds some of the frames at `positions`: its row, their positions in it, and their places."""
    ends = np.cumsum([file.num_frames[part] for part in parts])
    numbers = np.searchsorted(ends, positions, side="right")
    for number in np.unique(numbers):
        places = np.flatnonzero(numbers == number)
        part = parts[int(number)]
        yield part, positions[places] - (ends[number] - file.num_frames[part]), places
