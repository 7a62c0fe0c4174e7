"""A walk through all outputs that a pipeline asks for, as the flow takes it, without running anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from dfer.config.catalogue import network
from dfer.config.experiments import Evaluation, Experiment, Row, Training, evaluations_of, trainings_of
from dfer.config.reading import Pipeline
from dfer.datasets import IngestError, protocol
from dfer.faces.model_files import detector_sha256
from dfer.storage.store import CacheKey, Output
from tasks import align, demo_data, evaluate, ingest, report, train

STAGES = ("demo-data", "ingest", "align", "index", "train", "evaluate", "report")


@dataclass(frozen=True)
class Step:
    """One output that a pipeline asks for.

    Attributes:
        title: for people, as Prefect's page calls the task.
        cache_key: None where something that it is made of is not there, so that it cannot be there either.
        clips: how many clips the work is about, as far as that is known.
        tested: of a training, the clips of its test part.
        table: of a shard, the clip table of its whole data set, which lies at `root`.
    """

    stage: str
    title: str
    cache_key: CacheKey | None
    dataset: str = ""
    clips: int = 0
    tested: int = 0
    training: Training | None = None
    root: Path = Path()
    table: pd.DataFrame | None = field(default=None, compare=False)


Look = Callable[[Step], Output | None]
"""What is asked at every step: the output, or None to go on as if it were not there."""


@dataclass(frozen=True)
class Walked:
    """What a walk came to.

    Attributes:
        trainings: of every experiment that trains, its trainings and whether they are there.
        unknown: data set -> why it is not known what is made of it: nobody has made it yet, a file is not here, ...
        broken: data set -> what a run would stop at. These are unknown, too.
        notes: what could not be counted.
    """

    trainings: Mapping[str, Mapping[Training, bool]]
    unknown: Mapping[str, str]
    broken: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Set:
    """A data set as far as it is known: where it lies, its clip table and the output that holds it."""

    root: Path = Path()
    table: pd.DataFrame | None = None
    output: Output | None = None


def walk(pipeline: Pipeline, look: Look, *, tolerant: bool = False) -> Walked:
    """Ask for every output of a pipeline, in the order of the stages. Reads the data sets' lists; writes nothing.

    Args:
        pipeline: what would be run.
        look: is asked for each output; what it answers decides what is known of those that depend on it.
        tolerant: go on where a data set cannot be used or a file is not here, and say so in the result.

    Raises:
        IngestError: a data set cannot be used as it is; MissingFilesError: too many of its files are not there.
        ValueError: an arm wants votes that its data set does not have. None of these where `tolerant`.
    """
    return _Walk(pipeline, look, tolerant).go()


class _Walk:
    def __init__(self, pipeline: Pipeline, look: Look, tolerant: bool) -> None:
        self.pipeline = pipeline
        self.look = look
        self.tolerant = tolerant
        self.unknown: dict[str, str] = {}
        self.broken: dict[str, str] = {}
        self.notes: list[str] = []

    def go(self) -> Walked:
        pipeline, made = self.pipeline, None
        if any(dataset.generated for dataset in pipeline.datasets.values()):
            cache_key = demo_data.cache_key(pipeline)
            made = self.look(Step("demo-data", "demo-data", cache_key, clips=pipeline.demo_data.clips))
        sets = {name: self._set(name, made) for name in pipeline.datasets}
        rows = {experiment.name: self._rows(experiment, sets) for experiment in pipeline.experiments}
        evaluations = evaluations_of(row for table in rows.values() for row in table)
        trainings = trainings_of(evaluations)
        seen = [name for name in pipeline.datasets if any(name in (e.dataset, e.training.dataset) for e in evaluations)]
        for name in seen:
            self._refuse_missing_files(name, sets[name])
        indexes = {name: self._index(name, sets[name]) for name in seen}
        models = {training: self._model(training, sets, indexes) for training in trainings}
        scored = [self._evaluation(evaluation, models, sets, indexes) for evaluation in evaluations]
        self._report(rows, scored, list(indexes.values()), [given.output for given in sets.values()])
        needed = {
            name: {training: models[training] is not None for training in own}
            for name, table in rows.items()
            if (own := trainings_of(evaluations_of(table)))
        }
        return Walked(needed, {**self.unknown, **self.broken}, self.broken, tuple(self.notes))

    def _set(self, name: str, made: Output | None) -> _Set:
        if self.pipeline.datasets[name].generated and made is None:
            self.look(Step("ingest", f"ingest {name}", None, name))
            self.notes.append(f"{name} is not made yet: its shards are not counted")
            self.unknown[name] = "it is not made yet"
            return _Set()
        try:
            settings = self.pipeline.datasets[name]
            if not settings.generated and not settings.root.is_dir():
                raise FileNotFoundError(f"{settings.root} is not there")
            root, clips, said = ingest.read(self.pipeline, name, made)
            if said.fatal:
                raise IngestError(said)
        except (IngestError, OSError, ValueError) as error:
            self._tolerate(error, name)
            self.look(Step("ingest", f"ingest {name}", None, name))
            return _Set()
        cache_key = ingest.cache_key(self.pipeline, name, clips, said, made)
        return _Set(root, clips, self.look(Step("ingest", f"ingest {name}", cache_key, name, len(clips))))

    def _rows(self, experiment: Experiment, sets: Mapping[str, _Set]) -> list[Row]:
        clips = sets[experiment.dataset].table
        if clips is not None:
            try:
                return ingest.rows_of(experiment, clips)
            except ValueError as error:
                self._tolerate(error, experiment.dataset)
        # of a set that is not made yet it is not known whether it has folds or splits: with one fold it is the same
        return experiment.rows(has_folds=True)

    def _refuse_missing_files(self, name: str, given: _Set) -> None:
        if given.table is None:
            return
        try:
            ingest.refuse_missing_files(self.pipeline, name, given.table)
        except ingest.MissingFilesError as error:
            self._tolerate(error, name)

    def _index(self, name: str, given: _Set) -> Output | None:
        if given.table is None:
            return self.look(Step("index", f"index {name}", None, name))
        detector = detector_sha256(self.pipeline.settings.detection.model)
        if detector is None and self.tolerant:
            self.unknown[name] = f"the detector {self.pipeline.settings.detection.model} is not here"

        def shard(part: int, clips: pd.DataFrame) -> Output | None:
            cache_key = align.align_cache_key(self.pipeline, clips, detector) if detector is not None else None
            title = f"align {name} {part}"
            return self.look(Step("align", title, cache_key, name, len(clips), root=given.root, table=given.table))

        parts = align.split_into_shards(given.table, self.pipeline.settings.shards.clips_per_shard)
        shards = [shard(part, clips) for part, clips in enumerate(parts)]
        whole = align.index_cache_key(name, _there(shards)) if None not in shards else None
        return self.look(Step("index", f"index {name}", whole, name, len(given.table)))

    def _model(
        self, training: Training, sets: Mapping[str, _Set], indexes: Mapping[str, Output | None]
    ) -> Output | None:
        given, index = sets[training.dataset], indexes[training.dataset]
        number, tested = self.pipeline.demo_data.clips, 0
        if given.table is not None:
            number = self._count(training.dataset, training.fold, given.table, "train")
            tested = self._count(training.dataset, training.fold, given.table, "test")
        known = self._weights_are_known(training)
        complete = given.output is not None and index is not None and known
        cache_key = train.cache_key(training, *_there([given.output, index])) if complete else None
        return self.look(
            Step("train", f"train {training.title}", cache_key, training.dataset, number, tested, training=training)
        )

    def _count(
        self, dataset: str, fold: int | None, clips: pd.DataFrame, part: Literal["train", "test", "across"]
    ) -> int:
        """The clips of a part of a data set."""
        try:
            if part == "across":
                return len(protocol.across(clips)[0])
            return len(protocol.part(clips, fold=fold, part=part))
        except ValueError as error:
            self._tolerate(error, dataset)
            return 0

    def _weights_are_known(self, training: Training) -> bool:
        """Whether a cache_key can be made: the SHA-256 of a weight file of one's own is a part of it."""
        model = training.settings.model
        known = model.pretrained is None or model.pretrained in network(model.name).pretrained
        if known or Path(str(model.pretrained)).is_file():
            return True
        self.unknown[training.dataset] = f"the weights {model.pretrained} of its trainings are not here"
        return False

    def _evaluation(
        self,
        evaluation: Evaluation,
        models: Mapping[Training, Output | None],
        sets: Mapping[str, _Set],
        indexes: Mapping[str, Output | None],
    ) -> Output | None:
        given, training = sets[evaluation.dataset], evaluation.training
        inputs = (models[training], given.output, indexes[evaluation.dataset])
        if given.table is None:
            number = self.pipeline.demo_data.clips
        else:
            across = evaluation.across or training.fold is None
            number = self._count(evaluation.dataset, training.fold, given.table, "across" if across else "test")
        cache_key = evaluate.cache_key(evaluation, *_there(inputs)) if None not in inputs else None
        title = f"evaluate {evaluation.title}"
        return self.look(Step("evaluate", title, cache_key, evaluation.dataset, number, training=training))

    def _report(self, rows: Mapping[str, list[Row]], *used: list[Output | None]) -> None:
        complete = not any(None in group for group in used)
        cache_key = report.cache_key(self.pipeline, rows, *(_there(group) for group in used)) if complete else None
        self.look(Step("report", f"report {self.pipeline.name}", cache_key))

    def _tolerate(self, error: Exception, dataset: str) -> None:
        if not self.tolerant:
            raise error
        said = str(error)
        if isinstance(error, IngestError):
            said = next(line for line in said.splitlines() if line.startswith("ERROR"))
        self.broken.setdefault(dataset, said)


def _there(found: Iterable[Output | None]) -> list[Output]:
    return [output for output in found if output is not None]
