"""Measures speed, prints the table, and writes the page. `python -m benchmarks gpu --help`: on a GPU alone."""

from __future__ import annotations

import argparse
import importlib
import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.growth import Curve
    from benchmarks.page import Results
    from benchmarks.rows import Row

SECTIONS = ("step", "mixing", "loading", "preprocess", "startup", "growth", "gpu")

_HERE = Path(__file__).parent.parent
_PAGES = _HERE / "docs" / "benchmarks"
_GPU_PAGE = _HERE / "work" / "benchmarks" / "gpu"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections; 1 if anything could not be measured, else 0."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["gpu"]:  # which has options of its own, and runs where most packages are missing
        from benchmarks.gpu.command import main as measure_gpu

        return measure_gpu(arguments[1:], folder=_GPU_PAGE, commit=commit())
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; none: all")
    parser.add_argument("--quick", action="store_true", help="measure little of everything")
    parser.add_argument("--clips", type=Path, help="a folder of real videos to preprocess beside the synthetic ones")
    where = f"where pages are kept (default: {_PAGES.relative_to(_HERE)}, where only whole runs are written to)"
    parser.add_argument("--out", type=Path, help=where)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value of a setting")
    parser.add_argument("--cache", type=Path, default=_HERE / "work" / "benchmarks", help="where clips are generated")
    parser.add_argument("--growth-clips", type=int, default=3000, help="the largest number of clips")
    parser.add_argument("--first-run-seconds", type=float, default=0.0, help="of the full demo, for a re-run's share")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.sections if name not in SECTIONS]:
        parser.error(f"no such section: {', '.join(unknown)}; expected {', '.join(SECTIONS)}")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")

    from rich.console import Console

    from benchmarks import page

    when, version = datetime.now(UTC).isoformat(timespec="seconds"), commit()
    root = options.out or _PAGES
    writing = options.out is not None or not (options.quick or options.sections)
    if writing and (existing := page.folder_of(root, when, version)).exists():
        parser.error(f"a page of today and this commit exists: delete {existing}, or choose another --out")
    gpu_page = root / "gpu" if writing else _GPU_PAGE
    results, gpu_failed = measure(options, when, version, gpu_page, Console(stderr=True, markup=False, emoji=False))
    console = Console(width=None if sys.stdout.isatty() else 180, markup=False, emoji=False)
    page.show(results, page.previous(root, when, results.machine), console)
    if writing:
        console.print(f"written: {page.write(results, root)}")
    return 1 if results.failed or gpu_failed else 0


def measure(
    arguments: argparse.Namespace, when: str, version: str, gpu_page: Path, progress: Console
) -> tuple[Results, bool]:
    """Run the sections of the command line; also whether something failed in that on GPUs, which has its own page."""
    from benchmarks import machine, page
    from benchmarks.material import Options

    progress.print("measuring: the machine")
    options = Options(
        machine=machine.measure(quick=arguments.quick),
        cache=arguments.cache.absolute(),
        quick=arguments.quick,
        clips=arguments.clips,
        overrides=tuple(arguments.set),
        growth_clips=arguments.growth_clips,
        first_run_seconds=arguments.first_run_seconds,
    )
    rows: list[Row] = []
    curves: list[Curve] = []
    notes: list[str] = []
    seconds: dict[str, float] = {}
    gpu_failed = False
    for name in (section for section in SECTIONS if section in (arguments.sections or SECTIONS)):
        progress.print(f"measuring: {name}")
        started = time.perf_counter()
        if name == "gpu" and not options.machine.gpu:
            notes.append("gpu: not measured, this machine has no CUDA device.")
        elif name == "gpu":
            from benchmarks.gpu.command import main as measure_gpu

            quick = ["--quick"] if arguments.quick else []
            gpu_failed = measure_gpu(["--out", str(gpu_page), *quick], commit=version) != 0
            notes.append("gpu: has [a page of its own](../gpu/README.md).")
        else:
            table: list[Any] = curves if name == "growth" else rows
            table += importlib.import_module(f"benchmarks.{name}").measure(options)
        seconds[name] = time.perf_counter() - started
    results = page.Results(when, version, options.machine, rows, curves, notes, seconds, options.overrides)
    return results, gpu_failed


def commit() -> str:
    """The short hash of the commit, with a suffix if files differ from it."""
    command = ["git", "describe", "--always", "--dirty=-changed", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=_HERE, capture_output=True, text=True).stdout.strip() or "unknown"
    except OSError:  # git is not installed
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
