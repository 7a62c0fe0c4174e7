from __future__ import annotations

import json
import multiprocessing
import pickle
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from dfer.config.settings import ShardSettings
from dfer.shards import Clip, Shard, ShardError, open_shard, read, shard_folders, write_shard

FORMATS: tuple[Literal["parquet", "npz"], ...] = ("parquet", "npz")


def make_clip(number: int, length: int, size: int = 24) -> Clip:
    """A clip of smooth coloured frames, each of another brightness, with random values beside them."""
    generator = np.random.default_rng(number)
    ramp = np.linspace(0, 60, size)
    picture = np.stack([*np.meshgrid(ramp, ramp), np.full((size, size), 90)], axis=2)
    brightness = np.arange(length).reshape(-1, 1, 1, 1) * (150 / max(length, 1))
    return Clip(
        clip_id=f"set/{number:05d}",
        frames=(picture + brightness).astype(np.uint8),
        frame_indices=np.cumsum(generator.integers(1, 9, length)),
        keypoints=generator.normal(0, 99, (length, 5, 2)).astype(np.float32),
        scores=generator.random(length).astype(np.float32),
        interpolated=generator.random(length) < 0.5,
        matrices=generator.normal(0, 99, (length, 2, 3)).astype(np.float32),
        close_up=generator.random(length) < 0.5,
    )


def assert_same(clip: Clip, expected: Clip, *, exact: bool) -> None:
    assert clip.clip_id == expected.clip_id
    for name in (field.name for field in fields(Clip) if field.name not in ("clip_id", "frames")):
        found, wanted = getattr(clip, name), getattr(expected, name)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted, err_msg=name)
    assert clip.frames.shape == expected.frames.shape
    tolerance = 0 if exact else 12  # what JPEG at quality 95 does to smooth colours
    np.testing.assert_allclose(clip.frames.astype(int), expected.frames.astype(int), atol=tolerance)


@pytest.fixture(params=FORMATS)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[Clip], bool]:
    """A shard's folder, the clips that went into it, and whether it holds them exactly."""
    clips = [make_clip(number, length) for number, length in enumerate([5, 1, 12])]
    info = write_shard(
        tmp_path / "shard-0", iter(clips), settings=ShardSettings(format=request.param), metadata={"template": [1, 2]}
    )
    assert info.path == tmp_path / "shard-0" / f"clips.{request.param}"
    assert (info.clips, info.frames, info.size) == (3, 18, info.path.stat().st_size)
    assert [path.name for path in info.path.parent.iterdir()] == [info.path.name]
    return tmp_path / "shard-0", clips, request.param == "npz"


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


def test_frame_numbers_need_no_picture(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, clips, _ = stored
    monkeypatch.setattr(simplejpeg, "decode_jpeg", None)
    shard = open_shard(folder)
    for row, clip in enumerate(clips):
        np.testing.assert_array_equal(shard.frame_indices(row), clip.frame_indices)
        assert shard.frame_indices(row).dtype == np.int64


def test_only_the_frames_asked_for_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shard(tmp_path, [make_clip(0, 20)], settings=ShardSettings())
    decoded = []
    decode = simplejpeg.decode_jpeg

    def counted(*args: Any, **options: Any) -> Any:
        decoded.append(1)
        return decode(*args, **options)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", counted)
    open_shard(tmp_path).read(0, [1, 1, 5, 9])
    assert len(decoded) == 3


def test_metadata_travels_with_the_shard(stored: Stored) -> None:
    metadata = open_shard(stored[0]).metadata
    assert metadata["template"] == [1, 2]
    assert metadata["schema_version"] == 1
    assert metadata["shards"]["jpeg_quality"] == 95


@pytest.mark.parametrize("quality", [50, 95])
def test_frames_are_decoded_to_the_bytes_that_other_decoders_give(tmp_path: Path, quality: int) -> None:
    path = write_shard(tmp_path, [make_clip(3, 4, size=37)], settings=ShardSettings(jpeg_quality=quality)).path
    encoded = pq.read_table(path)["frames"][0].as_py()
    expected = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB) for jpeg in encoded]
    np.testing.assert_array_equal(open_shard(tmp_path).read(0).frames, np.stack(expected))


def jpeg_of(side: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((side, side, 3), 90, np.uint8))[1])


@pytest.mark.parametrize(
    ("jpegs", "message"),
    [([jpeg_of(24), b"no picture"], ""), ([jpeg_of(24)[:200]], ""), ([jpeg_of(24), jpeg_of(16)], "differ in size")],
)
def test_frames_that_cannot_be_decoded_name_their_clip(tmp_path: Path, jpegs: list[bytes], message: str) -> None:
    path = write_shard(tmp_path, [make_clip(5, len(jpegs))], settings=ShardSettings()).path
    table = pq.read_table(path)
    column = table.schema.get_field_index("frames")
    replaced = table.set_column(column, table.schema.field("frames"), [[jpegs]])
    pq.write_table(replaced, path, compression="NONE", use_dictionary=False)
    with pytest.raises(ShardError, match=rf"clip set/00005 \(row 0\) cannot be read: .*{message}"):
        open_shard(tmp_path).read(0)


def brightness_of_first_frames(shard: Shard) -> list[float]:
    return [float(shard.read(row, [0]).frames.mean()) for row in range(len(shard))]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_shard_can_be_read_in_other_processes(stored: Stored, method: str) -> None:
    shard = open_shard(stored[0])
    expected = brightness_of_first_frames(shard)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(brightness_of_first_frames, [shard] * 4) == [expected] * 4
    assert brightness_of_first_frames(pickle.loads(pickle.dumps(shard))) == expected


def test_a_parquet_shard_has_one_row_group_a_clip_and_plain_jpegs(tmp_path: Path) -> None:
    info = write_shard(tmp_path, [make_clip(n, 4) for n in range(3)], settings=ShardSettings(jpeg_quality=80))
    file = pq.ParquetFile(info.path)
    assert file.num_row_groups == 3
    assert {file.metadata.row_group(0).column(k).compression for k in range(file.metadata.num_columns)} == {
        "UNCOMPRESSED"
    }
    encoded = file.read()["frames"][0].as_py()
    assert [jpeg[:3] for jpeg in encoded] == [b"\xff\xd8\xff"] * 4
    assert json.loads(file.schema_arrow.metadata[b"dfer"])["shards"]["jpeg_quality"] == 80


def test_an_npz_shard_opens_with_numpy_alone(tmp_path: Path) -> None:
    clip = make_clip(7, 3)
    info = write_shard(tmp_path, [clip], settings=ShardSettings(format="npz"))
    with np.load(info.path, allow_pickle=False) as arrays:
        assert arrays["clip_ids"].tolist() == [clip.clip_id]
        np.testing.assert_array_equal(arrays["00000/frames"], clip.frames)


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


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clips.parquet").write_bytes(b"PAR1" * 100)
    with pytest.raises(ShardError, match=r"clips\.parquet is not a readable shard"):
        open_shard(tmp_path)


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "clips.npz", metadata=np.array([{"schema_version": 1}], dtype=object), clip_ids=np.array(["a"]))
    with pytest.raises(ShardError, match="allow_pickle=False"):
        open_shard(tmp_path)


def test_another_schema_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shard(tmp_path, [make_clip(0, 1)], settings=ShardSettings())
    monkeypatch.setattr("dfer.shards.reader.SCHEMA_VERSION", 2)
    with pytest.raises(ShardError, match="schema version 1, this program reads 2"):
        open_shard(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frames", np.zeros((3, 8, 8), np.uint8)),
        ("frames", np.zeros((3, 8, 8, 3), np.float32)),
        ("frames", np.zeros((0, 8, 8, 3), np.uint8)),
        ("scores", np.zeros(2, np.float32)),
        ("keypoints", np.zeros((3, 5, 2), np.float64)),
        ("matrices", np.zeros((3, 3, 3), np.float32)),
    ],
)
def test_a_clip_of_other_shapes_or_types_is_refused(name: str, value: np.ndarray) -> None:
    with pytest.raises(ValueError, match=rf"set/00001: expected {name}"):
        replace(make_clip(1, 3), **{name: value})
