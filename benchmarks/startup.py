"""Measures how soon the command line answers, and how long a pipeline with nothing to do takes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.material import Options
from benchmarks.measure import Variant, Work, interleaved, repeated
from benchmarks.rows import Row
from dfer.config.reading import DEFAULT_CONFIG

_REPOSITORY = Path(__file__).parent.parent
_DFER = str(Path(sys.executable).with_name("dfer"))
_COMMANDS = {
    "`dfer --help`": (("--help",), 0, 0.5),
    "`dfer config check`": (("config", "check"), 0, 1.0),
    "an unknown key in the configuration": (("run", "demo", "--set", "mixing.alfa=1"), 2, 1.0),
}
_RERUN_TARGET = 3.0
_RERUN_SHARE_TARGET = 0.02
_SMALL_DEMO = (
    "demo_data.clips=21",
    "shards.max_failed_share=0.5",
    "shards.frames_per_segment=1",
    "pipelines.demo.arms=[hard, midas]",
    "model.width=0.125",
    "model.input_size=32",
    "train.epochs=1",
)


def measure(options: Options) -> list[Row]:
    """Rows of the commands, and unless quick of a run with nothing to do."""
    variants = [
        Variant(name, command, 1, {"arguments": arguments, "status": status}, ())
        for name, (arguments, status, _) in _COMMANDS.items()
    ]
    measured = interleaved(variants, rounds=2 if options.quick else 5)
    rows = [
        Row(
            section="startup",
            name=f"{name}, from the shell and back",
            unit="call",
            ours=measured[name],
            measure="seconds",
            target=target,
            limit="imports",
            how="a new process each time, files in the page cache",
        )
        for name, (_, _, target) in _COMMANDS.items()
    ]
    return rows if options.quick else rows + _rerun(options)


def _rerun(options: Options) -> list[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        again = Variant("a run with nothing to do", rerun, options.workers, {"work_dir": scratch}, ())
        empty = Variant("an empty flow", empty_flow, options.workers, {}, ())
        measured = interleaved([again, empty], rounds=3)
        total = time.perf_counter() - started
    ours, theirs = measured[again.name], measured[empty.name]
    error = ours.error or theirs.error
    seconds = [] if error else [whole - nothing for whole, nothing in zip(ours.seconds, theirs.seconds, strict=True)]
    beyond = replace(ours, name="ours", seconds=seconds, error=error)
    first = ours.results.get("first", float("nan"))
    row = Row(
        section="startup",
        name="`dfer run` with nothing to do, beyond an empty Prefect flow with a temporary server",
        unit="run",
        ours=beyond,
        measure="seconds",
        target=_RERUN_TARGET,
        precision={
            "whole run, s": round(ours.median, 2),
            "empty flow, s": round(theirs.median, 2),
            "first run of this small demo, s": round(first, 1),
        },
        limit="loading the libraries that the stages' checks need, and MLflow",
        how=f"a demo of 21 clips and one epoch, run once before; {total:.0f} s in all",
    )
    if not options.first_run_seconds:
        return [row]
    share = Row(
        section="startup",
        name=f"the same as a share of the full demo's first run ({options.first_run_seconds:.0f} s)",
        unit="run",
        ours=beyond,
        measure="share",
        share=beyond.median / options.first_run_seconds,
        target=_RERUN_SHARE_TARGET,
        how="the time of the first run is an option of the command",
    )
    return [row, share]


def command(*, arguments: Sequence[str], status: int) -> Iterator[Work]:
    """Calls of `dfer`. Raises RuntimeError if one ends with another status than expected."""
    return repeated(lambda: _call([_DFER, *arguments], status, {}))


def rerun(*, work_dir: str) -> Iterator[Work]:
    """A small demo once, then again and again."""
    sets = [f"--set={value}" for value in (*_SMALL_DEMO, f"work_dir={work_dir}")]
    run = [_DFER, "run", "demo", f"--config={DEFAULT_CONFIG}", *sets]
    started, first = time.perf_counter(), 0.0
    while True:
        _call(run, 0, _prefect(Path(work_dir) / "prefect"))
        first = first or time.perf_counter() - started
        yield Work(1, results={"first": first})


def empty_flow() -> Iterator[Work]:
    """A Prefect flow that does nothing, with its temporary server, in a new process."""
    with tempfile.TemporaryDirectory() as home:
        code = "from prefect import flow\nflow(lambda: None, name='empty')()"
        yield from repeated(lambda: _call([sys.executable, "-c", code], 0, _prefect(Path(home))))


def _prefect(home: Path) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    }


def _call(command: list[str], status: int, environment: dict[str, str]) -> None:
    environment = {**os.environ, **environment}
    done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != status:
        last = (done.stderr or done.stdout).strip()[-500:]
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}, expected {status}: {last}")
