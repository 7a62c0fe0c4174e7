"""Tables as Markdown and CSV, and the short report."""

from __future__ import annotations

import csv
import io
import re

from dfer.report.page import Page
from dfer.report.results import NOT_COMPLETE, SYNTHETIC
from dfer.report.table import Cell, Table, shortened

# What Markdown gives a meaning where it stands: an underscore inside a word has none, nor has an interval's bracket.
_SPECIAL = re.compile(r"[\\`*<>|~]|(?<!\w)_|_(?!\w)|\](?=[(\[])|^\[(?=[^\]]*\]:)|^#|^[+-](?= )|&(?=#?\w+;)")


def as_markdown(table: Table, *, titled: bool = True) -> str:
    """A Markdown table with its title, warnings above and notes below it."""
    words = table.text_columns
    lines = [
        _row(table.columns),
        "|" + "|".join("---" if place < words else "---:" for place in range(len(table.columns))) + "|",
    ]
    for line in table.lines:
        cells = [_cell(cell) for cell in line.cells]
        if line.kind == "published":
            method = line.cells[0]
            cells[0] = " ".join([f"*{escaped(method.text)}*", *(f"({escaped(source)})" for source in method.small)])
        lines.append(_row(cells, is_escaped=True))
    published = (
        [f"Rows in italics are published, as cited; the table is {escaped(table.published_from)}."]
        if table.published_from
        else []
    )
    parts = [
        f"**{escaped(table.title)}**" if titled else "",
        f"> **{escaped(' '.join(table.warnings))}**" if table.warnings else "",
        "\n".join(lines),
        escaped(table.in_words),
        *published,
        *(escaped(note) for note in table.notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def as_csv(table: Table) -> str:
    """Unrounded numbers; a column with intervals has `... low` and `... high` beside it, `kind` is own or published."""
    ranged = [any(line.cells[place].low is not None for line in table.lines) for place in range(len(table.columns))]
    header = ["kind"]
    for name, has_interval in zip(table.columns, ranged, strict=True):
        header += [name, f"{name} low", f"{name} high"] if has_interval else [name]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for line in table.lines:
        values: list[object] = [line.kind]
        for cell, has_interval in zip(line.cells, ranged, strict=True):
            values.append(_words(cell) if cell.value is None else cell.value)
            if has_interval:
                values += ["" if end is None else end for end in (cell.low, cell.high)]
        writer.writerow(values)
    return text.getvalue()


def report(page: Page) -> str:
    """The short report: of each experiment the strongest differences in words, then its scores."""
    content = page.content
    parts = [f"# {escaped(content.pipeline)}", escaped(content.description)]
    if page.numbers.synthetic:
        parts.append(f"> **{SYNTHETIC}**")
    if content.missing:
        parts.append(f"**{NOT_COMPLETE}**")
        parts.append("\n".join(f"- {escaped(what)}: {escaped(why)}" for what, why in content.missing.items()))
    if content.reduced:
        parts.append(f"Reduced: {escaped(content.reduced)}")
    parts += [f"[{escaped(name)}]({url})" for name, url in content.links.items()]
    for experiment in page.experiments:
        if experiment.table is not None:
            parts.append(f"## {escaped(experiment.numbers.result.title)}")
            parts.append(escaped(experiment.numbers.result.note))
            parts.append("\n".join(f"- {escaped(str(sentence))}" for sentence in experiment.sentences))
            parts.append(as_markdown(shortened(experiment.table), titled=False).strip())
    return "\n\n".join(part for part in parts if part) + "\n"


def _words(cell: Cell) -> str:
    text = cell.text or ", ".join(link.text for link in cell.links)
    return f"{text} ({', '.join(cell.small)})" if cell.small and cell.low is None else text


def _cell(cell: Cell) -> str:
    text = escaped(cell.text)
    if cell.url:
        text = f"[{text}]({cell.url})"
    if cell.best:
        text = f"**{text}**"
    links = [f"[{escaped(link.text)}]({link.url})" if link.url else escaped(link.text) for link in cell.links]
    return " ".join(part for part in (text, *map(escaped, cell.small), ", ".join(links)) if part)


def _row(cells: tuple[str, ...] | list[str], *, is_escaped: bool = False) -> str:
    return "| " + " | ".join(cell if is_escaped else escaped(cell) for cell in cells) + " |"


def escaped(text: str) -> str:
    """Names of clips and arms are shown as they are, whatever Markdown or HTML would make of them."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))
