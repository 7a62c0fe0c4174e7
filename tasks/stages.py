"""The stages of the pipelines, in the order in which they run. A stage that is added is one more name in `PHASES`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import pandas as pd

from dfer.config.experiments import Faces
from dfer.config.pipeline import Pipeline
from dfer.config.problems import ConfigError, Problem
from dfer.config.suggestions import did_you_mean
from dfer.storage.store import ForceRerun
from tasks import align, demo_data, evaluate, ingest, report, split, train
from tasks.running.graph import Graph

PHASES = (
    (demo_data.STAGE, ingest.STAGE),  # draw the demo data, read the data sets
    # find, track and align the faces; make folds without leakage, where a table asks for them
    (align.STAGE, align.INDEX, split.STAGE),
    (train.STAGE, evaluate.STAGE),  # train the arms, evaluate them on their own folds and on other data sets
    (report.STAGE,),  # make the tables and figures
)
"""Stages of a phase run side by side, as far as their inputs allow; the next phase waits for all of them."""

STAGES = tuple(stage.name for phase in PHASES for stage in phase)
"""The stages' names, as `--from` takes them."""


def graph_of(
    pipeline: Pipeline,
    clips: Callable[[str], pd.DataFrame | None],
    tolerate: Callable[[Exception, str], None] | None = None,
    aligned: Callable[[Faces], Collection[str] | None] = lambda faces: None,
) -> Graph:
    """The nodes of a pipeline; see `Graph` for the arguments."""
    return Graph(pipeline, PHASES, clips, tolerate, aligned)


def stages_of(pipeline: Pipeline) -> tuple[str, ...]:
    """The stages that this pipeline has."""
    return tuple(stage.name for phase in PHASES for stage in phase if stage.belongs_to(pipeline))


def starting_from(pipeline: Pipeline, stage: str, since: float) -> Pipeline:
    """The pipeline with a stage that is run again, and so what depends on it.

    Args:
        pipeline: what is run.
        stage: one of `stages_of(pipeline)`; ConfigError for anything else.
        since: when that was asked for, seconds since 1970: what was made later has been made again already.
    """
    known = stages_of(pipeline)
    if stage not in known:
        message = f"{pipeline.name} has no such stage{did_you_mean(stage, known)}; it has {', '.join(known)}"
        raise ConfigError(Path("--from"), [Problem(None, stage, message)])
    return replace(pipeline, force_rerun=ForceRerun(stage, since))
