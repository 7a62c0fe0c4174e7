"""Work in a process of its own: results, messages, errors, and death with the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dfer.system.processes import ProcessDiedError, Worker, Workers, run_isolated


def double(*, number, send):
    send("started")
    return {"twice": 2 * number, "pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}


def fail(*, send):
    raise ValueError("no such clip")


def lose_a_connection(*, send):
    raise ConnectionAbortedError("the share is gone")


def kill_itself(*, send):
    os.kill(os.getpid(), signal.SIGKILL)


def write_for_ever(*, path, send):
    while True:
        Path(path).write_text(str(time.time()))
        time.sleep(0.02)


def say_and_sleep(*, seconds, send):
    send("working")
    time.sleep(seconds)


def call(name, **arguments):
    return run_isolated(f"{__name__}:{name}", **arguments)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))


def test_result_and_messages_come_back():
    messages = []
    result = call("double", number=21, threads=3, on_message=messages.append)
    assert result["twice"] == 42
    assert result["pid"] != os.getpid()
    assert result["threads"] == "3"
    assert messages == ["started"]


def test_errors_come_back_as_they_were():
    with pytest.raises(ValueError, match="no such clip") as caught:
        call("fail")
    assert "in the process of" in caught.value.__notes__[0]


def test_a_lost_connection_of_the_function_is_its_own_error_and_the_process_lives():
    with Worker() as worker:
        with pytest.raises(ConnectionAbortedError, match="the share is gone"):
            worker.call(f"{__name__}:lose_a_connection")
        assert worker.ready


def test_a_killed_process_is_an_error_that_says_so():
    with pytest.raises(ProcessDiedError, match="SIGKILL"):
        call("kill_itself")


def test_the_process_dies_with_a_killed_parent(tmp_path):
    target = tmp_path / "beat"
    code = (
        "from dfer.system.processes import run_isolated\n"
        f"if __name__ == '__main__': run_isolated('{__name__}:write_for_ever', path={str(target)!r})"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script)])
    deadline = time.monotonic() + 30
    while not target.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert target.exists()
    parent.kill()
    parent.wait()
    time.sleep(0.5)
    last = target.read_text()
    time.sleep(0.3)
    assert target.read_text() == last


def test_a_worker_does_one_call_after_another():
    with Worker() as worker:
        first = worker.call(f"{__name__}:double", number=1)
        with pytest.raises(ValueError, match="no such clip"):
            worker.call(f"{__name__}:fail")
        second = worker.call(f"{__name__}:double", number=2)
    assert (first["twice"], second["twice"]) == (2, 4)
    assert first["pid"] == second["pid"]


def test_workers_are_kept_and_dead_or_busy_ones_replaced():
    workers = Workers()
    try:
        with workers.one() as process:
            first = process.call(f"{__name__}:double", number=1)["pid"]
        with workers.one() as process, workers.one() as beside:
            assert process.call(f"{__name__}:double", number=1)["pid"] == first
            assert beside.call(f"{__name__}:double", number=1)["pid"] != first
        with pytest.raises(ProcessDiedError), workers.one() as process:
            process.call(f"{__name__}:kill_itself")

        def refuse(message):
            raise RuntimeError(f"enough after {message}")

        # broken off between its message and its result: the next caller must not be given that result
        with pytest.raises(RuntimeError, match="enough"), workers.one() as process:
            process.call(f"{__name__}:double", number=20, on_message=refuse)
        with workers.one() as process:
            assert process.call(f"{__name__}:double", number=3)["twice"] == 6
    finally:
        workers.close()


def test_a_call_that_is_broken_off_is_not_waited_for():
    def enough(_):
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        call("say_and_sleep", on_message=enough, seconds=60)
    assert time.monotonic() - started < 30


def test_workers_that_were_closed_keep_nobody():
    workers = Workers()
    with workers.one() as busy:
        workers.close()
        assert busy.call(f"{__name__}:double", number=2)["twice"] == 4
    assert not busy.ready
    with workers.one() as late:
        assert late.call(f"{__name__}:double", number=3)["twice"] == 6
    assert not late.ready


def test_a_worker_that_died_while_it_was_idle_is_replaced():
    workers = Workers()
    with workers.one() as first:
        pid = first.call(f"{__name__}:double", number=1)["pid"]
    os.kill(pid, signal.SIGKILL)
    first._process.join(10)
    with workers.one() as second:
        assert second.call(f"{__name__}:double", number=2)["pid"] != pid
    workers.close()
