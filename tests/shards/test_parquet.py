from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg
from shard_clips import make_clip

from dfer.config.settings import ShardSettings
from dfer.shards import ShardError, open_shard, write_shard


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


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clips.parquet").write_bytes(b"PAR1" * 100)
    with pytest.raises(ShardError, match=r"clips\.parquet is not a readable shard"):
        open_shard(tmp_path)
