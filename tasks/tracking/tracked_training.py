"""A training in a process of its own, tracked epoch by epoch. The process loads no Prefect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from dfer.config.experiments import Training
from dfer.config.settings import TrainSettings
from dfer.datasets import protocol, table
from dfer.storage.file_names import CARD, CHECKPOINT, HISTORY, WEIGHTS
from dfer.system import garbage
from tasks.tracking.outbox import TrackedRun
from tasks.tracking.runs import log_epoch, log_summary

if TYPE_CHECKING:
    from dfer.training.run import EpochRow


@dataclass(frozen=True)
class Job:
    """What the process of a training is told.

    Attributes:
        clips, index: the clip table, and the align index.
        stages: the folder or URL that the index's shards are relative to.
        folder: for the training's output.
        card: entries of the model's card.
        begins_with: the last checkpoint of a shorter training that this one goes on with; None for the first epoch, and
            where the file is not there since nobody went on with that training when it was made.
        at_a_time, on_its_gpu: how many trainings run side by side on this machine, and on its GPU.
    """

    training: Training
    clips: Path
    index: Path
    stages: Path | str
    folder: Path
    run: TrackedRun
    card: Mapping[str, Any]
    threads: int
    at_a_time: int
    on_its_gpu: int
    begins_with: Path | None = None


def training_clips(training: Training, clips: Path) -> pd.DataFrame:
    """The clips of a clip table that a training may use."""
    ambiguous = training.settings.train.ambiguous
    return protocol.part(table.read(clips), fold=training.fold, part="train", ambiguous=ambiguous)


def train_in_process(
    *, job: Job, settings: TrainSettings, frames_on_gpu: bool, send: Callable[[int], None]
) -> dict[str, int]:
    """The training itself. `settings` are its own but for the micro-batches of this try; see `with_less_memory`."""
    with garbage.loading():
        from dfer import plots
        from dfer.faces.index import read_index
        from dfer.training import Plan, Resources, TrainingData, begin_with, remove_damaged, train

    training, folder, run = job.training, job.folder, job.run
    sections = training.settings
    clips = training_clips(training, job.clips)
    test = protocol.part(table.read(job.clips), fold=training.fold, part="test")
    rows = read_index(job.index)
    logged = run.last_step("epoch/loss")
    picture = folder / "batch.jpg"
    plots.training_clips(clips, rows, job.stages, picture, arm=training.arm, settings=sections)
    run.log_files([picture])

    def on_epoch(row: EpochRow) -> None:
        send(row["epoch"])
        # epochs between the last checkpoint and a kill are trained again, with the same numbers
        if row["epoch"] > logged:
            log_epoch(run, row)

    remove_damaged(folder)
    before = 0
    if job.begins_with is not None and job.begins_with.is_file() and not (folder / CHECKPOINT).exists():
        for row in begin_with(job.begins_with, folder, settings.epochs):
            on_epoch(row)
            before = row["epoch"]
    result = train(
        replace(Plan.of(training.arm, sections), train=settings),
        TrainingData(clips, test if settings.monitor_every else None, rows, job.stages),
        folder,
        card=job.card,
        resources=Resources(job.threads, job.at_a_time, job.on_its_gpu, frames_on_gpu),
        on_epoch=on_epoch,
    )
    log_summary(run, result.summary)
    figure = folder / "learning_curves.png"
    classes = training.settings.labels.classes
    plots.learning_curves(result.history, figure, title=training.title, num_classes=len(classes))
    run.log_files([figure, folder / HISTORY, folder / CARD, folder / WEIGHTS])
    run.log_model(folder)
    return {"clips": result.summary["clips"]["training"], "epochs": len(result.history) - before}
