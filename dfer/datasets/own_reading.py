"""Reads a table of one's own, CSV, TSV, Parquet or a workbook, as text, within limits that a hostile file cannot pass.

Every way in which a file cannot be read is a `TableError`, whose message says what to do.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dfer.datasets import workbook
from dfer.system.file_types import LFS_POINTER

MOST_BYTES = 64 * 2**20
MOST_CHARACTERS = 10_000
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*_DELIMITERS, ".parquet", ".xlsx")
"""Of the files that can be read."""

_BATCH = 4096
_OLD_WORKBOOK = bytes.fromhex("d0cf11e0a1b11ae1")


class TableError(Exception):
    """A table that cannot be read; the message does not name it."""


@dataclass(frozen=True)
class Sheet:
    """A table as text, without blanks around it; an empty cell is "".

    Attributes:
        header: the first row.
        rows: of some columns, by their places: the number of each row that is not empty as a spreadsheet program shows
            it (in Parquet, which has no header row, counted from 1), and its cells. Raises TableError.
        content: of a workbook, for a closer look.
        others: the names of its further sheets, which are not read.
    """

    header: tuple[str, ...]
    rows: Callable[[Sequence[int]], Iterator[tuple[int, list[str]]]]
    content: io.BytesIO | None = None
    others: tuple[str, ...] = ()


def read(path: Path) -> Sheet:
    """Read the table at `path`, a regular file with one of `SUFFIXES`. Raises TableError, OSError."""
    if (size := path.stat().st_size) > MOST_BYTES:
        raise TableError(f"it has {size:,} bytes, expected at most {MOST_BYTES:,}")
    data = path.read_bytes()
    if data.startswith(LFS_POINTER):
        raise TableError("it is only a pointer of Git LFS, not the table itself: run git lfs pull")
    suffix = path.suffix.lower()
    if suffix in _DELIMITERS:
        return _text(data, _DELIMITERS[suffix])
    return _parquet(data) if suffix == ".parquet" else _workbook(data)


def _text(data: bytes, delimiter: str) -> Sheet:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TableError(f"line {line} is not UTF-8: save it as 'CSV UTF-8', or as a workbook") from error

    def every() -> Iterator[tuple[int, list[str]]]:
        lines = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        number = 0
        try:
            for number, row in enumerate(reader, start=1):
                yield number, row
        except csv.Error as error:
            raise TableError(f"row {number + 1}: {error}; a quotation mark in a text is written twice") from error

    first = next(every(), (1, []))[1]

    def rows(columns: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
        for number, row in every():
            if number == 1 or not any(cell.strip() for cell in row):
                continue
            if len(row) > len(first) and any(cell.strip() for cell in row[len(first) :]):
                raise TableError(
                    f"row {number} has {len(row)} cells, the header {len(first)}: write a text with "
                    f"{'a comma' if delimiter == ',' else 'a tab'} in it in quotation marks"
                )
            if number > workbook.MOST_ROWS:
                raise TableError(f"it has more than {workbook.MOST_ROWS:,} rows")
            yield number, [row[column].strip() if column < len(row) else "" for column in columns]

    return Sheet(_header(first), rows)


def _workbook(data: bytes) -> Sheet:
    if data.startswith(_OLD_WORKBOOK):
        raise TableError("it is a workbook of the old kind (.xls), or has a password: save it as .xlsx without one")
    content, others = io.BytesIO(data), list[str]()
    try:
        cells = workbook.rows(content, others)
    except BadZipFile:
        raise TableError("it is no workbook, or is damaged: open it in a spreadsheet program, save as .xlsx") from None
    except Exception as error:  # the zip and XML parsers raise many kinds on damaged or encrypted files
        raise TableError(f"{error or type(error).__name__}") from error

    def rows(columns: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
        for number, row in enumerate(cells[1:], start=2):
            if any(value is not None and value != "" for value in row):
                yield number, [_as_text(row[column]) if column < len(row) else "" for column in columns]

    return Sheet(_header([_as_text(value) for value in cells[0]] if cells else []), rows, content, tuple(others))


def _parquet(data: bytes) -> Sheet:
    # texts as dictionaries: a small file may repeat a long one a million times
    file = _parse(lambda: pq.ParquetFile(pa.BufferReader(data)))
    metadata = file.metadata
    if metadata.num_rows > workbook.MOST_ROWS:
        raise TableError(f"it has {metadata.num_rows:,} rows, expected at most {workbook.MOST_ROWS:,}")
    unpacked = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    if unpacked > workbook.MOST_BYTES:
        raise TableError(f"it unpacks to {unpacked:,} bytes, expected at most {workbook.MOST_BYTES:,}")
    fields = _parse(lambda: list(file.schema_arrow))
    header = _header(["" if field.name.startswith("__index_level_") else field.name for field in fields])
    texts = [field.name for field in fields if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]

    def rows(columns: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
        chosen = [fields[column] for column in columns]
        if nested := [field for field in chosen if pa.types.is_nested(field.type)]:
            raise TableError(f"column {nested[0].name!r} holds {nested[0].type}, expected texts or numbers")
        opened = _parse(lambda: pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts))
        batches = opened.iter_batches(_BATCH, columns=[field.name for field in chosen], use_threads=False)
        number = 0
        while (batch := _parse(lambda: next(batches, None))) is not None:
            for row in zip(*_parse(partial(_plain, batch, [field.name for field in chosen])), strict=True):
                number += 1
                if any(row):
                    yield number, list(row)

    return Sheet(header, rows)


def _plain(batch: pa.RecordBatch, names: Sequence[str]) -> list[list[str]]:
    return [_texts(batch.column(name)) for name in names]


def _texts(column: pa.Array) -> list[str]:
    if isinstance(column, pa.DictionaryArray):
        words = column.dictionary
        if pa.types.is_string(words.type) and (pc.max(pc.binary_length(words)).as_py() or 0) > MOST_CHARACTERS:
            raise TableError(f"it has a text of more than {MOST_CHARACTERS:,} characters")
        words = [_as_text(value) for value in words.to_pylist()]
        return ["" if index is None else words[index] for index in column.indices.to_pylist()]
    return [_as_text(value) for value in column.to_pylist()]


def _parse(step: Callable[[], Any]) -> Any:
    """The result of reading Parquet, in which damage can fail in any way."""
    try:
        return step()
    except TableError:
        raise
    except Exception as error:
        raise TableError(f"it is no Parquet file or is damaged: {str(error)[:200]}") from error


def _header(cells: Sequence[str]) -> tuple[str, ...]:
    if not any(cell.strip() for cell in cells):
        raise TableError("its first row is empty, where the names of the columns should be")
    if len(cells) > workbook.MOST_COLUMNS:
        raise TableError(
            f"it has {len(cells):,} columns, expected at most {workbook.MOST_COLUMNS}: delete all beside the table"
        )
    header = [cell.strip() for cell in cells]
    while len(header) > 1 and not header[-1]:
        header.pop()
    return tuple(header)


def _as_text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
