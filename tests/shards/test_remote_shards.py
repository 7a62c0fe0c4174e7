"""Shards in an object store: the same clips, of which no more is read than is asked for."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import fsspec
import numpy as np
import pytest
from toy_set import ToySet, toy_clip

import dfer.shards
from dfer.config.settings import AugmentSettings, ShardSettings
from dfer.shards import Clip, ShardError, open_shard, write_shard
from dfer.storage import remote
from dfer.storage.store import CacheKey
from dfer.training.data import ClipSource

MEMORY = fsspec.filesystem("memory")


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("DFER_CACHE", str(tmp_path / "cache"))
    bucket = f"memory://{uuid.uuid4().hex}"
    yield f"{bucket}/shards"
    if MEMORY.exists(bucket):
        MEMORY.rm(bucket, recursive=True)


def noise(count: int) -> list[Clip]:
    generator = np.random.default_rng(0)
    return [toy_clip(f"clip {n}", generator.integers(0, 256, (6 + n % 3, 64, 64, 3), np.uint8)) for n in range(count)]


def uploaded(folder: Path, url: str) -> int:
    """Bytes of the shard that was brought up."""
    MEMORY.put(str(folder), url, recursive=True)
    return sum(path.stat().st_size for path in folder.rglob("clips.*"))


class Counted(io.RawIOBase):
    """A file that counts what is read of it."""

    def __init__(self, file: io.BytesIO) -> None:
        self._file, self.requests, self.bytes = file, 0, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self.requests, self.bytes = self.requests + 1, self.bytes + len(content)
        return content


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Counted]:
    opened: list[Counted] = []
    real = remote.open_file

    def open_file(url: str, **options: int) -> Counted:
        opened.append(Counted(real(url, **options)))  # type: ignore[arg-type]
        return opened[-1]

    monkeypatch.setattr(remote, "open_file", open_file)
    return opened


@pytest.mark.parametrize("format", ["parquet", "npz"])
def test_clips_are_those_of_the_file_on_disk(tmp_path: Path, url: str, format: Literal["parquet", "npz"]) -> None:
    write_shard(tmp_path / "0", noise(5), settings=ShardSettings(format=format))
    uploaded(tmp_path / "0", f"{url}/0")
    here, there = open_shard(tmp_path / "0"), open_shard(f"{url}/0")
    assert there.clip_ids == here.clip_ids
    assert there.metadata == here.metadata
    for row in (4, 0, 2):
        assert there.num_frames(row) == here.num_frames(row)
        np.testing.assert_array_equal(there.frame_indices(row), here.frame_indices(row))
        np.testing.assert_array_equal(there.frames(row, [3, 0, 3]), here.frames(row, [3, 0, 3]))
        np.testing.assert_array_equal(there.read(row).matrices, here.read(row).matrices)


def test_of_a_shard_its_footer_and_one_clip_are_read(tmp_path: Path, url: str, counted: list[Counted]) -> None:
    write_shard(tmp_path / "0", noise(64), settings=ShardSettings())
    size = uploaded(tmp_path / "0", f"{url}/0")
    shard = open_shard(f"{url}/0")
    assert shard.clip_ids[7] == "clip 7"
    assert shard.num_frames(7) == 7
    (file,) = counted
    assert file.requests <= 4  # the footer, in as many pieces as the library wants
    before = file.bytes
    assert before < size / 4
    shard.frames(7, [0, 1])
    assert file.requests <= 5
    assert file.bytes - before < size / 60
    assert file.bytes - before > size / 70


def test_every_clip_below_a_url(tmp_path: Path, url: str) -> None:
    for number in (0, 2, 10):
        folder = tmp_path / f"part-{number}"
        write_shard(folder, [toy_clip(f"clip {number}", np.zeros((2, 16, 16, 3), np.uint8))], settings=ShardSettings())
        uploaded(folder, f"{url}/part-{number}")
    assert [clip.clip_id for clip in dfer.shards.read(url)] == ["clip 0", "clip 2", "clip 10"]
    assert [clip.clip_id for clip in dfer.shards.read(f"{url}/part-2")] == ["clip 2"]
    with pytest.raises(ShardError, match="no shard at"):
        dfer.shards.read(f"{url}/nothing")
    with pytest.raises(ShardError, match=r"expected clips\.parquet or clips\.npz"):
        open_shard(f"{url}/nothing")


def test_damage_is_an_error_that_names_the_url(tmp_path: Path, url: str) -> None:
    write_shard(tmp_path / "0", noise(3), settings=ShardSettings())
    content = bytearray((tmp_path / "0" / "clips.parquet").read_bytes())
    content[len(content) // 2] ^= 0xFF
    MEMORY.pipe_file(f"{url}/0/clips.parquet", bytes(content))
    shard = open_shard(f"{url}/0")
    with pytest.raises(ShardError, match=rf"{url}/0/clips.parquet: clip clip 1"):
        shard.frames(1, [0, 1, 2, 3, 4])
    MEMORY.rm(f"{url}/0/clips.parquet")
    with pytest.raises(ShardError, match="found neither"):
        open_shard(f"{url}/0")


def test_a_training_sees_the_same_from_a_url(toy_set: ToySet, url: str) -> None:
    MEMORY.put(str(toy_set.root), url, recursive=True)
    options = {"num_segments": 4, "input_size": 32, "augment": AugmentSettings()}
    here = ClipSource(toy_set.clips, toy_set.index, toy_set.root, **options)  # type: ignore[arg-type]
    there = ClipSource(toy_set.clips, toy_set.index, url, **options)  # type: ignore[arg-type]
    keys = [(row, epoch) for row in (0, 3, 69) for epoch in (None, 1)]
    for key in keys:
        assert (here[key][0] == there[key][0]).all()


def test_what_was_made_here_is_not_fetched(tmp_path: Path, url: str, counted: list[Counted]) -> None:
    from dfer.storage.remote_store import RemoteStore

    def work(folder: Path) -> dict[str, int]:
        write_shard(folder, noise(2), settings=ShardSettings())
        return {}

    made = RemoteStore(url).ensure(CacheKey("align", 1, {}), work).output
    assert open_shard(made.folder).frames(1, [0]).shape == (1, 64, 64, 3)
    assert counted == []
    (made.path / "clips.parquet").unlink()
    assert open_shard(made.folder).frames(1, [0]).shape == (1, 64, 64, 3)
    assert len(counted) == 1
