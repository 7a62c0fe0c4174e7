"""What the tasks of all stages have in common: where outputs are kept, and how one is made only if it is missing."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from prefect.exceptions import TerminationSignal
from prefect.runtime import task_run
from prefect.states import Completed

from dfer.config.pipeline import Pipeline
from dfer.storage.remote_store import RemoteStore
from dfer.storage.store import CacheKey, Output, StageResult, Store
from dfer.system import logs, processes
from tasks.running.progress import Progress, under_way
from tasks.running.slots import Slots
from tasks.tracking.runs import PipelineTracking

logger = logging.getLogger(__name__)

on_sigterm: ContextVar[Callable[[int, None], object] | None] = ContextVar("on_sigterm", default=None)
"""The signal handler that `dfer run` wants called for SIGTERM, which Prefect handles while a flow runs."""

Result = TypeVar("Result", StageResult, list[StageResult])


@dataclass(frozen=True)
class RunResources:
    """What the tasks of one run of a pipeline share, in the flow's own process."""

    slots: Slots
    tracking: PipelineTracking
    progress: Progress


def artifact_key(*words: str) -> str:
    """A name that Prefect takes for an artifact: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


def store_of(pipeline: Pipeline) -> Store | RemoteStore:
    """The pipeline's outputs. Those of a stage that is to be run again count as missing."""
    if pipeline.work_url:
        return RemoteStore(f"{pipeline.work_url}/stages", pipeline.force_rerun)
    return Store(pipeline.work_dir / "stages", pipeline.force_rerun)


def ensure(
    pipeline: Pipeline,
    cache_key: CacheKey,
    work: Callable[[Path], Mapping[str, int] | None],
    *,
    resumes_from: str | None = None,
    slot: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> StageResult:
    """A stage's output, made by `work` only if it is missing.

    The only cache is the output's folder with its manifest, which is checked against the files. A `slot` is waited for
    only where there is something to do.
    """
    store = store_of(pipeline)
    existing = store.find(cache_key)
    if isinstance(existing, Output):
        return StageResult(existing, "", 0.0)
    title = task_run.name
    with logs.about(stage=cache_key.stage, output=cache_key.hash, task=title), slot():
        processes.go_on()
        try:
            with under_way.doing(title or cache_key.stage):
                result = store.ensure(cache_key, work, resumes_from=resumes_from)
        except Exception:
            logger.exception("%s %s failed", cache_key.stage, cache_key.hash[:8])
            raise
        if result.executed:
            facts = {"why": result.why, "seconds": round(result.seconds, 3), "counts": result.output.counts}
            logger.info("%s %s: made in %.1f s", cache_key.stage, cache_key.hash[:8], result.seconds, extra=facts)
        return result


@contextmanager
def ended_at_once() -> Iterator[None]:
    """SIGTERM (a cancelled run, a worker that is stopped) ends the run's processes before anything else is closed."""
    try:
        yield
    except TerminationSignal as error:
        if handler := on_sigterm.get():
            handler(error.signal, None)
        processes.end_all()
        raise


def task_result(result: Result) -> Result:
    """What a stage's task returns: where nothing had to be made, its state in Prefect is `Cached`."""
    results = result if isinstance(result, list) else [result]
    if not results or any(each.executed for each in results):
        return result
    output = results[0].output
    outputs = f"{output.stage} {output.hash[:8]}" + (f" and {len(results) - 1} more" if results[1:] else "")
    return cast(Result, Completed(name="Cached", message=f"{outputs} was there", data=result))
