"""The graph of a pipeline: its stages' tasks, what they read from one another, and the outputs that they make."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import Task

from dfer.config.experiments import Evaluation, Experiment, Faces, Row, Training, evaluations_of, trainings_of
from dfer.config.pipeline import Pipeline
from dfer.datasets.trainable import check_group, check_votes
from dfer.storage.store import CacheKey

Inputs = Mapping[str, Any]
"""A node's inputs by name: outputs, lists or mappings of them; None stands for one that does not exist yet."""


@dataclass(frozen=True)
class ExpectedOutput:
    """An output that a node makes, as far as it is known without making it.

    Attributes:
        title: for people, as Prefect's page names the task.
        cache_key: None where an input does not exist yet, so that this output cannot exist either.
        clips: how many clips the work is about, as far as that is known.
        tested: of a training, the clips of its test part.
        root, table: of a data set, its folder and its clip table.
    """

    stage: str
    title: str
    cache_key: CacheKey | None
    dataset: str = ""
    clips: int = 0
    tested: int = 0
    training: Training | None = None
    faces: Faces | None = None
    root: Path = Path()
    table: pd.DataFrame | None = field(default=None, compare=False)


Expect = Callable[[Inputs], Iterable[ExpectedOutput]]


@dataclass(frozen=True, eq=False)
class Node:
    """A task of a pipeline and what it reads.

    Attributes:
        task: is called with the pipeline, the `arguments`, and the results of the `inputs` by name.
        inputs: name -> a node, or a list or mapping of nodes.
        expect: the outputs that the task would make, from its inputs' outputs. Makes and writes nothing.
        value: of a task that makes no output but a plain value: the value, None if it is not known yet.
        needs_run: the task is called with `run` as well: what the tasks of a run share, or None where it is remote.
        remote: the task may run in another process or on another machine (`run.task_runner`).
        progress: title of the bar that several nodes share, what it counts, and this node's part of the total.
    """

    stage: str
    title: str
    task: Task[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Node | list[Node] | dict[Any, Node]] = field(default_factory=dict)
    expect: Expect = lambda inputs: ()
    value: Callable[[], Any] | None = None
    needs_run: bool = False
    remote: bool = False
    progress: tuple[str, str, int] | None = None


@dataclass(frozen=True)
class Stage:
    """A stage of the pipelines: the name that `--from` takes, and its nodes by what they are about.

    Attributes:
        partial: its tasks run also where nodes that they read have failed: with those that have not, and with
            `missing`, the titles of the others -> why they are missing.
    """

    name: str
    nodes: Callable[[Graph], Mapping[Any, Node]]
    belongs_to: Callable[[Pipeline], bool] = lambda pipeline: True
    partial: bool = False


class Graph:
    """The nodes of one pipeline.

    The data sets have to be read before it is known what is aligned and trained, so the nodes come phase by phase.

    Attributes:
        unknown: data set -> why the cache keys of what depends on it are not known.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        phases: Sequence[Sequence[Stage]],
        clips: Callable[[str], pd.DataFrame | None],
        tolerate: Callable[[Exception, str], None] | None = None,
        aligned: Callable[[Faces], Collection[str] | None] = lambda faces: None,
    ) -> None:
        """
        Args:
            pipeline: whose nodes these are.
            phases: the stages; those of a phase run side by side, as far as their inputs allow.
            clips: data set -> its clip table, None if it is not known yet. Is asked after the first phase.
            tolerate: called with an error that concerns a data set; it is raised if this is None.
            aligned: the ids of the clips that have aligned faces, None if they are not known yet. Is asked after the
                second phase.
        """
        self.pipeline = pipeline
        self.aligned = aligned
        self._read_clips = clips
        self._tables: dict[str, pd.DataFrame | None] = {}
        self._phases = phases
        self._tolerate = tolerate
        self._nodes: dict[str, Mapping[Any, Node]] = {}
        self.unknown: dict[str, str] = {}

    def __getitem__(self, stage: str) -> Mapping[Any, Node]:
        """A stage's nodes by what they are about. KeyError before the stage's phase has come."""
        return self._nodes[stage]

    def phases(self, has_failed: Callable[[], bool] = lambda: False) -> Iterator[list[Node]]:
        """The nodes of each phase, every node after those that it reads. Handle a phase before asking for the next.

        Once a phase `has_failed`, phases follow only as far as all of their stages are partial.
        """
        for stages in self._phases:
            if has_failed() and not all(stage.partial for stage in stages):
                return
            for stage in stages:
                self._nodes[stage.name] = stage.nodes(self) if stage.belongs_to(self.pipeline) else {}
            self._tables.clear()  # by far the largest thing in this process
            yield [node for stage in stages for node in self._nodes[stage.name].values()]

    def clips(self, dataset: str) -> pd.DataFrame | None:
        """A data set's clip table; None if it is not known yet. Not before the second phase."""
        if dataset not in self._tables:
            self._tables[dataset] = self._read_clips(dataset)
        return self._tables[dataset]

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """The lines of every table and figure: experiment -> rows."""
        tables = {name: self.clips(name) for name in self.pipeline.datasets}
        return {each.name: self._rows(each, tables[each.dataset]) for each in self.pipeline.experiments}

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """Every evaluation that a row needs, once."""
        return evaluations_of(row for rows in self.rows.values() for row in rows)

    @cached_property
    def trainings(self) -> list[Training]:
        """Every training that an evaluation needs, once."""
        return trainings_of(self.evaluations)

    @cached_property
    def faces(self) -> list[Faces]:
        """Every data set whose clips are trained or tested on, with the settings its faces are aligned by."""
        used = [faces for each in self.evaluations for faces in (each.faces, each.training.faces)]
        order = list(self.pipeline.datasets)
        return sorted(dict.fromkeys(used), key=lambda faces: order.index(faces.dataset))

    def title(self, faces: Faces) -> str:
        """The data set's name, and the settings that differ from the pipeline's."""
        return faces.title(self.pipeline.settings)

    def tolerate(self, error: Exception, dataset: str) -> None:
        """Raise an error that concerns a data set, unless whoever reads the graph only wants to know of it."""
        if self._tolerate is None:
            raise error
        self._tolerate(error, dataset)

    def _rows(self, experiment: Experiment, clips: pd.DataFrame | None) -> list[Row]:
        # without its table it is not known whether a data set has folds or splits: with one fold it is the same
        if clips is None or not experiment.trains:
            return experiment.rows(has_folds=True)
        try:
            check_votes(experiment, clips)
            rows = experiment.rows(has_folds=bool(clips["fold"].notna().any()))
            for training in trainings_of(evaluations_of(rows)):
                check_group(training, clips)
        except ValueError as error:
            self.tolerate(error, experiment.dataset)
            return experiment.rows(has_folds=True)
        return rows


def complete(inputs: Inputs) -> bool:
    """Whether all inputs exist."""

    def exists(value: Any) -> bool:
        if isinstance(value, Mapping):
            return all(map(exists, value.values()))
        return all(map(exists, value)) if isinstance(value, list) else value is not None

    return all(map(exists, inputs.values()))


def one_output(stage: str, title: str, cache_key: Callable[..., CacheKey], dataset: str = "") -> Expect:
    """For `Node.expect`: one output, whose cache key is made of the inputs alone, by their names."""

    def expect(inputs: Inputs) -> Iterable[ExpectedOutput]:
        return [ExpectedOutput(stage, title, cache_key(**inputs) if complete(inputs) else None, dataset)]

    return expect
