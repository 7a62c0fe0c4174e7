"""Damaged workbooks: DFEW's annotation, with its bytes, parts, XML or cells changed."""

from __future__ import annotations

import io
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl

from benchmarks.fuzz import layouts, values
from benchmarks.fuzz.mutations import MUTATIONS
from benchmarks.fuzz.outcomes import Outcome, Plan

_PLACES = re.compile(rb'(?<==")[^"]*(?=")|(?<=>)[^<>]+(?=<)')
_ENTITIES = (
    b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c SYSTEM "/etc/hostname">]>'
)


def make(folder: Path, chance: random.Random, seed: int, number: int) -> Plan:
    """Write an input: a DFEW folder with a damaged workbook, or now and then a good one."""
    root = folder / "set"
    layouts.write_dfew(root)
    if chance.random() < 0.05:
        return Plan("tables", "unchanged", good=True, more={"layout": "dfew"})
    what, damage = chance.choice(WAYS)
    path = root / layouts.ANNOTATION
    path.write_bytes(damage(chance, path.read_bytes()))
    return Plan("tables", what, more={"layout": "dfew"})


def check(folder: Path, plan: Plan, others: frozenset[int]) -> Outcome:
    """Read the data set and compare it with the good one."""
    outcome = layouts.compare(plan.more["layout"], folder / "set")
    if plan.good and (outcome.result != "kept" or outcome.reason):
        return Outcome(outcome.result, outcome.reason, outcome.problem or "a good file is refused")
    return outcome


def _file(chance: random.Random, data: bytes) -> bytes:
    return MUTATIONS[chance.choice(list(MUTATIONS))](chance, data, data)


def _parts(change: Callable[[random.Random, dict[str, bytes]], None]) -> Callable[[random.Random, bytes], bytes]:
    """From a change of a workbook's parts to a change of the workbook."""

    def of_workbook(chance: random.Random, data: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        change(chance, parts)
        return layouts.packed(parts)

    return of_workbook


def _some_part(chance: random.Random, parts: dict[str, bytes]) -> str:
    """The sheet twice as often as all others together."""
    return chance.choice(list(parts)) if chance.random() < 0.33 else "xl/worksheets/sheet1.xml"


def _bytes_of_a_part(chance: random.Random, parts: dict[str, bytes]) -> None:
    name = _some_part(chance, parts)
    parts[name] = MUTATIONS[chance.choice(list(MUTATIONS))](chance, parts[name], parts[chance.choice(list(parts))])


def _part_missing(chance: random.Random, parts: dict[str, bytes]) -> None:
    del parts[chance.choice(list(parts))]


def _parts_exchanged(chance: random.Random, parts: dict[str, bytes]) -> None:
    first, second = chance.sample(list(parts), 2)
    parts[first], parts[second] = parts[second], parts[first]


def _values(chance: random.Random, parts: dict[str, bytes]) -> None:
    """Other texts between tags and in attributes."""
    for _ in range(chance.choice((1, 1, 2, 5))):
        name = _some_part(chance, parts)
        places = [match.span() for match in _PLACES.finditer(parts[name])]
        if not places:
            continue
        first, last = chance.choice(places)
        value = str(values.scalar(chance)).encode("utf-8", "surrogatepass")
        value = value.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b'"', b"&quot;")
        parts[name] = parts[name][:first] + value + parts[name][last:]


def _entities(chance: random.Random, parts: dict[str, bytes]) -> None:
    name = _some_part(chance, parts)
    head, declaration, rest = parts[name].rpartition(b"?>")
    parts[name] = head + declaration + _ENTITIES + rest.replace(b"</v>", b"&b;</v>", 3)


def _filler(chance: random.Random, parts: dict[str, bytes]) -> None:
    """A part that packs well and unpacks to many bytes."""
    name = _some_part(chance, parts)
    filler = chance.choice((b" ", b"\0", b"<c/>", b"<row/>")) * (chance.choice((1, 16, 300)) * 2**18)
    parts[name] = parts[name].replace(b"<sheetData>", b"<sheetData>" + filler, 1) + filler


def _cells(chance: random.Random, data: bytes) -> bytes:
    """Odd values in cells, written by a spreadsheet library."""
    book = openpyxl.load_workbook(io.BytesIO(data))
    sheet: Any = book.active
    for _ in range(chance.choice((1, 1, 3, 10))):
        cell = sheet.cell(chance.choice((1, *range(1, 38))), chance.randint(1, 11))
        value = values.draw(values.cells, chance)
        try:
            cell.value = value
        except Exception:  # a value that no spreadsheet can have
            cell.value = None
    if chance.random() < 0.2:
        sheet.insert_rows(chance.randint(1, 37))
    if chance.random() < 0.2:
        sheet.delete_cols(chance.randint(1, 9))
    try:
        return layouts.packed(layouts.saved(book))
    except Exception:  # as above
        return data[: chance.randrange(len(data))]


# those that stand twice are drawn twice as often
WAYS: tuple[tuple[str, Callable[[random.Random, bytes], bytes]], ...] = (
    ("bytes of the file", _file),
    ("bytes of a part", _parts(_bytes_of_a_part)),
    ("bytes of a part", _parts(_bytes_of_a_part)),
    ("a part missing", _parts(_part_missing)),
    ("parts exchanged", _parts(_parts_exchanged)),
    ("values in the XML", _parts(_values)),
    ("values in the XML", _parts(_values)),
    ("entities", _parts(_entities)),
    ("filler", _parts(_filler)),
    ("cells", _cells),
    ("cells", _cells),
)
