"""Where align tasks run: in threads that keep processes, in processes of their own, or on a Dask or Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from prefect import Task
from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner
from prefect.utilities.callables import get_call_parameters

from dfer.config import Pipeline
from dfer.processes import start_worker
from tasks import progress

# Ray would take a third of the memory for what tasks exchange, which here is some lines of text.
_OBJECT_STORE = 128 * 2**20


@contextmanager
def task_runner(pipeline: Pipeline) -> Iterator[TaskRunner[PrefectFuture[Any]] | None]:
    """The started runner that `run.task_runner` asks for; None for threads, which are the flow's own.

    Its tasks have to be waited for before it is left: a cluster that was started here ends with it.
    """
    if pipeline.run.task_runner == "threads":
        yield None
        return
    # Processes of their own would each start a server of their own, where none is named.
    url = PREFECT_API_URL.value() or str(get_client(sync_client=True).api_url)
    with temporary_settings({PREFECT_API_URL: url}), _runner(pipeline) as runner:
        yield runner


def submit_to(runner: TaskRunner[Any], task: Task[..., Any], *arguments: Any) -> PrefectFuture[Any]:
    """Submit a task to a runner whose processes may end as soon as the task is done: its last word is sent before."""
    last_word = task.with_options(on_completion=[_send_events], on_failure=[_send_events])
    return runner.submit(last_word, get_call_parameters(task.fn, arguments, {}))


def wait_for(tasks: Mapping[str, Sequence[PrefectFuture[Any]]]) -> None:
    """Wait for the tasks of several data sets, all of them before an error of one is raised."""
    failed: list[Exception] = []
    for name, futures in tasks.items():
        with progress.bar(f"align {name}", "parts aligned", share_of=len(futures)) as advance:
            for part, future in enumerate(futures):
                try:
                    future.result()
                except Exception as error:
                    error.add_note(f"the task was: align {name} {part}")
                    failed.append(error)
                advance()
    if failed:
        raise failed[0]


def _send_events(*_: object) -> None:
    EventsWorker.instance().wait_until_empty()


def _runner(pipeline: Pipeline) -> TaskRunner[PrefectFuture[Any]]:
    """Every task has a core to itself; what is started here listens on loopback alone."""
    workers, cluster = pipeline.workers, pipeline.run.cluster
    if pipeline.run.task_runner == "processes":
        return ProcessPoolTaskRunner(max_workers=workers, initializer=start_worker)
    if pipeline.run.task_runner == "dask":
        from prefect_dask import DaskTaskRunner

        if cluster is not None:
            return DaskTaskRunner(address=cluster)
        local = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "memory_limit": 0}
        return DaskTaskRunner(cluster_kwargs={**local, "host": "127.0.0.1", "dashboard_address": None})
    from prefect_ray import RayTaskRunner

    if cluster is not None:
        return RayTaskRunner(address=cluster)
    local = {"num_cpus": workers, "object_store_memory": _OBJECT_STORE, "include_dashboard": False}
    return RayTaskRunner(init_kwargs={**local, "_node_ip_address": "127.0.0.1"})
