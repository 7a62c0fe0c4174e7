from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfer.faces import index as align_index
from dfer.faces.index import (
    SCHEMA,
    check_index,
    from_rows,
    merge_files,
    merge_indices,
    read_index,
    read_places,
    write_index,
)


def row(clip_id: str, **changes: Any) -> dict[str, Any]:
    good = {
        "clip_id": clip_id,
        "status": "ok",
        "reason": "",
        "detail": "",
        "frames_seen": 10,
        "frames_with_face": 9,
        "frames_kept": 9,
        "close_up_frames": 0,
        "interpolated_frames": 0,
        "faces_max": 1,
        "turned": 0,
        "outside_share": 0.0,
        "remarks": "",
        "shard": "part",
        "row": 0,
    }
    return good | changes


def failed(clip_id: str, reason: str = "no_face") -> dict[str, Any]:
    return row(clip_id, status="failed", reason=reason, detail="nobody there", frames_kept=0, shard="", row=-1)


def test_an_index_comes_back_as_it_was_written(tmp_path: Path) -> None:
    index = from_rows([row("a/1"), failed("a/2")])
    write_index(tmp_path / "index.parquet", index)
    pd.testing.assert_frame_equal(read_index(tmp_path / "index.parquet"), index)
    assert pq.read_schema(tmp_path / "index.parquet").equals(SCHEMA)
    assert [path.name for path in tmp_path.iterdir()] == ["index.parquet"]


def test_an_index_without_clips_is_valid(tmp_path: Path) -> None:
    write_index(tmp_path / "index.parquet", from_rows([]))
    assert len(read_index(tmp_path / "index.parquet")) == 0


def test_merged_indices_name_the_shard_of_each_clip() -> None:
    merged = merge_indices(
        [from_rows([row("a/1"), failed("a/2")]), from_rows([row("a/3", row=0), row("a/4", row=1)])], ["s-0", "s-1"]
    )
    assert merged["clip_id"].tolist() == ["a/1", "a/2", "a/3", "a/4"]
    assert merged["shard"].tolist() == ["s-0", "", "s-1", "s-1"]
    assert merged["row"].tolist() == [0, -1, 0, 1]


def test_merging_nothing_gives_an_empty_index() -> None:
    assert merge_indices([], []).columns.tolist() == SCHEMA.names


def test_a_clip_in_two_shards_is_an_error() -> None:
    with pytest.raises(ValueError, match="twice: a/1"):
        merge_indices([from_rows([row("a/1")]), from_rows([row("a/1")])], ["s-0", "s-1"])
    with pytest.raises(ValueError):
        merge_indices([from_rows([row("a/1")])], ["s-0", "s-1"])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row("a", status="fine")], "status"),
        ([row("a", reason="no_face")], "ok with a reason"),
        ([row("a", row=-1)], "ok with a reason, or without shard, row and frames"),
        ([row("a", frames_kept=0)], "without shard, row and frames"),
        ([failed("a", reason="bad_luck")], "unknown reason"),
        ([failed("a") | {"row": 3}], "place in a shard"),
        ([row("a"), row("a")], "twice"),
    ],
)
def test_rows_at_odds_with_themselves_are_refused(rows: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_index(from_rows(rows))


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected columns"):
        check_index(from_rows([row("a")]).drop(columns="detail"))
    with pytest.raises(ValueError, match="row"):
        check_index(from_rows([row("a")]).astype({"row": str}).assign(row="first"))
    with pytest.raises(ValueError, match="null"):
        check_index(from_rows([row("a")]).assign(detail=None))
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"x": [1]}), other)
    with pytest.raises(ValueError, match=r"other\.parquet"):
        read_index(other)
    other.write_text("not parquet")
    with pytest.raises(ValueError, match=r"other\.parquet"):
        read_index(other)


@pytest.mark.parametrize("at_a_time", [1, 2, 256])
def test_files_are_merged_as_what_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_a_time: int) -> None:
    monkeypatch.setattr(align_index, "_TABLES_AT_A_TIME", at_a_time)
    indices = [from_rows([row("a/1"), failed("a/2")]), from_rows([]), from_rows([row("a/3"), row("a/4", row=1)])]
    paths = [tmp_path / f"{place}.parquet" for place in range(3)]
    for path, index in zip(paths, indices, strict=True):
        write_index(path, index)
    names = ["align/0", "align/1", "align/2"]
    merged = tmp_path / "merged.parquet"
    merge_files(paths, names, merged)
    expected = merge_indices(indices, names)
    pd.testing.assert_frame_equal(read_index(merged), expected)
    places = read_places(merged)
    pd.testing.assert_frame_equal(places.astype(expected.dtypes[places.columns]), expected[places.columns])
    merge_files([], [], merged)
    pd.testing.assert_frame_equal(read_index(merged), merge_indices([], []))


def test_files_that_cannot_be_merged_are_named(tmp_path: Path) -> None:
    merged = tmp_path / "merged.parquet"
    write_index(tmp_path / "good.parquet", from_rows([row("a/1")]))
    pq.write_table(pa.table({"clip_id": ["a/2"]}), tmp_path / "other.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    for name in ("other", "broken"):
        with pytest.raises(ValueError, match=f"{name}.parquet: "):
            merge_files([tmp_path / "good.parquet", tmp_path / f"{name}.parquet"], ["s-0", "s-1"], merged)
    with pytest.raises(ValueError, match="twice: a/1"):
        merge_files([tmp_path / "good.parquet"] * 2, ["s-0", "s-1"], merged)
    with pytest.raises(ValueError, match="shorter"):
        merge_files([tmp_path / "good.parquet"], [], merged)
    with pytest.raises(FileNotFoundError) as caught:
        merge_files([tmp_path / "good.parquet", tmp_path / "gone.parquet"], ["s-0", "s-1"], merged)
    assert caught.value.filename == str(tmp_path / "gone.parquet")
    assert not merged.exists()
