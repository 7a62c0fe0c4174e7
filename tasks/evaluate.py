"""Stage `evaluate`: a trained model on the clips of a data set it was not trained on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from dfer.config import Pipeline
from dfer.processes import run_isolated
from dfer.store import Made, Recipe
from tasks.ingest import clips_of
from tasks.stage import Slots, ensure, shown, store_of
from tasks.tracking import PipelineTracking, TrackedRun, log_dataset

VERSION = 1


@task(name="evaluate", task_run_name="evaluate {arm} fold {fold} on {dataset}", cache_policy=NO_CACHE)
def evaluate_model(
    pipeline: Pipeline,
    arm: str,
    fold: int,
    dataset: str,
    model: Made,
    ingested: Made,
    index: Made,
    tracking: PipelineTracking,
    slots: Slots,
) -> Made:
    """Predict every clip of the test part: the fold's own, or of another data set its evaluation split."""
    own = dataset == pipeline.dataset
    key = {"dataset": dataset, "fold": fold if own else None}
    recipe = Recipe("evaluate", VERSION, key, (model.output, ingested.output, index.output))

    def work(folder: Path) -> dict[str, int]:
        counts: dict[str, int] = run_isolated(
            "tasks.evaluate:evaluate_in_process",
            threads=slots.threads_per_training,
            pipeline=pipeline,
            arm=arm,
            fold=fold if own else None,
            dataset=dataset,
            model=model,
            ingested=ingested,
            index=index,
            folder=folder,
            threads_of_prediction=slots.threads_per_training,
        )
        run = TrackedRun.read(model.output.path)
        if run is not None and tracking.belongs(run):
            log_evaluation(run, dataset, folder)
        return counts

    with slots.training:
        return shown(ensure(pipeline, recipe, work))


def evaluate_in_process(
    *,
    pipeline: Pipeline,
    arm: str,
    fold: int | None,
    dataset: str,
    model: Made,
    ingested: Made,
    index: Made,
    folder: Path,
    threads_of_prediction: int,
    send: Callable[[Any], None],
) -> dict[str, int]:
    from dfer import plots
    from dfer.datasets import protocol
    from dfer.evaluation import predict, score, write_predictions
    from dfer.faces.index import FILE_NAME, read_index

    clips = clips_of(ingested)
    listed = protocol.part(clips, fold=fold, part="test")
    predictions = predict(
        model.output.path,
        listed,
        read_index(index.output.path / FILE_NAME),
        store_of(pipeline).root,
        device=pipeline.settings.train.device,
        threads=threads_of_prediction,
    )
    write_predictions(predictions, folder / "predictions.parquet")
    part = f"fold {fold}" if fold is not None else protocol.evaluation_split(clips)
    metrics = {"part": part, **score(predictions, num_listed=len(listed))}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    plots.confusion(metrics["confusion_matrix"], folder / "confusion.png", title=f"{arm} on {dataset} ({part})")
    return {"listed": len(listed), "scored": len(predictions)}


def log_evaluation(run: TrackedRun, dataset: str, folder: Path) -> None:
    """Put an evaluation's numbers and files into the run of the model that was evaluated."""
    metrics = json.loads((folder / "metrics.json").read_text())
    shown = {"war": "WAR", "uar": "UAR", "nll": "NLL", "ece": "ECE"}
    numbers = {shown.get(name, name): value for name, value in metrics.items() if isinstance(value, int | float)}
    recalls = {
        f"recall_{emotion}": value for emotion, value in metrics["per_class_recall"].items() if value is not None
    }
    run.log({f"{dataset}/{name}": value for name, value in {**numbers, **recalls}.items()})
    for name in ("metrics.json", "predictions.parquet", "confusion.png"):
        run.log_artifact(folder / name, f"evaluation/{dataset}")
    from dfer.evaluation import read_predictions

    log_dataset(
        run, read_predictions(folder / "predictions.parquet"), name=dataset, source=folder, context="evaluation"
    )
