"""Variants for tests of the harness; they run in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Work


def noting(*, name: str, log: Path) -> Iterator[Work]:
    """Writes its name down at each turn."""
    while True:
        with log.open("a") as file:
            file.write(f"{name}\n")
        yield Work(1)


def steady(*, units: float, seconds: float) -> Iterator[Work]:
    """Says that each turn took so long; the first, to warm up, a hundred times as long."""
    yield Work(units, 100 * seconds)
    while True:
        yield Work(units, seconds)


def raising(*, turn: int) -> Iterator[Work]:
    """Fails at a turn; 0 is the first, in which it prepares."""
    for _ in range(turn):
        yield Work(1)
    raise ValueError("no clips on a Sunday")


def dying() -> Iterator[Work]:
    """Its process ends without a word."""
    yield Work()
    os._exit(3)


def threads() -> Iterator[Work]:
    """What the libraries are told about threads."""
    import cv2
    import torch

    while True:
        variables = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        yield Work(1, results={**variables, "torch": torch.get_num_threads(), "cv2": cv2.getNumThreads()})


def hungry_child(*, megabytes: int) -> Iterator[Work]:
    """A child of the process takes memory for half a second."""
    yield Work()
    while True:
        code = f"import time; x = bytearray({megabytes} * 2**20); x[::4096] = x[::4096]; time.sleep(0.5)"
        subprocess.run([sys.executable, "-c", code], check=True)
        time.sleep(0.01)
        yield Work(1)
