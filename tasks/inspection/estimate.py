"""Trying for a few seconds what never ran on this machine: training steps, and aligning some clips."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dfer.config.experiments import Faces, Training
from dfer.config.settings import StageSettings
from dfer.faces.videos import align_in_process
from dfer.system.processes import run_isolated

SECONDS = 5.0
"""To time training steps for."""

CLIPS = 9
"""To align, spread over the data set; the first of them is not timed, since it waits for the detector to load."""

FORWARD_SHARE = 1 / 3
"""What predicting a clip takes of training on it: backward is about twice forward."""


@dataclass(frozen=True)
class Trial:
    """One thing that was measured now: what, how fast, and on what."""

    what: str
    result: str
    device: str


class Trials:
    """Measures each network, size and batch once, and each data set once; `results` is what was measured."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._speeds: dict[str, float] = {}
        self._rates: dict[Faces, float | None] = {}
        self.results: list[Trial] = []

    def training(self, training: Training, clips: int, tested: int) -> float:
        """Seconds to train on `clips` clips, and to look at `tested` clips whenever the configuration asks for it.

        Reading the clips is not part of it: where that keeps a training waiting, it takes longer.
        """
        train = training.settings.train
        looks = -(-train.epochs // train.monitor_every) if train.monitor_every else 0
        return (clips * train.epochs + FORWARD_SHARE * tested * looks) / self._clips_per_second(training)

    def evaluation(self, training: Training, clips: int) -> float:
        """Seconds to predict `clips` clips once."""
        return FORWARD_SHARE * clips / self._clips_per_second(training)

    def alignment(self, faces: Faces, root: Path, clips: pd.DataFrame, number: int) -> float | None:
        """Seconds to align `number` clips, one after another; None if too few of the data set's files exist."""
        if faces not in self._rates:
            self._rates[faces] = self._align_some(faces, root, clips)
        rate = self._rates[faces]
        return None if rate is None else number * rate

    def _clips_per_second(self, training: Training) -> float:
        settings = training.settings
        sections: dict[str, Any] = {
            "model": settings.model,
            "sampling": settings.sampling,
            "train": settings.train.model_copy(update={"seed": 0, "epochs": 1}),
        }
        key = json.dumps({name: section.model_dump(mode="json") for name, section in sections.items()})
        if key not in self._speeds:
            speed = run_isolated(
                step_speed_in_process,
                threads=self._threads,
                settings=settings,
                arm=training.arm,
                threads_of_training=self._threads,
            )
            self._speeds[key] = speed["clips_per_second"]
            model, sampling = settings.model, settings.sampling
            what = (
                f"{model.name} of width {model.width:g}, {sampling.num_segments} frames of {model.input_size} pixels, "
                f"batches of {settings.train.batch_size}"
            )
            result = f"{speed['clips_per_second']:.3g} clips a second, {speed['share_of_peak']:.0%} of the peak"
            on = f"{speed['device']}, {speed['precision']}"
            if speed["device"] == "cpu":
                on += f", {self._threads} thread{'s' * (self._threads > 1)}"
            self.results.append(Trial(what, result, on))
        return self._speeds[key]

    def _align_some(self, faces: Faces, root: Path, clips: pd.DataFrame) -> float | None:
        readable = clips[clips["source_size"] > 0]
        if len(readable) < 2:
            return None
        chosen = readable.iloc[:: max(1, len(readable) // CLIPS)].head(CLIPS)
        finished: list[float] = []
        with tempfile.TemporaryDirectory(prefix="dfer-estimate-") as folder:
            run_isolated(
                align_in_process,
                on_message=lambda _: finished.append(time.monotonic()),
                clips=[(clip, root / source) for clip, source in zip(chosen["clip_id"], chosen["source"], strict=True)],
                folder=Path(folder),
                settings=faces.settings,
            )
        seconds = (finished[-1] - finished[0]) / (len(finished) - 1)
        detection = faces.detection
        on = "cpu, 1 thread" if detection.provider == "cpu" else detection.provider
        self.results.append(Trial(f"aligning {len(chosen)} clips of {faces.dataset}", f"{seconds:.2g} s a clip", on))
        return seconds


def step_speed_in_process(
    *, settings: StageSettings, arm: Any, threads_of_training: int, send: Callable[[Any], None]
) -> dict[str, Any]:
    """`dfer.training.speed.step_speed` as the work of a process; the result as plain data."""
    from dfer.training.plan import Plan
    from dfer.training.speed import step_speed

    speed = step_speed(Plan.of(arm, settings), threads=threads_of_training, seconds=SECONDS)
    return {**asdict(speed), "share_of_peak": speed.share_of_peak}
