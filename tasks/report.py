"""Stage `report`: all evaluations of a pipeline side by side, on disk, in MLflow and in Prefect."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from dfer import plots, results
from dfer.config import Pipeline
from dfer.evaluation import read_predictions
from dfer.labels import EMOTIONS
from dfer.store import Made, Recipe
from tasks.evaluate import log_evaluation
from tasks.ingest import clips_of
from tasks.stage import ensure, shown
from tasks.tracking import PipelineTracking, TrackedRun

VERSION = 1

SYNTHETIC = (
    "Synthetic data, animated from a photograph: these numbers show that the pipeline runs, not how good a method is."
)


@dataclass(frozen=True)
class Evaluation:
    """Which arm was trained on which fold, and what came of it on a data set."""

    arm: str
    fold: int
    dataset: str
    model: Made
    made: Made


@task(name="report", cache_policy=NO_CACHE)
def write_report(
    pipeline: Pipeline,
    ingested: dict[str, Made],
    indexes: dict[str, Made],
    evaluations: list[Evaluation],
    tracking: PipelineTracking,
) -> Made:
    """Tables and pictures of one run of a pipeline; the same go to the parent run in MLflow."""
    order = [[e.arm, e.fold, e.dataset] for e in evaluations]
    used = [*(e.made.output for e in evaluations), *(made.output for made in indexes.values())]
    recipe = Recipe("report", VERSION, {"pipeline": pipeline.name, "evaluations": order}, tuple(used))

    def work(folder: Path) -> dict[str, int]:
        parent = tracking.parent()
        _represent_earlier_trainings(evaluations, tracking)
        table = _write_tables(pipeline, evaluations, folder)
        clips = {name: clips_of(made) for name, made in ingested.items()}
        counts = {name: [int((c["label"] == k).sum()) for k in range(len(EMOTIONS))] for name, c in clips.items()}
        plots.class_distribution(counts, folder / "class_distribution.png")
        note = SYNTHETIC if _synthetic(pipeline) else ""
        plots.arms(table, folder / "arms.png", note=note)
        for name, made in indexes.items():
            shutil.copyfile(made.output.path / "aligned.jpg", folder / f"aligned_{name}.jpg")
            shutil.copyfile(ingested[name].output.path / "report.txt", folder / f"ingest_{name}.txt")
        _write_page(pipeline, table, indexes, folder)
        for path in sorted(folder.glob("*.*")):
            if not path.name.startswith("."):
                parent.log_artifact(path, "report")
        for row in table.to_dict(orient="records"):
            scores = ("WAR", "UAR", "WAR_sd", "UAR_sd")
            parent.log({f"{row['arm']}/{row['dataset']}/{name}": row[name] for name in scores})
        parent.write(folder)
        return {"evaluations": len(evaluations)}

    made = ensure(pipeline, recipe, work)
    _publish(pipeline, made)
    return shown(made)


def _represent_earlier_trainings(evaluations: list[Evaluation], tracking: PipelineTracking) -> None:
    """Every arm and fold of the table has a run under the parent, also one that was trained for an earlier run."""
    models = {(e.arm, e.fold): e.model for e in evaluations}
    for (arm, fold), model in models.items():
        run = TrackedRun.read(model.output.path)
        if tracking.belongs(run):
            continue
        copy = tracking.copy_of(run, arm, fold)
        # also what this pipeline run was the first to evaluate the earlier model on
        for e in evaluations:
            if (e.arm, e.fold) == (arm, fold):
                log_evaluation(copy, e.dataset, e.made.output.path)


def _write_tables(pipeline: Pipeline, evaluations: list[Evaluation], folder: Path) -> pd.DataFrame:
    rows = [
        {
            "arm": e.arm,
            "fold": e.fold,
            "dataset": e.dataset,
            "metrics": json.loads((e.made.output.path / "metrics.json").read_text()),
        }
        for e in evaluations
    ]
    folds = results.per_fold(rows)
    folds.to_csv(folder / "folds.csv", index=False)
    table = results.summary(folds)
    table.to_csv(folder / "results.csv", index=False)
    if len(pipeline.folds) > 1:
        summed = {arm: _sum_over_folds(arm, pipeline.dataset, evaluations) for arm in pipeline.arms}
        (folder / "summed_over_folds.json").write_text(json.dumps(summed, indent=1))
    return table


def _sum_over_folds(arm: str, dataset: str, evaluations: list[Evaluation]) -> results.Row:
    own = [e for e in evaluations if e.arm == arm and e.dataset == dataset]
    listed = sum(e.made.output.counts["listed"] for e in own)
    predictions = [read_predictions(e.made.output.path / "predictions.parquet") for e in own]
    return results.summed_over_folds(predictions, listed)


def _write_page(pipeline: Pipeline, table: pd.DataFrame, indexes: dict[str, Made], folder: Path) -> None:
    kept = ["| data set | clips given | kept | not kept |", "|---|---:|---:|---|"]
    for name, made in indexes.items():
        counts = made.output.counts
        kept.append(f"| {name} | {counts['given']} | {counts['ok']} | {failures(counts)} |")
    lines = [
        f"# {pipeline.name}",
        pipeline.description + ".",
        *([f"**{SYNTHETIC}**"] if _synthetic(pipeline) else []),
        results.as_markdown(table),
        _how_chosen(pipeline),
        "\n".join(kept),
    ]
    (folder / "report.md").write_text("\n\n".join(lines) + "\n")


def _how_chosen(pipeline: Pipeline) -> str:
    chosen = {"last": "the last epoch", "validation": "the best epoch on an inner part of the training folds"}
    return (
        f"Scores are of {chosen[pipeline.settings.train.selection]}, averaged over "
        f"{len(pipeline.folds)} fold{'s' if len(pipeline.folds) > 1 else ''}; other data sets without fine-tuning."
    )


def failures(counts: dict[str, int]) -> str:
    """'2 no_face, 1 empty_file', the most frequent first."""
    reasons = {name.removeprefix("failed."): n for name, n in counts.items() if name.startswith("failed.")}
    return ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items(), key=lambda item: -item[1])) or "none"


def _synthetic(pipeline: Pipeline) -> bool:
    return any(dataset.generated for dataset in pipeline.datasets.values())


def _publish(pipeline: Pipeline, made: Made) -> None:
    """The latest report under a name that a person finds, and in Prefect."""
    public = pipeline.work_dir / "reports" / pipeline.name
    if made.executed or not public.exists():
        shutil.rmtree(public, ignore_errors=True)
        shutil.copytree(made.output.path, public, ignore=shutil.ignore_patterns("manifest.json", "tracking.json"))
    create_markdown_artifact((made.output.path / "report.md").read_text(), key=f"report-{pipeline.name}")
    run = TrackedRun.read(made.output.path)
    if run is not None:
        create_link_artifact(run.page, link_text="the runs in MLflow", key=f"mlflow-{pipeline.name}")
