"""Stage `report`: the tables and figures of a pipeline, on disk, in MLflow and in Prefect."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import yaml
from filelock import FileLock
from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from dfer.config import licences
from dfer.config.experiments import Evaluation, Experiment, Faces, Row, Training, trainings_of
from dfer.config.pipeline import Pipeline
from dfer.config.published import load as load_published
from dfer.config.reduced import reduced
from dfer.faces.index import FILE_NAME, read_index
from dfer.storage import remote
from dfer.storage.file_names import CARD, HISTORY, METRICS, PREDICTIONS, REPORT_PAGE, REPORT_TEXT, TRACKED_RUN
from dfer.storage.layout import put_in_place
from dfer.storage.manifest import MANIFEST
from dfer.storage.store import CacheKey, Output, StageResult
from tasks.evaluate import listed_clips, log_evaluation
from tasks.ingest import REPORT, clips_of, root_of
from tasks.running.failures import note_stage
from tasks.running.graph import ExpectedOutput, Graph, Inputs, Node, Stage, complete
from tasks.running.stage import RunResources, artifact_key, ensure, store_of, task_result
from tasks.tracking.outbox import TrackedRun
from tasks.tracking.runs import PipelineTracking, outbox_of, versions

if TYPE_CHECKING:
    from dfer.report.content import ArmResult, Leakage, ReportContent

# below `dfer`, whose messages appear in Prefect's page
logger = logging.getLogger(f"dfer.{__name__}")

VERSION = 12

MODEL_CARDS = "model-cards"
"""In the report's folder: a card for people of each model."""

RESULTS = "results.csv"

Runs = Mapping[Training, TrackedRun]


def cache_key(
    pipeline: Pipeline,
    rows: Mapping[str, list[Row]],
    *made_from: Iterable[Output],
    missing: Mapping[str, str] | None = None,
) -> CacheKey:
    """What determines a report."""
    key = _key(pipeline, rows) | ({"missing": dict(missing)} if missing else {})
    return CacheKey("report", VERSION, key, tuple(output for group in made_from for output in group))


def nodes(graph: Graph) -> dict[str, Node]:
    """One node, for all tables and figures of the pipeline."""
    pipeline = graph.pipeline
    inputs = {
        "ingested": dict(graph["ingest"]),
        "indexes": dict(graph["index"]),
        "splits": dict(graph["split"]),
        "trained": dict(graph["train"]),
        "scored": dict(graph["evaluate"]),
    }

    def expect(inputs: Inputs) -> Iterator[ExpectedOutput]:
        used = [inputs[name].values() for name in ("scored", "indexes", "ingested", "splits")]
        # models are read through what they scored
        known = complete({name: value for name, value in inputs.items() if name != "trained"})
        yield ExpectedOutput(
            "report", f"report {pipeline.name}", cache_key(pipeline, graph.rows, *used) if known else None
        )

    return {"report": Node("report", "report", write_report, {"rows": graph.rows}, inputs, expect, needs_run=True)}


STAGE = Stage("report", nodes, partial=True)


@task(name="report", cache_policy=NO_CACHE, on_failure=[note_stage])
def write_report(
    pipeline: Pipeline,
    rows: dict[str, list[Row]],
    ingested: dict[str, StageResult],
    indexes: dict[Faces, StageResult],
    splits: dict[Faces, StageResult],
    trained: dict[Training, StageResult],
    scored: dict[Evaluation, StageResult],
    run: RunResources,
    missing: dict[str, str] | None = None,
) -> StageResult:
    """Tables and figures of one run of a pipeline; the same go to the parent run in MLflow.

    Args:
        missing: the trainings and evaluations that failed or were not begun -> why. The report names them, and shows
            the others.
    """

    def work(folder: Path) -> dict[str, int]:
        from dfer import report
        from dfer.report import results

        tracking = run.tracking
        parent = tracking.parent()
        runs = _runs(trained, scored, tracking)
        # their pages are in the report; if MLflow does not answer, the report has no links
        tracking.deliverer.wait_for([parent, *runs.values()])
        content = _content(pipeline, ingested, indexes, splits, rows, trained, scored, runs, parent, missing or {})
        report.write(content, folder)
        table = results.summary(results.per_run(content))
        table.to_csv(folder / RESULTS, index=False)
        results.per_run(content).to_csv(folder / "runs.csv", index=False)
        summed = results.summed_over_folds(content)
        if len(summed):
            summed.to_csv(folder / "summed_over_folds.csv", index=False)
        _write_model_cards(pipeline, trained, scored, runs, folder)
        parent.log_files([folder], "report")
        for row in table.to_dict(orient="records"):
            prefix = f"{row['experiment']}/{row['model']}/{row['arm']}/{row['frames'].replace(' ', '-')}"
            prefix += f"/{row['split']}-folds" if row["split"] != "official" else ""
            prefix += f"/{row['epochs']:.0f}-epochs" if pd.notna(row["epochs"]) else ""
            parent.log_once({f"{prefix}/{name}": row[name] for name in results.SCORES})
        parent.write(folder)
        return {"evaluations": len(scored), "experiments": len(rows)}

    made_from = ([one.output for one in group.values()] for group in (scored, indexes, ingested, splits))
    result = ensure(pipeline, cache_key(pipeline, rows, *made_from, missing=missing), work)
    _publish(pipeline, result)
    if missing:
        page = pipeline.work_dir / "reports" / public_name(pipeline) / REPORT_PAGE
        logger.warning("%s has what there is, and names the %d tasks whose results are missing", page, len(missing))
    return task_result(result)


def _write_model_cards(
    pipeline: Pipeline,
    trained: Mapping[Training, StageResult],
    scored: Mapping[Evaluation, StageResult],
    runs: Runs,
    folder: Path,
) -> None:
    """A card for people of each model, in the report's folder and in the model's run."""
    from dfer.evaluation import read_predictions
    from dfer.prediction.models import certainty_of
    from dfer.report.model_card import FILE_NAME, CardFacts, ScoredOn, model_card
    from dfer.report.names import file_name

    cards = folder / MODEL_CARDS
    cards.mkdir()
    for training, result in trained.items():
        path, settings = result.output.path, training.settings
        card = json.loads((path / CARD).read_text(encoding="utf-8"))
        evaluations = {
            evaluation: scored[evaluation].output
            for evaluation in sorted(scored, key=lambda one: one.across)
            if evaluation.training == training and evaluation.short == evaluation.dataset
        }
        trained_on = pipeline.datasets[training.dataset]
        facts = CardFacts(
            title=f"{pipeline.name}, {training.title}",
            card=card,
            summary=json.loads((path / HISTORY).read_text())["summary"],
            faces=training.faces,
            scored=[
                ScoredOn(
                    evaluation.dataset,
                    (metrics := json.loads(output.file(METRICS).read_text()))["part"],
                    read_predictions(output.file(PREDICTIONS)),
                    metrics,
                )
                for evaluation, output in evaluations.items()
            ],
            certainty=certainty_of(card, path),
            licences=[
                licences.of_dataset(trained_on.layout, training.dataset, generated=trained_on.generated),
                licences.of_detector(settings.detection.model),
                *filter(None, [licences.of_weights(settings.model.pretrained)]),
                licences.CODE,
            ],
        )
        text = model_card(facts)
        (cards / f"{file_name(training.title)}-{result.output.hash[:8]}.md").write_text(text, encoding="utf-8")
        runs[training].log_text(text, FILE_NAME)


def _key(pipeline: Pipeline, rows: Mapping[str, list[Row]]) -> dict[str, object]:
    """What is shown and how; the numbers themselves come with the inputs."""
    published = [hashlib.sha256(path.read_bytes()).hexdigest() for path in pipeline.published]
    lines = {
        name: [[row.model, row.arm, row.frames, [evaluation.title for evaluation in row.evaluations]] for row in table]
        for name, table in rows.items()
    }
    asked = {
        # lengths of training and splits are in the titles of the rows
        e.name: {**e.entry.model_dump(mode="json", exclude={"settings", "epochs", "split"}), "protocol": e.protocol}
        for e in pipeline.experiments
    }
    return {"pipeline": pipeline.name, "rows": lines, "experiments": asked, "published": published}


def _runs(
    trained: Mapping[Training, StageResult], scored: Mapping[Evaluation, StageResult], tracking: PipelineTracking
) -> Runs:
    """Every training's run under the parent, also where it was trained for an earlier run of a pipeline."""
    runs = {}
    for training, model in trained.items():
        folder = model.output.path
        run = tracking.run_of(folder)
        if run is None:
            run = tracking.copy_of(tracking.outbox.noted(folder), training, folder)
            # also what this pipeline run was the first to evaluate the earlier model on
            for evaluation, result in scored.items():
                if evaluation.training == training:
                    log_evaluation(run, evaluation, result.output.path)
        runs[training] = run
    return runs


def _content(
    pipeline: Pipeline,
    ingested: Mapping[str, StageResult],
    indexes: Mapping[Faces, StageResult],
    splits: Mapping[Faces, StageResult],
    rows: Mapping[str, list[Row]],
    trained: Mapping[Training, StageResult],
    scored: Mapping[Evaluation, StageResult],
    runs: Runs,
    parent: TrackedRun,
    missing: Mapping[str, str],
) -> ReportContent:
    from dfer.report.content import DatasetFacts, ExperimentResult, ReportContent

    published = load_published(pipeline.published)
    tables = {name: clips_of(result) for name, result in ingested.items()}
    histories = {
        training: json.loads((result.output.path / HISTORY).read_text()) for training, result in trained.items()
    }
    return ReportContent(
        pipeline=pipeline.name,
        description=pipeline.description,
        reduced=reduced(
            pipeline,
            clips={name: result.output.counts["clips"] for name, result in ingested.items()},
            folds={name: result.output.counts.get("folds", 0) for name, result in ingested.items()},
        ),
        experiments=tuple(
            ExperimentResult(
                name=experiment.name,
                title=experiment.entry.title,
                note=experiment.entry.note,
                show=experiment.entry.show,
                dataset=experiment.dataset,
                rows=tuple(_arm(experiment, row, scored, tables, histories, runs) for row in rows[experiment.name]),
                published=published.get(experiment.entry.published or ""),
            )
            for experiment in pipeline.experiments
        ),
        datasets=tuple(
            DatasetFacts(
                name=faces.title(pipeline.settings) if faces else name,
                clips=tables[name],
                index=read_index(indexes[faces].output.path / FILE_NAME) if faces else None,
                ingest_report=(result.output.path / REPORT).read_text(encoding="utf-8"),
                aligned=indexes[faces].output.path / "aligned.jpg" if faces else None,
                synthetic=pipeline.datasets[name].generated,
                root=_videos_of(pipeline, name),
                leakage=_leakage(pipeline, splits[faces].output) if faces is not None and faces in splits else None,
            )
            for name, result in ingested.items()
            for faces in _faces_of(name, indexes)
        ),
        config=yaml.safe_dump(pipeline.as_dict(), sort_keys=False),
        versions={name: version or "unknown" for name, version in versions().items()},
        stages=store_of(pipeline).root,
        created=time.strftime("%Y-%m-%d %H:%M"),
        num_segments=pipeline.settings.sampling.num_segments,
        classes=pipeline.settings.labels.classes,
        links={_page_title(pipeline): parent.page} if parent.page else {},
        missing=missing,
    )


def _leakage(pipeline: Pipeline, split: Output) -> Leakage:
    from dfer.analysis.disjoint_split import FACTS, PAIRS
    from dfer.report.content import Leakage

    facts = json.loads(split.file(FACTS).read_text(encoding="utf-8"))
    pairs = pd.read_parquet(split.file(PAIRS))
    return Leakage(pairs, folds=split.counts["folds"], stages=store_of(pipeline).root, **facts)


def _faces_of(dataset: str, indexes: Iterable[Faces]) -> Sequence[Faces | None]:
    """A data set is shown once for each way in which its faces were aligned; once if they were not."""
    return [faces for faces in indexes if faces.dataset == dataset] or [None]


def _videos_of(pipeline: Pipeline, dataset: str) -> Path | None:
    """The data set's folder; None where it is gone, since a report can be made without it."""
    try:
        root = root_of(pipeline, dataset)
    except FileNotFoundError:
        return None
    return root if root.is_dir() else None


def _page_title(pipeline: Pipeline) -> str:
    return "runs in MLflow" + ("" if pipeline.tracking_uri.startswith("http") else " (make ui starts it)")


def _arm(
    experiment: Experiment,
    row: Row,
    scored: Mapping[Evaluation, StageResult],
    tables: Mapping[str, pd.DataFrame],
    histories: Mapping[Training, dict],
    runs: Runs,
) -> ArmResult:
    from dfer.evaluation import read_predictions, score_all_listed
    from dfer.report.content import ArmResult, FoldRun

    folds, made = [], [evaluation for evaluation in row.evaluations if evaluation in scored]
    for evaluation in made:
        folder, history = scored[evaluation].output.path, histories[evaluation.training]
        metrics, predictions = json.loads((folder / METRICS).read_text()), read_predictions(folder / PREDICTIONS)
        if "war_all_listed" not in metrics:  # evaluated by an earlier version
            listed, _ = listed_clips(evaluation, tables[evaluation.dataset])
            metrics |= score_all_listed(predictions, listed)
        folds.append(
            FoldRun(
                fold=evaluation.training.fold,
                seed=evaluation.training.seed,
                metrics=metrics,
                predictions=predictions,
                url=runs[evaluation.training].page,
                history=history["epochs"],
                training=history["summary"],
            )
        )
    parts = list(dict.fromkeys(run.metrics["part"] for run in folds))
    url = ""
    if made:
        first, *others = [runs[training] for training in trainings_of(made)]
        url = first.page_beside(others) if others else first.page
    return ArmResult(
        model=row.model,
        arm=row.arm,
        trained_on=experiment.dataset,
        evaluated_on=experiment.evaluate_on,
        part=parts[0] if len(parts) == 1 else f"{len(parts)} folds",
        protocol=experiment.protocol,
        frames=row.frames,
        epochs=row.epochs,
        split=row.split,
        runs=tuple(folds),
        url=url,
        missing_runs=len(row.evaluations) - len(made),
    )


def failures(counts: dict[str, int]) -> str:
    """'2 no_face, 1 empty_file', the most frequent first."""
    reasons = {name.removeprefix("failed."): n for name, n in counts.items() if name.startswith("failed.")}
    return ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items(), key=lambda item: -item[1])) or "none"


def public_name(pipeline: Pipeline) -> str:
    """What the folder of the report is called where a person looks for it."""
    return ".".join([pipeline.name, *pipeline.selected])


def copy_report(report: Path, public: Path) -> None:
    """Copy a report to another name, where it replaces an earlier one in one step."""
    unfinished = public.with_name(f".{public.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(report, unfinished, ignore=shutil.ignore_patterns(MANIFEST, TRACKED_RUN))
    put_in_place(unfinished, public)


def _publish(pipeline: Pipeline, result: StageResult) -> None:
    """The latest report under a name that a person finds, and in Prefect."""
    # also where the report existed: since then, one with other tables may have taken this name
    public = pipeline.work_dir / "reports" / public_name(pipeline)
    public.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(public.with_name(f".{public.name}.lock")):  # another run of the pipeline may do the same
        copy_report(result.output.path, public)
        if pipeline.work_url:
            remote.replace(public, f"{pipeline.work_url}/reports/{public_name(pipeline)}")
    create_markdown_artifact(
        (result.output.path / REPORT_TEXT).read_text(encoding="utf-8"), key=artifact_key("report", pipeline.name)
    )
    page = (public / REPORT_PAGE).resolve().as_uri()
    create_link_artifact(page, link_text="the whole report", key=artifact_key("page", pipeline.name))
    run = outbox_of(pipeline).noted(result.output.path)
    if run is not None and run.page:
        create_link_artifact(run.page, link_text="the runs in MLflow", key=artifact_key("mlflow", pipeline.name))
