"""`python -m benchmarks gpu`: the training and the detector on a GPU, in minutes.

It runs on a machine that has torch and NumPy, and says what else its parts need there. Every result is printed and kept
in results.jsonl as it comes; README.md has all of them as a table, also those of an earlier run into the same folder.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from benchmarks.gpu import results
from benchmarks.gpu.conditions import Conditions, Values
from benchmarks.gpu.parts import MINUTES, PARTS, Measurement
from benchmarks.gpu.results import Row
from benchmarks.gpu.running import Process

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"

_LAST_SECONDS = 10.0
"""Kept of the minutes, for the page and for processes to end."""

_PATIENCE = 3
_START_PATIENCE = 30.0
"""A measurement on a GPU is ended after so many times the seconds that an H200 takes, and these for its process."""


class Call(Protocol):
    """How a measurement is called, see `Process`."""

    def __call__(self, target: str, conditions: Conditions, arguments: dict[str, object], limit: float) -> Values: ...


def main(
    arguments: Sequence[str] | None = None,
    *,
    folder: Path = Path("work/benchmarks/gpu"),
    commit: str = "unknown",
    clock: Callable[[], float] = time.monotonic,
    call: Call | None = None,
) -> int:
    """Measure. 1 if the device is missing or a measurement has failed, 130 after Ctrl-C, else 0. Raises SystemExit(2)
    for options that cannot be measured with.

    `call` measures in place of a process for each part; `folder` is the default for --out.
    """
    started = clock()
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__)
    names = ", ".join(PARTS)
    parser.add_argument("--only", nargs="+", action="extend", choices=PARTS, metavar="PART", help=f"of {names}")
    parser.add_argument(
        "--out", type=Path, default=folder, help="the folder of results.jsonl and README.md (%(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=MINUTES, help="ends before they are over (%(default)g)")
    parser.add_argument("--quick", action="store_true", help="measure little of everything, to try it")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: only with --quick, to try it")
    options = parser.parse_args(arguments)
    if problem := _problem(options):
        parser.error(problem)
    if find_spec("torch") is None:
        _print("gpu: not measured, torch is not installed.")
        return 1
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        _print("gpu: not measured, this machine has no CUDA device.")
        return 1
    deadline = started + 60 * options.minutes - _LAST_SECONDS
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {options.out}: expected a folder or a place for one ({error.strerror}); choose another")
    machine = _machine(options.device)
    chosen = [name for name in PARTS if name in (options.only or PARTS)]
    lacking = {name: PARTS[name].missing(options.device) for name in chosen}
    _print_start(options, machine, chosen, lacking)
    status = 0
    always = {"commit": commit, "machine": machine, "quick": options.quick}
    kept: set[tuple[str, str]] = set()
    try:
        with tempfile.TemporaryDirectory() as scratch, _terminating():
            conditions = Conditions(device=options.device, scratch=scratch)
            conditions = conditions.quick() if options.quick else conditions
            for row in _rows(chosen, lacking, conditions, deadline, clock, call):
                row = replace(row, when=_now(), **always)
                results.append(options.out, row)
                kept.add((row.part, row.name))
                results.write_page(options.out)
                if not lacking[row.part]:  # which was said before
                    _print(results.line(row, results.read(options.out)))
                status = 1 if row.error else status
    except KeyboardInterrupt:
        status = 130
    finally:
        for row in _not_begun(chosen, kept):
            results.append(options.out, replace(row, when=_now(), **always))
        _print("\n" + results.write_page(options.out))
        _print(f"written: {options.out / results.PAGE_NAME}, in {clock() - started:.0f} s")
    return status


def _problem(options: argparse.Namespace) -> str:
    """Why these options cannot be measured with, or ""."""
    if options.device == "cpu" and not options.quick:
        return "--device cpu: a trial, only with --quick; without a GPU use `python -m benchmarks`"
    if not 60 * options.minutes > _LAST_SECONDS:
        return f"--minutes {options.minutes:g}: expected more than the {_LAST_SECONDS:.0f} seconds kept for the page"
    return ""


def _rows(
    chosen: Sequence[str],
    lacking: dict[str, list[str]],
    conditions: Conditions,
    deadline: float,
    clock: Callable[[], float],
    call: Call | None,
) -> Iterator[Row]:
    """One row for each measurement, and one more when its launches are counted on a GPU."""
    for part in chosen:
        process = Process()
        timed: list[tuple[Measurement, Row]] = []
        try:
            for measurement in PARTS[part].measurements:
                row = Row(part, measurement.name, measurement.unit, measurement.against)
                left = deadline - clock()
                if why := _left_out(measurement, lacking[part], conditions.device, left):
                    yield replace(row, left_out=why)
                    continue
                began = clock()
                try:
                    values = (call or process)(
                        measurement.target,
                        conditions,
                        dict(measurement.arguments),
                        _limit(measurement, conditions.device, left),
                    )
                    row = replace(row, values=values, took=clock() - began)
                    timed.append((measurement, row))
                except Exception as error:
                    row = replace(row, error=_first_line(error), took=clock() - began)
                except (KeyboardInterrupt, SystemExit):
                    yield replace(row, left_out=f"interrupted after {clock() - began:.0f} s")
                    raise
                yield row
            for measurement, row in timed:
                left = deadline - clock()
                if not measurement.launches or conditions.device == "cpu":  # which starts no kernels
                    continue
                if left < measurement.seconds / 2:  # what it needs is in this process already
                    continue
                try:
                    counted = (call or process)(
                        measurement.target,
                        conditions,
                        {**measurement.arguments, "launches": True},
                        _limit(measurement, conditions.device, left),
                    )
                    yield replace(row, values=row.values | counted)
                except Exception as error:
                    yield replace(row, values={**row.values, "launches": None}, error=f"launches: {_first_line(error)}")
        finally:
            process.close()


def _not_begun(chosen: Sequence[str], kept: Collection[tuple[str, str]]) -> list[Row]:
    """The measurements of which no row was kept, since the run was ended."""
    return [
        Row(part, measurement.name, measurement.unit, measurement.against, left_out="not begun when the run was ended")
        for part in chosen
        for measurement in PARTS[part].measurements
        if (part, measurement.name) not in kept
    ]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _limit(measurement: Measurement, device: str, left: float) -> float:
    """Seconds after which it is ended: on a CPU those that are left, since what it takes there is not known."""
    if device == "cpu":
        return left
    return min(left, _START_PATIENCE + _PATIENCE * measurement.seconds)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def _left_out(measurement: Measurement, lacking: Sequence[str], device: str, left: float) -> str:
    """Why it cannot be measured, or ""."""
    if lacking:
        return f"missing: {', '.join(lacking)}"
    if device == "cpu":
        if measurement.needs_cuda:
            return "needs a CUDA device"
        return "no time was left" if left <= 0 else ""
    if measurement.seconds > left:
        return f"takes up to {measurement.seconds:.0f} s, and {max(0.0, left):.0f} s were left"
    return ""


def _machine(device: str) -> str:
    """What is measured on, in a line."""
    import numpy
    import torch

    versions = f"torch {torch.__version__}, NumPy {numpy.__version__}, Python {platform.python_version()}"
    cores = f"{os.cpu_count()} cores"
    if device == "cpu":
        return f"no GPU (a trial on the CPU), {cores}; {versions}"
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    versions += f", CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, driver {_driver()}"
    return f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB, {cores}; {versions}"


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return lines[0].strip() if lines else "unknown"


def _print_start(
    options: argparse.Namespace, machine: str, chosen: Sequence[str], lacking: dict[str, list[str]]
) -> None:
    _print(machine)
    if warning := _old_torch():
        _print(warning)
    if options.quick:
        _print(results.QUICK)
    expected = {name: f" ({PARTS[name].seconds:.0f} s)" if options.device == "cuda" else "" for name in chosen}
    measured = [f"{name}{expected[name]}" for name in chosen if not lacking[name]]
    _print(f"at most {options.minutes:g} minutes, into {options.out}: {', '.join(measured) or 'nothing'}")
    for name in chosen:
        if lacking[name]:
            _print(f"left out: {name}, for want of {', '.join(lacking[name])}")


def _old_torch() -> str:
    """That torch is older than this project asks for, or ""."""
    import torch

    try:
        requirements = metadata.requires("dfer") or []
    except metadata.PackageNotFoundError:  # run from a copy of the files
        text = _PROJECT.read_text(encoding="utf-8") if _PROJECT.exists() else ""
        requirements = tomllib.loads(text).get("project", {}).get("dependencies", [])
    asked = next((line.removeprefix("torch>=") for line in requirements if line.startswith("torch>=")), "0")
    if _numbers(torch.__version__) >= _numbers(asked):
        return ""
    return f"warning: torch {torch.__version__} is older than {asked}, which this project asks for; parts may fail"


def _numbers(version: str) -> list[int]:
    """Of a release: [2, 14, 0] of 2.14.0+cu130."""
    return [int(number) for number in re.findall(r"\d+", version.partition("+")[0])]


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def _terminating() -> Iterator[None]:
    """A SIGTERM ends the block as Ctrl-C does, so that the page is written."""

    def stop(number: int, frame: object) -> None:
        sys.exit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
