"""Stage `train`: one arm on one fold."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from dfer.config import fine_tuning
from dfer.config.catalogue import IMAGENET_MEAN, network
from dfer.config.experiments import Training
from dfer.config.pipeline import Pipeline
from dfer.config.settings import LabelSettings, ModelSettings, TrainSettings
from dfer.datasets import protocol
from dfer.datasets.trainable import check_group
from dfer.faces.index import FILE_NAME
from dfer.storage.file_names import CHECKPOINT, FINAL_CHECKPOINT, WEIGHTS
from dfer.storage.files import sha256
from dfer.storage.store import CacheKey, Output, StageResult
from dfer.system.processes import run_isolated
from tasks.ingest import CLIPS
from tasks.running.concurrency import training_slot
from tasks.running.failures import note_stage
from tasks.running.graph import ExpectedOutput, Graph, Inputs, Node, Stage, complete
from tasks.running.out_of_memory import with_less_memory
from tasks.running.retries import WHERE_IT_CAN_PASS
from tasks.running.slots import trainings_at_a_time
from tasks.running.stage import RunResources, ensure, store_of, task_result
from tasks.split import clip_table_of
from tasks.tracking.outbox import TrackedRun
from tasks.tracking.runs import PipelineTracking
from tasks.tracking.system_metrics import system_metrics
from tasks.tracking.tracked_training import Job, train_in_process, training_clips

VERSION = 3

# What decides how fast a training runs and not what it computes.
SPEED = {"threads", "loader_workers", "cache", "checkpoint_every", "cuda_graph"}

# What changes the rounding, the pairs or what BatchNorm sees when it is not this. Left out as long as it is, so that
# models from before these settings keep their keys.
BY_DEFAULT = {"processes": 1, "micro_batches": 1, "deterministic": False}


def cache_key(training: Training, ingested: Output, index: Output) -> CacheKey:
    """What determines a trained model. The names of arms and experiments do not."""
    settings, arm = training.settings, training.arm
    key: dict[str, Any] = {
        "fold": training.fold,
        "arm": arm.model_dump(mode="json", exclude={"alpha", "ambiguous"}),
        "sampling": settings.sampling.model_dump(mode="json"),
        "model": model_key(settings.model),
        "train": settings.train.model_dump(mode="json", exclude=SPEED | {"device"}),
    }
    for name, default in BY_DEFAULT.items():
        if key["train"][name] == default:
            del key["train"][name]
    if (weights := _own_weights(settings.model.pretrained)) is not None:
        key["weights"] = sha256(weights)
    if arm.mixing != "none":
        key["mixing"] = settings.mixing.model_dump(mode="json")
    pixels = network(training.model)
    if pixels.mean != IMAGENET_MEAN:  # those of every network, once
        key["pixels"] = {"mean": list(pixels.mean), "std": list(pixels.std)}
    if settings.labels != LabelSettings():
        key["labels"] = settings.labels.model_dump(mode="json")
    if arm.clips != "all":
        key["groups"] = settings.groups.model_dump(mode="json")
    return CacheKey("train", VERSION, key, (ingested, index))


def model_key(model: ModelSettings) -> dict[str, Any]:
    """The network's part of the key; models from before `freeze` keep theirs."""
    return model.model_dump(mode="json", exclude=set() if model.freeze else {"freeze"})


def _own_weights(pretrained: str | None) -> Path | None:
    """The file that `model.pretrained` names, by itself or by the folder of a trained model; None if it is no file."""
    path = Path(pretrained or "")
    file = path / WEIGHTS if path.is_dir() else path
    return file if pretrained is not None and file.is_file() else None


def nodes(graph: Graph) -> dict[Training, Node]:
    """One node a training, each after a shorter one that it goes on with."""
    made: dict[Training, Node] = {}
    shorter = {training: shorter_of(training, graph.trainings) for training in graph.trainings}

    def node(training: Training) -> Node:
        title = f"train {training.title}"

        def expect(inputs: Inputs) -> Iterator[ExpectedOutput]:
            read = {name: inputs[name] for name in ("ingested", "index")}
            key = cache_key(training, **read) if complete(read) and _weights_are_known(training, graph) else None
            dataset, fold = training.dataset, training.fold
            clips, tested = count_clips(graph, dataset, fold, "train"), count_clips(graph, dataset, fold, "test")
            yield ExpectedOutput("train", title, key, dataset, clips, tested, training, training.faces)

        inputs = {"ingested": clip_table_of(graph, training), "index": graph["index"][training.faces]}
        if (begins_with := shorter[training]) is not None:
            inputs["shorter"] = made[begins_with]
        arguments = {"training": training, "is_gone_on_with": training in shorter.values()}
        return Node("train", title, train_arm, arguments, inputs, expect, needs_run=True)

    _check_groups(graph)
    for training in sorted(graph.trainings, key=lambda one: one.settings.train.epochs):
        made[training] = node(training)
    return made


def shorter_of(training: Training, others: Iterable[Training]) -> Training | None:
    """The longest of the shorter trainings that this one is a continuation of: those that a table compares with it, of
    the same settings, where the learning rate does not depend on the number of epochs.

    Not one that looks at the test fold after its last epoch when the longer one does not: its best epoch there might be
    another one.
    """
    train = training.settings.train
    if train.schedule != "step" or not training.named_by_length:
        return None

    def lengthened(other: Training) -> Training:
        longer = other.settings.train.model_copy(update={"epochs": train.epochs})
        return replace(other, settings=other.settings.model_copy(update={"train": longer}))

    fitting = [
        other
        for other in others
        if (epochs := other.settings.train.epochs) < train.epochs
        and not (train.monitor_every and epochs % train.monitor_every)
        and lengthened(other) == training
    ]
    return max(fitting, key=lambda other: other.settings.train.epochs, default=None)


def _check_groups(graph: Graph) -> None:
    """Find classes without clear clips before any training starts, among the clips that have aligned faces."""
    of_groups = [training for training in graph.trainings if training.arm.clips != "all"]
    aligned = {faces: graph.aligned(faces) for faces in {training.faces for training in of_groups}}
    for training in of_groups:
        clips, kept = graph.clips(training.dataset), aligned[training.faces]
        if clips is not None and kept is not None:
            try:
                check_group(training, clips, kept)
            except ValueError as error:
                graph.tolerate(error, training.dataset)


def count_clips(graph: Graph, dataset: str, fold: int | None, part: Literal["train", "test", "across"]) -> int:
    """The clips of a part of a data set; of a synthetic one that is not made yet, about as many as it will have."""
    clips = graph.clips(dataset)
    if clips is None:
        return graph.pipeline.demo_data.clips
    try:
        return len(protocol.across(clips)[0] if part == "across" else protocol.part(clips, fold=fold, part=part))
    except ValueError as error:
        graph.tolerate(error, dataset)
        return 0


def _weights_are_known(training: Training, graph: Graph) -> bool:
    """Whether a cache key can be made: the SHA-256 of a weight file of one's own is a part of it."""
    model = training.settings.model
    by_name = model.pretrained is None or model.pretrained in network(model.name).pretrained
    if by_name or _own_weights(model.pretrained) is not None:
        return True
    graph.unknown[training.dataset] = f"the weights {model.pretrained} of its trainings are not here"
    return False


STAGE = Stage("train", nodes, lambda pipeline: any(experiment.trains for experiment in pipeline.experiments))


@task(name="train", cache_policy=NO_CACHE, on_failure=[note_stage], **WHERE_IT_CAN_PASS)
def train_arm(
    pipeline: Pipeline,
    training: Training,
    ingested: StageResult,
    index: StageResult,
    run: RunResources,
    shorter: StageResult | None = None,
    is_gone_on_with: bool = False,
) -> StageResult:
    """Train an arm on the training part of its fold. Killed half-way, it goes on from its last checkpoint.

    Args:
        shorter: a training that this one goes on with, to the same result as from the start.
        is_gone_on_with: the last checkpoint is kept for longer trainings.
    """
    slot = run.slots.training(training.settings.train.processes)

    @contextmanager
    def slots_here_and_on_the_server() -> Iterator[None]:
        with slot, training_slot(training.settings.train.processes):
            yield

    def work(folder: Path) -> dict[str, int]:
        tracked = _tracked_run(run.tracking, training, ingested, folder)
        epochs = training.settings.train.epochs
        with (
            run.tracking.working_on(tracked),
            system_metrics(tracked),
            run.progress.bar(f"train {training.title}", "epochs", share=epochs) as advance,
        ):
            job = Job(
                training,
                clips=ingested.output.file(CLIPS),
                index=index.output.file(FILE_NAME),
                stages=store_of(pipeline).root,
                folder=folder,
                run=tracked,
                card={
                    "pipeline": pipeline.name,
                    "dataset": training.dataset,
                    "fold": training.fold,
                    **({"split": training.split} if training.split != "official" else {}),
                    "synthetic_data": pipeline.datasets[training.dataset].generated,
                    "alignment": training.settings.alignment.model_dump(mode="json"),
                    "detection": training.settings.detection.model_dump(mode="json"),
                    "faces": training.faces.for_card(),
                    **fine_tuning.for_card(training.settings.model.pretrained),
                },
                threads=run.slots.threads_per_training,
                at_a_time=trainings_at_a_time(pipeline),
                on_its_gpu=slot.sharing,
                begins_with=shorter.output.path / FINAL_CHECKPOINT if shorter is not None else None,
            )

            def train(settings: TrainSettings, frames_on_gpu: bool) -> dict[str, int]:
                return run_isolated(
                    train_in_process,
                    threads=job.threads,
                    environment=slot.environment,
                    on_message=advance,
                    job=job,
                    settings=settings,
                    frames_on_gpu=frames_on_gpu,
                )

            counts = with_less_memory(train, training.settings.train, folder, title=training.title)
        if is_gone_on_with:
            shutil.copy(folder / CHECKPOINT, folder / FINAL_CHECKPOINT)
        return counts

    key = cache_key(training, ingested.output, index.output)
    return task_result(ensure(pipeline, key, work, resumes_from=CHECKPOINT, slot=slots_here_and_on_the_server))


def _tracked_run(tracking: PipelineTracking, training: Training, ingested: StageResult, folder: Path) -> TrackedRun:
    """The run in MLflow: the one that a training which was killed left in its folder, or a new one."""
    tracked = tracking.run_of(folder)
    if tracked is None:
        tracked = tracking.arm_run(training)
        tracked.write(folder)
        part = "train" if training.fold is None else f"fold {training.fold} train"
        clips, source = training_clips(training, ingested.output.file(CLIPS)), ingested.output.path
        tracked.log_dataset(clips, name=f"{training.dataset} {part}", source=source, context="training")
    return tracked
