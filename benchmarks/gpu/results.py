"""What was measured: a line of JSON each as it comes, and all of them as a table."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path

from benchmarks.gpu.conditions import Values
from benchmarks.gpu.parts import PARTS

FILE_NAME = "results.jsonl"
PAGE_NAME = "README.md"
NOT_MEASURED = "not measured"


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

    @property
    def key(self) -> tuple[str, str]:
        """A later row of the same key replaces this one."""
        return self.part, self.name


def append(folder: Path, row: Row) -> None:
    """Add a row to the file, and have it on the disk."""
    with (folder / FILE_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> list[Row]:
    """All rows of a folder, each as it was measured last, in the order of the parts.

    A line that was not written to its end is passed over. What was left out later does not replace a figure.
    """
    rows: dict[tuple[str, str], Row] = {}
    path = folder / FILE_NAME
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = Row(**json.loads(line))
        except (ValueError, TypeError):
            continue
        if not (row.left_out and row.key in rows and rows[row.key].values):
            rows[row.key] = row
    order = {
        (part, measurement.name): number
        for number, (part, measurement) in enumerate(
            (part, measurement) for part, of_part in PARTS.items() for measurement in of_part.measurements
        )
    }
    return sorted(rows.values(), key=lambda row: order.get(row.key, len(order)))


def write_page(folder: Path) -> str:
    """Write the table of a folder's rows into its README.md; returns it."""
    text = markdown(read(folder))
    path = folder / PAGE_NAME
    unfinished = path.with_name(f".{PAGE_NAME}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
    return text


def markdown(rows: Sequence[Row]) -> str:
    """The page: machine, table, remarks, and what has no figures."""
    measured = [row for row in rows if row.values]
    lines = ["# The training on a GPU", ""]
    for machine, commit in dict.fromkeys((row.machine, row.commit) for row in rows if not row.left_out):
        parts = dict.fromkeys(row.part for row in rows if (row.machine, row.commit) == (machine, commit))
        lines += [f"{machine}; commit {commit}: {', '.join(parts)}.", ""]
    if measured:
        lines += _table(measured, rows)
    lines += [
        "",
        "Times are medians over rounds, after a warm-up. A ratio is how many times as fast as the other side. The "
        "share of the peak is of the speed of large matrix products in the same precision. Host: until a step's call "
        "returns while the GPU has nothing else to do; GPU: how long it is busy for a step. 450 epochs: the paper's "
        "training on 9,356 clips, without its evaluations.",
        "",
    ]
    lines += [f"- {row.part}, {row.name}: {row.values['remark']}." for row in measured if row.values.get("remark")]
    if failed := [row for row in rows if row.error]:
        lines += ["", "Failed:", "", *(f"- {row.part}, {row.name}: {row.error}" for row in failed)]
    if left_out := [row for row in rows if row.left_out]:
        lines += ["", "Left out:", ""]
        for (part, why), some in groupby(left_out, key=lambda row: (row.part, row.left_out)):
            lines.append(f"- {part}, {'; '.join(row.name for row in some)}: {why}")
    return "\n".join(lines) + "\n"


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
    others = [other for other in rows if other.key == (row.part, row.against) and "ms" in other.values]
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


def _table(measured: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    header = ["part", "what", *COLUMNS]
    cells = [[row.part, row.name, *(cell(row, rows) for cell in COLUMNS.values())] for row in measured]
    return [f"| {' | '.join(texts)} |" for texts in (header, ["---"] * len(header), *cells)]
