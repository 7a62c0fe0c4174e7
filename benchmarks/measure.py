"""Measuring variants of the same work against each other: interleaved, each in a process of its own.

This module is loaded before the thread counts are set in a new process: it must not load numerical libraries.
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

import psutil

from dfer.system.processes import die_with_parent

_log = logging.getLogger(__name__)

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Threads of a library go on looking for work for some milliseconds after it is done.
_SETTLE_SECONDS = 0.2
_SAMPLING_SECONDS = 0.1


class MeasurementError(RuntimeError):
    """A variant could not be measured."""


@dataclass(frozen=True)
class Work:
    """What one turn of a variant did: `units` (clips, batches, calls), what else it found out, and its `seconds` where
    the turn held more than what is to be timed."""

    units: float = 0.0
    seconds: float | None = None
    found: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """One way of doing the work.

    function: `package.module:name` of a generator function. It prepares and warms up, yields an empty `Work`, and does
    one turn for each further `Work` it yields. threads: of the numerical libraries, in its process; those in
    `libraries` have to be told.
    """

    name: str
    function: str
    threads: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    libraries: tuple[str, ...] = ("cv2", "torch")


@dataclass(frozen=True)
class Measured:
    """What a variant took.

    seconds: of each turn. units: work done in each turn. peak_bytes: largest sum of resident memory over its process
    and those that it started (pages that they share count in each), libraries included. found: of the last turn.
    error: why it could not be measured, "" if it could.
    """

    name: str
    threads: int
    seconds: tuple[float, ...] = ()
    units: tuple[float, ...] = ()
    peak_bytes: int = 0
    found: Mapping[str, Any] = field(default_factory=dict)
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

    Each lives in a fresh process for the whole time and waits, asleep, while another one works. A variant that fails is
    reported in its `error` and left out of the further rounds; the others go on.

    Raises: ValueError for names that occur twice.
    """
    if len({variant.name for variant in variants}) != len(variants):
        raise ValueError(f"variants of the same name: {[variant.name for variant in variants]}")
    processes: dict[str, _Process] = {}
    errors: dict[str, str] = {}
    try:
        for variant in variants:
            processes[variant.name] = _Process(variant)
            _attempt(processes[variant.name].turn, variant.name, errors)  # prepares and warms up
            processes[variant.name].forget()
        for number in range(rounds):
            for variant in variants if number % 2 == 0 else reversed(variants):
                if variant.name not in errors:
                    time.sleep(_SETTLE_SECONDS)
                    _attempt(processes[variant.name].turn, variant.name, errors)
        return {variant.name: processes[variant.name].measured(errors.get(variant.name, "")) for variant in variants}
    finally:
        for process in processes.values():
            process.stop()


def alone(variant: Variant, *, rounds: int = 1) -> Measured:
    """Measure one variant by itself. Raises: MeasurementError if it fails."""
    measured = interleaved([variant], rounds=rounds)[variant.name]
    if measured.error:
        raise MeasurementError(f"{variant.name}: {measured.error}")
    return measured


def _attempt(turn: Any, name: str, errors: dict[str, str]) -> None:
    try:
        turn()
    except MeasurementError as error:
        _log.error("%s: %s", name, error)
        errors[name] = str(error).strip().splitlines()[-1]


class _Process:
    """The process of a variant, and what it took so far."""

    def __init__(self, variant: Variant) -> None:
        self._variant = variant
        self._seconds: list[float] = []
        self._units: list[float] = []
        self._peak = 0
        self._found: Mapping[str, Any] = {}
        context = multiprocessing.get_context("spawn")
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, variant))
        with _environment({name: str(variant.threads) for name in _THREAD_VARIABLES}):
            self._process.start()
        there.close()

    def turn(self) -> None:
        """Let the variant do one turn. Raises: MeasurementError."""
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
        self._found = work.found

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
            self._found,
            error,
        )

    def stop(self) -> None:
        self._connection.close()  # tells it to end
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
        while _asked(connection):
            started = time.perf_counter()
            done = next(turns)
            connection.send(("done", (done, time.perf_counter() - started)))
    except Exception:
        connection.send(("error", traceback.format_exc()))


def _asked(connection: Connection) -> bool:
    """Wait for the next turn; False if there is none."""
    try:
        connection.recv()
    except EOFError:
        return False
    return True


def _set_threads(variant: Variant) -> None:
    # Loaded only where they are used: their memory counts.
    if "cv2" in variant.libraries:
        import cv2

        cv2.setNumThreads(variant.threads)
    if "torch" in variant.libraries:
        import torch

        torch.set_num_threads(variant.threads)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables that processes started in the meantime see."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _sampled_memory(pid: int | None) -> Iterator[list[int]]:
    """A list of one number, the most memory that a process and its children held so far, in bytes."""
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
