"""The clip table: one row per clip, with the same columns for every data set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dfer.datasets.duplicates import occur_twice
from dfer.labels import CLASSES, EMOTIONS, classes_of
from dfer.storage.files import replacing
from dfer.system.natural_order import natural_key

SPLITS = ("train", "val", "test")
NUM_FOLDS = 5  # of data sets that come without folds of their own

SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("votes", pa.list_(pa.int64())),
        pa.field("label", pa.int64()),
        pa.field("split", pa.string()),
        pa.field("fold", pa.int64()),
        pa.field("subject", pa.string()),
        pa.field("num_frames", pa.int64()),
        pa.field("source_size", pa.int64(), nullable=False),
        pa.field("source_mtime_ns", pa.int64(), nullable=False),
    ]
)
"""The table's columns on disk (Parquet)."""

SHARES = pa.field("shares", pa.list_(pa.float64()))
"""One more column, last, in tables of data sets that publish soft labels without counts."""


_PLAIN = SCHEMA.remove(SCHEMA.get_field_index("votes"))

# Rows per row group, so that a part of a large table can be read without the rest.
_ROW_GROUP = 8192

_DTYPES = {
    field.name: {pa.string(): "str", pa.list_(pa.int64()): "object"}.get(
        field.type, "Int64" if field.nullable else "int64"
    )
    for field in SCHEMA
} | {SHARES.name: "object"}


@dataclass(frozen=True, slots=True)
class ClipRow:
    """One clip of the table.

    Attributes:
        clip_id: starts with `dataset/`.
        source: path relative to the data set's root, with forward slashes.
        votes: counts in the order of the data set's classes.
        label: the class's place in that order, None without a single label.
        fold: from 1, the fold that tests on the clip.
        source_size: in bytes; as `source_mtime_ns` -1 for a missing source.
    """

    clip_id: str
    dataset: str
    source: str
    votes: tuple[int, ...] | None = None
    label: int | None = None
    split: str | None = None
    fold: int | None = None
    subject: str | None = None
    num_frames: int | None = None
    source_size: int = -1
    source_mtime_ns: int = -1
    # a soft label that is published without counts: a number in [0, 1] for each class, that sum to 1
    shares: tuple[float, ...] | None = None


def from_rows(rows: Iterable[ClipRow], classes: Sequence[str] = EMOTIONS) -> pd.DataFrame:
    """The clip table of `rows`, in natural order of the clip ids, validated (see `validate` for what it raises).

    It has the column `shares` only if a row has some.
    """
    # in batches: a million rows as Python objects take several times the table's memory
    remaining, votes, shares = iter(rows), _Votes(), []
    parts: list[pd.DataFrame] = []
    while (batch := list(islice(remaining, _ROW_GROUP))) or not parts:
        votes.extend(row.votes for row in batch)
        shares += [row.shares for row in batch]
        columns = {name: [getattr(row, name) for row in batch] for name in _PLAIN.names}
        parts.append(pd.DataFrame({name: pd.Series(values, dtype=_DTYPES[name]) for name, values in columns.items()}))
    table = _with_votes(pd.concat(parts, ignore_index=True), votes)
    del parts
    if any(row is not None for row in shares):
        table[SHARES.name] = pd.Series(shares, dtype=object)
    # the rows are usually in order, and the keys would take much memory
    if any(later < earlier for earlier, later in pairwise(map(natural_key, table["clip_id"]))):
        keys = [natural_key(name) for name in table["clip_id"]]
        table = table.iloc[sorted(range(len(keys)), key=keys.__getitem__)].reset_index(drop=True)
    table = with_classes(table, classes)
    validate(table)
    return table


def with_classes(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """The table, with a note of the classes whose order its labels and votes are in (`dfer.labels.classes_of`)."""
    table.attrs.pop(CLASSES, None)
    if tuple(classes) != EMOTIONS:
        table.attrs[CLASSES] = list(classes)
    return table


def count_labels(rows: Iterable[ClipRow], classes: Sequence[str] = EMOTIONS) -> dict[str, int]:
    """Class -> number of rows with this label."""
    labels = Counter(row.label for row in rows)
    return {name: labels[label] for label, name in enumerate(classes)}


def validate(table: pd.DataFrame) -> None:
    """Check columns, types and values of a clip table. Raises ValueError with every fault and its first clip."""
    number = len(classes_of(table))
    if list(table.columns) not in (SCHEMA.names, [*SCHEMA.names, SHARES.name]):
        missing = [name for name in SCHEMA.names if name not in table.columns]
        extra = [str(name) for name in table.columns if name not in (*SCHEMA.names, SHARES.name)]
        raise ValueError(
            f"not a clip table: columns must be {SCHEMA.names} in this order; missing {missing}, unknown {extra}"
        )
    wrong = [
        f"{name} is {table[name].dtype}, not {_DTYPES[name]}"
        for name in table.columns
        if table[name].dtype != _DTYPES[name]
    ]
    if wrong:
        raise ValueError(f"not a clip table: {'; '.join(wrong)}")
    checks = {
        "clip_id is missing or not unique": table["clip_id"].isna() | occur_twice(table["clip_id"]),
        "clip_id does not start with 'dataset/'": pd.Series(
            [
                not str(clip_id).startswith(f"{dataset}/")
                for clip_id, dataset in zip(table["clip_id"], table["dataset"], strict=True)
            ],
            index=table.index,
            dtype=bool,
        ),
        "source is not a relative path inside the root": _violates(_is_relative, table["source"]),
        f"votes are not {number} counts with at least one vote": _violates(
            lambda votes: _are_votes(votes, number), table["votes"]
        ),
        f"label is not in 0..{number - 1}": ~table["label"].between(0, number - 1).fillna(True),
        f"split is not one of {SPLITS}": ~(table["split"].isin(SPLITS) | table["split"].isna()),
        "fold is below 1": (table["fold"] < 1).fillna(False),
        "num_frames is negative": (table["num_frames"] < 0).fillna(False),
        "source_size or source_mtime_ns is below -1": table[["source_size", "source_mtime_ns"]].lt(-1).any(axis=1),
    }
    if SHARES.name in table.columns:
        checks[f"shares are not {number} numbers in [0, 1] with the sum 1"] = _violates(
            lambda shares: _are_shares(shares, number), table[SHARES.name]
        )
    faults = [
        f"{what}: {int(mask.sum())} clips, first {table.loc[mask, 'clip_id'].iloc[0]!r}"
        for what, mask in checks.items()
        if mask.any()
    ]
    if faults:
        raise ValueError(f"not a valid clip table: {'; '.join(faults)}")


def write(table: pd.DataFrame, path: Path) -> None:
    """Validate a table and write it as Parquet, in one step; equal tables give equal bytes. Raises ValueError."""
    validate(table)
    classes = classes_of(table)
    schema = SCHEMA.append(SHARES) if SHARES.name in table.columns else SCHEMA
    if classes != EMOTIONS:
        schema = schema.with_metadata({CLASSES: json.dumps(list(classes))})
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as file:
        for first in range(0, len(table), _ROW_GROUP):
            rows = pa.Table.from_pandas(table.iloc[first : first + _ROW_GROUP], schema=schema, preserve_index=False)
            file.write_table(rows.replace_schema_metadata(schema.metadata))


def read(path: Path) -> pd.DataFrame:
    """Read and validate a clip table. Raises FileNotFoundError, and ValueError for a file that is no clip table."""
    parts, votes, shares = [], _Votes(), []
    try:
        with pq.ParquetFile(path) as file:
            has_shares = SHARES.name in file.schema_arrow.names
            if not file.schema_arrow.equals(SCHEMA.append(SHARES) if has_shares else SCHEMA):
                raise ValueError(
                    f"{path} is no clip table of this version; expected the columns\n{SCHEMA}\nfound\n"
                    f"{file.schema_arrow}\ningest the data set again"
                )
            classes = tuple(json.loads((file.schema_arrow.metadata or {}).get(CLASSES.encode(), json.dumps(EMOTIONS))))
            for rows in file.iter_batches(_ROW_GROUP):
                votes.extend(_tuples(rows["votes"]))
                shares += _tuples(rows[SHARES.name]) if has_shares else []
                parts.append(rows.drop_columns(["votes", SHARES.name] if has_shares else ["votes"]))
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file or is damaged ({error}); ingest the data set again") from error
    data = pa.Table.from_batches(parts, _PLAIN)
    del parts
    table = _with_votes(data.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get), votes)
    del data
    if has_shares:
        table[SHARES.name] = pd.Series(shares, dtype=object)
    table = with_classes(table, classes)
    try:
        validate(table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; ingest the data set again") from error
    return table


def read_rows(path: Path, rows: range, columns: Sequence[str]) -> pd.DataFrame:
    """Read some columns of consecutive rows of a clip table that `write` wrote; their index counts from 0.

    Raises FileNotFoundError, and ValueError for a file that is no Parquet or has fewer rows.
    """
    try:
        with pq.ParquetFile(path) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            ends = list(accumulate(sizes))
            groups = [
                group
                for group, (size, end) in enumerate(zip(sizes, ends, strict=True))
                if end > rows.start and end - size < rows.stop
            ]
            if rows.stop > sum(sizes):
                raise ValueError(
                    f"{path} has {sum(sizes)} rows, expected at least {rows.stop}; ingest the data set again"
                )
            data = file.read_row_groups(groups, columns=list(columns), use_threads=False)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file or is damaged ({error}); ingest the data set again") from error
    first = ends[groups[0]] - sizes[groups[0]] if groups else 0
    part = data.slice(rows.start - first, len(rows))
    return part.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get).astype({c: _DTYPES[c] for c in columns})


class _Votes:
    """A column of votes. Equal votes share a tuple: a million clips have only some thousands of different ones."""

    def __init__(self) -> None:
        self.column: list[tuple[int, ...] | None] = []
        self._known: dict[tuple[int, ...], tuple[int, ...]] = {}

    def extend(self, more: Iterable[Sequence[int] | None]) -> None:
        for votes in more:
            counts = None if votes is None else tuple(votes)
            # invalid votes are not shared, so that `validate` sees them: 5.0 equals 5
            valid = counts and _are_votes(counts, len(counts))
            self.column.append(self._known.setdefault(counts, counts) if counts and valid else counts)


def _with_votes(table: pd.DataFrame, votes: _Votes) -> pd.DataFrame:
    """Add the column of votes to the other columns of a clip table."""
    table.insert(SCHEMA.get_field_index("votes"), "votes", pd.Series(votes.column, dtype=object))
    return table.astype({name: _DTYPES[name] for name in table.columns})


def _tuples(votes: pa.ListArray) -> list[Any]:
    """A column of lists as Python tuples, which is much faster than number by number."""
    numbers, ends = votes.values.to_pylist(), votes.offsets.to_pylist()
    valid = votes.is_valid().to_pylist()
    return [
        tuple(numbers[first:last]) if has_votes else None
        for has_votes, first, last in zip(valid, ends[:-1], ends[1:], strict=True)
    ]


def _violates(rule: Callable[[object], bool], column: pd.Series) -> pd.Series:
    """Whether each value breaks a rule; one by one, so that not all strings are Python strings at once."""
    return pd.Series([not rule(value) for value in column], index=column.index, dtype=bool)


def _is_relative(source: object) -> bool:
    if not isinstance(source, str) or not source or "\\" in source:
        return False
    # not PurePosixPath: it takes seconds for a million
    return not source.startswith("/") and ".." not in source.split("/")


def _are_votes(votes: object, number: int) -> bool:
    if votes is None:
        return True
    return (
        isinstance(votes, tuple)
        and len(votes) == number
        and all(type(count) is int and count >= 0 for count in votes)
        and any(votes)
    )


def _are_shares(shares: object, number: int) -> bool:
    if shares is None:
        return True
    return (
        isinstance(shares, tuple)
        and len(shares) == number
        and all(type(share) is float and 0 <= share <= 1 for share in shares)
        and abs(sum(shares) - 1) < 1e-6
    )
