"""What a run of a pipeline would do: which stages are there, which would be run, and how long that took before."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from dfer.config import Pipeline
from dfer.datasets import IngestError, protocol
from dfer.experiments import Evaluation, Experiment, Row, Training, evaluations_of, trainings_of
from dfer.faces.model_files import detector_file
from dfer.files import sha256
from dfer.remote_store import RemoteStore
from dfer.store import Output, Recipe, Store
from tasks import align, demo_data, evaluate, ingest, train
from tasks.estimate import Trial, Trials
from tasks.stage import store_of, threads_per_training, trainings_at_a_time

STAGES = ("demo-data", "ingest", "align", "index", "train", "evaluate")


@dataclass
class StageForecast:
    """One stage: how many of its outputs are there, how many would be made, and what is known of their duration.

    `seconds` is the work to do as it was measured on this machine, one piece after another; `measured_now` counts the
    pieces of which something was tried for this forecast, since nothing like them was done before, and `unmeasured`
    those of which nothing is known.
    """

    there: int = 0
    to_run: int = 0
    seconds: float = 0.0
    measured_now: int = 0
    unmeasured: int = 0

    def add(self, found: bool, seconds: float | None, *, now: bool = False) -> None:
        self.there += found
        self.to_run += not found
        if not found:
            self.seconds += seconds or 0.0
            self.measured_now += now
            self.unmeasured += seconds is None


@dataclass(frozen=True)
class Forecast:
    """All stages, and for every experiment how many trainings it needs and how many of them are there.

    `seconds` is the whole duration, with what works side by side; `trials` is what was measured for it.
    """

    stages: Mapping[str, StageForecast]
    trainings: Mapping[str, tuple[int, int]]
    seconds: float
    notes: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()


@dataclass
class _Look:
    """A walk through the stages as the flow takes it, without running anything."""

    pipeline: Pipeline
    store: Store | RemoteStore
    measured: _Measured
    trials: Trials | None
    stages: dict[str, StageForecast] = field(default_factory=lambda: defaultdict(StageForecast))
    notes: list[str] = field(default_factory=list)

    def at(
        self,
        stage: str,
        recipe: Recipe | None,
        seconds: float | None,
        tried: Callable[[Trials], float | None] = lambda _: None,
    ) -> Output | None:
        """The output if it is there. Without a recipe something that it is made of is not there, and nor is it."""
        found = self.store.find(recipe) if recipe is not None else ""
        there = isinstance(found, Output)
        now = tried(self.trials) if self.trials and not there and seconds is None else None
        self.stages[stage].add(there, seconds if now is None else now, now=now is not None)
        return found if isinstance(found, Output) else None


def forecast(pipeline: Pipeline, *, measure: bool = False) -> Forecast:
    """Look at what is there and what is not. Reads the data sets' lists; runs and writes nothing.

    Args:
        pipeline: what would be run.
        measure: try what was never done on this machine, for some seconds each (see `tasks.estimate`).

    Raises:
        IngestError: a data set cannot be used as it is.
    """
    store = store_of(pipeline)
    trials = Trials(pipeline, threads_per_training(pipeline)) if measure else None
    look = _Look(pipeline, store, _Measured(store), trials)
    made = None
    if any(dataset.generated for dataset in pipeline.datasets.values()):
        made = look.at("demo-data", demo_data.recipe(pipeline), look.measured.demo_data(pipeline.demo_data.clips))
    clips = {name: _clips(look, name, made) for name in pipeline.datasets}
    tables = {name: table for name, (_, table, _) in clips.items()}
    rows = {experiment.name: _rows(experiment, tables[experiment.dataset]) for experiment in pipeline.experiments}
    evaluations = evaluations_of(row for table in rows.values() for row in table)
    trainings = trainings_of(evaluations)
    seen = [name for name in pipeline.datasets if any(name in (e.dataset, e.training.dataset) for e in evaluations)]
    for name in seen:
        if (table := tables[name]) is not None:
            ingest.refuse_missing_files(pipeline, name, table)
    indexes = {name: _index(look, name, *clips[name][:2]) for name in seen}
    models = {training: _model(look, training, clips[training.dataset], indexes) for training in trainings}
    for evaluation in evaluations:
        _evaluation(look, evaluation, models[evaluation.training], clips[evaluation.dataset], indexes)
    needed = {
        name: (len(own), sum(models[training] is not None for training in own))
        for name, table in rows.items()
        if (own := trainings_of(evaluations_of(table)))
    }
    side_by_side = {"align": pipeline.workers, **dict.fromkeys(("train", "evaluate"), trainings_at_a_time(pipeline))}
    seconds = sum(stage.seconds / side_by_side.get(name, 1) for name, stage in look.stages.items())
    stages = {name: look.stages[name] for name in STAGES if name in look.stages}
    return Forecast(stages, needed, seconds, tuple(look.notes), tuple(trials.made) if trials else ())


_Clips = tuple[Path, pd.DataFrame | None, Output | None]


def _clips(look: _Look, name: str, made: Output | None) -> _Clips:
    """Where a data set lies, its clip table and its output, as far as they are there."""
    if look.pipeline.datasets[name].generated and made is None:
        look.at("ingest", None, 0.0)
        look.notes.append(f"{name} is not made yet: its shards are not counted")
        return Path(), None, None
    root, clips, report = ingest.read(look.pipeline, name, made)
    if report.fatal:
        raise IngestError(report)
    return root, clips, look.at("ingest", ingest.recipe(look.pipeline, name, clips, report, made), 0.0)


def _rows(experiment: Experiment, clips: pd.DataFrame | None) -> list[Row]:
    # of a set that is not made yet it is not known whether it has folds or splits: with one fold it is the same
    return experiment.rows(has_folds=True) if clips is None else ingest.rows_of(experiment, clips)


def _index(look: _Look, name: str, root: Path, clips: pd.DataFrame | None) -> Output | None:
    if clips is None:
        return look.at("index", None, 0.0)
    detector = sha256(detector_file(look.pipeline.settings.detection.model))
    parts = align.split_into_shards(clips, look.pipeline.settings.shards.clips_per_shard)

    def shard(part: pd.DataFrame) -> Output | None:
        recipe = align.align_recipe(look.pipeline, part, detector)
        before = look.measured.alignment(recipe, len(part))
        return look.at("align", recipe, before, lambda trials: trials.alignment(name, root, clips, len(part)))

    shards = [shard(part) for part in parts]
    whole = align.index_recipe(name, _outputs(shards)) if None not in shards else None
    return look.at("index", whole, 0.0)


def _model(
    look: _Look,
    training: Training,
    clips: _Clips,
    indexes: Mapping[str, Output | None],
) -> Output | None:
    _, table, ingested = clips
    index, number, tested = indexes[training.dataset], look.pipeline.demo_data.clips, 0
    if table is not None:
        number, tested = (len(protocol.part(table, fold=training.fold, part=part)) for part in ("train", "test"))
    whole = train.recipe(training, ingested, index) if ingested is not None and index is not None else None
    before = look.measured.training(training, number)
    return look.at("train", whole, before, lambda trials: trials.training(training, number, tested))


def _evaluation(
    look: _Look, evaluation: Evaluation, model: Output | None, clips: _Clips, indexes: Mapping[str, Output | None]
) -> None:
    _, table, ingested = clips
    training, inputs = evaluation.training, (model, ingested, indexes[evaluation.dataset])
    if table is None:
        number = look.pipeline.demo_data.clips
    elif evaluation.across or training.fold is None:
        number = len(protocol.across(table)[0])
    else:
        number = len(protocol.part(table, fold=training.fold, part="test"))
    whole = evaluate.recipe(evaluation, *_outputs(inputs)) if None not in inputs else None
    before = look.measured.evaluation(training)
    look.at("evaluate", whole, before, lambda trials: trials.evaluation(training, number))


def _outputs(found: Iterable[Output | None]) -> list[Output]:
    return [output for output in found if output is not None]


class _Measured:
    """What the manifests of earlier runs say about how long things took."""

    def __init__(self, store: Store | RemoteStore) -> None:
        self._manifests = {stage: list(store.manifests(stage)) for stage in STAGES if stage != "align"}
        # there can be many shards: of their manifests only what is asked for is kept
        rates: dict[str, list[float]] = defaultdict(list)
        for manifest in store.manifests("align"):
            if clips := manifest["counts"]["given"]:
                rates[_settings_of_shard(manifest["key"])].append(manifest["seconds"] / clips)
        self._per_aligned_clip = {settings: statistics.median(found) for settings, found in rates.items()}

    def demo_data(self, clips: int) -> float | None:
        return self._median(self._manifests["demo-data"], clips, lambda manifest: manifest["key"]["clips"])

    def alignment(self, recipe: Recipe, clips: int) -> float | None:
        """By what was measured with the same settings."""
        rate = self._per_aligned_clip.get(_settings_of_shard(recipe.key))
        return None if rate is None else clips * rate

    def evaluation(self, training: Training) -> float | None:
        """By what was measured for the same network, size and number of frames, whatever the number of clips."""
        models = {m["hash"] for m in self._same_network(training)}
        same = [m for m in self._manifests["evaluate"] if m["made_from"][0]["hash"] in models]
        return self._median(same, 1, lambda _: 1)

    def _same_network(self, training: Training) -> list[dict[str, Any]]:
        like = (training.settings.model.model_dump(mode="json"), training.settings.sampling.model_dump(mode="json"))
        return [m for m in self._manifests["train"] if (m["key"]["model"], m["key"]["sampling"]) == like]

    def training(self, training: Training, clips: int) -> float | None:
        """By what was measured for the same network, size and number of frames."""
        same = self._same_network(training)
        work = clips * training.settings.train.epochs
        return self._median(same, work, lambda manifest: manifest["counts"]["clips"] * manifest["counts"]["epochs"])

    @staticmethod
    def _median(manifests: list[dict[str, Any]], work: float, units: Any) -> float | None:
        rates = [manifest["seconds"] / units(manifest) for manifest in manifests if units(manifest)]
        return work * statistics.median(rates) if rates else None


def _settings_of_shard(key: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in key.items() if name != "clips"}, sort_keys=True)
