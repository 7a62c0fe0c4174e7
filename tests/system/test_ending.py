"""A process that is told to end: what works for it ends at once, what waits stops waiting, nothing is begun."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from dfer.storage.store import CacheKey, Store
from dfer.system import processes


@pytest.fixture(autouse=True)
def process_that_lives_on(monkeypatch):
    """The end of this test's process is the end of nothing else."""
    monkeypatch.setattr(processes, "_ending", threading.Event())


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """Work in a thread, and what it ended with."""
    ended: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ended


def say_and_sleep(*, send: Callable[[str], None]) -> None:
    send("working")
    time.sleep(600)


def answer(*, send: Callable[[str], None]) -> str:
    return "done"


@pytest.fixture
def importable(monkeypatch):
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))


def test_who_waits_for_a_process_stops_waiting_and_has_not_failed(importable):
    working = threading.Event()

    def work() -> None:
        with processes.Worker() as worker:
            worker.call(say_and_sleep, on_message=lambda _: working.set())

    thread, ended = in_thread(work)
    assert working.wait(60)
    processes.end_all()
    thread.join(60)
    assert [type(error) for error in ended] == [processes.EndingError]
    with pytest.raises(processes.EndingError):
        processes.Worker()


def test_the_process_that_ends_last_is_left_alone_and_may_be_started_late(importable):
    with processes.Worker(ends_last=True) as last, processes.Worker() as other:
        processes.end_all()
        other._process.join(30)
        assert (last.ready, other.ready) == (True, False)
        with processes.Worker(ends_last=True) as late:
            assert late.call(answer) == "done"


def test_who_waits_for_another_run_stops_waiting_and_leaves_nothing(tmp_path):
    store, cache_key = Store(tmp_path), CacheKey("align", 1, {})
    (tmp_path / "align").mkdir()

    def write(folder: Path) -> None:
        (folder / "faces").touch()

    with FileLock(tmp_path / "align" / f".{cache_key.hash}.lock"):
        thread, ended = in_thread(lambda: store.ensure(cache_key, write))
        time.sleep(0.5)
        assert thread.is_alive()
        processes.end_all()
        thread.join(10)
    assert [type(error) for error in ended] == [processes.EndingError]
    assert not store.folder(cache_key).exists()
    assert not list(tmp_path.glob("align/.*.partial"))


def test_a_pause_is_broken_off():
    thread, ended = in_thread(lambda: processes.sleep(600))
    processes.end_all()
    thread.join(10)
    assert [type(error) for error in ended] == [processes.EndingError]
