"""What a report is made of: everything that it shows, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from dfer.config.experiments import Frames, Split
from dfer.config.published import PublishedTable
from dfer.config.settings import Protocol, Show
from dfer.datasets.table import with_classes
from dfer.labels import EMOTIONS, classes_of
from dfer.storage.remote import Location


@dataclass(frozen=True)
class FoldRun:
    """One trained model and its results on one set of clips."""

    # the fold it was tested on; for a cross-dataset evaluation, the fold that its training left out; None for a set
    # with splits
    fold: int | None
    seed: int  # of its training
    metrics: Mapping[str, Any]  # what `dfer.evaluation.score` and `score_all_listed` give, and `part`
    predictions: pd.DataFrame  # the prediction table
    url: str  # its run's page in MLflow; empty if it has none
    history: list[dict[str, Any]]  # one row an epoch, as the training wrote it
    training: Mapping[str, Any]  # counts of the training's summary: clips, and what was left out and why


@dataclass(frozen=True)
class ArmResult:
    """A row of a table: a model and an arm, with all its folds and seeds."""

    model: str  # model, arm: names; `name` is both
    arm: str
    trained_on: str  # trained_on, evaluated_on: data sets
    evaluated_on: str
    part: str  # which part of the latter, for people: "fold 1", "5 folds", "val"
    # which epoch counts: "last", "validation" (best on an inner part of the training folds), or "paper" (best on the
    # test fold, too good by construction)
    protocol: Protocol
    frames: Frames  # the order of the frames at test time: "in order", "shuffled", "reversed", "peak"
    runs: tuple[FoldRun, ...]
    url: str  # a page of MLflow with all its runs side by side; empty if there is none
    epochs: int | None = None  # of its trainings, where the experiment compares lengths
    split: Split = "official"  # whose folds it was trained and tested on
    missing_runs: int = 0  # how many more it should have, which failed or were not begun

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
        together = pd.concat(tables, ignore_index=True).astype({"fold": "Int64", "seed": "int64"})
        return with_classes(together, classes_of(tables[0]))


@dataclass(frozen=True)
class ExperimentResult:
    """A table or a figure."""

    name: str  # as in the configuration, for example "table-2"
    title: str  # for people
    note: str  # shown right above it; may be empty
    show: Show  # what kind of table or figure it is
    dataset: str  # the data set whose clips it is about
    rows: tuple[ArmResult, ...]  # empty for a figure about votes
    published: PublishedTable | None = None  # the same table as others published it


@dataclass(frozen=True)
class Leakage:
    """The clips of a data set that give one another away, as the stage `split` has found them."""

    pairs: pd.DataFrame  # see `dfer.analysis.leakage.pairs`
    by: str  # by what clips were compared, for people
    likeness: float  # of two faces, from which on they are of the same scene
    folds: int  # how many were made of which no pair is in two
    stages: Location  # the folder that the index's shard folders are relative to


@dataclass(frozen=True)
class DatasetFacts:
    """A data set as it was used."""

    name: str
    clips: pd.DataFrame  # the clip table
    index: pd.DataFrame | None  # the align index; None where no faces were aligned (a figure about votes)
    ingest_report: str  # what the ingest reported, plain text
    aligned: Path | None  # a picture of aligned faces; None if there is none
    synthetic: bool  # made by the pipeline itself
    root: Path | None = None  # the folder that its videos are in; None if it is not here
    leakage: Leakage | None = None  # None where nothing asked for folds without it


@dataclass(frozen=True)
class ReportContent:
    """Everything that the report of one pipeline shows."""

    pipeline: str
    description: str
    reduced: str  # how this falls short of the paper's experiment (folds, epochs, clips); empty if it does not
    experiments: tuple[ExperimentResult, ...]
    datasets: tuple[DatasetFacts, ...]
    config: str  # the resolved configuration as YAML
    versions: Mapping[str, str]  # package -> version
    stages: Location  # the folder that the index's shard folders are relative to
    created: str  # when, for people
    num_segments: int = 8  # frames of a clip that are shown
    classes: tuple[str, ...] = EMOTIONS
    links: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)  # training or evaluation that was not made -> why
