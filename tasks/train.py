"""Stage `train`: one arm on one fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from dfer.config.experiments import Training
from dfer.config.reading import Pipeline
from dfer.config.settings import TrainSettings
from dfer.datasets import protocol
from dfer.storage.files import sha256
from dfer.storage.store import CacheKey, Output, StageResult
from dfer.system.processes import run_isolated
from tasks.ingest import clips_of
from tasks.running import progress
from tasks.running.concurrency import training_slot
from tasks.running.failures import note_stage
from tasks.running.out_of_memory import in_smaller_parts
from tasks.running.retries import WHERE_IT_CAN_PASS
from tasks.running.stage import Slots, ensure, shown, store_of, trainings_at_a_time
from tasks.tracking.outbox import TrackedRun
from tasks.tracking.runs import PipelineTracking, log_epoch, log_summary
from tasks.tracking.system_metrics import system_metrics

VERSION = 3

# What decides how fast a training runs and not what it computes.
SPEED = {"threads", "loader_workers", "cache", "checkpoint_every"}

# What changes the rounding, the pairs or what BatchNorm sees when it is more than one.
ONE_BY_DEFAULT = ("processes", "micro_batches")


def cache_key(training: Training, ingested: Output, index: Output) -> CacheKey:
    """What determines a trained model. The names of arms and experiments do not."""
    settings, arm = training.settings, training.arm
    key: dict[str, Any] = {
        "fold": training.fold,
        "arm": arm.model_dump(mode="json", exclude={"alpha", "ambiguous"}),
        "sampling": settings.sampling.model_dump(mode="json"),
        "model": settings.model.model_dump(mode="json"),
        "train": settings.train.model_dump(mode="json", exclude=SPEED | {"device"}),
    }
    for name in ONE_BY_DEFAULT:
        if key["train"][name] == 1:
            del key["train"][name]
    if settings.model.pretrained is not None and Path(settings.model.pretrained).is_file():
        key["weights"] = sha256(Path(settings.model.pretrained))
    if arm.mixing != "none":
        key["mixing"] = settings.mixing.model_dump(mode="json")
    if arm.clips != "all":
        key["groups"] = settings.groups.model_dump(mode="json")
    return CacheKey("train", VERSION, key, (ingested, index))


@task(
    name="train",
    task_run_name="train {training.title}",
    cache_policy=NO_CACHE,
    on_failure=[note_stage],
    **WHERE_IT_CAN_PASS,
)
def train_arm(
    pipeline: Pipeline,
    training: Training,
    ingested: StageResult,
    index: StageResult,
    tracking: PipelineTracking,
    slots: Slots,
) -> StageResult:
    """Train an arm on the training part of its fold. Killed half-way, it goes on from its last checkpoint."""

    place = slots.training(training.settings.train.processes)

    def work(folder: Path) -> dict[str, int]:
        # a training that was killed goes on in the run that it was tracked in
        run = tracking.run_of(folder)
        if run is None:
            run = tracking.arm_run(training)
            run.write(folder)
            part = "train" if training.fold is None else f"fold {training.fold} train"
            clips, source = training_clips(training, ingested), ingested.output.path
            run.log_dataset(clips, name=f"{training.dataset} {part}", source=source, context="training")
        epochs = training.settings.train.epochs
        with (
            tracking.working_on(run),
            system_metrics(run),
            progress.bar(f"train {training.title}", "epochs", share_of=epochs) as advance,
        ):

            def train(settings: TrainSettings) -> dict[str, int]:
                counts: dict[str, int] = run_isolated(
                    "tasks.train:train_in_process",
                    threads=slots.threads_per_training,
                    environment=place.environment,
                    on_message=lambda epoch: advance(epoch),
                    pipeline=pipeline,
                    training=training,
                    settings=settings,
                    ingested=ingested,
                    index=index,
                    folder=folder,
                    run=run,
                    threads_of_training=slots.threads_per_training,
                    on_its_gpu=place.sharing,
                )
                return counts

            return in_smaller_parts(train, training.settings.train, folder, title=training.title)

    @contextmanager
    def place_on_the_server_too() -> Iterator[None]:
        with place, training_slot(training.settings.train.processes):
            yield

    made = cache_key(training, ingested.output, index.output)
    return shown(ensure(pipeline, made, work, resumes_from="checkpoint.pt", place=place_on_the_server_too))


def training_clips(training: Training, ingested: StageResult) -> pd.DataFrame:
    """The clips that a training may use."""
    ambiguous = training.settings.train.ambiguous
    return protocol.part(clips_of(ingested), fold=training.fold, part="train", ambiguous=ambiguous)


def train_in_process(
    *,
    pipeline: Pipeline,
    training: Training,
    settings: TrainSettings,
    ingested: StageResult,
    index: StageResult,
    folder: Path,
    run: TrackedRun,
    threads_of_training: int,
    on_its_gpu: int,
    send: Callable[[int], None],
) -> dict[str, int]:
    """The training itself, tracked epoch by epoch. `settings` are its own but for the micro-batches of this try."""
    from dfer import plots
    from dfer.faces.index import FILE_NAME, read_index
    from dfer.training import remove_damaged, train

    sections = training.settings
    clips = training_clips(training, ingested)
    test = protocol.part(clips_of(ingested), fold=training.fold, part="test")
    rows = read_index(index.output.path / FILE_NAME)
    stages = store_of(pipeline).root
    logged = run.last_step("epoch/loss")
    picture = folder / "batch.jpg"
    plots.training_clips(clips, rows, stages, picture, arm=training.arm, settings=sections)
    run.log_files([picture])

    def on_epoch(row: dict[str, Any]) -> None:
        send(row["epoch"])
        # epochs between the last checkpoint and a kill are trained again, with the same numbers
        if row["epoch"] > logged:
            log_epoch(run, row)

    remove_damaged(folder)
    result = train(
        clips=clips,
        monitor=test if settings.monitor_every else None,
        index=rows,
        root=stages,
        arm=training.arm,
        mixing=sections.mixing,
        model=sections.model,
        sampling=sections.sampling,
        groups=sections.groups,
        settings=settings,
        folder=folder,
        card={
            "pipeline": pipeline.name,
            "dataset": training.dataset,
            "fold": training.fold,
            "synthetic_data": pipeline.datasets[training.dataset].generated,
            "alignment": sections.alignment.model_dump(mode="json"),
            "detection": sections.detection.model_dump(mode="json"),
        },
        threads=threads_of_training,
        side_by_side=trainings_at_a_time(pipeline),
        on_its_gpu=on_its_gpu,
        extra={"run_id": run.id},
        on_epoch=on_epoch,
    )
    log_summary(run, result.summary)
    figure = folder / "learning_curves.png"
    plots.learning_curves(result.history, figure, title=training.title)
    run.log_files([figure, folder / "history.json", folder / "model.json", folder / "model.safetensors"])
    run.log_model(folder)
    return {"clips": result.summary["clips"]["training"], "epochs": len(result.history)}
