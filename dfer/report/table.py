"""A table as plain data, built from its columns: the same for HTML, Markdown, LaTeX and CSV."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from dfer.analysis.statistics import Interval
from dfer.config.published import PublishedRow, PublishedTable

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Link:
    text: str
    url: str


@dataclass(frozen=True)
class Cell:
    """One place of a table."""

    text: str  # what is read first
    small: tuple[str, ...] = ()  # lines that are read second, such as an interval
    url: str = ""  # the page that the number comes from; empty if there is none
    links: tuple[Link, ...] = ()  # more pages, each under its own text
    # value, low, high: the number and its interval, unrounded; None where the cell holds no number
    value: float | None = None
    low: float | None = None
    high: float | None = None
    best: bool = False  # the largest of our rows in its column


EMPTY, DASH, NO_CLIPS = Cell(""), Cell("–"), Cell("–", small=("no clips",))


@dataclass(frozen=True)
class Line:
    """A row; `kind` tells our results ("own") from published ones."""

    cells: tuple[Cell, ...]
    kind: Literal["own", "published"] = "own"


@dataclass(frozen=True)
class Table:
    """A table."""

    name: str  # file name without suffix
    title: str  # its caption
    columns: tuple[str, ...]  # headings
    text_columns: int  # how many of the first columns hold words; the others hold numbers
    lines: tuple[Line, ...]  # rows, ours first
    published_from: str = ""  # source of the published rows; empty without any
    warnings: tuple[str, ...] = ()  # shown above it, since they change what it means
    in_words: str = ""  # what it says, in a sentence right below it; may be empty
    notes: tuple[str, ...] = ()  # shown below it
    folded_under: str = ""  # the page folds it under this heading; empty if the page shows it at once


T = TypeVar("T")


@dataclass(frozen=True)
class Column(Generic[T]):
    """A heading and what stands below it."""

    heading: str
    cell: Callable[[T], Cell]  # makes the cell of one of our rows
    published: Callable[[PublishedRow], Cell] = lambda row: EMPTY  # makes the cell of a published row
    text: bool = False  # holds words; such columns come first
    mark_best: bool = False  # the largest number of our rows is marked, ties all; none where all are the same


def build(
    name: str,
    title: str,
    columns: Sequence[Column[T]],
    rows: Sequence[T],
    *,
    published: PublishedTable | None = None,
    warnings: Iterable[str] = (),
    in_words: str = "",
    notes: Iterable[str] = (),
    folded_under: str = "",
    page: Callable[[T], str] = lambda row: "",
) -> Table:
    """The table with a line for each of `rows` and for each published row; the other arguments are as in `Table`.

    `page` gives the URL of the page that a row's numbers come from, empty if there is none; a cell may have its own.
    """
    by_column = [_cells(column, rows, page) for column in columns]
    lines = [Line(cells) for cells in zip(*by_column, strict=True)]
    if published:
        lines += [Line(tuple(column.published(row) for column in columns), "published") for row in published.rows]
    return Table(
        name=name,
        title=title,
        columns=tuple(column.heading for column in columns),
        text_columns=sum(column.text for column in columns),
        lines=tuple(lines),
        published_from=f"{published.source}; {published.dataset}, {published.protocol}" if published else "",
        warnings=tuple(warnings),
        in_words=in_words,
        notes=tuple(notes),
        folded_under=folded_under,
    )


def _cells(column: Column[T], rows: Sequence[T], page: Callable[[T], str]) -> list[Cell]:
    cells = list(map(column.cell, rows))
    if not column.text:
        cells = [
            cell if cell.url or cell.links or cell.text in ("", DASH.text) else replace(cell, url=page(row))
            for cell, row in zip(cells, rows, strict=True)
        ]
    values = {cell.value for cell in cells if cell.value is not None}
    if not column.mark_best or len(values) < 2:
        return cells
    return [replace(cell, best=cell.value == max(values)) for cell in cells]


def shortened(table: Table) -> Table:
    """The table for the short report: methods, WAR and UAR with their intervals; no recalls, links and runs. A table
    without these scores is left as it is."""
    if not any(name.startswith(("WAR", "UAR")) for name in table.columns):
        return table
    kept = [
        place
        for place, name in enumerate(table.columns)
        if place < table.text_columns or name.startswith(("WAR", "UAR"))
    ]

    def short(line: Line) -> Line:
        cells = [replace(line.cells[place], small=line.cells[place].small[:1], url="") for place in kept]
        if line.kind == "published":
            cells[0] = replace(cells[0], small=line.cells[0].small)
        return replace(line, cells=tuple(cells))

    return replace(
        table,
        columns=tuple(table.columns[place] for place in kept),
        lines=tuple(map(short, table.lines)),
        notes=tuple(note for note in table.notes if not note.startswith("Published")),
    )


def number(value: float | None) -> Cell:
    """A number with three decimals; a dash for None and nan."""
    if value is None or math.isnan(value):
        return DASH
    return Cell(f"{value:.3f}".replace("-", MINUS), value=value)


def count(value: int) -> Cell:
    return Cell(str(value), value=value)


def difference(interval: Interval) -> Cell:
    """A difference of shares with its interval, in percentage points."""
    if math.isnan(interval.estimate):
        return NO_CLIPS
    return Cell(
        points(interval.estimate),
        small=(f"[{points(interval.low)}, {points(interval.high)}]",),
        value=interval.estimate,
        low=interval.low,
        high=interval.high,
    )


def percent(share: float) -> str:
    """'57.4'; a dash for nan."""
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def points(share: float) -> str:
    """A difference in percentage points: '+1.9', with a minus sign where there is one."""
    if math.isnan(share):
        return "–"
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def p_value(value: float, *, at_most: bool = False) -> str:
    """'< 0.001' or three decimals, with '≤' where no more than that is known."""
    if math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"≤ {value:.3f}" if at_most and value < 1 else f"{value:.3f}"
