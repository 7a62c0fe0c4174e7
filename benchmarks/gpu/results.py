"""What was measured: a line of JSON each as it comes, and all of them as a table."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path

from benchmarks.gpu.conditions import Values
from benchmarks.gpu.parts import PARTS

FILE_NAME = "results.jsonl"
PAGE_NAME = "README.md"
NOT_MEASURED = "not measured"
QUICK = "quick: small sizes, not the paper's"

Key = tuple[str, str, bool, str]


@dataclass(frozen=True)
class Row:
    """One measurement: its figures, its error, or why it was left out."""

    part: str
    name: str
    unit: str
    against: str = ""  # the row of the same part that the ratio is to
    values: Values = field(default_factory=dict)
    error: str = ""
    left_out: str = ""
    took: float = 0.0  # seconds
    when: str = ""  # UTC
    commit: str = ""
    machine: str = ""
    quick: bool = False

    @property
    def key(self) -> Key:
        """What it is a measurement of. Only rows of the same key replace each other."""
        return self.part, self.name, self.quick, self.machine


def append(folder: Path, row: Row) -> None:
    """Add a row to the file, on a line of its own, and have it on the disk."""
    path = folder / FILE_NAME
    torn = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * torn + json.dumps(asdict(row), ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> list[Row]:
    """All rows of a folder, each as it was measured last, in the order of the parts.

    A line that was not written to its end is passed over. A figure is replaced by another one alone: a later error is a
    row beside it, and what was left out later none.
    """
    figures: dict[Key, Row] = {}
    others: dict[Key, Row] = {}
    path = folder / FILE_NAME
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            row = Row(**json.loads(line))
        except (ValueError, TypeError):
            continue
        if row.values:
            figures[row.key] = row
            others.pop(row.key, None)
        elif row.error or row.key not in figures:
            others[row.key] = row
    order = {
        (part, measurement.name): number
        for number, (part, measurement) in enumerate(
            (part, measurement) for part, of_part in PARTS.items() for measurement in of_part.measurements
        )
    }
    rows = [*figures.values(), *others.values()]
    return sorted(rows, key=lambda row: order.get((row.part, row.name), len(order)))


def write_page(folder: Path) -> str:
    """Write the table of a folder's rows into its README.md; returns it."""
    text = markdown(read(folder))
    path = folder / PAGE_NAME
    unfinished = path.with_name(f".{PAGE_NAME}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
    return text


def markdown(rows: Sequence[Row]) -> str:
    """The page: what was measured on each machine, in the paper's sizes first."""
    blocks = ["# The training on a GPU"]
    for quick, machine in sorted({(row.quick, row.machine) for row in rows}):
        blocks += _section([row for row in rows if (row.quick, row.machine) == (quick, machine)])
    legend = (
        "Times are medians over rounds, after a warm-up. A ratio is how many times as fast as the other side. The "
        "share of the peak is of the speed of large matrix products in the same precision. Host: until a step's call "
        "returns while the GPU has nothing else to do; GPU: how long it is busy for a step."
    )
    if any("hours" in row.values for row in rows):
        legend += " 450 epochs: the paper's training on 9,356 clips, without its evaluations."
    return "\n\n".join([*blocks, legend]) + "\n"


def _section(rows: Sequence[Row]) -> list[str]:
    """Of one machine, quick or not: what was measured at which commit, table, remarks, and what has no figures."""
    blocks = [f"## {rows[0].machine}"]
    if rows[0].quick:
        blocks.append(f"{QUICK.capitalize()}.")
    for commit in dict.fromkeys(row.commit for row in rows if not row.left_out):
        parts = dict.fromkeys(row.part for row in rows if row.commit == commit and not row.left_out)
        blocks.append(f"Commit {commit}: {', '.join(parts)}.")
    measured = [row for row in rows if row.values]
    failed = [f"- {row.part}, {row.name}: {row.error}" for row in rows if row.error]
    reasons = groupby((row for row in rows if row.left_out), key=lambda row: (row.part, row.left_out))
    left_out = [f"- {part}, {'; '.join(row.name for row in some)}: {why}" for (part, why), some in reasons]
    remarks = [f"- {row.part}, {row.name}: {row.values['remark']}." for row in measured if row.values.get("remark")]
    for title, lines in (("", _table(measured)), ("", remarks), ("Failed:", failed), ("Left out:", left_out)):
        if lines:
            blocks += [*filter(None, [title]), "\n".join(lines)]
    return blocks


def line(row: Row, rows: Iterable[Row]) -> str:
    """One row on the screen."""
    start = f"{row.part}: {row.name}: "
    if row.left_out:
        return f"{start}left out: {row.left_out}"
    if row.error:
        return f"{start}failed: {row.error}"
    cells = {header: cell(row, list(rows)) for header, cell in COLUMNS.items()}
    shown = [f"{header} {text}" for header, text in cells.items() if text]
    return start + ", ".join([*shown, *filter(None, [row.values.get("remark", "")])])


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _number(key: str, show: Callable[[float], str]) -> Callable[[Row, Sequence[Row]], str]:
    def cell(row: Row, rows: Sequence[Row]) -> str:
        if key not in row.values:
            return ""
        value = row.values[key]
        return NOT_MEASURED if value is None else show(value)

    return cell


def _time(row: Row, rows: Sequence[Row]) -> str:
    return f"{_short(row.values['ms'])} ms a {row.unit}"


def _ratio(row: Row, rows: Sequence[Row]) -> str:
    """To the other side of the same measurement, or to another row."""
    if "ratio" in row.values:
        return f"{row.values['ratio']:.2f}"
    base = replace(row, name=row.against).key
    others = [other for other in rows if other.key == base and "ms" in other.values]
    return f"{others[0].values['ms'] / row.values['ms']:.2f} to {row.against}" if others else ""


def _launches(row: Row, rows: Sequence[Row]) -> str:
    text = _number("launches", "{:.0f}".format)(row, rows)
    return f"{text} against {other}" if (other := row.values.get("other_launches")) else text


COLUMNS: dict[str, Callable[[Row, Sequence[Row]], str]] = {
    "time": _time,
    "a second": _number("rate", _short),
    "ratio": _ratio,
    "share of peak": _number("share_of_peak", "{:.1%}".format),
    "launches": _launches,
    "host ms": _number("host_ms", _short),
    "GPU ms": _number("gpu_ms", _short),
    "wait for data": _number("waited", "{:.1%}".format),
    "memory, GiB": _number("memory_gib", "{:.2f}".format),
    "450 epochs, h": _number("hours", _short),
}


def _table(measured: Sequence[Row]) -> list[str]:
    """With the columns that say something of a row; none without rows."""
    if not measured:
        return []
    columns = {header: [cell(row, measured) for row in measured] for header, cell in COLUMNS.items()}
    columns = {header: cells for header, cells in columns.items() if any(cells)}
    header = ["part", "what", *columns]
    cells = [[row.part, row.name, *texts] for row, *texts in zip(measured, *columns.values(), strict=True)]
    return [f"| {' | '.join(texts)} |" for texts in (header, ["---"] * len(header), *cells)]
