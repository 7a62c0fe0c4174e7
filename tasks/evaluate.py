"""Stage `evaluate`: a trained model on the clips of a data set that it was not trained on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from dfer.config.experiments import Evaluation
from dfer.config.pipeline import Pipeline
from dfer.datasets import protocol
from dfer.faces.index import FILE_NAME
from dfer.storage.file_names import CONFUSION, METRICS, PREDICTIONS
from dfer.storage.store import CacheKey, Output, StageResult
from tasks.ingest import clips_of, known_classes_of
from tasks.running.failures import note_stage
from tasks.running.graph import ExpectedOutput, Graph, Inputs, Node, Stage, complete
from tasks.running.stage import RunResources, ensure, store_of, task_result
from tasks.split import clip_table_of
from tasks.tracking.outbox import TrackedRun
from tasks.train import count_clips

VERSION = 2

_NO_NAME = re.compile(r"[^\w .:-]")  # signs that MLflow takes in no name of a metric


def cache_key(evaluation: Evaluation, model: Output, ingested: Output, index: Output) -> CacheKey:
    """What determines a prediction table."""
    key: dict[str, object] = {
        "dataset": evaluation.dataset,
        "fold": None if evaluation.across else evaluation.training.fold,
        "frames": evaluation.frames,
        "weights": evaluation.weights,
    }
    if evaluation.training.arm.normalize == "softmax":
        key["read_out"] = True  # earlier versions kept the softmax of these arms' logits as their probabilities
    return CacheKey("evaluate", VERSION, key, (model, ingested, index))


def nodes(graph: Graph) -> dict[Evaluation, Node]:
    """One node an evaluation."""

    def node(evaluation: Evaluation) -> Node:
        title, training = f"evaluate {evaluation.title}", evaluation.training

        def expect(inputs: Inputs) -> Iterator[ExpectedOutput]:
            key, dataset = cache_key(evaluation, **inputs) if complete(inputs) else None, evaluation.dataset
            clips = count_clips(graph, dataset, training.fold, "across" if _whole_part(evaluation) else "test")
            yield ExpectedOutput("evaluate", title, key, dataset, clips, training=training, faces=evaluation.faces)

        table = graph["ingest"][evaluation.dataset] if evaluation.across else clip_table_of(graph, training)
        inputs = {
            "model": graph["train"][training],
            "ingested": table,
            "index": graph["index"][evaluation.faces],
        }
        return Node("evaluate", title, evaluate_model, {"evaluation": evaluation}, inputs, expect, needs_run=True)

    return {evaluation: node(evaluation) for evaluation in graph.evaluations}


def _whole_part(evaluation: Evaluation) -> bool:
    """Whether the data set's evaluation split is used, rather than the test part of the training's fold."""
    return evaluation.across or evaluation.training.fold is None


def listed_clips(evaluation: Evaluation, clips: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The clips of the data set's table that are to be predicted, and what this part of it is called."""
    if _whole_part(evaluation):
        return protocol.across(clips)
    fold = evaluation.training.fold
    return protocol.part(clips, fold=fold, part="test"), f"fold {fold}"


STAGE = Stage("evaluate", nodes, lambda pipeline: any(experiment.trains for experiment in pipeline.experiments))


@task(name="evaluate", cache_policy=NO_CACHE, on_failure=[note_stage])
def evaluate_model(
    pipeline: Pipeline,
    evaluation: Evaluation,
    model: StageResult,
    ingested: StageResult,
    index: StageResult,
    run: RunResources,
) -> StageResult:
    """Predict every clip of the test part: the fold's own, or of another data set its evaluation split."""
    slot = run.slots.training()

    def work(folder: Path) -> dict[str, int]:
        from dfer.evaluation import evaluate_in_process

        listed, part = listed_clips(evaluation, clips_of(ingested))
        with slot.workers.one() as process:
            counts = process.call(
                evaluate_in_process,
                model=model.output.path,
                clips=listed,
                part=part,
                index=index.output.path / FILE_NAME,
                root=store_of(pipeline).root,
                folder=folder,
                title=evaluation.title,
                frames=evaluation.frames,
                weights=evaluation.weights,
                among=known_classes_of(ingested),
                device=evaluation.training.settings.train.device,
                threads=run.slots.threads_per_training,
            )
        tracked = run.tracking.run_of(model.output.path)
        if tracked is not None:
            log_evaluation(tracked, evaluation, folder)
        return counts

    key = cache_key(evaluation, model.output, ingested.output, index.output)
    return task_result(ensure(pipeline, key, work, slot=lambda: slot))


def log_evaluation(run: TrackedRun, evaluation: Evaluation, folder: Path) -> None:
    """Put an evaluation's numbers and files into the run of the model that was evaluated."""
    metrics = json.loads((folder / METRICS).read_text())
    shown = {"war": "WAR", "uar": "UAR", "nll": "NLL", "ece": "ECE"}
    shown |= {"war_all_listed": "WAR_all_listed", "uar_all_listed": "UAR_all_listed"}
    numbers = {shown.get(name, name): value for name, value in metrics.items() if isinstance(value, int | float)}
    recalls = {
        f"recall_{_NO_NAME.sub('_', name)}": value
        for name, value in metrics["per_class_recall"].items()
        if value is not None
    }
    run.log_once({f"{evaluation.short}/{name}": value for name, value in {**numbers, **recalls}.items()})
    files = [folder / name for name in (METRICS, PREDICTIONS, CONFUSION)]
    run.log_files(files, f"evaluation/{evaluation.short}")
    from dfer.evaluation import read_predictions

    predictions = read_predictions(folder / PREDICTIONS)
    run.log_dataset(predictions, name=evaluation.short, source=folder, context="evaluation")
