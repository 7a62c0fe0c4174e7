"""The process that delivers the outbox while a pipeline runs, so that no stage waits for MLflow."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from filelock import FileLock, Timeout

from dfer.system.processes import LAST, die_with_parent, limit_threads
from tasks.tracking.outbox import Outbox, TrackedRun

logger = logging.getLogger("dfer.mlflow")

LOCK = ".delivering.lock"

_POLL = 0.5  # seconds between looks at the outbox
_LONGEST_BACK_OFF = 10.0
_RESTART_AFTER = 10.0
# How long the end of a run waits for the rest to be delivered, counted from what was delivered last.
_PATIENCE = 300.0
_PATIENCE_WHILE_AWAY = 15.0


class Deliverer:
    """Delivers an outbox in the background, from the first thing that there is to deliver.

    Used as a context manager around a pipeline's run. At its end there is a bounded wait for what is not delivered
    yet; what remains is delivered by the next run, or by `dfer mlflow deliver`.
    """

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
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
        finally:  # or the process would be waited for when this one ends, and it for this one
            self._stop()

    def settle(self, patience: float = _PATIENCE) -> None:
        """Wait, within bounds, until everything is delivered; say what is not."""
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
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.send("stop")
        if self._thread is not None:
            self._thread.join()

    def _keep_running(self) -> None:
        """A process that dies is replaced: what it had in hand is in doubt, which the next one looks into."""
        context = multiprocessing.get_context("spawn")
        while not self._closing.is_set():
            here, there = context.Pipe()
            process = context.Process(name=LAST, target=_serve, args=(self.outbox.root, there), daemon=True)
            process.start()
            there.close()
            self._connection = here
            self._listen(here)
            process.join(5)
            process.kill()
            if not self._closing.is_set():
                logger.warning(
                    "the process that delivers to MLflow ended with status %s; everything is kept in %s, "
                    "and another one starts in %.0f s",
                    process.exitcode,
                    self.outbox.root,
                    _RESTART_AFTER,
                )
                self._closing.wait(_RESTART_AFTER)

    def _listen(self, connection: Connection) -> None:
        """Say what the process says, until it ends or is to end."""
        while not self._closing.is_set():
            try:
                if not connection.poll(_POLL):
                    continue
                kind, message = connection.recv()
            except (EOFError, OSError):
                return
            if kind != "refused":
                self._away = kind != "back"
            level = logging.INFO if kind == "back" else logging.WARNING
            logger.log(level, message)


def _serve(root: Path, connection: Connection) -> None:
    """Deliver until there is word from the other end of the connection, or it is gone."""
    die_with_parent()
    # after Ctrl-C there is still something to deliver: that the run was stopped
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    limit_threads(1)
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - what MLflow prints fails where nobody reads it any more
    lock = FileLock(root / LOCK)
    while True:  # another process delivers as long as it holds the lock
        try:
            lock.acquire(timeout=_POLL)
            break
        except Timeout:
            if connection.poll(0):
                return
    from tasks.tracking.delivery import Delivery

    delivery, pause, before = Delivery(Outbox(root)), _POLL, ""
    while not connection.poll(pause):
        report = delivery.round()
        problem = "; ".join([*report.away.values(), *(f"run {run}: {why}" for run, why in report.stuck.items())])
        pause = min(max(1.0, 2 * pause), _LONGEST_BACK_OFF) if problem else _POLL
        if refused := sum(report.refused.values()):
            connection.send(
                ("refused", f"MLflow refused {refused} operations: see refused.jsonl in the run's folder under {root}")
            )
        if problem and not before:
            kind = "away" if report.away else "stuck"
            connection.send((kind, f"MLflow does not take what is logged ({problem}). Work goes on; it is kept in "
                                   f"{root} and delivered when MLflow answers"))  # fmt: skip
        elif before and not problem:
            connection.send(("back", "MLflow answers again; what was kept is delivered"))
        before = problem
