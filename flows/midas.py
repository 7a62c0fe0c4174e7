"""The flow `midas`: from raw videos to the tables and figures of an experiment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dfer.services.servers import HEARTBEAT
from dfer.system.proxies import without_loopback

os.environ.update(without_loopback(os.environ))
# The first start of Prefect's temporary server migrates a database, which takes longer than it waits by default.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
# A server of `dfer services` or of docker/ gives up a run that it has not heard of for two minutes.
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT))

from prefect import flow
from prefect.context import FlowRunContext
from prefect.task_runners import ThreadPoolTaskRunner

from dfer.config.reading import DEFAULT_CONFIG, load_pipeline
from dfer.storage.remote import check_writable
from dfer.storage.store import StageResult
from tasks import stages
from tasks.align import aligned_clips
from tasks.ingest import clips_of
from tasks.running.failures import say_how_to_go_on
from tasks.running.graph_run import GraphRun
from tasks.running.progress import progress_of_run
from tasks.running.run_log import run_log
from tasks.running.slots import Slots
from tasks.running.stage import RunResources, artifact_key, ended_at_once
from tasks.tracking.deliverer import Deliverer
from tasks.tracking.runs import PipelineTracking, outbox_of

if TYPE_CHECKING:
    StageName = str
else:
    StageName = Literal[stages.STAGES]  # the choices in Prefect's page


@dataclass(frozen=True)
class Outcome:
    """What a run of a pipeline came to.

    Attributes:
        stages: stage -> its outputs, in the order of the pipeline.
        indexes: data set (and the settings of its faces, where they are not the pipeline's) -> its align index.
        report: the report's output.
        log: the run's log.
    """

    stages: dict[str, list[StageResult]]
    indexes: dict[str, StageResult]
    report: StageResult
    log: Path


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
    start_from: StageName | None = None,
    since: datetime | None = None,
) -> Outcome:
    """Read the data sets, align the faces, train the arms, evaluate them on their own folds and on other data sets.

    A stage whose output exists is not run again. Where a training or an evaluation fails, the others are finished, and
    the report is made of what there is and names what is missing, before the run fails.

    Args:
        pipeline: a pipeline of the configuration file.
        config: path of the configuration file.
        overrides: KEY.PATH=VALUE pairs that win over the file, for example train.epochs=2.
        only: the tables and figures to make, for example table-5; all of the pipeline's if none is named.
        start_from: a stage to run again, with what depends on it, though its outputs exist; what is missing before it
            is made first.
        since: with `start_from`: what was made after this time has been made again already; by default, when the flow
            run was created.
    """
    loaded = load_pipeline(pipeline, Path(config), overrides, only)
    if loaded.work_url:
        check_writable(loaded.work_url)
    if start_from is not None:
        loaded = stages.starting_from(loaded, start_from, since=since.timestamp() if since else _created())
    run = GraphRun(loaded)
    graph = stages.graph_of(
        loaded,
        clips=lambda dataset: clips_of(run.result(graph["ingest"][dataset])),
        aligned=lambda faces: aligned_clips(run.result(graph["index"][faces]).output),
    )

    def fingerprint() -> str:
        return "".join(result.output.hash for result in run.results(graph["ingest"].values()))

    with (
        run_log(loaded) as log,
        progress_of_run() as (progress, page),
        Slots(loaded) as slots,
        Deliverer(outbox_of(loaded)) as deliverer,
        PipelineTracking(loaded, fingerprint, deliverer) as tracking,
        ended_at_once(),
    ):
        page.link(artifact_key("trainings", pipeline), "the trainings in MLflow, side by side", tracking.page)
        run.run_all(graph, RunResources(slots, tracking, progress))
    return Outcome(
        stages={stage: run.results(graph[stage].values()) for stage in stages.STAGES},
        indexes={graph.title(faces): run.result(node) for faces, node in graph["index"].items()},
        report=run.result(graph["report"]["report"]),
        log=log,
    )


def _created() -> float:
    """When this flow run was created, seconds since 1970. A retry is the same flow run: it does not make again what was
    made again before it failed."""
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None and context.flow_run.created is not None
    return context.flow_run.created.timestamp()


if __name__ == "__main__":
    midas()
