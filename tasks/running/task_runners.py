"""Where align tasks run: in threads that keep processes, in processes of their own, or on a Dask or Ray cluster."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, cast

from prefect import Task
from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Crashed, State
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner
from prefect.utilities.callables import get_call_parameters

from dfer.config.catalogue import load
from dfer.config.pipeline import Pipeline
from dfer.faces.index import FILE_NAME, read_index
from dfer.storage.store import StageResult
from dfer.system.processes import start_worker
from tasks.running import failures
from tasks.running.graph import Node
from tasks.running.progress import Progress

logger = logging.getLogger(__name__)

Runner = TaskRunner[Any]

# Ray would take a third of the memory for what tasks exchange, which here is some lines of text.
_OBJECT_STORE = 128 * 2**20

# Seconds that the server may take to write down what it was told.
_WRITTEN_DOWN = 3

# Read when Ray is loaded.
_LOCAL_RAY = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # its word for listening on loopback alone
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_agent_register_timeout_ms": "300000",  # of its own processes, which start slowly on a busy machine
}


@contextmanager
def task_runner(pipeline: Pipeline) -> Iterator[Runner]:
    """The started runner that `run.task_runner` asks for, other than the flow's own threads.

    Its tasks have to be waited for before it is left: a cluster that was started here ends with it.
    """
    # Without this, each process would start a server for itself where no server is configured.
    url = PREFECT_API_URL.value() or str(get_client(sync_client=True).api_url)
    with temporary_settings({PREFECT_API_URL: url}), _runner(pipeline) as runner:
        yield runner


def submit_to(runner: Runner, task: Task[..., Any], arguments: dict[str, Any]) -> PrefectFuture[Any]:
    """Submit a task to a runner whose processes may end as soon as the task is done: its events are sent before."""
    sent = task.with_options(
        on_completion=[*task.on_completion_hooks, send_events], on_failure=[*task.on_failure_hooks, send_events]
    )
    return runner.submit(sent, get_call_parameters(task.fn, (), arguments))


def finished(tasks: Mapping[Node, PrefectFuture[Any]], progress: Progress) -> dict[Node, PrefectFuture[Any]]:
    """Wait for the tasks of a runner, all of them before an error of one is raised.

    Returns: the same as futures that do not need the runner any more. The runner's would ask it again for a state
    that is known already; Ray's start a new cluster for that.
    """
    failed: list[tuple[PrefectFuture[Any], Exception]] = []
    for node, future in tasks.items():
        assert node.progress is not None
        title, what, _ = node.progress
        try:
            shards = future.result()
            with progress.bar(title, what) as advance:
                _count(progress, title, shards, advance)
        except Exception as error:
            if not any(error is known for _, known in failed):  # a broken pool has one for all of its tasks
                failures.note(error, node.title)
            failed.append((future, error))
    if failed:
        _note_crashes(failed)
        raise failed[0][1]
    return {node: _without_runner(future) for node, future in tasks.items()}


def _without_runner(future: PrefectFuture[Any]) -> PrefectFuture[Any]:
    done: Future[Any] = Future()
    done.set_result(future.state)
    return PrefectConcurrentFuture(task_run_id=future.task_run_id, wrapped_future=done)


def _count(progress: Progress, title: str, shards: Sequence[StageResult], advance: Callable[[], None]) -> None:
    """Count a task's clips in the bar, and log those that were not kept: the runner's processes have other logs."""
    for shard in shards:
        counts = shard.output.counts
        if not shard.executed:
            progress.cached(title, counts["given"])
            continue
        if counts["failed"]:
            index = read_index(shard.output.file(FILE_NAME))
            for clip in index[index["status"] != "ok"].itertuples():
                about = {"stage": "align", "output": shard.output.hash, "clip_id": clip.clip_id, "reason": clip.reason}
                logger.info("not kept: %s: %s", clip.reason, clip.detail, extra=about)
        for _ in range(counts["given"]):
            advance()


def _note_crashes(failed: Sequence[tuple[PrefectFuture[Any], Exception]]) -> None:
    """Tell the server of tasks whose processes died: they could not do so, and would be shown as running for ever."""
    send_events()
    time.sleep(_WRITTEN_DOWN)
    with get_client(sync_client=True) as client:
        for future, error in failed:
            if future.state.is_running():
                state: State[Any] = Crashed(message=f"Its process ended before the task did: {error}")
                client.set_task_run_state(future.task_run_id, state, force=True)


def send_events(*_: object) -> None:
    """Hook of a task: its events have left this process when this returns."""
    EventsWorker.instance().wait_until_empty()


def _runner(pipeline: Pipeline) -> Runner:
    """Every task has a core to itself; what is started here listens on loopback alone."""
    workers, cluster = pipeline.workers, pipeline.run.cluster
    if pipeline.run.task_runner == "processes":
        return ProcessPoolTaskRunner(max_workers=workers, initializer=start_worker)
    if pipeline.run.task_runner == "dask":
        dask = load("prefect_dask:DaskTaskRunner")
        if cluster is not None:
            return cast(Runner, dask(address=cluster))
        local = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "memory_limit": 0}
        return cast(Runner, dask(cluster_kwargs={**local, "host": "127.0.0.1", "dashboard_address": None}))
    if cluster is not None:
        return cast(Runner, load("prefect_ray:RayTaskRunner")(address=cluster))
    for name, value in _LOCAL_RAY.items():
        os.environ.setdefault(name, value)
    local = {"num_cpus": workers, "object_store_memory": _OBJECT_STORE, "include_dashboard": False}
    return cast(Runner, load("prefect_ray:RayTaskRunner")(init_kwargs=local))
