"""The flow `midas`: from raw videos to the tables and figures of an experiment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

# The first start of Prefect's temporary server migrates a database, which takes longer than it waits by default.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

from prefect import flow
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from dfer.config import DEFAULT_CONFIG, Pipeline, load_pipeline
from dfer.experiments import evaluations_of, trainings_of
from dfer.store import Made
from tasks.align import align_shard, fetch_detector, index_shards, split_into_shards
from tasks.deliverer import Deliverer
from tasks.demo_data import make_demo_data
from tasks.evaluate import evaluate_model
from tasks.ingest import clips_of, ingest, refuse_missing_files, rows_of
from tasks.report import write_report
from tasks.stage import Slots
from tasks.tracking import PipelineTracking, outbox_of
from tasks.train import train_arm

Key = TypeVar("Key")


@dataclass(frozen=True)
class Outcome:
    """What a run of a pipeline came to: every stage output by stage, in the order of the pipeline."""

    stages: dict[str, list[Made]]
    indexes: dict[str, Made]
    report: Made


# The pool also holds tasks that wait for others, so it is larger than what works at a time (see `Slots`).
@flow(name="midas", task_runner=ThreadPoolTaskRunner(max_workers=64), persist_result=False)
def midas(
    pipeline: str = "demo",
    config: str = str(DEFAULT_CONFIG),
    overrides: list[str] | None = None,
    only: list[str] | None = None,
) -> Outcome:
    """Detect and align faces, sample frames into shards, train the arms, evaluate them at home and across.

    A stage whose output is there is not run again.

    Args:
        pipeline: a pipeline of the configuration file.
        config: path of the configuration file.
        overrides: KEY.PATH=VALUE pairs that win over the file, for example train.epochs=2.
        only: the tables and figures to make, for example table-5; all of the pipeline's if none is named.
    """
    plan = load_pipeline(pipeline, Path(config), overrides or (), only or ())
    with Slots(plan) as slots, Deliverer(outbox_of(plan)) as deliverer:
        return run_stages(plan, slots, deliverer)


def run_stages(plan: Pipeline, slots: Slots, deliverer: Deliverer) -> Outcome:
    """All stages of a pipeline, in the flow's own run."""
    generated = any(dataset.generated for dataset in plan.datasets.values())
    demo_data = make_demo_data.submit(plan).result() if generated else None
    ingested = all_of({name: ingest.submit(plan, name, demo_data) for name in plan.datasets})
    clips = {name: clips_of(made) for name, made in ingested.items()}
    rows = {experiment.name: rows_of(experiment, clips[experiment.dataset]) for experiment in plan.experiments}
    evaluations = evaluations_of(row for table in rows.values() for row in table)
    trainings = trainings_of(evaluations)

    # what is only counted, as votes are, needs no faces
    seen = [name for name in plan.datasets if any(name in (e.dataset, e.training.dataset) for e in evaluations)]
    for name in seen:
        refuse_missing_files(plan, name, clips[name])
    detector = fetch_detector.submit(plan).result() if seen else ""
    shards = {name: align_data_set(plan, name, ingested[name], detector, slots) for name in seen}
    indexes = all_of({name: index_shards.submit(plan, name, ingested[name], shards[name]) for name in seen})

    slots.aligners.close()  # the trainings can use their memory

    fingerprint = "".join(made.output.hash for made in ingested.values())
    with PipelineTracking(plan, fingerprint, deliverer) as tracking:
        models = {
            training: train_arm.submit(
                plan, training, ingested[training.dataset], indexes[training.dataset], tracking, slots
            )
            for training in trainings
        }
        scores = {
            evaluation: evaluate_model.submit(
                plan,
                evaluation,
                models[evaluation.training],
                ingested[evaluation.dataset],
                indexes[evaluation.dataset],
                tracking,
                slots,
            )
            for evaluation in evaluations
        }
        trained, scored = all_of(models), all_of(scores)
        report = write_report.submit(plan, ingested, indexes, rows, trained, scored, tracking).result()
    stages = {
        "demo-data": [demo_data] if demo_data else [],
        "ingest": list(ingested.values()),
        "align": [future.result() for futures in shards.values() for future in futures],
        "index": list(indexes.values()),
        "train": list(trained.values()),
        "evaluate": list(scored.values()),
        "report": [report],
    }
    return Outcome(stages, indexes, report)


def align_data_set(plan: Pipeline, name: str, ingested: Made, detector: str, slots: Slots) -> list[PrefectFuture[Made]]:
    """One align task a shard of clips."""
    parts = split_into_shards(clips_of(ingested), plan.settings.shards.clips_per_shard)
    return [align_shard.submit(plan, name, part, clips, ingested, detector, slots) for part, clips in enumerate(parts)]


def all_of(futures: Mapping[Key, PrefectFuture[Made]]) -> dict[Key, Made]:
    """The results of all futures; all are waited for before an error of one is raised, so that each gets its say."""
    for future in futures.values():
        future.wait()
    failed = {
        getattr(key, "title", key): future.state.message
        for key, future in futures.items()
        if not future.state.is_completed()
    }
    try:
        return {name: future.result() for name, future in futures.items()}
    except Exception as error:
        for name, message in list(failed.items())[1:]:
            error.add_note(f"also failed: {name}: {str(message).removeprefix('Task run encountered an exception ')}")
        raise


if __name__ == "__main__":
    midas()
