"""Writes a shard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfer.config.settings import ShardSettings
from dfer.shards import npz, parquet
from dfer.shards.clip import Clip

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ShardInfo:
    """A written shard: its file, its numbers of clips and frames, and its size in bytes."""

    path: Path
    clips: int
    frames: int
    size: int


def write_shard(
    folder: Path, clips: Iterable[Clip], *, settings: ShardSettings, metadata: dict[str, Any] | None = None
) -> ShardInfo:
    """Write clips into `folder`/clips.parquet or `folder`/clips.npz, with one clip in memory at a time.

    The file gets its name only when it is complete, and is removed after an error. The settings (format and JPEG
    quality) and `metadata` (JSON) are stored in it.
    Raises FileExistsError if the folder, which is made if it does not exist, has a shard already.
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
            written = list(parquet.write(unfinished, clips, metadata=described, jpeg_quality=settings.jpeg_quality))
        else:
            written = list(npz.write(unfinished, clips, metadata=described))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return ShardInfo(path, clips=len(written), frames=sum(written), size=path.stat().st_size)
