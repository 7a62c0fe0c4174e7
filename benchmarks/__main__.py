"""`python -m benchmarks`: measure, print the table, write the page."""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.growth import Curve
    from benchmarks.page import Results
    from benchmarks.rows import Row

SECTIONS = ("step", "mixing", "loading", "preprocess", "startup", "growth", "gpu")

_HERE = Path(__file__).parent.parent
_PAGES = _HERE / "docs" / "benchmarks"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; 1 if anything could not be measured, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; none: all")
    parser.add_argument("--quick", action="store_true", help="little of everything, for a look")
    parser.add_argument("--clips", type=Path, help="a folder of real videos to preprocess beside the synthetic ones")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"where pages are kept (default: {_PAGES.relative_to(_HERE)}, where only whole runs are written to)",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value of a setting")
    parser.add_argument("--cache", type=Path, default=_HERE / "work" / "benchmarks", help="where clips are generated")
    parser.add_argument("--growth-clips", type=int, default=3000, help="the largest number of clips")
    parser.add_argument(
        "--first-run-seconds", type=float, default=0.0, help="of the full demo, for the share of a re-run"
    )
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.sections if name not in SECTIONS]:
        parser.error(f"no such section: {', '.join(unknown)}; expected {', '.join(SECTIONS)}")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")

    from rich.console import Console

    from benchmarks import page

    when, of = datetime.now(UTC).isoformat(timespec="seconds"), commit()
    root = given.out or _PAGES
    writing = given.out is not None or not (given.quick or given.sections)
    if writing and (there := page.folder_of(root, when, of)).exists():
        parser.error(f"there is a page of today and this commit: delete {there}, or choose another --out")
    results = measure(given, when, of, Console(stderr=True))
    console = Console(width=None if sys.stdout.isatty() else 180)
    page.show(results, page.previous(root, when, results.machine), console)
    if writing:
        console.print(f"written: {page.write(results, root)}")
    return 1 if results.failed else 0


def measure(given: argparse.Namespace, when: str, of: str, progress: Console) -> Results:
    """Run the sections that were asked for."""
    from benchmarks import gpu, growth, loading, machine, mixing, page, preprocess, startup, step
    from benchmarks.material import Options

    wanted = given.sections or SECTIONS
    progress.print("looking at the machine")
    options = Options(
        machine=machine.look(quick=given.quick),
        cache=given.cache.absolute(),
        quick=given.quick,
        clips=given.clips,
        overrides=tuple(given.set),
        growth_clips=given.growth_clips,
        first_run_seconds=given.first_run_seconds,
    )
    rows: list[Row] = []
    curves: list[Curve] = []
    notes: list[str] = []
    seconds: dict[str, float] = {}
    for name in (section for section in SECTIONS if section in wanted):
        progress.print(f"measuring: {name}")
        started = time.perf_counter()
        if name == "growth":
            curves += growth.measure(options)
        elif name == "gpu" and not options.machine.gpu:
            notes.append("gpu: not measured, there is no CUDA device on this machine.")
        else:
            module = {
                "step": step,
                "mixing": mixing,
                "loading": loading,
                "preprocess": preprocess,
                "startup": startup,
                "gpu": gpu,
            }[name]
            rows += module.measure(options)
        seconds[name] = time.perf_counter() - started
    return page.Results(when, of, options.machine, rows, curves, notes, seconds, options.overrides)


def commit() -> str:
    """The short name of the commit, with a mark where files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=-changed", "--exclude=*"],
        cwd=_HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
