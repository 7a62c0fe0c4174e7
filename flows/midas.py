"""The flow `midas`: from raw videos to the tables and figures of an experiment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from dfer.services.servers import HEARTBEAT

# The first start of Prefect's temporary server migrates a database, which takes longer than it waits by default.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
# A server of `dfer services` or of docker/ gives up a run that it has not heard of for two minutes.
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT))

from prefect import flow
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from dfer.config.experiments import Row, evaluations_of, trainings_of
from dfer.config.reading import DEFAULT_CONFIG, Pipeline, load_pipeline
from dfer.config.stages import Stage
from dfer.storage.remote import check_writable
from dfer.storage.store import StageResult
from tasks.align import align_shards, fetch_detector, index_shards, parts_of
from tasks.demo_data import make_demo_data
from tasks.evaluate import evaluate_model
from tasks.ingest import clips_of, ingest, refuse_missing_files, rows_of
from tasks.report import write_report
from tasks.running import progress
from tasks.running.failures import say_how_to_go_on
from tasks.running.run_log import journal
from tasks.running.stage import Slots, ended_at_once
from tasks.running.task_runners import Runner, finished, submit_to, task_runner
from tasks.tracking.deliverer import Deliverer
from tasks.tracking.runs import PipelineTracking, outbox_of
from tasks.train import train_arm

Key = TypeVar("Key")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome:
    """What a run of a pipeline came to: every stage output by stage, in the order of the pipeline."""

    stages: dict[str, list[StageResult]]
    indexes: dict[str, StageResult]
    report: StageResult
    log: Path


@dataclass(frozen=True)
class Prepared:
    """What the trainings start from: the data sets' clip tables and indexes, and the lines of every experiment's table.

    `stages` is as in `Outcome`, as far as it goes.
    """

    ingested: dict[str, StageResult]
    rows: dict[str, list[Row]]
    indexes: dict[str, StageResult]
    stages: dict[str, list[StageResult]]


# The pool also holds tasks that wait for others, so it is larger than what works at a time (see `Slots`).
@flow(
    name="midas",
    task_runner=ThreadPoolTaskRunner(max_workers=64),
    persist_result=False,
    on_failure=[say_how_to_go_on],
    on_crashed=[say_how_to_go_on],
    on_cancellation=[say_how_to_go_on],
)
def midas(
    pipeline: str = "demo",
    config: str = str(DEFAULT_CONFIG),
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    start_from: Stage | None = None,
    since: datetime | None = None,
) -> Outcome:
    """Detect and align faces, sample frames into shards, train the arms, evaluate them at home and across.

    A stage whose output is there is not run again.

    Args:
        pipeline: a pipeline of the configuration file.
        config: path of the configuration file.
        overrides: KEY.PATH=VALUE pairs that win over the file, for example train.epochs=2.
        only: the tables and figures to make, for example table-5; all of the pipeline's if none is named.
        start_from: a stage to run again, with what depends on it, though its outputs are there; what is missing before
            it is made first.
        since: with `start_from`: what was made after this time has been made again already; the flow run's own
            beginning if it is not given.
    """
    plan = load_pipeline(pipeline, Path(config), overrides, only)
    if plan.work_url:
        check_writable(plan.work_url)
    if start_from is not None:
        plan = plan.starting_from(start_from, since=since.timestamp() if since else _created())
    with (
        journal(plan) as log,
        progress.on_page(),
        Slots(plan) as slots,
        Deliverer(outbox_of(plan)) as deliverer,
        ended_at_once(),
    ):
        return run_stages(plan, slots, deliverer, log)


def _created() -> float:
    """When this flow run was created, seconds since 1970. A retry is the same flow run: it does not make again what was
    made again before it failed."""
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None and context.flow_run.created is not None
    return context.flow_run.created.timestamp()


def run_stages(plan: Pipeline, slots: Slots, deliverer: Deliverer, log: Path) -> Outcome:
    """All stages of a pipeline, in the flow's own run, which is logged to `log`."""
    prepared = prepare(plan, slots)
    ingested, rows, indexes = prepared.ingested, prepared.rows, prepared.indexes
    evaluations = evaluations_of(row for table in rows.values() for row in table)
    trainings = trainings_of(evaluations)
    slots.aligners.close()  # the trainings can use their memory

    fingerprint = "".join(made.output.hash for made in ingested.values())
    with PipelineTracking(plan, fingerprint, deliverer) as tracking, ended_at_once():
        progress.link(f"trainings-{plan.name}", "the trainings in MLflow, side by side", tracking.page)
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
        **prepared.stages,
        "train": list(trained.values()),
        "evaluate": list(scored.values()),
        "report": [report],
    }
    return Outcome(stages, indexes, report, log)


def prepare(plan: Pipeline, slots: Slots) -> Prepared:
    """The stages up to the trainings, in the flow's own run: everything that grows with the number of clips."""
    generated = any(dataset.generated for dataset in plan.datasets.values())
    demo_data = make_demo_data.submit(plan).result() if generated else None
    ingested = all_of({name: ingest.submit(plan, name, demo_data) for name in plan.datasets})
    clips = {name: clips_of(made) for name, made in ingested.items()}
    rows = {experiment.name: rows_of(experiment, clips[experiment.dataset]) for experiment in plan.experiments}

    # what is only counted, as votes are, needs no faces
    evaluations = evaluations_of(row for table in rows.values() for row in table)
    seen = [name for name in plan.datasets if any(name in (e.dataset, e.training.dataset) for e in evaluations)]
    for name in seen:
        refuse_missing_files(plan, name, clips[name])
    del clips  # by far the largest thing here
    detector = fetch_detector.submit(plan).result() if seen else ""
    shards = align(plan, {name: ingested[name] for name in seen}, detector, slots)
    indexing = {name: index_shards.submit(plan, name, shards[name]) for name in seen}
    for name, parts in shards.items():
        all_of({f"align {name} {part}": future for part, future in enumerate(parts)})  # its own error, not the index's
    indexes = all_of(indexing)
    stages = {
        "demo-data": [demo_data] if demo_data else [],
        "ingest": list(ingested.values()),
        "align": [made for parts in shards.values() for part in parts for made in part.result()],
        "index": list(indexes.values()),
    }
    return Prepared(ingested, rows, indexes, stages)


def align(
    plan: Pipeline, ingested: Mapping[str, StageResult], detector: str, slots: Slots
) -> dict[str, list[PrefectFuture[list[StageResult]]]]:
    """The shards of some data sets: one align task each or, where there are many, several."""

    def tasks_of(name: str, runner: Runner | None) -> list[PrefectFuture[list[StageResult]]]:
        parts = parts_of(ingested[name].output.counts["clips"], plan.settings.shards.clips_per_shard)
        given = [(plan, name, part, rows, ingested[name], detector) for part, rows in enumerate(parts)]
        if runner is None:
            return [align_shards.submit(*arguments, slots) for arguments in given]
        return [submit_to(runner, align_shards, *arguments, None) for arguments in given]

    for name, made in ingested.items():
        progress.expect(f"align {name}", "clips aligned", made.output.counts["clips"])
    with task_runner(plan) as runner:
        shards = {name: tasks_of(name, runner) for name in ingested}
        return shards if runner is None else finished(shards)


def all_of(futures: Mapping[Key, PrefectFuture[Result]]) -> dict[Key, Result]:
    """The results of all futures; all are waited for before an error of one is raised, so that each gets its say."""
    for future in futures.values():
        future.wait()
    failed = {
        key if isinstance(key, str) else getattr(key, "title", key): future.state.message  # a str has a title(), too
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
