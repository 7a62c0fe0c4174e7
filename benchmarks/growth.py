"""Measures how time and memory grow with the numbers of clips, frames and workers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import loading
from benchmarks.loading import Crops
from benchmarks.material import SEGMENTS, Options, settings, synthetic_clips
from benchmarks.measure import Variant, Work, interleaved
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
    chosen = settings(options, "shards.frames_per_segment=1", *_SMALL)
    # two numbers per decade
    numbers = [round(10 ** (exponent / 2)) for exponent in range(4, 9)]
    numbers = (
        [6, 12, 24] if options.quick else [*[n for n in numbers if n < options.growth_clips], options.growth_clips]
    )
    middle = numbers[1] if options.quick else 200
    how = f"{SEGMENTS} frames of 96 px a clip, detector input 160 (small, so that many clips are affordable)"
    curves = [
        _curve(
            "preprocessing",
            "clips",
            {n: {"clips": _repeated(paths, n), "workers": options.workers, "settings": chosen} for n in numbers},
            1.0,
            how,
        ),
        _curve(
            "preprocessing",
            "workers",
            {n: {"clips": _repeated(paths, middle), "workers": n, "settings": chosen} for n in _up_to(options.workers)},
            -1.0,
            f"{middle} clips, {how}",
        ),
    ]
    frames = {}
    for kept in (1, 2) if options.quick else (1, 2, 3, "all"):
        more = settings(options, f"shards.frames_per_segment={kept}", *_SMALL)
        # the clips have about 30 frames
        number = SEGMENTS * kept if isinstance(kept, int) else 31
        frames[number] = {"clips": _repeated(paths, middle), "workers": options.workers, "settings": more}
    curves.append(_curve("preprocessing", "frames kept of a clip", frames, 1.0, f"{middle} clips of about 31 frames"))
    with tempfile.TemporaryDirectory() as scratch:
        crops = loading.prepare(options, Path(scratch))
        points = {n: {"crops": crops, "number": n, "settings": settings(options)} for n in numbers}
        how = f"one pass without cache or workers, {SEGMENTS} of 24 frames of 224 px a clip, batch {loading.BATCH}"
        curves.append(_curve("loader", "clips", points, 1.0, how, function="one_pass"))
    return curves


def _curve(
    name: str,
    x: str,
    points: dict[int, dict[str, Any]],
    expected: float,
    how: str,
    function: str = "preprocess",
) -> Curve:
    seconds: list[float] = []
    peaks: list[int] = []
    for point, arguments in points.items():
        # one at a time: the largest need all of the memory
        variant = Variant(
            f"{name} {point}", f"{__name__}:{function}", 1, arguments, ("torch",) if function == "one_pass" else ()
        )
        measured = interleaved([variant], rounds=1)[variant.name]
        if measured.error:
            measured_points = tuple(points)[: len(seconds)]
            return Curve(
                name, x, measured_points, tuple(seconds), tuple(peaks), expected, how, f"at {point}: {measured.error}"
            )
        seconds.append(measured.seconds[0])
        peaks.append(measured.peak_bytes)
    return Curve(name, x, tuple(points), tuple(seconds), tuple(peaks), expected, how)


def preprocess(*, clips: Clips, workers: int, settings: StageSettings) -> Iterator[Work]:
    """Align the clips once, in processes that have started already."""
    from dfer.system.processes import pool

    with pool(workers) as processes:
        start_all(processes, workers, clips[:1], settings)
        yield Work()
        with tempfile.TemporaryDirectory() as scratch:
            started = time.perf_counter()
            align(processes, clips, 1, Path(scratch), workers, settings)
            yield Work(len(clips), time.perf_counter() - started)


def one_pass(*, crops: Crops, number: int, settings: StageSettings) -> Iterator[Work]:
    """One pass of the training's loader over `number` clips."""
    repeats = -(-number // len(crops.table))
    table = pd.concat([crops.table] * repeats, ignore_index=True).head(number)
    return loading.passes(table, crops, settings, workers=0, cache=False)


def _repeated(paths: list[Path], number: int) -> Clips:
    """`number` clips: the paths repeated, with different names."""
    return [(f"{index:06d}", paths[index % len(paths)]) for index in range(number)]


def _up_to(cores: int) -> list[int]:
    """1, 2, 4 ... and the number of cores."""
    return sorted({*(2**power for power in range(cores.bit_length()) if 2**power <= cores), cores})
