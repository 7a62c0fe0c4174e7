"""Long clips, which are stored in parts."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

import fsspec
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_clips import FORMATS, assert_same, make_clip

from dfer.config.settings import AugmentSettings, ShardSettings
from dfer.shards import Clip, ClipDropped, ShardError, open_shard, read, write_shard
from dfer.storage import remote
from dfer.training.cache import FrameCache
from dfer.training.data import ClipSource, fill_cache, stored_frames

Format = Literal["parquet", "npz"]

PART = 5
LENGTHS = (3, 13, 5, 11)  # one part, three, one, three
LONG = 1


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfer.shards.writer.PART_FRAMES", PART)


@pytest.fixture(params=FORMATS)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[Clip], bool]:
    """A shard's folder, the clips that went into it, and whether it holds them exactly."""
    clips = [make_clip(number, length) for number, length in enumerate(LENGTHS)]
    info = write_shard(tmp_path / "shard", clips, settings=ShardSettings(format=request.param))
    assert (info.clips, info.frames) == (4, 32)
    return tmp_path / "shard", clips, request.param == "npz"


Stored = tuple[Path, list[Clip], bool]


def test_clips_come_back_whole(stored: Stored) -> None:
    folder, clips, exact = stored
    shard = open_shard(folder)
    assert shard.metadata["schema_version"] == 2
    assert shard.clip_ids == [clip.clip_id for clip in clips]
    assert [shard.num_frames(row) for row in range(len(shard))] == list(LENGTHS)
    for row, clip in enumerate(clips):
        np.testing.assert_array_equal(shard.frame_indices(row), clip.frame_indices)
        for name, values in shard.arrays(row).items():
            np.testing.assert_array_equal(values, getattr(clip, name))
    for clip, expected in zip(read(folder), clips, strict=True):
        assert_same(clip, expected, exact=exact)


def test_clips_come_back_by_part(stored: Stored) -> None:
    folder, clips, exact = stored
    parts = list(open_shard(folder).parts(LONG))
    assert [len(part) for part in parts] == [5, 5, 3]
    assert_same(Clip.joined(parts), clips[LONG], exact=exact)
    everything = list(read(folder, by_part=True))
    assert [len(part) for part in everything] == [3, 5, 5, 3, 5, 5, 5, 1]
    assert [part.clip_id for part in everything if len(part) == 3] == ["set/00000", "set/00001"]


@settings(deadline=None, max_examples=60)
@given(
    length=st.integers(1, 17),
    format=st.sampled_from(FORMATS),
    cuts=st.lists(st.integers(0, 17), max_size=4),
    data=st.data(),
)
def test_any_frames_of_a_clip_that_came_in_any_pieces(
    tmp_path_factory: pytest.TempPathFactory, length: int, format: Format, cuts: list[int], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("shard")
    clip = make_clip(3, length)
    edges = sorted({0, length, *(cut for cut in cuts if cut < length)})
    pieces = (clip.take(slice(start, stop)) for start, stop in pairwise(edges))
    write_shard(folder, [make_clip(2, 2), pieces], settings=ShardSettings(format=format))
    shard = open_shard(folder)
    assert shard.metadata["schema_version"] == (1 if length <= PART else 2)
    chosen = data.draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=9))
    expected = clip.take(np.array(chosen))
    found = shard.read(1, chosen)
    assert_same(found, expected, exact=format == "npz")
    np.testing.assert_array_equal(shard.frames(1, chosen), found.frames)
    out = np.zeros_like(found.frames)
    assert shard.frames(1, chosen, out)[-1, 0, 0].tolist() == found.frames[-1, 0, 0].tolist()


@pytest.mark.parametrize("format", FORMATS)
def test_pieces_make_the_same_file_as_the_clip(tmp_path: Path, format: Format) -> None:
    clip = make_clip(0, PART)
    pieces = (clip.take(slice(start, start + 2)) for start in range(0, PART, 2))
    whole = write_shard(tmp_path / "whole", [clip], settings=ShardSettings(format=format)).path
    in_pieces = write_shard(tmp_path / "pieces", [pieces], settings=ShardSettings(format=format)).path
    assert whole.read_bytes() == in_pieces.read_bytes()
    assert open_shard(tmp_path / "pieces").metadata["schema_version"] == 1


def failing(clip: Clip, frames: int) -> Iterator[Clip]:
    for start in range(0, frames, 2):
        yield clip.take(slice(start, start + 2))
    raise ClipDropped


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("frames", "version"), [(0, 1), (4, 1), (6, 2), (12, 2)])
def test_of_a_clip_that_fails_on_the_way_the_shard_has_nothing(
    tmp_path: Path, format: Format, frames: int, version: int
) -> None:
    before, after = make_clip(0, 3), make_clip(2, 4)
    clips = [before, failing(make_clip(1, 20), frames), iter(()), after]
    info = write_shard(tmp_path, clips, settings=ShardSettings(format=format))
    assert (info.clips, info.frames) == (2, 7)
    shard = open_shard(tmp_path)
    assert shard.metadata["schema_version"] == version
    for row, expected in enumerate([before, after]):
        assert_same(shard.read(row), expected, exact=format == "npz")
    assert [clip.clip_id for clip in read(tmp_path)] == ["set/00000", "set/00002"]


@pytest.mark.parametrize("format", FORMATS)
def test_pieces_that_are_not_in_order_are_refused(tmp_path: Path, format: Format) -> None:
    clip = make_clip(0, 8)
    with pytest.raises(ValueError, match="set/00000: expected its pieces in order"):
        write_shard(tmp_path, [iter([clip, clip])], settings=ShardSettings(format=format))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_parts_whose_frames_differ_in_size_are_an_error(tmp_path: Path, format: Format) -> None:
    small, large = make_clip(0, 10), make_clip(0, 10, size=32)
    pieces = iter([small.take(slice(0, PART)), large.take(slice(PART, 10))])
    write_shard(tmp_path, [pieces], settings=ShardSettings(format=format))
    shard = open_shard(tmp_path)
    assert shard.frames(0, [0, 4]).shape == (2, 24, 24, 3)
    for reading in (shard.frames, shard.read):
        with pytest.raises(ShardError, match="set/00000"):
            reading(0, [1, 7])


def test_a_program_that_knows_only_whole_clips_refuses_the_file(stored: Stored) -> None:
    folder, _, exact = stored
    if exact:
        metadata = json.loads(str(np.load(folder / "clips.npz")["metadata"]))
        assert metadata["schema_version"] == 2
        return
    file = pq.ParquetFile(folder / "clips.parquet")
    assert file.num_row_groups != file.metadata.num_rows  # what it checks


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("rows", "message"),
    [([[0, 2], [2, 1]], "rows of one clip"), ([[0, 9]], "not there"), ([[0]], "which rows"), (None, "")],
)
def test_rows_that_are_no_clips_are_refused(
    tmp_path: Path, format: Format, rows: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json, "dumps", lambda value, dumps=json.dumps: dumps({**value, "rows_of_clips": rows}))
    write_shard(tmp_path, [make_clip(0, 2), make_clip(1, 9)], settings=ShardSettings(format=format))
    with pytest.raises(ShardError, match=f"not a readable shard.*{message}"):
        open_shard(tmp_path)


@pytest.mark.parametrize("format", FORMATS)
@settings(deadline=None, max_examples=25)
@given(place=st.floats(0, 0.999))
def test_a_damaged_file_is_an_error_that_names_it_or_reads_right(
    tmp_path_factory: pytest.TempPathFactory, format: Format, place: float
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    clip = make_clip(0, 12)
    path = write_shard(folder, [clip], settings=ShardSettings(format=format)).path
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    content[at : at + 40] = bytes(40)
    path.write_bytes(content)
    try:
        (found,) = list(read(folder))
    except ShardError as error:
        assert str(path) in str(error)
    else:
        assert_same(found, clip, exact=format == "npz")


@pytest.mark.parametrize("format", FORMATS)
def test_memory_does_not_grow_with_the_clip(tmp_path: Path, format: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfer.shards.writer.PART_FRAMES", 64)
    piece = make_clip(0, 16, size=64)

    def peak(frames: int) -> int:
        pieces = (
            Clip(**{**vars(piece), "frames": piece.frames.copy(), "frame_indices": np.arange(n, n + 16)})
            for n in range(0, frames, 16)
        )
        tracemalloc.start()
        write_shard(tmp_path / str(frames), [pieces], settings=ShardSettings(format=format))
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert sum(len(part) for part in read(tmp_path / str(frames), by_part=True)) == frames
        was_read = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return max(written, was_read)

    short, long = peak(192), peak(4 * 192)
    assert long < 1.1 * short


def test_from_an_object_store_only_the_parts_that_are_asked_for_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    clip = make_clip(0, 6 * PART, size=64)
    noise = generator.integers(0, 256, clip.frames.shape, np.uint8)
    path = write_shard(tmp_path / "0", [Clip(**{**vars(clip), "frames": noise})], settings=ShardSettings()).path
    memory, url = fsspec.filesystem("memory"), "memory://parts/shards"
    monkeypatch.setenv("DFER_CACHE", str(tmp_path / "cache"))
    memory.put(str(tmp_path / "0"), url, recursive=True)
    read_bytes = []

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            content = super().read(size)
            read_bytes.append(len(content))
            return content

    monkeypatch.setattr(remote, "open_file", lambda url, **_: Counted(memory.cat(url)))
    shard = open_shard(url)
    before = sum(read_bytes)
    np.testing.assert_array_equal(shard.frames(0, [7, 22]), open_shard(tmp_path / "0").frames(0, [7, 22]))
    assert sum(read_bytes) - before < 0.4 * path.stat().st_size  # two of six parts
    memory.rm(url, recursive=True)


def test_a_training_reads_clips_in_parts(tmp_path: Path) -> None:
    clips = [make_clip(number, length, size=32) for number, length in enumerate(LENGTHS)]
    write_shard(tmp_path / "shard", clips, settings=ShardSettings(format="npz"))
    names = [clip.clip_id for clip in clips]
    index = pd.DataFrame({"clip_id": names, "status": "ok", "shard": "shard", "row": range(len(clips))})
    table = pd.DataFrame({"clip_id": names})
    source = ClipSource(table, index, tmp_path, num_segments=4, input_size=32, augment=AugmentSettings())
    batch = source.stored([(row, None) for row in range(len(clips))])
    np.testing.assert_array_equal(batch.frames[LONG].numpy(), clips[LONG].frames[[1, 4, 8, 11]])
    np.testing.assert_array_equal(source.whole(LONG).numpy(), clips[LONG].frames)
    drawn = source.stored([(row, 1) for row in range(len(clips))])
    lengths, size = stored_frames([source])
    fill_cache(FrameCache(lengths, size, device=batch.frames.device), [source], threads=1)
    assert (source.stored([(row, 1) for row in range(len(clips))]).frames == drawn.frames).all()
