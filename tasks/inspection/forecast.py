"""What a run of a pipeline would do: which outputs exist, which would be made, and how long that took before."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dfer.config.experiments import Training
from dfer.config.pipeline import Pipeline
from dfer.storage.remote_store import RemoteStore
from dfer.storage.store import CacheKey, Output, Store
from tasks.inspection.dry_run import dry_run
from tasks.inspection.estimate import Trial, Trials
from tasks.running.graph import ExpectedOutput
from tasks.running.slots import slower_than_alone, threads_per_training, trainings_at_a_time
from tasks.running.stage import store_of
from tasks.train import model_key


@dataclass
class StageForecast:
    """One stage: how many of its outputs exist, how many would be made, and what is known of their duration.

    `seconds` is the work to do as it was measured on this machine, one piece after another; `measured_now` counts the
    pieces of which something was tried for this forecast, since nothing like them was done before, and `unmeasured`
    those of which nothing is known.
    """

    exist: int = 0
    to_run: int = 0
    seconds: float = 0.0
    measured_now: int = 0
    unmeasured: int = 0

    def add(self, exists: bool, seconds: float | None, *, now: bool = False) -> None:
        self.exist += exists
        self.to_run += not exists
        if not exists:
            self.seconds += seconds or 0.0
            self.measured_now += now
            self.unmeasured += seconds is None


@dataclass(frozen=True)
class Forecast:
    """All stages, and for every experiment how many trainings it needs and how many of them exist.

    `seconds` is the whole duration, with what works side by side; `trials` is what was measured for it.
    """

    stages: Mapping[str, StageForecast]
    trainings: Mapping[str, tuple[int, int]]
    seconds: float
    notes: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()


def forecast(pipeline: Pipeline, *, measure: bool = False) -> Forecast:
    """Count what exists and what is missing. Reads the data sets' lists; runs and writes nothing.

    Args:
        pipeline: what would be run.
        measure: try what was never done on this machine, for some seconds each (see `tasks.inspection.estimate`).

    Raises:
        IngestError: a data set cannot be used as it is.
    """
    store = store_of(pipeline)
    trials = Trials(threads_per_training(pipeline)) if measure else None
    measured, stages = _Measured(store), defaultdict[str, StageForecast](StageForecast)

    def visit(expected: ExpectedOutput) -> Output | None:
        if expected.stage == "ingest" and expected.table is not None:
            tables[expected.dataset] = expected
        if expected.stage == "report":  # whether there is one says nothing about the work that is left
            return None
        existing = store.find(expected.cache_key) if expected.cache_key is not None else None
        exists, seconds = isinstance(existing, Output), measured.seconds(expected)
        tried = _try(expected, tables, trials) if trials and not exists and seconds is None else None
        if tried is not None and expected.stage in ("train", "evaluate"):
            tried *= slower
        stages[expected.stage].add(exists, seconds if tried is None else tried, now=tried is not None)
        return existing if isinstance(existing, Output) else None

    tables: dict[str, ExpectedOutput] = {}
    slower = slower_than_alone(pipeline)
    visited = dry_run(pipeline, visit)
    side_by_side = {"align": pipeline.workers, **dict.fromkeys(("train", "evaluate"), trainings_at_a_time(pipeline))}
    seconds = sum(stage.seconds / side_by_side.get(name, 1) for name, stage in stages.items())
    return Forecast(
        dict(stages),
        {name: (len(needed), sum(needed.values())) for name, needed in visited.trainings.items()},
        seconds,
        visited.notes,
        tuple(trials.results) if trials else (),
    )


def _try(expected: ExpectedOutput, data_sets: Mapping[str, ExpectedOutput], trials: Trials) -> float | None:
    """Seconds that an output would take by what is tried now; None for what is not tried."""
    if expected.stage == "align" and expected.faces is not None:
        data_set = data_sets[expected.dataset]
        assert data_set.table is not None
        return trials.alignment(expected.faces, data_set.root, data_set.table, expected.clips)
    if expected.stage == "train" and expected.training is not None:
        return trials.training(expected.training, expected.clips, expected.tested)
    if expected.stage == "evaluate" and expected.training is not None:
        return trials.evaluation(expected.training, expected.clips)
    return None


class _Measured:
    """What the manifests of earlier runs say about how long things took."""

    def __init__(self, store: Store | RemoteStore) -> None:
        self._manifests = {stage: list(store.manifests(stage)) for stage in ("demo-data", "train", "evaluate")}
        # there can be many shards: of their manifests only what is asked for is kept
        rates: dict[str, list[float]] = defaultdict(list)
        for manifest in store.manifests("align"):
            if clips := manifest["counts"]["given"]:
                rates[_settings_of_shard(manifest["key"])].append(manifest["seconds"] / clips)
        self._per_aligned_clip = {settings: statistics.median(measured) for settings, measured in rates.items()}

    def seconds(self, expected: ExpectedOutput) -> float | None:
        """How long an output would take; None if nothing like it was ever made here."""
        match expected.stage:
            case "demo-data":
                return self.demo_data(expected.cache_key) if expected.cache_key is not None else None
            case "align":
                return self.alignment(expected.cache_key, expected.clips) if expected.cache_key is not None else None
            case "train" if expected.training is not None:
                return self.training(expected.training, expected.clips)
            case "evaluate" if expected.training is not None:
                return self.evaluation(expected.training)
        return 0.0

    def demo_data(self, cache_key: CacheKey) -> float | None:
        """By what was measured for the same data set."""
        same = [m for m in self._manifests["demo-data"] if m["key"].get("data_set") == cache_key.key["data_set"]]
        return self._median(same, cache_key.key["clips"], lambda manifest: manifest["key"]["clips"])

    def alignment(self, cache_key: CacheKey, clips: int) -> float | None:
        """By what was measured with the same settings."""
        rate = self._per_aligned_clip.get(_settings_of_shard(cache_key.key))
        return None if rate is None else clips * rate

    def evaluation(self, training: Training) -> float | None:
        """By what was measured for the same network, size and number of frames, whatever the number of clips."""
        models = {m["hash"] for m in self._same_network(training)}
        same = [m for m in self._manifests["evaluate"] if m["made_from"][0]["hash"] in models]
        return self._median(same, 1, lambda _: 1)

    def _same_network(self, training: Training) -> list[dict[str, Any]]:
        like = (model_key(training.settings.model), training.settings.sampling.model_dump(mode="json"))
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
