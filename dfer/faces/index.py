"""The align index: one row for every clip, whether it was aligned or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dfer.datasets.duplicates import occur_twice
from dfer.storage.files import naming, replacing

FACES_VERSION = 7
"""Of what alignment makes. To be raised when it would make something else of the same videos."""

FILE_NAME = "index.parquet"

# Why a clip has no aligned faces.
REASONS = (
    "missing_file",
    "empty_file",
    "not_a_video",
    "undecodable",
    "no_frames",
    "no_face",
    "too_few_faces",
    "no_face_shape",
    "lfs_pointer",
    "crashed",
    "error",
)

_COUNTS = (
    "frames_seen",
    "frames_with_face",
    "frames_kept",
    "close_up_frames",
    "interpolated_frames",
    "faces_max",
    "turned",  # degrees clockwise
)
SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # ok, failed
        pa.field("reason", pa.string(), nullable=False),  # of REASONS, "" if ok
        pa.field("detail", pa.string(), nullable=False),  # for people
        *(pa.field(name, pa.int64(), nullable=False) for name in _COUNTS),
        pa.field("outside_share", pa.float64(), nullable=False),  # of the area of the crops, beyond the source's frames
        pa.field("remarks", pa.string(), nullable=False),  # what else a person should know
        pa.field("shard", pa.string(), nullable=False),  # folder of the shard, "" if failed
        pa.field("row", pa.int64(), nullable=False),  # in the shard, -1 if failed
    ]
)

_TWICE = "clips that occur twice"

_TABLES_AT_A_TIME = 256
_ROWS_AT_A_TIME = 8192


def from_rows(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """An align index of rows that have every column."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMA).to_pandas()


def check_index(index: pd.DataFrame) -> None:
    """Check columns, types and the consistency of rows. Raises ValueError that names the place."""
    if list(index.columns) != SCHEMA.names:
        raise ValueError(f"align index: expected columns {SCHEMA.names}, found {list(index.columns)}")
    try:
        for first in range(0, len(index) or 1, _ROWS_AT_A_TIME):
            part = index.iloc[first : first + _ROWS_AT_A_TIME]
            pa.Table.from_pandas(part, schema=SCHEMA, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"align index: {error}") from error
    ok = index["status"] == "ok"
    rules = {
        _TWICE: occur_twice(index["clip_id"]),
        "a status other than ok and failed": ~index["status"].isin(["ok", "failed"]),
        "ok with a reason, or without shard, row and frames": ok
        & ((index["reason"] != "") | (index["shard"] == "") | (index["row"] < 0) | (index["frames_kept"] < 1)),
        "failed with an unknown reason, or with a place in a shard": ~ok
        & (~index["reason"].isin(REASONS) | (index["shard"] != "") | (index["row"] != -1)),
    }
    _refuse(rules, index["clip_id"])


def _refuse(rules: Mapping[str, pd.Series], names: pd.Series) -> None:
    """Raise ValueError for the first rule that some clips break, with their names."""
    for rule, broken in rules.items():
        if broken.any():
            raise ValueError(f"align index: {rule}: {', '.join(names[broken].head(5))}")


def write_index(path: Path, index: pd.DataFrame) -> None:
    """Check an align index and write it as Parquet, in one step. Raises ValueError."""
    check_index(index)
    with replacing(path) as unfinished:
        pq.write_table(pa.Table.from_pandas(index, schema=SCHEMA, preserve_index=False), unfinished)


def read_index(path: Path) -> pd.DataFrame:
    """Read and check an align index. Raises ValueError that names the file; FileNotFoundError."""
    try:
        index = pq.read_table(path).to_pandas()
        check_index(index)
    except (pa.ArrowInvalid, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return index


def read_places(path: Path) -> pd.DataFrame:
    """Read `clip_id`, `status`, `reason`, `shard` and `row` of an align index, without checking its rows.

    All strings but the ids are categories, since an index can have a million clips.
    Raises ValueError for a file that is no Parquet; FileNotFoundError.
    """
    few = ["status", "reason", "shard"]
    try:
        return pq.read_table(path, columns=["clip_id", *few, "row"], read_dictionary=few).to_pandas()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: {error}") from error


def merge_files(paths: Sequence[Path], shards: Sequence[str], merged: Path) -> None:
    """`merge_indices` of files, written to `merged`, with a few of them in memory at a time.

    Raises as `merge_indices`, ValueError also for a file that is no align index, FileNotFoundError for a missing one.
    """
    named = list(zip(paths, shards, strict=True))
    with replacing(merged) as unfinished:
        with pq.ParquetWriter(unfinished, SCHEMA) as file:
            for first in range(0, len(named), _TABLES_AT_A_TIME):
                tables = [_with_shard(path, shard) for path, shard in named[first : first + _TABLES_AT_A_TIME]]
                rows = pa.concat_tables(tables).combine_chunks()
                check_index(rows.to_pandas())
                file.write_table(rows)
        names = pq.read_table(unfinished, columns=["clip_id"]).to_pandas()["clip_id"]
        _refuse({_TWICE: occur_twice(names)}, names)


def _with_shard(path: Path, shard: str) -> pa.Table:
    """A shard's index with the shard's name in the column `shard`."""
    try:
        with naming(path), pq.ParquetFile(path) as file:
            table = file.read(use_threads=False).replace_schema_metadata(None)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: {error}") from error
    if table.schema != SCHEMA:
        raise ValueError(f"{path}: align index: expected columns {SCHEMA.names}, found {table.schema.names}")
    place = pc.if_else(pc.equal(table["status"], "ok"), shard, "")
    return table.set_column(SCHEMA.get_field_index("shard"), SCHEMA.field("shard"), place)


def merge_indices(indices: Sequence[pd.DataFrame], shards: Sequence[str]) -> pd.DataFrame:
    """One index of the clips of all shards; `shards` are their paths relative to its folder, for the column `shard`.

    Raises ValueError if the numbers of names and indices differ, or a clip is in two of them.
    """
    placed = [
        index.assign(shard=index["shard"].where(index["status"] != "ok", name))
        for index, name in zip(indices, shards, strict=True)
    ]
    merged = pd.concat(placed, ignore_index=True) if placed else from_rows([])
    check_index(merged)
    return merged
