"""Aligned clips on disk: Parquet and NPZ behind one writer and one reader."""

from __future__ import annotations

from dfer.shards.clip import Clip, ClipDropped
from dfer.shards.reader import Shard, ShardError, open_shard, read, shard_folders
from dfer.shards.writer import PART_FRAMES, ShardInfo, write_shard

__all__ = [
    "PART_FRAMES",
    "Clip",
    "ClipDropped",
    "Shard",
    "ShardError",
    "ShardInfo",
    "open_shard",
    "read",
    "shard_folders",
    "write_shard",
]
