"""Stage `ingest`: a data set's own folder to the clip table, with a report of everything that does not fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from dfer import datasets
from dfer.config.pipeline import Pipeline
from dfer.datasets import table
from dfer.datasets.vocabulary import in_classes
from dfer.storage.store import CacheKey, Output, StageResult
from tasks import demo_data
from tasks.running.failures import note_stage
from tasks.running.graph import ExpectedOutput, Graph, Inputs, Node, Stage
from tasks.running.stage import artifact_key, ensure, store_of, task_result

VERSION = 2

CLIPS = "clips.parquet"
REPORT = "report.txt"
FINDINGS = "report.json"

_ROWS_AT_A_TIME = 4096


def read(
    pipeline: Pipeline, dataset: str, demo_data: Output | None
) -> tuple[Path, pd.DataFrame, datasets.IngestReport]:
    """A data set's folder, its clip table, and what is wrong with it."""
    settings = pipeline.datasets[dataset]
    root = settings.root
    if settings.generated:
        assert demo_data is not None
        root = demo_data.path / settings.root
    clips, report = datasets.inspect(settings.layout, root, dataset=dataset, source=settings.source)
    return root, *in_classes(clips, report, pipeline.settings.labels, own_names=settings.layout == "table")


def cache_key(
    pipeline: Pipeline, dataset: str, clips: pd.DataFrame, report: datasets.IngestReport, demo_data: Output | None
) -> CacheKey:
    """What determines a clip table: all that the data set's lists and files say."""
    settings = pipeline.datasets[dataset]
    findings = report.to_dict()
    if pipeline.work_url:
        del findings["root"]  # machines that share a work directory may keep the data set in different folders
    key = {
        "dataset": dataset,
        "layout": settings.layout,
        "clips": _digest(clips),
        "report": hashlib.sha256(json.dumps(findings, sort_keys=True).encode()).hexdigest(),
    }
    return CacheKey("ingest", VERSION, key, (demo_data,) if demo_data and settings.generated else ())


def _digest(clips: pd.DataFrame) -> str:
    """SHA-256 of a table as JSON, a piece at a time: the whole text is several times as large as the table."""
    digest = hashlib.sha256(b"[")
    for first in range(0, len(clips), _ROWS_AT_A_TIME):
        rows = clips.iloc[first : first + _ROWS_AT_A_TIME].to_json(orient="records")
        digest.update(f"{',' if first else ''}{rows[1:-1]}".encode())
    digest.update(b"]")
    return digest.hexdigest()


def nodes(graph: Graph) -> dict[str, Node]:
    """One node a data set, by its name."""

    def node(dataset: str) -> Node:
        title, part = f"ingest {dataset}", demo_data.part_of(graph.pipeline, dataset)

        def expect(inputs: Inputs) -> Iterator[ExpectedOutput]:
            settings, made_from = graph.pipeline.datasets[dataset], inputs.get("demo_data")
            if part is None and not settings.root.is_dir():
                raise FileNotFoundError(f"{settings.root} does not exist")
            root, clips, report = read(graph.pipeline, dataset, made_from)
            if report.fatal:
                raise datasets.IngestError(report)
            key = cache_key(graph.pipeline, dataset, clips, report, made_from)
            yield ExpectedOutput("ingest", title, key, dataset, len(clips), root=root, table=clips)

        inputs = {"demo_data": graph["demo-data"][part]} if part is not None else {}
        return Node("ingest", title, ingest, {"dataset": dataset}, inputs, expect)

    return {dataset: node(dataset) for dataset in graph.pipeline.datasets}


STAGE = Stage("ingest", nodes)


@task(name="ingest", task_run_name="ingest {dataset}", cache_policy=NO_CACHE, on_failure=[note_stage])
def ingest(pipeline: Pipeline, dataset: str, demo_data: StageResult | None = None) -> StageResult:
    """Read a data set's lists and folders.

    They are read each time, which takes seconds; what they say is the cache key, so that nothing that depends on this
    is run again unless a list, a vote or a file has changed.

    Raises:
        IngestError: the data set cannot be used as it is; the error holds the whole report.
    """
    settings, made_from = pipeline.datasets[dataset], demo_data.output if demo_data else None
    root, clips, report = read(pipeline, dataset, made_from)
    get_run_logger().info("%s", report.as_text())
    if report.fatal:
        raise datasets.IngestError(report)

    def work(folder: Path) -> dict[str, int]:
        table.write(clips, folder / CLIPS)
        (folder / FINDINGS).write_text(json.dumps(report.to_dict(), sort_keys=True))
        (folder / REPORT).write_text(report.as_text(), encoding="utf-8", errors="backslashreplace")
        (folder / "root.json").write_text(json.dumps({"root": str(root), "synthetic": settings.generated}))
        return {
            "clips": len(clips),
            "folds": int(clips["fold"].nunique()),
            "with_votes": int(clips["votes"].notna().sum()),
        }

    key = artifact_key("ingest", dataset)
    create_markdown_artifact(f"```\n{report.as_text()}\n```", key=key, description="What was found")
    return task_result(ensure(pipeline, cache_key(pipeline, dataset, clips, report, made_from), work))


def clips_of(ingested: StageResult) -> pd.DataFrame:
    """The clip table."""
    return table.read(ingested.output.path / CLIPS)


def known_classes_of(ingested: StageResult) -> list[str] | None:
    """The pipeline's classes that the data set has; None where it has all."""
    report = json.loads((ingested.output.path / FINDINGS).read_text(encoding="utf-8"))
    return report.get("known")


def root_of(pipeline: Pipeline, dataset: str) -> Path:
    """A data set's folder on this machine, which need not be the one that has read its lists."""
    settings, part = pipeline.datasets[dataset], demo_data.part_of(pipeline, dataset)
    if part is None:
        return settings.root
    existing = store_of(pipeline).find(demo_data.cache_key(pipeline, part))
    if isinstance(existing, str):
        raise FileNotFoundError(f"{dataset} was generated and is gone ({existing}): run {pipeline.name} again")
    return existing.path / settings.root
