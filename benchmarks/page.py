"""The benchmark's page: a folder with README.md, results.json and plots."""

from __future__ import annotations

import json
import math
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.growth import Curve
from benchmarks.machine import Machine
from benchmarks.rows import NOT_ESTABLISHED, Row, without_nan
from dfer.plots import ACCENT, GREEN, INK, QUIET, RED, bare, save

SCHEMA_VERSION = 1
RESULTS = "results.json"
ROW_COLUMNS = (
    *("what", "ours", "practice", "headline", "target", "met", "floor"),
    *("memory, ours / practice", "since the last page"),
)
CURVE_COLUMNS = ("what", "over", "points", "time", "exponent", "linear is", "memory", "its exponent")


@dataclass(frozen=True)
class Results:
    """One run of the benchmark."""

    when: str  # UTC, ISO 8601
    commit: str
    machine: Machine
    rows: Sequence[Row]
    curves: Sequence[Curve]
    notes: Sequence[str]  # sections that were left out, and why
    seconds: Mapping[str, float]  # that each section took
    settings: Sequence[str] = ()  # those that differ from the default

    @property
    def failed(self) -> list[str]:
        """Rows and curves that could not be measured."""
        rows = [f"{row.section}, {row.name}: {row.error}" for row in self.rows if row.error]
        return rows + [f"{curve.name} over {curve.x}: {curve.error}" for curve in self.curves if curve.error]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        curves = [asdict(curve) | {"slope": curve.slope, "memory_slope": curve.memory_slope} for curve in self.curves]
        rows = [row.as_dict() for row in self.rows]
        content = {"schema_version": SCHEMA_VERSION} | asdict(self) | {"rows": rows, "curves": curves}
        return {name: without_nan(value) for name, value in content.items()}


def write(results: Results, root: Path) -> Path:
    """Write the page into a new folder below `root`; returns the folder.

    Raises FileExistsError if a page of the same day and commit exists.
    """
    before = previous(root, results.when, results.machine)
    folder = folder_of(root, results.when, results.commit)
    folder.mkdir(parents=True)
    ratios = [row for row in results.rows if row.measure == "ratio" and math.isfinite(row.ratio)]
    figures = {"ratios.png": _ratios(ratios)} if ratios else {}
    curves = enumerate(results.curves, 1)
    figures |= {f"growth-{number}.png": _growth(curve) for number, curve in curves if len(curve.points) > 1}
    for name, figure in figures.items():
        save(figure, folder / name)
    (folder / "README.md").write_text(markdown(results, before, list(figures)), encoding="utf-8")
    text = json.dumps(results.as_dict(), indent=1, allow_nan=False)
    (folder / RESULTS).write_text(text + "\n", encoding="utf-8")
    return folder


def folder_of(root: Path, when: str, commit: str) -> Path:
    """Where the page of a run goes."""
    return root / f"{when[:10]}-{commit}"


def previous(root: Path, when: str, machine: Machine) -> dict[str, Any] | None:
    """The results of the last page before `when`, of the same schema and measured on such a machine; None without."""
    alike = {"processor": machine.processor, "cores": machine.cores, "gpu": machine.gpu}
    pages = [json.loads(path.read_text(encoding="utf-8")) for path in root.glob(f"*/{RESULTS}")]
    earlier = [
        page
        for page in pages
        if page["schema_version"] == SCHEMA_VERSION and page["when"] < when and alike.items() <= page["machine"].items()
    ]
    return max(earlier, key=lambda page: page["when"], default=None)


def change(row: Row, before: Mapping[str, Any] | None) -> str:
    """How a row's time compares with the same row of an earlier page, in words; empty without such a page."""
    if before is None:
        return ""
    medians = {(old["section"], old["name"]): old["ours"]["median"] for old in before["rows"]}
    if (row.section, row.name) not in medians:
        return "new"
    median = medians[row.section, row.name]
    if median is None or row.error:
        return ""
    factor = median / row.ours.median
    if 1 / NOT_ESTABLISHED < factor < NOT_ESTABLISHED:
        return "not established"
    return f"{factor:.2f}x faster" if factor > 1 else f"{1 / factor:.2f}x slower"


def verdict(row: Row) -> str:
    """Whether the target is met, in words; empty without a target."""
    if row.error:
        return f"failed: {row.error}"
    if row.target is None:
        return ""
    return "met" if row.met else f"missed by {row.shortfall:.2f}x"


def headline(row: Row) -> str:
    """The row's figure in the terms of its measure."""
    if row.error or not math.isfinite(row.value):
        return "–"
    terms = {"ratio": "{:.2f}x".format, "floor": "{:.2f} floors".format, "share": "{:.2%}".format, "seconds": duration}
    return terms[row.measure](row.value)


def target(row: Row) -> str:
    """The row's target in the same terms."""
    if row.target is None:
        return ""
    terms = {"ratio": "≥ {:g}x", "floor": "≤ {:g} floors", "share": "≤ {:.0%}", "seconds": f"≤ {duration(row.target)}"}
    return terms[row.measure].format(row.target)


def duration(seconds: float) -> str:
    """Seconds for people, three digits."""
    if not math.isfinite(seconds):
        return "–"
    if abs(seconds) < 0.1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if abs(seconds) < 1000 else f"{seconds:.0f} s"


def spread(seconds: Sequence[float]) -> str:
    """Median with smallest and largest."""
    if not seconds:
        return "–"
    return f"{duration(statistics.median(seconds))} [{duration(min(seconds))}–{duration(max(seconds))}]"


def markdown(results: Results, before: Mapping[str, Any] | None, pictures: Sequence[str]) -> str:
    """The page."""
    machine = results.machine
    gflops = machine.matmul_gflops.items()
    matmul = ", ".join(f"{value:.0f} ({threads} thread{'s' * (threads > 1)})" for threads, value in gflops)
    versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    lines = [
        f"# Benchmark of {results.when[:10]}, commit {results.commit}",
        "",
        f"{machine.processor}, {machine.cores} cores, {machine.memory_bytes / 2**30:.0f} GiB, "
        f"{machine.gpu or 'no GPU'}; Python {machine.python}, {versions}.",
        "",
        f"Matrix products in float32: {matmul} GFLOP/s. Copying memory: {machine.copy_gbytes:.1f} GB/s, bytes read and "
        "written together.",
        "",
        "Times are medians per unit of equal work, with the fastest and the slowest turn. The two sides took turns, "
        "each in a process of its own, with as many threads as there are cores where nothing else is said. Memory is "
        "resident, of all processes of a side together, at its largest. Ratios are of the medians; in brackets the "
        f"smallest and largest of a round. Differences below {NOT_ESTABLISHED}x are not established.",
        "",
    ]
    if results.settings:
        lines += [f"With other settings than the default: {', '.join(results.settings)}.", ""]
    if results.failed:
        lines += ["**Not measured:**", "", *(f"- {failure}" for failure in results.failed), ""]
    if "ratios.png" in pictures:
        lines += ["![Ratios against their targets](ratios.png)", ""]
    for section in dict.fromkeys(row.section for row in results.rows):
        rows = [row for row in results.rows if row.section == section]
        lines += [f"## {section}", ""]
        lines += [*_table(ROW_COLUMNS, [_cells(row, before) for row in rows]), "", *_notes(rows), ""]
    if results.curves:
        lines += ["## growth", "", *_table(CURVE_COLUMNS, map(_curve_cells, results.curves))]
        lines += ["", *(f"- {curve.name} over {curve.x}: {curve.how}." for curve in results.curves), ""]
        lines += [f"![Growth]({name})" for name in pictures if name.startswith("growth")]
        lines.append("")
    lines += [f"{note}\n" for note in results.notes]
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in results.seconds.items())
    compared = f"Compared with the page of {before['when'][:10]}, commit {before['commit']}. " if before else ""
    lines.append(f"{compared}The sections took: {took}. All turns are in [{RESULTS}]({RESULTS}).")
    return "\n".join(lines) + "\n"


def _cells(row: Row, before: Mapping[str, Any] | None) -> list[str]:
    low, high = row.ratio_range
    figure = headline(row)
    if row.measure == "ratio" and math.isfinite(low):
        figure = f"**{figure}** [{low:.2f}–{high:.2f}]"
    floor = f"{duration(row.floor)}; ours is {row.over_floor:.2f}x that" if row.floor else ""
    memory = [side.peak_bytes for side in (row.ours, row.theirs) if side is not None]
    return [
        row.name,
        spread(row.ours.seconds) + f" per {row.unit}",
        spread(row.theirs.seconds) if row.theirs else "",
        figure,
        target(row),
        verdict(row),
        floor,
        " / ".join(_memory(size) for size in memory),
        change(row, before),
    ]


def _notes(rows: Sequence[Row]) -> list[str]:
    """How the rows were measured, each way once."""
    notes = [f"- {how[0].upper()}{how[1:]}." for how in dict.fromkeys(row.how for row in rows if row.how)]
    for row in rows:
        if row.precision:
            figures = ", ".join(f"{name} {value:g}" for name, value in row.precision.items())
            notes.append(f"- {row.name}: {figures}.")
        if row.met is False and row.limit:
            notes.append(f"- What limits “{row.name}” now: {row.limit}.")
        if row.floor_how:
            notes.append(f"- Floor of “{row.name}”: {row.floor_how}.")
    return notes


def _curve_cells(curve: Curve) -> list[str]:
    ends = (lambda values: f"{values[0]} – {values[-1]}") if curve.points else (lambda values: "–")
    return [
        curve.name if not curve.error else f"{curve.name} (failed {curve.error})",
        curve.x,
        ", ".join(f"{point:g}" for point in curve.points),
        ends([duration(seconds) for seconds in curve.seconds]),
        f"{curve.slope:.2f}",
        f"{curve.expected:g}",
        ends([_memory(size) for size in curve.peak_bytes]),
        f"{round(curve.memory_slope, 2) + 0.0:.2f}",
    ]


def _memory(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    escaped = ([cell.replace("|", "\\|") for cell in cells] for cells in (columns, ["---"] * len(columns), *rows))
    return [f"| {' | '.join(cells)} |" for cells in escaped]


def show(results: Results, before: Mapping[str, Any] | None, console: Console) -> None:
    """The page on the terminal."""
    console.print(Markdown(markdown(results, before, ())))


def _ratios(shown: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(9, 0.7 + 0.42 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(reversed(shown)):
        colour = {True: GREEN, False: RED, None: ACCENT}[row.met]
        axes.barh(place, row.ratio, color=colour, height=0.6)
        low, high = row.ratio_range
        axes.plot([low, high], [place, place], color=INK, linewidth=1)
        if row.target:
            axes.plot([row.target] * 2, [place - 0.4, place + 0.4], color=INK, linewidth=2)
        right = max(row.ratio, high, row.target or 0) * 1.05
        axes.text(right, place, f"{row.ratio:.1f}x", va="center", fontsize=8, color=INK)
    names = [_shortened(f"{row.section}: {row.name}") for row in reversed(shown)]
    axes.set_yticks(range(len(shown)), names, fontsize=7)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvline(1, color=QUIET, linewidth=0.8, linestyle=":")
    axes.set_xlabel("times as fast as the practice (line: range over rounds; bar across: target)", fontsize=9)
    bare(axes)
    return figure


def _shortened(text: str, width: int = 62) -> str:
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False, max_lines=2, placeholder=" …")


def _growth(curve: Curve) -> Figure:
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    time, memory = figure.subplots(1, 2)
    time.loglog(curve.points, curve.seconds, "o-", color=ACCENT)
    linear = [curve.seconds[0] * (x / curve.points[0]) ** curve.expected for x in curve.points]
    time.loglog(curve.points, linear, ":", color=QUIET)
    title = f"{curve.name}: seconds, exponent {curve.slope:.2f} (dotted: {curve.expected:g})"
    time.set_title(title, fontsize=10, loc="left")
    memory.semilogx(curve.points, [size / 2**20 for size in curve.peak_bytes], "o-", color=ACCENT)
    memory.set_ylim(bottom=0)
    memory.set_title(f"memory, MiB, exponent {round(curve.memory_slope, 2) + 0.0:.2f}", fontsize=10, loc="left")
    for axes in (time, memory):
        axes.set_xlabel(curve.x, fontsize=9)
        bare(axes)
    return figure
