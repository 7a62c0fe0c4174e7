"""Writes FER+'s pictures as files: FER2013 gives them as text, `fer2013.csv`, and FER+ the votes, `fer2013new.csv`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.config.problems import InputError
from dfer.datasets.ferplus import LIST, PARTS, PICTURES_AS_TEXT
from dfer.datasets.ferplus_votes import COLUMNS, PICTURE_NAME, counts_of
from dfer.storage.files import write_atomically

VOTES = "fer2013new.csv"
SIDE = 48

_PARTS = {"Training": PARTS["train"], "PublicTest": PARTS["val"], "PrivateTest": PARTS["test"]}


@dataclass(frozen=True)
class Written:
    """What was in the two files.

    Attributes:
        pictures: number of those that are files now, by their part.
        unnamed: rows without a picture's name: nobody saw a face.
        named_twice: rows with the name of an earlier one, not written.
    """

    pictures: dict[str, int]
    unnamed: int
    named_twice: tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    usage: str
    name: str  # with its suffix; empty for pictures that are left out
    votes: tuple[str, ...]


def write_pictures(root: Path, out: Path, *, on_picture: Callable[[], None] = lambda: None) -> Written:
    """Write the pictures of `fer2013.csv` in `root` as PNG, and the votes as `label.csv`, into `out`, as the layout
    `ferplus` has them.

    The two files have a row for each picture in the same order; names are those of `fer2013new.csv`, which are not the
    numbers of the rows. Files that `out` has already stay as they are, so that a call that was interrupted can be
    repeated.
    Raises InputError if the files are not those of FER2013 and FER+, or `out` has other pictures or lists.
    """
    rows, unnamed, named_twice = _read_votes(root / VOTES)
    lists = {folder: _list(rows, usage) for usage, folder in _PARTS.items()}
    for folder, content in lists.items():
        path = out / folder / LIST
        if path.exists() and path.read_bytes() != content:
            raise InputError(f"{path} holds other votes than {root / VOTES}; remove it, or choose another --out")
    for folder in lists:
        (out / folder).mkdir(parents=True, exist_ok=True)
    for row, picture in zip(rows, _read_pictures(root / PICTURES_AS_TEXT, rows), strict=True):
        if row.name:
            _write(out / _PARTS[row.usage] / row.name, picture)
        on_picture()
    for folder, content in lists.items():  # last: a part with a list is complete
        if not (out / folder / LIST).exists():
            write_atomically(out / folder / LIST, content)
    numbers = {folder: sum(row.usage == usage and bool(row.name) for row in rows) for usage, folder in _PARTS.items()}
    return Written(numbers, unnamed, tuple(named_twice))


def _read_votes(path: Path) -> tuple[list[_Row], int, list[str]]:
    """All rows; the number of those without a name; and the names that an earlier row has, which are left out."""
    rows: list[_Row] = []
    seen: set[str] = set()
    unnamed, named_twice = 0, []
    for number, (usage, name, *votes) in _table(path, ("Usage", "Image name", *COLUMNS)):
        where = f"{path} row {number}"
        if usage not in _PARTS:
            raise InputError(f"{where}: Usage is {usage!r}, expected one of {', '.join(_PARTS)}")
        if name and not re.fullmatch(rf"{PICTURE_NAME}\.png", name, re.ASCII):
            raise InputError(f"{where}: {name[:60]!r} is no picture's name, expected fer, seven digits and .png")
        if counts_of(votes) is None:
            raise InputError(f"{where}: expected {len(COLUMNS)} votes from 0 up, found {', '.join(votes)}")
        is_again = bool(name) and name in seen
        if is_again:
            named_twice.append(name)
        unnamed += not name
        rows.append(_Row(usage, "" if is_again else name, tuple(votes)))
        seen.add(name)
    return rows, unnamed, named_twice


def _list(rows: list[_Row], usage: str) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([row.name, *row.votes] for row in rows if row.usage == usage and row.name)
    return text.getvalue().encode()


def _read_pictures(path: Path, rows: list[_Row]) -> Iterator[NDArray[np.uint8]]:
    """The picture of each row, uint8[48, 48] grey."""
    number = 1
    for number, (usage, pixels) in _table(path, ("Usage", "pixels")):
        where = f"{path} row {number}"
        if number - 2 >= len(rows) or usage != rows[number - 2].usage:
            raise InputError(f"{where} is not of the same picture as that of {VOTES}: take both as they were published")
        try:
            grey = np.frombuffer(bytes(map(int, pixels.split())), np.uint8).reshape(SIDE, SIDE)
        except ValueError:
            message = f"expected {SIDE} x {SIDE} pixels from 0 to 255, found {pixels[:40]!r}"
            raise InputError(f"{where}: {message}") from None
        yield grey
    if number - 1 < len(rows):
        raise InputError(f"{path} has {number - 1} pictures, expected {len(rows)}, one for each row of {VOTES}")


def _table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """The line's number and some columns, by their names, of each row of a CSV file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [title.strip().casefold() for title in next(reader, [])]
            if missing := [name for name in columns if header.count(name.casefold()) != 1]:
                raise InputError(f"{path} needs a column {', '.join(missing)}; it has {', '.join(header)[:200]}")
            places = [header.index(name.casefold()) for name in columns]
            for number, row in enumerate(reader, start=2):
                yield number, [row[place].strip() if place < len(row) else "" for place in places]
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist; {PICTURES_AS_TEXT} is FER2013's, {VOTES} is from FER+'s repository: both have to "
            "be in the folder"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV file: {error}") from error


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    if path.exists() and (content := path.read_bytes()):
        there = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        if there is not None and np.array_equal(there, picture):
            return
        if there is not None:
            raise InputError(f"{path} is another picture than that of {PICTURES_AS_TEXT}; choose another --out")
    temporary = path.with_name(f".{path.name}.part")  # not flushed to the disk, which would take minutes
    temporary.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    temporary.replace(path)
