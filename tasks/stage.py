"""What every stage's task has in common."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from prefect.states import Completed

from dfer.config import Pipeline
from dfer.store import Made, Recipe, Store


def store_of(pipeline: Pipeline) -> Store:
    return Store(pipeline.work_dir / "stages")


def ensure(
    pipeline: Pipeline,
    recipe: Recipe,
    work: Callable[[Path], Mapping[str, int] | None],
    *,
    resumable: bool = False,
) -> Made:
    """Make a stage's output, or find it made.

    The one cache is the folder with its manifest, which is checked against the files that are there.
    """
    return store_of(pipeline).ensure(recipe, work, resumable=resumable)


def shown(made: Made) -> Made:
    """What a stage's task returns: an output that was there already appears in Prefect as `Cached`."""
    if made.executed:
        return made
    was_there = f"{made.output.stage} {made.output.hash[:8]} was there"
    return cast(Made, Completed(name="Cached", message=was_there, data=made))


def trainings_at_a_time(pipeline: Pipeline) -> int:
    """One a GPU, or one a core without, unless the configuration says otherwise."""
    return pipeline.run.trainings or _gpus(pipeline) or pipeline.workers


class Slots:
    """How much runs side by side. Tasks wait here rather than in Prefect's pool, whose threads also hold tasks that
    wait for others."""

    def __init__(self, pipeline: Pipeline) -> None:
        trainings = trainings_at_a_time(pipeline)
        self.aligning = threading.Semaphore(pipeline.workers)
        self.training = threading.Semaphore(trainings)
        self.threads_per_training = pipeline.settings.train.threads or max(1, pipeline.workers // trainings)


def _gpus(pipeline: Pipeline) -> int:
    """GPUs that trainings may use; 0 for training on the CPU."""
    if pipeline.settings.train.device == "cpu":
        return 0
    import torch

    return torch.cuda.device_count()
