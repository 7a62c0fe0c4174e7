"""What every stage's task has in common."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import cast

from prefect.exceptions import TerminationSignal
from prefect.runtime import task_run
from prefect.states import Completed

from dfer.config.reading import Pipeline
from dfer.storage.remote_store import RemoteStore
from dfer.storage.store import CacheKey, Output, StageResult, Store
from dfer.system import logs, processes
from dfer.system.gpus import visible_gpus
from dfer.system.processes import Workers
from tasks.running.gpu_slots import Place, Places

logger = logging.getLogger(__name__)


def store_of(pipeline: Pipeline) -> Store | RemoteStore:
    """The pipeline's outputs, seen as it was asked for: those of a stage that is to be run again are not there."""
    if pipeline.work_url:
        return RemoteStore(f"{pipeline.work_url}/stages", pipeline.again)
    return Store(pipeline.work_dir / "stages", pipeline.again)


def ensure(
    pipeline: Pipeline,
    cache_key: CacheKey,
    work: Callable[[Path], Mapping[str, int] | None],
    *,
    resumes_from: str | None = None,
    place: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> StageResult:
    """Make a stage's output, or find it made.

    The one cache is the folder with its manifest, which is checked against the files that are there. `place` is waited
    for only where there is something to do.
    """
    store = store_of(pipeline)
    found = store.find(cache_key)
    if isinstance(found, Output):
        return StageResult(found, "", 0.0)
    with logs.about(stage=cache_key.stage, output=cache_key.hash, task=task_run.name), place():
        processes.go_on()
        try:
            made = store.ensure(cache_key, work, resumes_from=resumes_from)
        except Exception:
            logger.exception("%s %s failed", cache_key.stage, cache_key.hash[:8])
            raise
        if made.executed:
            facts = {"why": made.why, "seconds": round(made.seconds, 3), "counts": made.output.counts}
            logger.info("%s %s: made in %.1f s", cache_key.stage, cache_key.hash[:8], made.seconds, extra=facts)
        return made


stop_now: Callable[[int, None], object] | None = None
"""What SIGTERM does to a run of the command line, which has nobody to wind anything up for."""


@contextmanager
def ended_at_once() -> Iterator[None]:
    """SIGTERM (a cancelled run, a worker that is stopped) ends the run's processes before anything else is wound up."""
    try:
        yield
    except TerminationSignal as error:
        if stop_now is not None:
            stop_now(error.signal, None)
        processes.end_all()
        raise


def shown(made: StageResult) -> StageResult:
    """What a stage's task returns: an output that was there already appears in Prefect as `Cached`."""
    if made.executed:
        return made
    was_there = f"{made.output.stage} {made.output.hash[:8]} was there"
    return cast(StageResult, Completed(name="Cached", message=was_there, data=made))


def all_shown(made: list[StageResult]) -> list[StageResult]:
    """The same of a task that makes several outputs: `Cached` if all of them were there."""
    if any(one.executed for one in made):
        return made
    was_there = f"{made[0].output.stage} {made[0].output.hash[:8]}" + (f" and {len(made) - 1} more" if made[1:] else "")
    return cast(list[StageResult], Completed(name="Cached", message=f"{was_there} was there", data=made))


def trainings_at_a_time(pipeline: Pipeline) -> int:
    """One a GPU, or one a core without, unless the configuration says otherwise. One of several processes takes as many
    GPUs or cores."""
    room = len(_gpus(pipeline)) or pipeline.workers
    return pipeline.run.trainings or max(1, room // pipeline.settings.train.processes)


def threads_per_training(pipeline: Pipeline) -> int:
    """The cores, shared between the trainings that run at a time, unless the configuration says otherwise."""
    return pipeline.settings.train.threads or max(1, pipeline.workers // trainings_at_a_time(pipeline))


class Slots:
    """How much runs side by side. Tasks wait here rather than in Prefect's pool, whose threads also hold tasks that
    wait for others. To be closed in the end, with the processes that are kept for shards and evaluations."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._lock = threading.Lock()
        self._aligning = threading.Semaphore(pipeline.workers)
        self.aligners = Workers()
        self._training: _Trainings | None = None

    @contextmanager
    def aligning(self) -> Iterator[None]:
        """A place to align faces in."""
        with self._aligning:
            yield

    def training(self, processes: int = 1) -> Place:
        """A place to train or evaluate in, for so many processes of one training. It is not taken yet."""
        return Place(lambda: self._trainings.places, processes)

    @property
    def threads_per_training(self) -> int:
        return self._trainings.threads

    @property
    def _trainings(self) -> _Trainings:
        # counted for the first that has something to do: asking for GPUs loads torch, which takes seconds
        with self._lock:
            self._training = self._training or _Trainings(self._pipeline)
            return self._training

    def __enter__(self) -> Slots:
        return self

    def __exit__(self, *_: object) -> None:
        self.aligners.close()
        if self._training is not None:
            self._training.places.close()


class _Trainings:
    def __init__(self, pipeline: Pipeline) -> None:
        self.threads = threads_per_training(pipeline)
        self.places = Places(
            trainings_at_a_time(pipeline),
            _gpus(pipeline),
            threads=self.threads,
            processes=pipeline.settings.train.processes,
        )


def _gpus(pipeline: Pipeline) -> list[str]:
    """The GPUs that trainings may use, see `visible_gpus`; none for training on the CPU."""
    return [] if pipeline.settings.train.device == "cpu" else visible_gpus()
