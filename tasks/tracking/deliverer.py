"""The process that delivers the outbox while a pipeline runs, so that no stage waits for MLflow."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from dfer.system.processes import Sender, Worker
from tasks.tracking.outbox import Outbox, TrackedRun

logger = logging.getLogger("dfer.mlflow")

LOCK = ".delivering.lock"

_POLL = 0.5  # seconds between looks at the outbox
_LONGEST_BACK_OFF = 10.0
_RESTART_AFTER = 10.0
# How long the end of a run waits for the rest to be delivered, counted from what was delivered last.
_PATIENCE = 300.0
_PATIENCE_WHILE_AWAY = 15.0
# How long a request that MLflow is answering may take at the end.
_STOP_PATIENCE = 5.0


class Deliverer:
    """Delivers an outbox in the background, once it holds something.

    Used as a context manager around a pipeline's run. At its end it waits, within bounds, for what is not delivered
    yet; what remains is delivered by the next run, or by `dfer mlflow deliver`.
    """

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._worker: Worker | None = None
        self._closing = threading.Event()
        self._away = False

    def start(self) -> None:
        """Deliver from now on. More calls change nothing."""
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._keep_running, name="mlflow-deliverer", daemon=True)
                self._thread.start()

    def wait_for(self, runs: Sequence[TrackedRun]) -> bool:
        """Wait until MLflow has these runs, or does not answer. Returns whether it has them."""
        return self._wait(lambda: [run for run in runs if not run.delivered.run_id])

    def __enter__(self) -> Deliverer:
        self.outbox.close_abandoned()
        if self.outbox.pending():
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.settle()
        finally:  # otherwise this process and the one that delivers wait for each other at exit
            self._stop()

    def settle(self, patience: float = _PATIENCE) -> None:
        """Wait, within bounds, until everything is delivered; log what is not."""
        if self._thread is None:
            return
        if not self._wait(self.outbox.pending, patience):
            left = self.outbox.pending()
            logger.warning(
                "MLflow does not have everything yet: what %d run%s logged is kept in %s. "
                "The next run delivers it, or: dfer mlflow deliver",
                len(left),
                "" if len(left) == 1 else "s",
                self.outbox.root,
            )

    def _wait(self, missing: Callable[[], list[TrackedRun]], patience: float = _PATIENCE) -> bool:
        last: list[tuple[str, int]] = []
        moved = time.monotonic()
        while left := missing():
            now = [(run.id, run.delivered.offset) for run in left]
            if now != last:
                last, moved = now, time.monotonic()
            if time.monotonic() - moved > (min(patience, _PATIENCE_WHILE_AWAY) if self._away else patience):
                return False
            time.sleep(0.2)
        return True

    def _stop(self) -> None:
        self._closing.set()
        if self._thread is None:
            return
        if self._worker is not None:
            self._worker.request_stop()
        self._thread.join(_STOP_PATIENCE)
        if self._worker is not None:
            self._worker.abort()
        self._thread.join()

    def _keep_running(self) -> None:
        """A process that dies is replaced: the next one finds out whether MLflow has what it was sending."""
        while not self._closing.is_set():
            with Worker(ends_last=True) as self._worker:
                try:
                    self._worker.call(deliver, on_message=self._log, root=self.outbox.root)
                    return
                except Exception as error:
                    problem = str(error)
            if not self._closing.is_set():
                logger.warning(
                    "delivery to MLflow stopped (%s); everything is kept in %s, and it starts again in %.0f s",
                    problem,
                    self.outbox.root,
                    _RESTART_AFTER,
                )
                self._closing.wait(_RESTART_AFTER)

    def _log(self, message: tuple[str, str]) -> None:
        kind, text = message
        if kind != "refused":
            self._away = kind != "back"
        logger.log(logging.INFO if kind == "back" else logging.WARNING, text)


def deliver(*, root: Path, send: Sender) -> None:
    """Deliver the outbox at `root` until the caller asks to stop; the work of a process.

    Sends (kind, text) whenever something changes: "away" or "stuck" (MLflow does not take what is logged), "back" (it
    does again), "refused" (it refused operations for good).
    """
    # After Ctrl-C there is still something to deliver: that the run was stopped.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # no line for every request to a server that is away
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - what MLflow prints fails where nobody reads it any more
    lock = FileLock(root / LOCK)
    while True:  # another process delivers as long as it holds the lock
        try:
            lock.acquire(timeout=_POLL)
            break
        except Timeout:
            if send.stop_requested():
                return
    from tasks.tracking.delivery import Delivery

    delivery, pause, before = Delivery(Outbox(root)), _POLL, ""
    while not send.stop_requested(pause):
        report = delivery.round()
        problem = "; ".join([*report.away.values(), *(f"run {run}: {why}" for run, why in report.stuck.items())])
        pause = min(max(1.0, 2 * pause), _LONGEST_BACK_OFF) if problem else _POLL
        if refused := sum(report.refused.values()):
            where = f"refused.jsonl in the run's folder under {root}"
            send(("refused", f"MLflow refused {refused} operations: see {where}"))
        if problem and not before:
            kind = "away" if report.away else "stuck"
            send((kind, f"MLflow does not take what is logged ({problem}). Work goes on; it is kept in {root} and "
                        "delivered when MLflow answers"))  # fmt: skip
        elif before and not problem:
            send(("back", "MLflow answers again; what was kept is delivered"))
        before = problem
