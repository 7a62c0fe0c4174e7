"""All outputs that a pipeline asks for, in the order of its graph, without running anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dfer.config.experiments import Faces, Training, evaluations_of, trainings_of
from dfer.config.pipeline import Pipeline
from dfer.datasets import IngestError
from dfer.storage.store import Output
from tasks.align import aligned_clips
from tasks.running.graph import ExpectedOutput, Node
from tasks.stages import graph_of

Visit = Callable[[ExpectedOutput], Output | None]
"""Is called for every output: returns the output, or None to go on as if it did not exist."""


@dataclass(frozen=True)
class DryRun:
    """What a dry run came to.

    Attributes:
        trainings: experiment -> its trainings, and whether their outputs exist.
        unknown: data set -> why it is not known what is made of it: nobody has made it yet, a file is missing, ...
        broken: data set -> what a run would stop at. These are unknown, too.
        notes: what could not be counted.
    """

    trainings: Mapping[str, Mapping[Training, bool]]
    unknown: Mapping[str, str]
    broken: Mapping[str, str]
    notes: tuple[str, ...] = ()


def dry_run(pipeline: Pipeline, visit: Visit, *, tolerant: bool = False) -> DryRun:
    """Visit every output of a pipeline in the order of the stages. Reads the data sets' lists; writes nothing.

    Args:
        pipeline: what would be run.
        visit: is called for each output; what it returns decides what is known of those that depend on it.
        tolerant: go on where a data set cannot be used or a file is missing, and report it in the result.

    Raises:
        IngestError: a data set cannot be used as it is.
        MissingFilesError: too many of its files are missing.
        ValueError: an arm needs votes, or clear clips, that its data set does not have. None of these where `tolerant`.
    """
    return _DryRun(pipeline, visit, tolerant).go()


class _DryRun:
    def __init__(self, pipeline: Pipeline, visit: Visit, tolerant: bool) -> None:
        self._visit = visit
        self._tolerant = tolerant
        self._tables: dict[str, pd.DataFrame] = {}
        self._graph = graph_of(pipeline, self._tables.get, self._tolerate, self._aligned)
        self._results: dict[Node, Any] = {}
        self._broken: dict[str, str] = {}
        self._notes: list[str] = []

    def go(self) -> DryRun:
        for phase in self._graph.phases():
            for node in phase:
                self._results[node] = self._result(node)
        models = self._graph["train"]
        trainings = {
            name: {training: self._results[models[training]] is not None for training in needed}
            for name, rows in self._graph.rows.items()
            if (needed := trainings_of(evaluations_of(rows)))
        }
        return DryRun(trainings, {**self._graph.unknown, **self._broken}, self._broken, tuple(self._notes))

    def _aligned(self, faces: Faces) -> set[str] | None:
        index = self._results[self._graph["index"][faces]]
        # `visit` may name an output without a build: one that would be made, and cannot be read
        return aligned_clips(index) if index is not None and index.build else None

    def _result(self, node: Node) -> Any:
        """The node's output, the outputs of an align task, or a plain value; None for what does not exist yet."""
        if node.value is not None:
            return node.value()
        outputs = [self._visit(expected) for expected in self._expected(node)]
        return outputs if node.remote else outputs[0]

    def _expected(self, node: Node) -> Sequence[ExpectedOutput]:
        inputs = {name: self._read(read) for name, read in node.inputs.items()}
        if node.stage != "ingest":
            return list(node.expect(inputs))
        dataset = node.arguments["dataset"]
        if None in inputs.values():
            self._notes.append(f"{dataset} is not made yet: its shards are not counted")
            self._graph.unknown[dataset] = "it is not made yet"
            return [ExpectedOutput(node.stage, node.title, None, dataset)]
        try:
            (expected,) = node.expect(inputs)
        except (IngestError, OSError, ValueError) as error:
            self._tolerate(error, dataset)
            return [ExpectedOutput(node.stage, node.title, None, dataset)]
        assert expected.table is not None
        self._tables[dataset] = expected.table
        return [expected]

    def _read(self, nodes: Node | Sequence[Node] | Mapping[Any, Node]) -> Any:
        if isinstance(nodes, Mapping):
            return {subject: self._results[node] for subject, node in nodes.items()}
        return self._results[nodes] if isinstance(nodes, Node) else [self._results[node] for node in nodes]

    def _tolerate(self, error: Exception, dataset: str) -> None:
        if not self._tolerant:
            raise error
        message = str(error)
        if isinstance(error, IngestError):
            message = next(line for line in message.splitlines() if line.startswith("ERROR"))
        self._broken.setdefault(dataset, message)
