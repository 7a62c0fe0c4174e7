"""Reads the sheet of a workbook that people see, within limits that small files cannot exceed by unpacking."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from typing import Any
from zipfile import ZipFile

from dfer.system.natural_order import natural_key

# DFEW's annotation of 16,372 clips with nine columns is far below these limits, which stop small files that unpack to
# huge ones.
MOST_ROWS = 1_048_576
MOST_COLUMNS = 256
MOST_BYTES = 256 * 2**20
_SMALL = 8 * 2**20

Row = tuple[object, ...]


def rows(content: BytesIO, others: list[str] | None = None) -> list[Row]:
    """The values of the first sheet that is not hidden; of formulas, the values that were stored with them. The names
    of further sheets are added to `others`.

    Raises ValueError for a workbook beyond the limits, and what the zip and XML parsers raise for a damaged one.
    """
    return [tuple(cell for cell in row) for row in _cells(content, values=True, others=others)]


def formulas_without_value(content: BytesIO) -> list[str]:
    """Places of formulas, such as 'B2: =SUM(C2:D2)', with which the file stores no value; [] if that cannot be told."""
    places = []
    try:
        for row, cells in zip(_cells(content, values=True), _cells(content, values=False), strict=True):
            for value, cell in zip(row, cells, strict=True):
                if value is None and getattr(cell, "data_type", "") == "f":
                    places.append(f"{cell.coordinate}: {cell.value}")
    except Exception:  # openpyxl raises many kinds on formulas that it cannot read
        return []
    return places


def is_small(content: BytesIO) -> bool:
    """Whether a workbook that was read can be read again in different ways, within seconds and in memory."""
    return _unpacked(content) <= _SMALL


def merged_cells(content: BytesIO) -> list[str]:
    """Merged cells of the sheet that people see, such as 'B2:B5', of which only the first has a value; [] if that
    cannot be told. Has the whole workbook in memory."""
    import openpyxl  # as below

    try:
        book = openpyxl.load_workbook(content)
        sheet = next(sheet for sheet in book.worksheets if sheet.sheet_state == "visible")
        return sorted((str(cells) for cells in sheet.merged_cells.ranges), key=natural_key)
    except Exception:  # as above, on parts that `rows` does not look at
        return []


def _unpacked(content: BytesIO) -> int:
    with ZipFile(content) as archive:
        return sum(member.file_size for member in archive.infolist())


def _cells(content: BytesIO, *, values: bool, others: list[str] | None = None) -> Iterator[tuple[Any, ...]]:
    # here, since it reads a few hundred milliseconds, and of the commands only those that read votes need it
    import openpyxl

    if (unpacked := _unpacked(content)) > MOST_BYTES:
        raise ValueError(f"it unpacks to {unpacked:,} bytes, expected at most {MOST_BYTES:,}")
    book = openpyxl.load_workbook(content, read_only=True, data_only=values)
    try:
        visible = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
        if not visible:
            raise ValueError(f"it has no sheet that is not hidden, among {[sheet.title for sheet in book.worksheets]}")
        sheet, *further = visible
        if others is not None:
            others += [one.title for one in further]
        # Some programs write a wrong extent into the file, where read-only mode would stop.
        sheet.reset_dimensions()
        read = sheet.iter_rows(values_only=values)
        for number, row in enumerate(islice(read, MOST_ROWS), start=1):
            if len(row) > MOST_COLUMNS:
                beside = "delete what lies beside the table, formatted cells too"
                raise ValueError(f"row {number} has {len(row):,} columns, expected at most {MOST_COLUMNS}; {beside}")
            yield row
        if next(read, None) is not None:
            raise ValueError(f"it has more than {MOST_ROWS:,} rows, the most that a spreadsheet can have")
    finally:
        book.close()
