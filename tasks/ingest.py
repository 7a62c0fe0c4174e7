"""Stage `ingest`: a data set's own folder to the clip table, with a report of everything that does not fit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from dfer import datasets
from dfer.config.experiments import Experiment, Row
from dfer.config.reading import Pipeline
from dfer.datasets import table
from dfer.storage.store import CacheKey, Output, StageResult
from tasks.demo_data import cache_key as demo_data_cache_key
from tasks.running.failures import note_stage
from tasks.running.stage import ensure, shown, store_of

VERSION = 2

_ROWS_AT_A_TIME = 4096


def read(
    pipeline: Pipeline, dataset: str, demo_data: Output | None
) -> tuple[Path, pd.DataFrame, datasets.IngestReport]:
    """Where a data set lies, its clip table, and what is to be said about it."""
    settings = pipeline.datasets[dataset]
    root = settings.root
    if settings.generated:
        assert demo_data is not None
        root = demo_data.path / settings.root
    return root, *datasets.inspect(settings.layout, root, dataset=dataset, source=settings.source)


def cache_key(
    pipeline: Pipeline, dataset: str, clips: pd.DataFrame, report: datasets.IngestReport, demo_data: Output | None
) -> CacheKey:
    """What determines a clip table: all that the data set's lists and files say."""
    settings = pipeline.datasets[dataset]
    found = report.to_dict()
    if pipeline.work_url:
        del found["root"]  # machines that share a work directory have the data set at places of their own
    said = json.dumps(found, sort_keys=True)
    key = {
        "dataset": dataset,
        "layout": settings.layout,
        "clips": _digest(clips),
        "report": hashlib.sha256(said.encode()).hexdigest(),
    }
    return CacheKey("ingest", VERSION, key, (demo_data,) if demo_data and settings.generated else ())


def _digest(clips: pd.DataFrame) -> str:
    """SHA-256 of a table as JSON, which is never there as a whole: its text is several times the table's size."""
    digest = hashlib.sha256(b"[")
    for first in range(0, len(clips), _ROWS_AT_A_TIME):
        rows = clips.iloc[first : first + _ROWS_AT_A_TIME].to_json(orient="records")
        digest.update(f"{',' if first else ''}{rows[1:-1]}".encode())
    digest.update(b"]")
    return digest.hexdigest()


@task(name="ingest", task_run_name="ingest {dataset}", cache_policy=NO_CACHE, on_failure=[note_stage])
def ingest(pipeline: Pipeline, dataset: str, demo_data: StageResult | None = None) -> StageResult:
    """Read a data set's lists and folders.

    They are read each time, which takes seconds; what they say is the key, so that nothing after this is run again
    unless a list, a vote or a file has changed.

    Raises:
        IngestError: the data set cannot be used as it is; the error holds the whole report.
    """
    settings, made_here = pipeline.datasets[dataset], demo_data.output if demo_data else None
    root, clips, report = read(pipeline, dataset, made_here)
    logger = get_run_logger()
    logger.info("%s", report.as_text())
    if report.fatal:
        raise datasets.IngestError(report)
    said = json.dumps(report.to_dict(), sort_keys=True)

    def work(folder: Path) -> dict[str, int]:
        table.write(clips, folder / "clips.parquet")
        (folder / "report.json").write_text(said)
        (folder / "report.txt").write_text(report.as_text())
        (folder / "root.json").write_text(json.dumps({"root": str(root), "synthetic": settings.generated}))
        return {
            "clips": len(clips),
            "folds": int(clips["fold"].nunique()),
            "with_votes": int(clips["votes"].notna().sum()),
        }

    create_markdown_artifact(f"```\n{report.as_text()}\n```", key=f"ingest-{dataset}", description="What was found")
    return shown(ensure(pipeline, cache_key(pipeline, dataset, clips, report, made_here), work))


class MissingFilesError(RuntimeError):
    """More of a data set's files are not there than allowed."""


def refuse_missing_files(pipeline: Pipeline, dataset: str, clips: pd.DataFrame) -> None:
    """Stop before any face is looked for where too many clips have no file.

    Raises:
        MissingFilesError: more clips are listed and not there than `shards.max_failed_share` allows to fail.
    """
    missing, allowed = int((clips["source_size"] < 0).sum()), pipeline.settings.shards.max_failed_share
    if missing > allowed * len(clips):
        raise MissingFilesError(
            f"{dataset}: the files of {missing} of {len(clips)} clips are not there, more than the {allowed:.0%} that "
            f"shards.max_failed_share allows. Fetch them, or have what was found listed with: "
            f"dfer config check {pipeline.name}"
        )


def rows_of(experiment: Experiment, clips: pd.DataFrame) -> list[Row]:
    """The lines of an experiment's table, once it is known how its data set is divided.

    Raises:
        ValueError: an arm wants votes that the data set does not have.
    """
    if experiment.trains:
        _refuse_missing_votes(experiment, clips["votes"].dropna())
    return experiment.rows(has_folds=bool(clips["fold"].notna().any()))


def _refuse_missing_votes(experiment: Experiment, votes: pd.Series) -> None:
    fewest = min((sum(counts) for counts in votes), default=0)
    for name, arm in experiment.arms.items():
        if votes.empty and (arm.labels == "soft" or arm.clips != "all"):
            raise ValueError(
                f"{experiment.name}: {experiment.dataset} has no votes, which {name} needs; choose arms with "
                "labels: hard for it"
            )
        if arm.votes is not None and arm.votes > fewest:
            raise ValueError(
                f"{experiment.name}: {name} takes {arm.votes} votes of each clip, but {experiment.dataset} has clips "
                f"with {fewest}; set arms.{name}.votes to at most that"
            )


def clips_of(ingested: StageResult) -> pd.DataFrame:
    """The clip table."""
    return table.read(ingested.output.path / "clips.parquet")


def root_of(pipeline: Pipeline, dataset: str) -> Path:
    """Where the data set's files lie on this machine, which need not be the one that has read its lists."""
    settings = pipeline.datasets[dataset]
    if not settings.generated:
        return settings.root
    made = store_of(pipeline).find(demo_data_cache_key(pipeline))
    if isinstance(made, str):
        raise FileNotFoundError(f"{dataset} was generated and is gone ({made}): run {pipeline.name} again")
    return made.path / settings.root
