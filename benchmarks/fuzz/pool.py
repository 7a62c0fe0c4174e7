"""Inputs are made in one process and read in another, which is watched, and replaced when it crashes or hangs.

A process reads many inputs of all kinds, so that what one leaves behind would be noticed in the next.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from benchmarks.fuzz import clips, configs, frames, lists, marks, own, tables
from benchmarks.fuzz.outcomes import Outcome, Plan, traceback_of
from dfer.system.processes import ProcessDiedError, Worker, Workers

KINDS: dict[str, ModuleType] = {
    "clips": clips,
    "frames": frames,
    "tables": tables,
    "lists": lists,
    "own": own,
    "configs": configs,
}
_TURNS = ("clips", "frames", "clips", "tables", "clips", "configs", "clips", "lists", "clips", "frames",
          "clips", "configs", "clips", "tables", "clips", "lists", "clips", "frames", "clips", "configs",
          "own", "own")  # fmt: skip

SECONDS = 10.0
"""Most time of a processor that an input may take; on a machine with nothing else to do, that is the time it takes."""
WAITING_SECONDS = 60.0
"""Most time that it may take altogether, as when it waits for something that never comes."""
BYTES = 2**30
"""Most memory that reading may take beyond that of a process that has read nothing."""

_BATCH = 100


@dataclass(frozen=True)
class Result:
    """An input, what became of it, and what the same process had read before."""

    number: int
    plan: Plan
    outcome: Outcome
    before: tuple[int, ...] = ()


@dataclass
class _Watch:
    """What a process is doing, from its messages."""

    results: list[Result] = field(default_factory=list)
    process: psutil.Process | None = None
    start_memory: int = 0
    current: int | None = None
    since: tuple[float, float] = (0.0, 0.0)  # processor and wall-clock seconds when the current input was begun
    ended_for: dict[int, str] = field(default_factory=dict)  # the input that took too much, and of what


def kind_of(number: int) -> str:
    return _TURNS[number % len(_TURNS)]


def make_input(number: int, seed: int, folder: Path) -> Plan:
    """Write an input into a new folder. Equal numbers and seeds give equal inputs."""
    folder.mkdir(parents=True)
    plan: Plan = KINDS[kind_of(number)].make(folder, random.Random(f"{seed}/{number}"), seed, number)
    return plan


def run(
    numbers: Sequence[int], seed: int, folder: Path, *, workers: int, on_result: Callable[[Result], None]
) -> list[Result]:
    """Make the inputs of these numbers in `folder`, and read them in this order, `workers` batches at a time."""
    batches = [numbers[first : first + _BATCH] for first in range(0, len(numbers), _BATCH)]
    codes = frozenset(marks.code_of(seed, other) for number in numbers for other in (number, -1 - number))
    makers = Workers(threads=1)
    results: list[Result] = []
    try:
        with ThreadPoolExecutor(workers) as threads:
            futures = [threads.submit(_batch, batch, seed, folder, codes, makers, on_result) for batch in batches]
            for future in as_completed(futures):
                results += future.result()
    finally:
        makers.close()
    return sorted(results, key=lambda result: result.number)


def make_batch(*, numbers: Sequence[int], seed: int, folder: Path, send: Callable[[Any], None]) -> list[Plan]:
    """For a process of its own: what encoders leave in memory is not to be found by decoders."""
    return [make_input(number, seed, folder / str(number)) for number in numbers]


def check_batch(
    *, inputs: Sequence[tuple[int, Plan]], folder: Path, codes: frozenset[int], send: Callable[[Any], None]
) -> None:
    """Read inputs one after the other, in a process of its own. Ends early after one that took too much memory."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries write remarks on damage there
    start = _peak_memory()
    send(("ready", psutil.Process().pid, start))
    for number, plan in inputs:
        send(("started", number))
        try:
            outcome = KINDS[plan.kind].check(folder / str(number), plan, codes)
        except Exception as error:
            outcome = traceback_of(error)
        over = _peak_memory() - start
        if over > BYTES and not outcome.problem:
            outcome = Outcome(outcome.result, outcome.reason, f"{over / 2**20:.0f} MB above the start")
        send(("done", number, outcome))
        if over > BYTES:
            return


def _batch(
    numbers: Sequence[int],
    seed: int,
    folder: Path,
    codes: frozenset[int],
    makers: Workers,
    on_result: Callable[[Result], None],
) -> list[Result]:
    with makers.one() as maker:
        plans = dict(zip(numbers, maker.call(make_batch, numbers=numbers, seed=seed, folder=folder), strict=True))
    results: list[Result] = []
    while left := [number for number in numbers if number not in {result.number for result in results}]:
        for result in _one_process([(number, plans[number]) for number in left], folder, codes):
            on_result(result)
            results.append(result)
    return results


def _one_process(inputs: Sequence[tuple[int, Plan]], folder: Path, codes: frozenset[int]) -> list[Result]:
    """Read inputs in one process for as long as it lives; the last result may be that of the input that ended it."""
    plans, watch = dict(inputs), _Watch()

    def note(message: tuple[Any, ...]) -> None:
        match message:
            case ("ready", pid, memory):
                watch.process, watch.start_memory = psutil.Process(pid), memory
            case ("started", number):
                assert watch.process is not None
                watch.since = _processor_seconds(watch.process), time.monotonic()
                watch.current = number
            case ("done", number, outcome):
                watch.current = None
                before = tuple(result.number for result in watch.results)
                watch.results.append(Result(number, plans[number], outcome, before))

    with Worker(threads=1) as worker:
        over = threading.Event()
        watcher = threading.Thread(target=_watch_over, args=(worker, watch, over))
        watcher.start()
        try:
            worker.call(check_batch, on_message=note, inputs=inputs, folder=folder, codes=codes)
        except ProcessDiedError as error:
            if (number := watch.current) is None and not watch.ended_for:
                raise
            # an input that was done, or begun, just when the process was ended is read again, or for the first time
            if number is not None and (number in watch.ended_for or not watch.ended_for):
                plan, before = plans[number], tuple(result.number for result in watch.results)
                outcome = Outcome("refused", problem=watch.ended_for.get(number, f"crash: {error}"))
                if not watch.ended_for and plan.kind in ("clips", "frames"):
                    outcome = Outcome("refused", "crashed")  # aligning goes on without the clip, and says so
                watch.results.append(Result(number, plan, outcome, before))
        finally:
            over.set()
            watcher.join()
    return watch.results


def _watch_over(worker: Worker, watch: _Watch, over: threading.Event) -> None:
    """End the process when an input takes too long or too much memory."""
    while not over.wait(0.2):
        number, process, (seconds, since) = watch.current, watch.process, watch.since
        if number is None or process is None:
            continue
        with suppress(psutil.NoSuchProcess):
            working, waiting = _processor_seconds(process) - seconds, time.monotonic() - since
            memory = process.memory_info().rss - watch.start_memory
            problem = ""
            if working > SECONDS or waiting > WAITING_SECONDS:
                problem = f"hang: not done after {working:.0f} s of work, {waiting:.0f} s altogether"
            elif memory > 1.5 * BYTES:  # one that takes a little too much is noticed when it is done
                problem = f"{memory / 2**20:.0f} MB above the start, and growing"
            if problem and watch.current == number:
                watch.ended_for[number] = problem
                worker.abort()
                return


def _processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _peak_memory() -> int:
    """The most memory that this process has had, bytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
