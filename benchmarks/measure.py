"""Measures variants of the same work against each other: interleaved, each in a separate process.

A new process imports this module before it sets the thread counts: it must not import numerical libraries.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing.util
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from dfer.system.processes import Sender, Worker

_log = logging.getLogger(__name__)

# A library's threads spin for some milliseconds after their work.
_SETTLE_SECONDS = 0.2
_SAMPLING_SECONDS = 0.1
_generators: list[Iterator[Work]] = []  # in a variant's process: its generator


class MeasurementError(RuntimeError):
    """A variant could not be measured."""


@dataclass(frozen=True)
class Work:
    """The work of one turn of a variant."""

    units: float = 0.0  # number of clips, batches or calls
    seconds: float | None = None  # of the timed part, if the turn had other parts
    results: Mapping[str, Any] = field(default_factory=dict)  # other results


@dataclass(frozen=True)
class Variant:
    """One way of doing the work: a generator function of a module, called with the arguments.

    It prepares and warms up, yields an empty `Work`, and does one turn for each further `Work` it yields.
    """

    name: str
    function: Callable[..., Iterator[Work]]
    threads: int  # of the numerical libraries
    arguments: Mapping[str, Any] = field(default_factory=dict)
    libraries: tuple[str, ...] = ("cv2", "torch")  # those whose threads must be set by a call


@dataclass
class Measured:
    """The measurement of a variant."""

    name: str
    threads: int
    seconds: list[float] = field(default_factory=list)  # per unit of work, turn by turn
    peak_bytes: int = 0  # largest sum of resident memory of its process and its children; shared pages count in each
    results: Mapping[str, Any] = field(default_factory=dict)  # of the last turn
    error: str = ""  # why it could not be measured

    @property
    def median(self) -> float:
        """Median seconds per unit of work; nan if nothing was measured."""
        return statistics.median(self.seconds) if self.seconds and not self.error else float("nan")


def interleaved(variants: Sequence[Variant], *, rounds: int) -> dict[str, Measured]:
    """Measure variants in turn, round by round, every second round in the opposite order.

    Each has a new process, which sleeps while another one works. A variant that fails gets an `error` and no further
    turns; the others continue. Raises ValueError if two have the same name.
    """
    measured = {variant.name: Measured(variant.name, variant.threads) for variant in variants}
    if len(measured) != len(variants):
        raise ValueError(f"variants of the same name: {[variant.name for variant in variants]}")
    with ExitStack() as stack:
        turns: list[Iterator[None]] = []
        for variant in variants:
            worker = stack.enter_context(Worker(variant.threads))
            turns.append(_turns(worker, variant, measured[variant.name]))
            next(turns[-1], None)  # prepares and warms up
        for number in range(rounds):
            for turn in turns if number % 2 == 0 else reversed(turns):
                time.sleep(_SETTLE_SECONDS)
                next(turn, None)
    return measured


def alone(variant: Variant, *, rounds: int = 1) -> Measured:
    """Measure a single variant. Raises MeasurementError if it fails."""
    measured = interleaved([variant], rounds=rounds)[variant.name]
    if measured.error:
        raise MeasurementError(f"{variant.name}: {measured.error}")
    return measured


def repeated(function: Callable[[], object], turns: int = 1) -> Iterator[Work]:
    """Calls of a function, `turns` of them in each turn, after one to warm up."""
    function()
    yield Work()
    while True:
        for _ in range(turns):
            function()
        yield Work(turns)


def _turns(worker: Worker, variant: Variant, measured: Measured) -> Iterator[None]:
    """Let the variant do one turn for each step. The first does not count; a turn that fails is the last."""
    try:
        pid = worker.call(_prepare, variant=variant)
        for number in itertools.count():
            with sampled_memory(pid) as peak:
                work, seconds = worker.call(_turn)
            measured.peak_bytes = max(measured.peak_bytes, *peak)
            if number:
                measured.seconds.append((seconds if work.seconds is None else work.seconds) / work.units)
                measured.results = work.results
            yield
    except Exception as error:
        _log.exception("%s could not be measured", variant.name)
        measured.error = f"{type(error).__name__}: {error}".strip().splitlines()[-1]


def _prepare(*, variant: Variant, send: Sender) -> int:
    """Set the numbers of threads and make the variant's generator; returns the process id."""
    # Imported only if they are used, since their memory is measured.
    if "cv2" in variant.libraries:
        import cv2

        cv2.setNumThreads(variant.threads)
    if "torch" in variant.libraries:
        import torch

        torch.set_num_threads(variant.threads)
    _generators.append(variant.function(**variant.arguments))
    # The process ends only after its own children: the generator must end them and remove its files before.
    multiprocessing.util.Finalize(None, _generators.clear, exitpriority=1)
    return os.getpid()


def _turn(*, send: Sender) -> tuple[Work, float]:
    started = time.perf_counter()
    work = next(_generators[0])
    return work, time.perf_counter() - started


@contextmanager
def sampled_memory(pid: int) -> Iterator[list[int]]:
    """Yield a list of one number: the largest memory of a process and its children so far, in bytes."""
    peak, done = [0], threading.Event()

    def sample() -> None:
        root = psutil.Process(pid)
        while True:
            total = 0
            try:
                for process in [root, *root.children(recursive=True)]:
                    with suppress(psutil.Error):  # it has just ended
                        total += process.memory_info().rss
            except psutil.Error:
                return
            peak[0] = max(peak[0], total)
            if done.wait(_SAMPLING_SECONDS):
                return

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        done.set()
        sampler.join()
