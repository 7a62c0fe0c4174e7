"""The clips to measure on: the project's synthetic ones, or a folder of real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import Machine
from benchmarks.paper import CROP_SIZE, SEGMENTS
from dfer.config.reading import stage_settings
from dfer.config.settings import StageSettings
from dfer.demo import generate
from dfer.demo.casting import plan_clips
from dfer.system.file_types import VIDEO_SUFFIXES

JPEG_QUALITY = 95
_SEED = 0


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    machine: Machine
    cache: Path  # the folder for generated clips
    quick: bool = False  # whether to measure little
    clips: Path | None = None  # a folder of real clips
    overrides: tuple[str, ...] = ()  # of the stages' settings
    growth_clips: int = 3000  # the largest number of clips
    first_run_seconds: float = 0.0  # of the full demo, measured elsewhere; 0 if unknown

    @property
    def workers(self) -> int:
        return self.machine.cores


def settings(options: Options, *more: str) -> StageSettings:
    """The default settings of the stages, at the crop size and JPEG quality of all comparisons."""
    fixed = (
        f"alignment.size={CROP_SIZE}",
        f"shards.jpeg_quality={JPEG_QUALITY}",
        f"shards.segments={SEGMENTS}",
        f"sampling.num_segments={SEGMENTS}",
        f"model.input_size={CROP_SIZE}",
    )
    return stage_settings([*fixed, *more, *options.overrides])


def synthetic_clips(options: Options) -> list[Path]:
    """Generated clips of 320x320 and 480x270 pixels in turn, about 30 frames each."""
    number = 7 if options.quick else 40
    folder = options.cache / f"demo-{number}"
    if not (folder / "README.txt").is_file():
        generate(folder, clips=number, seed=_SEED, workers=options.workers)
    plans = [plan for plan in plan_clips(number, _SEED) if not plan.oddity]
    paths = {name: [folder / plan.path for plan in plans if plan.dataset == name] for name in ("dfew", "afew")}
    few = len(paths["afew"])
    pairs = zip(evenly(paths["dfew"], few), paths["afew"], strict=True)
    alternating = [path for pair in pairs for path in pair]
    return alternating + [path for path in paths["dfew"] if path not in alternating]


def real_clips(options: Options, number: int) -> list[Path]:
    """Evenly chosen clips of the folder of real ones; [] without a folder. Raises ValueError if it has no video."""
    if options.clips is None:
        return []
    videos = sorted(path for path in options.clips.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        raise ValueError(f"no videos below {options.clips}")
    return evenly(videos, number)


def evenly(paths: Sequence[Path], number: int) -> list[Path]:
    """`number` of the paths, evenly spread; all of them if they are fewer."""
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(number, len(paths))).round().astype(int))
    return [paths[index] for index in chosen]
