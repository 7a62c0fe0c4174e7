from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfer.datasets import table as clip_table
from dfer.datasets.table import SCHEMA, ClipRow, count_labels, from_rows, read, read_rows, validate, write
from dfer.labels import classes_of

ROWS = [
    ClipRow(
        "set/10", "set", "a/10.mp4", votes=(1, 2, 3, 4, 0, 0, 0), label=3, fold=5, source_size=7, source_mtime_ns=9
    ),
    ClipRow("set/9", "set", "a/9.mp4", votes=(5, 5, 0, 0, 0, 0, 0), subject="s1", num_frames=0),
    ClipRow("set/11", "set", "a/11", label=0, split="val", num_frames=30),
]


def test_rows_become_a_table_in_natural_order() -> None:
    table = from_rows(ROWS)
    assert list(table["clip_id"]) == ["set/9", "set/10", "set/11"]
    assert list(table.columns) == SCHEMA.names
    assert table["votes"].tolist() == [(5, 5, 0, 0, 0, 0, 0), (1, 2, 3, 4, 0, 0, 0), None]
    assert table["label"].isna().tolist() == [True, False, False]
    assert table["split"].isna().tolist() == [True, True, False]
    assert table.dtypes.astype(str).to_dict() == {
        "clip_id": "str",
        "dataset": "str",
        "source": "str",
        "votes": "object",
        "label": "Int64",
        "split": "str",
        "fold": "Int64",
        "subject": "str",
        "num_frames": "Int64",
        "source_size": "int64",
        "source_mtime_ns": "int64",
    }


@pytest.mark.parametrize("at_a_time", [1, 2, 8192])
@pytest.mark.parametrize("rows", [ROWS, ROWS[2:], []])
def test_what_is_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[ClipRow], at_a_time: int
) -> None:
    expected = from_rows(rows)
    monkeypatch.setattr(clip_table, "_ROW_GROUP", at_a_time)
    table = from_rows(rows)
    pd.testing.assert_frame_equal(table, expected)
    write(table, tmp_path / "clips.parquet")
    pd.testing.assert_frame_equal(read(tmp_path / "clips.parquet"), table)
    assert [path.name for path in tmp_path.iterdir()] == ["clips.parquet"]


def test_rows_of_other_types_are_taken_or_refused_as_pandas_does() -> None:
    row = replace(ROWS[0], votes=[1, 2, 3, 4, 0, 0, 0], label=float("nan"), subject=1001)  # type: ignore[arg-type]
    table = from_rows([row])
    assert (table["votes"].item(), table["subject"].item()) == ((1, 2, 3, 4, 0, 0, 0), "1001")
    assert table["label"].isna().all()
    with pytest.raises(TypeError):
        from_rows([replace(row, label=3.5)])  # type: ignore[arg-type]
    halves = replace(ROWS[0], clip_id="set/12", votes=tuple(map(float, ROWS[0].votes or ())))  # type: ignore[arg-type]
    for rows in ([*ROWS, halves], [halves, *ROWS]):
        with pytest.raises(ValueError, match=r"votes are not .*: 1 clips, first 'set/12'"):
            from_rows(rows)


def test_equal_votes_are_there_once() -> None:
    votes = from_rows(
        replace(ROWS[0], clip_id=f"set/{number}", votes=(number % 2, 10, 0, 0, 0, 0, 0)) for number in range(9)
    )["votes"]
    assert len({id(counts) for counts in votes}) == 2


def test_no_library_versions_are_written(tmp_path: Path) -> None:
    write(from_rows(ROWS), tmp_path / "clips.parquet")
    assert pq.read_schema(tmp_path / "clips.parquet").metadata is None


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    write(from_rows(ROWS), tmp_path / "one.parquet")
    write(from_rows(ROWS[::-1]), tmp_path / "two.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clips.parquet"
    write(from_rows(ROWS), path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        write(from_rows(ROWS[:1]), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["clips.parquet"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip_id": "set/9"}, "not unique"),
        ({"clip_id": "other/1"}, "does not start with"),
        ({"source": "/etc/passwd"}, "relative path"),
        ({"source": "../x.mp4"}, "relative path"),
        ({"source": "a\\x.mp4"}, "relative path"),
        ({"source": ""}, "relative path"),
        ({"votes": (1, 2, 3)}, "votes are not 7"),
        ({"votes": (0, 0, 0, 0, 0, 0, 0)}, "votes are not 7"),
        ({"votes": (2, -1, 0, 0, 0, 0, 0)}, "votes are not 7"),
        ({"label": 7}, "label is not"),
        ({"label": -1}, "label is not"),
        ({"split": "validation"}, "split is not"),
        ({"fold": 0}, "fold is below 1"),
        ({"num_frames": -1}, "num_frames"),
        ({"source_size": -2}, "source_size"),
    ],
)
def test_values_that_do_not_fit_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_rows([replace(ROWS[0], **change), *ROWS[1:]])  # type: ignore[arg-type]


def test_columns_that_do_not_fit_are_named(tmp_path: Path) -> None:
    table = from_rows(ROWS)
    with pytest.raises(ValueError, match=r"missing \['votes'\], unknown \['extra'\]"):
        validate(table.drop(columns="votes").assign(extra=1))
    with pytest.raises(ValueError, match="label is float64, not Int64"):
        write(table.assign(label=[0.0, 1.0, 2.0]), tmp_path / "clips.parquet")
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_clip_table(tmp_path: Path) -> None:
    path = tmp_path / "clips.parquet"
    with pytest.raises(FileNotFoundError):
        read(path)
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match=r"clips\.parquet is no Parquet file or is damaged"):
        read(path)
    pq.write_table(pa.table({"clip_id": ["a"]}), path)
    with pytest.raises(ValueError, match="is no clip table of this version"):
        read(path)
    bad = from_rows(ROWS).assign(label=pd.array([9, None, None], dtype="Int64"))
    pq.write_table(pa.Table.from_pandas(bad, schema=SCHEMA, preserve_index=False), path)
    with pytest.raises(ValueError, match=r"clips\.parquet: .*label is not in 0\.\.6: 1 clips, first 'set/9'"):
        read(path)


@given(
    clips=st.integers(0, 40),
    group=st.integers(1, 13),
    ends=st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted),
)
@settings(deadline=None, max_examples=50)
def test_rows_that_are_read_alone_are_those_of_the_table(
    tmp_path_factory: pytest.TempPathFactory, clips: int, group: int, ends: list[int]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "clips.parquet"
    rows = range(*(min(end, clips) for end in ends))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_table, "_ROW_GROUP", group)
        write(from_rows(ClipRow(f"set/{n}", "set", f"{n}.mp4", source_size=n) for n in range(clips)), path)
    columns = ["source_size", "clip_id"]
    expected = read(path).iloc[rows.start : rows.stop].reset_index(drop=True)
    pd.testing.assert_frame_equal(read_rows(path, rows, columns), expected[columns])


def test_rows_beyond_the_end_are_an_error(tmp_path: Path) -> None:
    write(from_rows(ROWS), tmp_path / "clips.parquet")
    with pytest.raises(ValueError, match="has 3 rows, expected at least 4"):
        read_rows(tmp_path / "clips.parquet", range(2, 4), ["clip_id"])
    (tmp_path / "other.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ValueError, match="is no Parquet file"):
        read_rows(tmp_path / "other.parquet", range(1), ["clip_id"])


def test_only_the_groups_of_the_wanted_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_table, "_ROW_GROUP", 10)
    write(from_rows(ClipRow(f"set/{n}", "set", f"{n}.mp4") for n in range(95)), tmp_path / "clips.parquet")
    groups: list[list[int]] = []

    class Watched(pq.ParquetFile):
        def read_row_groups(self, wanted: list[int], **how: object) -> pa.Table:
            groups.append(wanted)
            return super().read_row_groups(wanted, **how)

    monkeypatch.setattr(pq, "ParquetFile", Watched)
    read_rows(tmp_path / "clips.parquet", range(20, 30), ["clip_id"])
    read_rows(tmp_path / "clips.parquet", range(29, 41), ["clip_id"])
    assert groups == [[2], [2, 3, 4]]


THREE = ("engaged", "bored", "confused")


def test_other_classes_and_shares_come_back_from_a_file(tmp_path: Path) -> None:
    rows = [
        ClipRow("own/a", "own", "a.mp4", label=2, votes=(1, 0, 4), fold=6),
        ClipRow("own/b", "own", "b.mp4", shares=(0.25, 0.75, 0.0)),
    ]
    table = from_rows(rows, THREE)
    write(table, tmp_path / "clips.parquet")
    again = read(tmp_path / "clips.parquet")
    pd.testing.assert_frame_equal(again, table)
    assert classes_of(again[again["fold"].notna()]) == THREE
    assert again["shares"].tolist() == [None, (0.25, 0.75, 0.0)]
    assert count_labels(rows, THREE) == {"engaged": 0, "bored": 0, "confused": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"label": 3}, r"label is not in 0\.\.2"),
        ({"votes": (1, 0, 0, 0, 0, 0, 0)}, "votes are not 3 counts"),
        ({"shares": (0.5, 0.4, 0.0)}, "shares are not 3 numbers"),
        ({"shares": (1.5, -0.5, 0.0)}, "shares are not 3 numbers"),
        ({"shares": (0.5, 0.5)}, "shares are not 3 numbers"),
    ],
)
def test_values_are_checked_against_the_classes(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_rows([ClipRow("own/a", "own", "a.mp4", **row)], THREE)


def test_the_usual_classes_leave_no_trace_in_a_file(tmp_path: Path) -> None:
    """Files, and keys made of them, are those of earlier versions."""
    write(from_rows([ClipRow("own/a", "own", "a.mp4", label=2)]), tmp_path / "clips.parquet")
    schema = pq.read_schema(tmp_path / "clips.parquet")
    assert schema.metadata is None
    assert "shares" not in schema.names
