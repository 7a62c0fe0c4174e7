"""Measures variants of the same work against each other: interleaved, each in a separate process.

A new process imports this module before it sets the thread counts: it must not import numerical libraries.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import statistics
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

import psutil

from dfer.system.processes import die_with_parent

_log = logging.getLogger(__name__)

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# A library's threads spin for some milliseconds after their work.
_SETTLE_SECONDS = 0.2
_SAMPLING_SECONDS = 0.1


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
    """One way of doing the work.

    Attributes:
        function: `package.module:name` of a generator function. It prepares and warms up, yields an empty `Work`, and
            does one turn for each further `Work` it yields.
        threads: number of threads of the numerical libraries.
        arguments: of the function.
        libraries: those whose threads must be set by a call.
    """

    name: str
    function: str
    threads: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    libraries: tuple[str, ...] = ("cv2", "torch")


@dataclass(frozen=True)
class Measured:
    """The measurement of a variant.

    Attributes:
        seconds: of each turn.
        units: of work in each turn.
        peak_bytes: largest sum of resident memory of its process and its children, with libraries; shared pages count
            in each.
        results: of the last turn.
        error: why it could not be measured, or "".
    """

    name: str
    threads: int
    seconds: tuple[float, ...] = ()
    units: tuple[float, ...] = ()
    peak_bytes: int = 0
    results: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def per_unit(self) -> tuple[float, ...]:
        """Seconds per unit of work, turn by turn."""
        return tuple(seconds / units for seconds, units in zip(self.seconds, self.units, strict=True))

    @property
    def median(self) -> float:
        """Median seconds per unit of work; nan if nothing was measured."""
        return statistics.median(self.per_unit) if self.seconds and not self.error else float("nan")


def interleaved(variants: Sequence[Variant], *, rounds: int) -> dict[str, Measured]:
    """Measure variants in turn, round by round, every second round in the opposite order.

    Each has a new process, which sleeps while another one works. A variant that fails gets an `error` and no further
    turns; the others continue.

    Raises:
        ValueError: two variants have the same name.
    """
    if len({variant.name for variant in variants}) != len(variants):
        raise ValueError(f"variants of the same name: {[variant.name for variant in variants]}")
    processes: dict[str, _Process] = {}
    errors: dict[str, str] = {}
    try:
        for variant in variants:
            processes[variant.name] = _Process(variant)
            _try_turn(processes[variant.name].turn, variant.name, errors)  # prepares and warms up
            processes[variant.name].forget()
        for number in range(rounds):
            for variant in variants if number % 2 == 0 else reversed(variants):
                if variant.name not in errors:
                    time.sleep(_SETTLE_SECONDS)
                    _try_turn(processes[variant.name].turn, variant.name, errors)
        return {variant.name: processes[variant.name].measured(errors.get(variant.name, "")) for variant in variants}
    finally:
        for process in processes.values():
            process.stop()


def alone(variant: Variant, *, rounds: int = 1) -> Measured:
    """Measure a single variant. Raises MeasurementError if it fails."""
    measured = interleaved([variant], rounds=rounds)[variant.name]
    if measured.error:
        raise MeasurementError(f"{variant.name}: {measured.error}")
    return measured


def _try_turn(turn: Any, name: str, errors: dict[str, str]) -> None:
    try:
        turn()
    except MeasurementError as error:
        _log.error("%s: %s", name, error)
        errors[name] = str(error).strip().splitlines()[-1]


class _Process:
    """The process of a variant, and its measurements so far."""

    def __init__(self, variant: Variant) -> None:
        self._variant = variant
        self._seconds: list[float] = []
        self._units: list[float] = []
        self._peak = 0
        self._results: Mapping[str, Any] = {}
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end, variant))
        with mock.patch.dict(os.environ, dict.fromkeys(_THREAD_VARIABLES, str(variant.threads))):
            self._process.start()
        other_end.close()

    def turn(self) -> None:
        """Let the variant do one turn. Raises MeasurementError."""
        with _sampled_memory(self._process.pid) as peak:
            try:
                self._connection.send("turn")
                kind, payload = self._connection.recv()
            except (EOFError, OSError):
                self._process.join(5)
                raise MeasurementError(f"its process ended with status {self._process.exitcode}") from None
        self._peak = max(self._peak, *peak)
        if kind == "error":
            raise MeasurementError(payload)
        work, seconds = payload
        self._seconds.append(seconds if work.seconds is None else work.seconds)
        self._units.append(work.units)
        self._results = work.results

    def forget(self) -> None:
        """Forget the times so far."""
        self._seconds.clear()
        self._units.clear()

    def measured(self, error: str) -> Measured:
        return Measured(
            self._variant.name,
            self._variant.threads,
            tuple(self._seconds),
            tuple(self._units),
            self._peak,
            self._results,
            error,
        )

    def stop(self) -> None:
        self._connection.close()  # ends the process
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(connection: Connection, variant: Variant) -> None:
    die_with_parent()
    try:
        _set_threads(variant)
        module, name = variant.function.split(":")
        turns: Iterator[Work] = getattr(importlib.import_module(module), name)(**variant.arguments)
        while _wait_for_turn(connection):
            started = time.perf_counter()
            work = next(turns)
            connection.send(("done", (work, time.perf_counter() - started)))
    except Exception:
        connection.send(("error", traceback.format_exc()))


def _wait_for_turn(connection: Connection) -> bool:
    """Wait for the next turn; False if there is none."""
    try:
        connection.recv()
    except EOFError:
        return False
    return True


def _set_threads(variant: Variant) -> None:
    # Imported only if they are used, since their memory is measured.
    if "cv2" in variant.libraries:
        import cv2

        cv2.setNumThreads(variant.threads)
    if "torch" in variant.libraries:
        import torch

        torch.set_num_threads(variant.threads)


@contextmanager
def _sampled_memory(pid: int | None) -> Iterator[list[int]]:
    """Yield a list of one number: the largest memory of a process and its children so far, in bytes."""
    peak, done = [0], threading.Event()

    def sample() -> None:
        root = psutil.Process(pid)
        while True:
            total = 0
            try:
                for process in [root, *root.children(recursive=True)]:
                    try:
                        total += process.memory_info().rss
                    except psutil.Error:  # it has just ended
                        continue
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
