"""The process that delivers: it does so beside the work, is replaced when it dies, and ends when it is told to."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path

import pytest

from dfer.system.processes import Worker
from tasks.tracking import deliverer
from tasks.tracking.deliverer import Deliverer, deliver
from tasks.tracking.outbox import Outbox


class Sender:
    """In place of the process's own; asks to stop after so many rounds."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.messages: list[tuple[str, str]] = []

    def __call__(self, message: tuple[str, str]) -> None:
        self.messages.append(message)

    def stop_requested(self, seconds: float = 0.0) -> bool:
        self.rounds -= 1
        return self.rounds < 0


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    """With one run for a server that nobody has started."""
    box = Outbox(tmp_path)
    box.create("one", uri="http://127.0.0.1:9", experiment="demo", location=None, name="one", parent=None, tags={})
    return box


@pytest.fixture
def kept_signals(monkeypatch: pytest.MonkeyPatch):
    """`deliver` sets what belongs to a process of its own: signals, standard output and a logger's level."""
    before = {stop: signal.getsignal(stop) for stop in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr(logging.getLogger("urllib3"), "level", logging.NOTSET)
    yield
    for stop, handler in before.items():
        signal.signal(stop, handler)


def test_a_server_that_is_away_is_said_once(
    outbox: Outbox, kept_signals: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    send = Sender(rounds=2)
    deliver(root=outbox.root, send=send)  # type: ignore[arg-type]
    ((kind, text),) = send.messages
    assert kind == "away"
    assert "Work goes on" in text


@pytest.mark.timeout(120)
def test_a_process_that_dies_is_replaced_and_ends_when_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deliverer, "_RESTART_AFTER", 0.0)
    pids: list[int] = []
    start = Worker.__init__

    def watched(self: Worker, *arguments: object, **options: object) -> None:
        start(self, *arguments, **options)  # type: ignore[arg-type]
        pids.append(self._process.pid or 0)

    monkeypatch.setattr(Worker, "__init__", watched)
    with caplog.at_level(logging.WARNING), Deliverer(Outbox(tmp_path)) as delivering:
        delivering.start()
        wait_for(lambda: len(pids) == 1)
        os.kill(pids[0], signal.SIGKILL)
        wait_for(lambda: len(pids) == 2)
        assert delivering._thread is not None
    assert not delivering._thread.is_alive()
    assert "delivery to MLflow stopped (the process of tasks.tracking.deliverer:deliver was ended by" in caplog.text
    assert len(pids) == 2
    with pytest.raises(ProcessLookupError):
        os.kill(pids[1], 0)


def wait_for(condition) -> None:
    while not condition():
        time.sleep(0.02)
