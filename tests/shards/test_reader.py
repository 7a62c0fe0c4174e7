from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_clips import FORMATS, assert_same, make_clip

from dfer.config.settings import ShardSettings
from dfer.shards import Clip, Shard, ShardError, open_shard, read, shard_folders, write_shard
from dfer.shards.clip import FRAME_FIELDS

Stored = tuple[Path, list[Clip], bool]


def test_clips_come_back_as_they_were_written(stored: Stored) -> None:
    folder, clips, exact = stored
    for clip, expected in zip(read(folder), clips, strict=True):
        assert_same(clip, expected, exact=exact)


def test_any_clip_and_any_of_its_frames_can_be_read(stored: Stored) -> None:
    folder, clips, exact = stored
    shard = open_shard(folder)
    assert len(shard) == 3
    assert shard.clip_ids == [clip.clip_id for clip in clips]
    places = [0, 3, 3, 11, 7]
    assert_same(shard.read(2, places), clips[2].take(np.array(places)), exact=exact)
    assert_same(shard.read(1, [0, 0]), clips[1].take(np.array([0, 0])), exact=exact)
    assert_same(shard.read(0), clips[0], exact=exact)


def test_frames_alone_are_those_of_the_clip(stored: Stored) -> None:
    folder, clips, _ = stored
    shard = open_shard(folder)
    for row, clip in enumerate(clips):
        places = np.array([0, len(clip) - 1, 0])
        expected = shard.read(row, places).frames
        np.testing.assert_array_equal(shard.frames(row, places), expected)
        for size in (expected.shape, (1, *expected.shape[1:])):
            # A place that fits may be used, one that does not is left alone.
            out = np.zeros(size, np.uint8)
            np.testing.assert_array_equal(shard.frames(row, places, out), expected)
        with pytest.raises(IndexError, match="asked for"):
            shard.frames(row, [len(clip)])


def test_what_is_beside_the_frames_needs_no_picture(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, clips, _ = stored
    monkeypatch.setattr(simplejpeg, "decode_jpeg", None)
    shard = open_shard(folder)
    for row, clip in enumerate(clips):
        np.testing.assert_array_equal(shard.frame_indices(row), clip.frame_indices)
        assert shard.frame_indices(row).dtype == np.int64
        arrays = shard.arrays(row)
        assert set(arrays) == set(FRAME_FIELDS)
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, getattr(clip, name), err_msg=name, strict=True)
    with pytest.raises(IndexError, match="asked for 3"):
        shard.arrays(3)


def test_metadata_travels_with_the_shard(stored: Stored) -> None:
    metadata = open_shard(stored[0]).metadata
    assert metadata["template"] == [1, 2]
    assert metadata["schema_version"] == 1
    assert metadata["shards"]["jpeg_quality"] == 95


def brightness_of_first_frames(shard: Shard) -> list[float]:
    return [float(shard.read(row, [0]).frames.mean()) for row in range(len(shard))]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_shard_can_be_read_in_other_processes(stored: Stored, method: str) -> None:
    shard = open_shard(stored[0])
    expected = brightness_of_first_frames(shard)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(brightness_of_first_frames, [shard] * 4) == [expected] * 4
    assert brightness_of_first_frames(pickle.loads(pickle.dumps(shard))) == expected


def test_a_folder_of_shards_is_read_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 2):
        format = FORMATS[number % 2]
        write_shard(tmp_path / f"shard-{number}", [make_clip(number, 2)], settings=ShardSettings(format=format))
    (tmp_path / "index.parquet").write_bytes(b"something else")
    (tmp_path / "logs").mkdir()
    assert [folder.name for folder in shard_folders(tmp_path)] == ["shard-2", "shard-9", "shard-10"]
    assert [clip.clip_id for clip in read(tmp_path)] == ["set/00002", "set/00009", "set/00010"]


def test_where_no_shard_is_it_is_said_at_once(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ShardError, match="no shard at"):
            read(path)
        with pytest.raises(ShardError, match="found neither"):
            open_shard(path)


def test_rows_and_frames_that_are_not_there_are_errors(stored: Stored) -> None:
    shard = open_shard(stored[0])
    for row in (3, -1):
        with pytest.raises(IndexError, match="rows 0 to 2"):
            shard.read(row)
    for frames in ([5], [-1], []):
        with pytest.raises(IndexError, match="frames 0 to 4"):
            shard.read(0, frames)


@pytest.mark.parametrize("format", FORMATS)
@settings(deadline=None, max_examples=25)
@given(place=st.floats(0, 0.999), data=st.data())
def test_a_damaged_file_is_an_error_that_names_it_or_reads_right(
    tmp_path_factory: pytest.TempPathFactory, format: Literal["parquet", "npz"], place: float, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    clips = [make_clip(number, 3) for number in range(2)]
    path = write_shard(folder, clips, settings=ShardSettings(format=format)).path
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    if data.draw(st.booleans(), label="cut off"):
        path.write_bytes(content[:at])
    else:
        content[at : at + 40] = bytes(40)
        path.write_bytes(content)
    try:
        found = list(read(folder))
    except ShardError as error:
        assert str(path) in str(error)
    else:
        for clip, expected in zip(found, clips, strict=True):
            assert_same(clip, expected, exact=format == "npz")


def test_another_schema_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfer.shards.writer.SCHEMA_VERSION", 3)
    write_shard(tmp_path, [make_clip(0, 1)], settings=ShardSettings())
    with pytest.raises(ShardError, match="schema version 3, this program reads 1 and 2"):
        open_shard(tmp_path)
