"""Writes a shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfer.config.settings import ShardSettings
from dfer.shards import npz, parquet
from dfer.shards.clip import Clip, ClipDropped

SCHEMA_VERSION = 1  # a row is a clip
PARTS_SCHEMA_VERSION = (
    2  # a clip is one row or more, as the metadata `rows_of_clips` says: its first row, and their number
)
PART_FRAMES = 1024  # frames of one row: longer clips are written in several parts


@dataclass(frozen=True)
class ShardInfo:
    """A written shard: its file, its numbers of clips and frames, and its size in bytes."""

    path: Path
    clips: int
    frames: int
    size: int


def write_shard(
    folder: Path,
    clips: Iterable[Clip | Iterable[Clip]],
    *,
    settings: ShardSettings,
    metadata: dict[str, Any] | None = None,
) -> ShardInfo:
    """Write clips into `folder`/clips.parquet or `folder`/clips.npz, with one part of a clip in memory at a time.

    A clip may be an iterable of its pieces, of any length; if that raises ClipDropped, or is empty, the shard has
    nothing of it. A clip of more than 1,024 frames is written in parts, in a shard of schema version 2; a shard without
    such a clip has version 1.

    The file gets its name only when it is complete, and is removed after an error. The settings (format and JPEG
    quality) and `metadata` (JSON) are stored in it.
    Raises FileExistsError if the folder, which is made if it does not exist, has a shard already, ValueError if the
    pieces of a clip are not in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (parquet.FILE_NAME, npz.FILE_NAME):
        if (folder / name).exists():
            raise FileExistsError(f"{folder} holds a shard already ({name}); write into another folder")
    described = {**(metadata or {}), "schema_version": SCHEMA_VERSION, "shards": settings.model_dump(mode="json")}
    path = folder / (parquet.FILE_NAME if settings.format == "parquet" else npz.FILE_NAME)
    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        if settings.format == "parquet":
            with parquet.ParquetWriter(unfinished, described, settings.jpeg_quality) as parquet_file:
                written = _write(parquet_file, clips, described)
        else:
            with npz.NpzWriter(unfinished, described) as npz_file:
                written = _write(npz_file, clips, described)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return ShardInfo(path, clips=len(written), frames=sum(written), size=path.stat().st_size)


def _write(
    file: parquet.ParquetWriter | npz.NpzWriter, clips: Iterable[Clip | Iterable[Clip]], metadata: dict[str, Any]
) -> list[int]:
    """Write all clips; returns their numbers of frames."""
    written: list[int] = []
    places: list[tuple[int, int]] = []  # of each clip: its first row, and its number of rows
    for clip in clips:
        first, frames = file.rows, 0
        try:
            for begins, piece in _cut([clip] if isinstance(clip, Clip) else clip):
                if begins:
                    file.write_row()
                file.add(piece)
                frames += len(piece)
        except ClipDropped:
            file.clear()
            continue
        if frames:
            file.write_row()
            written.append(frames)
            places.append((first, file.rows - first))
    if file.rows != len(places):
        file.replace_metadata({**metadata, "schema_version": PARTS_SCHEMA_VERSION, "rows_of_clips": places})
    return written


def _cut(pieces: Iterable[Clip]) -> Iterator[tuple[bool, Clip]]:
    """The pieces of a clip, none of them in two parts; with each, whether it is the first one of a further part."""
    frames, last = 0, -1
    for piece in pieces:
        if frames and piece.frame_indices[0] <= last:
            raise ValueError(
                f"clip {piece.clip_id}: expected its pieces in order, found frame {piece.frame_indices[0]} after {last}"
            )
        last = int(piece.frame_indices[-1])
        start = 0
        while start < len(piece):
            stop = min(len(piece), start + PART_FRAMES - frames % PART_FRAMES)
            yield frames > 0 and frames % PART_FRAMES == 0, piece.take(slice(start, stop))
            start, frames = stop, frames + stop - start
