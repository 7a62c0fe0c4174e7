from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from shard_clips import FORMATS, make_clip

from dfer.config.settings import ShardSettings
from dfer.shards import Clip, open_shard, read, write_shard


@pytest.mark.parametrize("format", FORMATS)
def test_a_failure_while_writing_leaves_nothing_behind(tmp_path: Path, format: Literal["parquet", "npz"]) -> None:
    def clips() -> Iterator[Clip]:
        yield make_clip(0, 3)
        raise RuntimeError("the disk of the videos is gone")

    with pytest.raises(RuntimeError, match="the disk of the videos is gone"):
        write_shard(tmp_path, clips(), settings=ShardSettings(format=format))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_clips_are_written_one_at_a_time(tmp_path: Path, format: Literal["parquet", "npz"]) -> None:
    sizes = []

    def clips() -> Iterator[Clip]:
        for number in range(3):
            yield make_clip(number, 6, size=64)
            sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))

    write_shard(tmp_path, clips(), settings=ShardSettings(format=format))
    assert 0 < sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("format", FORMATS)
def test_a_shard_without_clips_is_a_shard(tmp_path: Path, format: Literal["parquet", "npz"]) -> None:
    write_shard(tmp_path, [], settings=ShardSettings(format=format))
    assert len(open_shard(tmp_path)) == 0
    assert list(read(tmp_path)) == []


def test_a_shard_is_never_written_over(tmp_path: Path) -> None:
    write_shard(tmp_path, [make_clip(0, 2)], settings=ShardSettings())
    for settings_ in (ShardSettings(), ShardSettings(format="npz")):
        with pytest.raises(FileExistsError, match="holds a shard already"):
            write_shard(tmp_path, [make_clip(1, 2)], settings=settings_)
    assert open_shard(tmp_path).clip_ids == ["set/00000"]
