"""Results that others published, as data with their sources (`published.yaml`, and files of the same form)."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfer.config import yaml_text
from dfer.labels import EMOTIONS

COLUMNS = (*EMOTIONS, "uar", "war", "entropy", "ece", "aurc")
"""What a published table may hold: the recall of each emotion, UAR and WAR in percent; and of tables about disagreement
the rank correlation of entropies, ECE and AURC, as numbers up to 1."""

_PAPER = Path(__file__).with_name("published.yaml")
_ROW = re.compile(r"[^\s/]+/[^\s/]+")


@dataclass(frozen=True)
class PublishedRow:
    """One method's results.

    Attributes:
        method, label: as the table prints them; where it names no method, the network that its section names.
        citation: where the numbers come from: the reference's number in the table's source, and a short reference.
        values: column (`COLUMNS`) -> its number, of the columns that have one.
        row: the row of our tables, `model/arm`, that it corresponds to; None for a method that is not trained here.
        chosen_on_test: whether its authors took the best epoch on the test fold; False where that is not known.
    """

    method: str
    label: str
    citation: str
    values: Mapping[str, float]
    row: str | None = None
    chosen_on_test: bool = False
    note: str = ""


@dataclass(frozen=True)
class PublishedTable:
    """A published table; `columns` are some of `COLUMNS`, in the order in which they are printed."""

    name: str
    title: str
    dataset: str
    protocol: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[PublishedRow, ...]
    note: str = ""


def load(extra: Sequence[Path] = ()) -> dict[str, PublishedTable]:
    """The paper's tables, "table-1" to "table-7", "disagreement" of another, and what the files of `extra` add to them.

    These are in the form of `published.yaml`. To an existing table they can only add `rows`; a new name needs the whole
    table. ValueError names the file and row that cannot be read or is malformed.
    """
    tables: dict[str, PublishedTable] = {}
    for path in (_PAPER, *extra):
        if not path.is_file():
            raise ValueError(f"{path} is no file; published: names files with results in the form of {_PAPER.name}")
        try:
            content = yaml_text.load(path.read_text(encoding="utf-8"))[1]
        except (OSError, UnicodeDecodeError, yaml_text.YamlError) as error:
            line = f" in line {error.line}" if isinstance(error, yaml_text.YamlError) and error.line else ""
            raise ValueError(f"{path} cannot be read as YAML{line}: {error}") from error
        for name, entry in _mapping(content, f"{path}: expected tables by name").items():
            where = f"{path}: {name}"
            tables[str(name)] = _table(str(name), _mapping(entry, where), tables.get(str(name)), where)
    return tables


def _table(name: str, entry: Mapping[str, Any], known: PublishedTable | None, where: str) -> PublishedTable:
    if known is None:
        _check_keys(entry, PublishedTable, {"name"}, where)
        columns = entry["columns"]
        valid = isinstance(columns, list) and all(name in COLUMNS and columns.count(name) == 1 for name in columns)
        if not valid or not columns:
            raise ValueError(f"{where}: columns: expected some of {', '.join(COLUMNS)}, each once, found {columns!r}")
        texts = {key: _text(entry, key, where) for key in ("title", "dataset", "protocol", "source")}
        known = PublishedTable(name, **texts, columns=tuple(columns), rows=(), note=_text(entry, "note", where, ""))
    elif set(entry) != {"rows"}:
        raise ValueError(f"{where}: this table exists, only rows can be added; found {', '.join(entry)}")
    if not isinstance(entry["rows"], list) or not entry["rows"]:
        raise ValueError(f"{where}: rows: expected a list of rows, found {entry['rows']!r}")
    new = tuple(_row(row, known.columns, f"{where}, row {number}") for number, row in enumerate(entry["rows"], start=1))
    table = dataclasses.replace(known, rows=known.rows + new)
    (key, count), *_ = Counter((row.method, row.label, row.citation) for row in table.rows).most_common(1)
    if count > 1:
        raise ValueError(f"{where}: {' / '.join(key)} is listed {count} times; different citations tell them apart")
    return table


def _row(entry: Any, columns: Sequence[str], where: str) -> PublishedRow:
    entry = _mapping(entry, where)
    if "method" in entry:
        where = f"{where} ({entry['method']})"
    _check_keys(entry, PublishedRow, set(), where)
    values = _mapping(entry["values"], f"{where}: values")
    if not values or set(values) - set(columns):
        raise ValueError(f"{where}: values: expected numbers for some of {', '.join(columns)}, found {dict(values)}")
    for column, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
            raise ValueError(f"{where}: {column}: expected percent from 0 to 100, found {value!r}")
    row = entry.get("row")
    if row is not None and not (isinstance(row, str) and _ROW.fullmatch(row)):
        raise ValueError(f"{where}: row: expected model/arm, for example resnet18_tsm/midas, found {row!r}")
    chosen_on_test = entry.get("chosen_on_test", False)
    if not isinstance(chosen_on_test, bool):
        raise ValueError(f"{where}: chosen_on_test: expected true or false, found {chosen_on_test!r}")
    return PublishedRow(
        method=_text(entry, "method", where),
        label=_text(entry, "label", where),
        citation=_text(entry, "citation", where),
        values={column: float(values[column]) for column in columns if column in values},
        row=row,
        chosen_on_test=chosen_on_test,
        note=_text(entry, "note", where, ""),
    )


def _check_keys(entry: Mapping[str, Any], kind: type, without: set[str], where: str) -> None:
    """Raise ValueError for keys that are no fields of `kind`, a dataclass, and for missing fields without default."""
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name not in without}
    unknown = [str(key) for key in entry if key not in fields]
    missing = [name for name, one in fields.items() if one.default is dataclasses.MISSING and entry.get(name) is None]
    if unknown or missing:
        raise ValueError(
            f"{where}: missing: {', '.join(missing) or 'nothing'}; unknown: {', '.join(unknown) or 'nothing'}; "
            f"the keys are {', '.join(fields)}"
        )


def _text(entry: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = entry.get(key, default)
    if not isinstance(value, str) or (default is None and not value.strip()):
        raise ValueError(f"{where}: {key}: expected text, found {value!r}")
    return value


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected keys with values, found {value!r}")
    return value
