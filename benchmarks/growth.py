"""Measures how time and memory grow with the numbers of clips, frames and workers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import loading
from benchmarks.loading import Crops
from benchmarks.material import SEGMENTS, Options, settings, synthetic_clips
from benchmarks.measure import Measured, Variant, Work, interleaved
from benchmarks.preprocess import Clips, align, start_all
from dfer.config.settings import StageSettings

_SMALL = ("detection.input_size=160", "detection.search_size=160", "alignment.size=96")


@dataclass(frozen=True)
class Curve:
    """Time and memory over one quantity, all else equal."""

    name: str
    x: str  # the quantity
    points: tuple[float, ...]  # its values, each with its total `seconds` and `peak_bytes`
    seconds: tuple[float, ...]
    peak_bytes: tuple[int, ...]
    expected: float  # the exponent of x that the time should grow with (1: linear, -1: inversely)
    how: str
    error: str = ""

    @property
    def slope(self) -> float:
        """The exponent: slope of log seconds over log x, least squares; nan for fewer than two points."""
        return _slope(self.points, self.seconds)

    @property
    def memory_slope(self) -> float:
        """The same of the memory; 0 is flat."""
        return _slope(self.points, self.peak_bytes)


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(x) > 1 else float("nan")


def measure(options: Options) -> list[Curve]:
    """Curves of preprocessing over clips, frames a clip and workers, and of a pass of the loader over clips."""
    paths = synthetic_clips(options)
    # two numbers per decade
    numbers = [round(10 ** (exponent / 2)) for exponent in range(4, 9)]
    numbers = (
        [6, 12, 24] if options.quick else [*(n for n in numbers if n < options.growth_clips), options.growth_clips]
    )
    middle = numbers[1] if options.quick else 200
    how = f"{SEGMENTS} frames of 96 px a clip, detector input 160 (small, so that many clips are affordable)"

    def work(clips: int = middle, workers: int = options.workers, kept: int | str = 1) -> dict[str, Any]:
        repeated = [(f"{index:06d}", paths[index % len(paths)]) for index in range(clips)]
        chosen = settings(options, f"shards.frames_per_segment={kept}", *_SMALL)
        return {"clips": repeated, "workers": workers, "settings": chosen}

    # 1, 2, 4 ... and the number of cores
    workers = sorted({*(2**power for power in range(options.workers.bit_length())), options.workers})
    # the clips have about 30 frames
    frames: dict[int, int | str] = {SEGMENTS * kept: kept for kept in ((1, 2) if options.quick else (1, 2, 3))}
    if not options.quick:
        frames[31] = "all"
    of_workers = {number: work(workers=number) for number in workers}
    of_frames = {number: work(kept=kept) for number, kept in frames.items()}
    curves = [
        _curve("preprocessing", "clips", {number: work(number) for number in numbers}, 1.0, how),
        _curve("preprocessing", "workers", of_workers, -1.0, f"{middle} clips, {how}"),
        _curve("preprocessing", "frames kept of a clip", of_frames, 1.0, f"{middle} clips of about 31 frames"),
    ]
    with tempfile.TemporaryDirectory() as scratch:
        crops = loading.prepare(options, Path(scratch))
        passes = {number: {"crops": crops, "number": number, "settings": settings(options)} for number in numbers}
        how = f"one pass without cache or workers, {SEGMENTS} of 24 frames of 224 px a clip, batch {loading.BATCH}"
        return [*curves, _curve("loader", "clips", passes, 1.0, how, one_pass, ("torch",))]


def _curve(
    name: str,
    x: str,
    points: dict[int, dict[str, Any]],
    expected: float,
    how: str,
    function: Callable[..., Iterator[Work]] | None = None,
    libraries: tuple[str, ...] = (),
) -> Curve:
    measured: dict[int, Measured] = {}
    error = ""
    for point, arguments in points.items():
        # one at a time: the largest need all of the memory
        variant = Variant(f"{name} {point}", function or preprocess, 1, arguments, libraries)
        result = interleaved([variant], rounds=1)[variant.name]
        if result.error:
            error = f"at {point}: {result.error}"
            break
        measured[point] = result
    seconds = tuple(result.seconds[0] for result in measured.values())
    peaks = tuple(result.peak_bytes for result in measured.values())
    return Curve(name, x, tuple(measured), seconds, peaks, expected, how, error)


def preprocess(*, clips: Clips, workers: int, settings: StageSettings) -> Iterator[Work]:
    """Align the clips once, in processes that have started already."""
    from dfer.system.processes import pool

    with pool(workers) as processes:
        start_all(processes, workers, clips[:1], settings)
        yield Work()
        with tempfile.TemporaryDirectory() as scratch:
            started = time.perf_counter()
            align(processes, clips, 1, Path(scratch), workers, settings)
            yield Work(1, time.perf_counter() - started)


def one_pass(*, crops: Crops, number: int, settings: StageSettings) -> Iterator[Work]:
    """One pass of the training's loader over `number` clips."""
    repeats = -(-number // len(crops.table))
    table = pd.concat([crops.table] * repeats, ignore_index=True).head(number)
    for _ in loading.passes(table, crops, settings, workers=0, cache=False):
        yield Work(1)
