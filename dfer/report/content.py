"""What a report is made of: everything that it shows, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from dfer.config.experiments import Frames
from dfer.config.published import PublishedTable
from dfer.config.settings import Protocol, Show
from dfer.storage.remote import Location


@dataclass(frozen=True)
class FoldRun:
    """One trained model and its results on one set of clips.

    Attributes:
        fold: the fold it was tested on; for a cross-dataset evaluation, the fold that its training left out; None for a
            set with splits.
        seed: of its training.
        metrics: what `dfer.evaluation.score` gives, and `part`.
        predictions: the prediction table.
        url: its run's page in MLflow; empty if it has none.
        history: one row an epoch, as the training wrote it.
        training: counts of the training's summary: clips, and what was left out and why.
    """

    fold: int | None
    seed: int
    metrics: Mapping[str, Any]
    predictions: pd.DataFrame
    url: str
    history: list[dict[str, Any]]
    training: Mapping[str, Any]


@dataclass(frozen=True)
class ArmResult:
    """A row of a table: a model and an arm, with all its folds and seeds.

    Attributes:
        model, arm: names; `name` is both.
        trained_on, evaluated_on: data sets.
        part: which part of the latter, for people: "fold 1", "5 folds", "val".
        protocol: which epoch counts: "last", "validation" (best on an inner part of the training folds), or "paper"
            (best on the test fold, too good by construction).
        frames: the order of the frames at test time: "in order", "shuffled", "reversed", "peak".
        url: a page of MLflow with all its runs side by side; empty if there is none.
    """

    model: str
    arm: str
    trained_on: str
    evaluated_on: str
    part: str
    protocol: Protocol
    frames: Frames
    runs: tuple[FoldRun, ...]
    url: str

    @property
    def name(self) -> str:
        return f"{self.model}/{self.arm}"

    @property
    def in_order(self) -> bool:
        return self.frames == "in order"

    @property
    def predictions(self) -> pd.DataFrame:
        """The prediction tables of all runs, with the columns `fold` (Int64) and `seed` (int64)."""
        tables = [run.predictions.assign(fold=run.fold, seed=run.seed) for run in self.runs]
        return pd.concat(tables, ignore_index=True).astype({"fold": "Int64", "seed": "int64"})


@dataclass(frozen=True)
class ExperimentResult:
    """A table or a figure.

    Attributes:
        name: as in the configuration, for example "table-2".
        title: for people.
        note: shown right above it; may be empty.
        show: what kind of table or figure it is.
        dataset: the data set whose clips it is about.
        rows: empty for a figure about votes.
        published: the same table as others published it.
    """

    name: str
    title: str
    note: str
    show: Show
    dataset: str
    rows: tuple[ArmResult, ...]
    published: PublishedTable | None = None


@dataclass(frozen=True)
class DatasetFacts:
    """A data set as it was used.

    Attributes:
        clips: the clip table.
        index: the align index; None where no faces were aligned (a figure about votes).
        ingest_report: what the ingest reported, plain text.
        aligned: a picture of aligned faces; None if there is none.
        synthetic: made by the pipeline itself.
    """

    name: str
    clips: pd.DataFrame
    index: pd.DataFrame | None
    ingest_report: str
    aligned: Path | None
    synthetic: bool


@dataclass(frozen=True)
class ReportContent:
    """Everything that the report of one pipeline shows.

    Attributes:
        reduced: how this falls short of the paper's experiment (folds, epochs, clips); empty if it does not.
        config: the resolved configuration as YAML.
        versions: package -> version.
        stages: the folder that the index's shard folders are relative to.
        created: when, for people.
    """

    pipeline: str
    description: str
    reduced: str
    experiments: tuple[ExperimentResult, ...]
    datasets: tuple[DatasetFacts, ...]
    config: str
    versions: Mapping[str, str]
    stages: Location
    created: str
    num_segments: int = 8  # frames of a clip that are shown
    links: Mapping[str, str] = field(default_factory=dict)
