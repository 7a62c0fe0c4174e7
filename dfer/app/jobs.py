"""Predictions for the page: one after the other, in a process that a broken video may bring down."""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfer.app.limits import Limits, RefusedError, check
from dfer.config.settings import DetectionSettings
from dfer.prediction.film import Request
from dfer.prediction.folder import failed
from dfer.prediction.models import TrainedModel
from dfer.system.paths import spelled, storable
from dfer.system.processes import ProcessDiedError, Sender, Worker
from dfer.video import Video, VideoError

logger = logging.getLogger(__name__)

_LONGEST = 1800.0  # seconds that one prediction may take


@dataclass(frozen=True)
class Outcome:
    """What became of a video.

    Attributes:
        folder: of its results, with the files of `dfer.prediction.folder`; None if there are none.
        problem: why there are none, a sentence.
        begin, end: seconds from which and to which the annotated copy is shown.
    """

    folder: Path | None = None
    problem: str = ""
    remarks: str = ""
    begin: float = 0.0
    end: float = 0.0


@dataclass(eq=False)
class Job:
    """A prediction that was asked for; `share` of it is done, 0 to 1."""

    source: Path
    name: str
    out: Path
    share: float = 0.0
    running: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)
    future: Future[Outcome] = field(default_factory=Future)


class Jobs:
    """Predicts with one model. Safe to use from several threads; to be closed in the end."""

    def __init__(self, model: TrainedModel, limits: Limits, *, device: str = "auto", threads: int = 0) -> None:
        self._limits = limits
        self._arguments: dict[str, Any] = {
            "model": model,
            "detection": model.detection,
            "device": device,
            "threads": threads or os.cpu_count() or 1,
        }
        self._one_at_a_time = ThreadPoolExecutor(1)
        self._worker: Worker | None = None
        self._lock = threading.Lock()
        self._jobs: list[Job] = []

    def load(self) -> None:
        """Load the model, so that the first video does not wait for it. Raises SavedModelError if its weights cannot be
        used, ModelFileError or DetectorError if no faces can be found."""
        from dfer.prediction.work import load_in_process

        self._ready().call(load_in_process, **self._arguments)

    def submit(self, source: Path, name: str, out: Path) -> Job:
        """Predict on a file as soon as those before it are done. `name` is what people call it."""
        job = Job(source, name, out)
        with self._lock:
            self._jobs.append(job)
        job.future = self._one_at_a_time.submit(self._run, job)
        job.future.add_done_callback(lambda _: self._forget(job))
        return job

    def before(self, job: Job) -> int:
        """How many others come before it."""
        with self._lock:
            return self._jobs.index(job) if job in self._jobs else 0

    def stop(self, job: Job) -> None:
        """Stop a job at once, or take it out of the queue. Its folder is left to whoever made it."""
        job.stopped.set()
        if not job.future.cancel() and job.running and (worker := self._worker) is not None:
            worker.abort()

    def close(self) -> None:
        """Stop all jobs and end the process."""
        with self._lock:
            jobs = list(self._jobs)
        for job in reversed(jobs):
            self.stop(job)
        self._one_at_a_time.shutdown(wait=True, cancel_futures=True)
        if self._worker is not None:
            self._worker.close()

    def _forget(self, job: Job) -> None:
        with self._lock:
            self._jobs.remove(job)

    def _ready(self) -> Worker:
        if self._worker is None or not self._worker.ready:
            if self._worker is not None:
                self._worker.close()
            self._worker = Worker(self._arguments["threads"])
        return self._worker

    def _run(self, job: Job) -> Outcome:
        """Whatever happens, a sentence for the person who waits for it."""
        worker = self._ready()

        def on_share(share: float) -> None:
            job.share = share
            if job.stopped.is_set():
                worker.abort()

        too_long = threading.Timer(_LONGEST, worker.abort)
        too_long.daemon = True
        too_long.start()
        job.running = True
        try:
            if job.stopped.is_set():
                return Outcome(problem="Stopped.")
            return worker.call(
                predict_upload,
                on_message=on_share,
                limits=self._limits,
                source=job.source,
                name=job.name,
                out=job.out,
                **self._arguments,
            )
        except ProcessDiedError as error:
            if job.stopped.is_set():
                return Outcome(problem="Stopped.")
            if not too_long.is_alive():
                return Outcome(
                    problem=f"It took more than {_LONGEST / 60:.0f} minutes and was stopped. Try a shorter one."
                )
            logger.warning("%s: %s", job.name, error)
            return Outcome(problem=f"It brought the decoder down ({error}). Convert it with ffmpeg, or try another.")
        except Exception as error:
            logger.exception("%s failed unexpectedly", job.name)
            return Outcome(problem=storable(f"{type(error).__name__}: {error}"))
        finally:
            job.running = False
            too_long.cancel()


def predict_upload(
    *,
    limits: Limits,
    source: Path,
    name: str,
    out: Path,
    model: TrainedModel,
    detection: DetectionSettings | None,
    device: str,
    threads: int,
    send: Sender,
) -> Outcome:
    """Check an upload and predict on it, with an annotated copy. To be called in a process of its own."""
    from dfer.prediction import table as tables
    from dfer.prediction.folder import ANNOTATED, TABLE, TABLE_AS_TEXT
    from dfer.prediction.work import predict_in_process

    try:
        check(source, limits)
    except RefusedError as error:
        return Outcome(problem=str(error))
    except VideoError as error:
        return Outcome(problem=_for_people(failed(name, error.reason, error.detail), source))
    row = predict_in_process(
        video=name,
        source=source,
        out=out,
        model=model,
        detection=detection,
        request=Request(),
        annotate=True,
        device=device,
        threads=threads,
        send=send,
    )
    if row["status"] != "ok":
        return Outcome(problem=_for_people(row, source))
    folder = out / row["folder"]
    # to be downloaded; a run of `dfer predict` has it once for all of its videos
    table = tables.read(folder / TABLE)
    tables.write(table, folder / TABLE_AS_TEXT, model.classes)
    copy = Video(folder / ANNOTATED)
    begin, end = float(copy.times[0]), float(copy.times[0]) + row["seconds"]
    return Outcome(folder, "", row["remarks"], begin, end)


_IN_SHORT = {
    "empty_file": "The file is empty.",
    "not_a_video": "This is no video that can be read.",
    "undecodable": "This video cannot be decoded.",
    "no_frames": "There is no picture in this video.",
    "no_face": "No face was found.",
    "too_few_faces": "Nobody's face is seen for long enough.",
    "no_face_shape": "No face was found.",
    "lfs_pointer": "This is no video, but a pointer to one.",
}


def _for_people(row: dict[str, Any], source: Path) -> str:
    """What is wrong with an upload: in short, and the detail without the place where it lies here."""
    detail = row["detail"].replace(spelled(source), "it")
    return f"{_IN_SHORT.get(row['reason'], 'Nothing can be said about this video.')} {detail[:1].upper()}{detail[1:]}."
