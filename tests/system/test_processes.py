"""Work in a process of its own: results, messages, errors, and death with the parent."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dfer.system.processes import ProcessDiedError, Worker, Workers, run_isolated, run_together


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


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))


def test_result_and_messages_come_back():
    messages = []
    result = run_isolated(double, number=21, threads=3, on_message=messages.append)
    assert result["twice"] == 42
    assert result["pid"] != os.getpid()
    assert result["threads"] == "3"
    assert messages == ["started"]


def test_errors_come_back_as_they_were():
    with pytest.raises(ValueError, match="no such clip") as caught:
        run_isolated(fail)
    assert "in the process of" in caught.value.__notes__[0]


def test_a_lost_connection_of_the_function_is_its_own_error_and_the_process_lives():
    with Worker() as worker:
        with pytest.raises(ConnectionAbortedError, match="the share is gone"):
            worker.call(lose_a_connection)
        assert worker.ready


class Unpicklable(Exception):
    def __init__(self, part, reason):
        super().__init__(f"{part} {reason}")


def fail_with_an_error_that_cannot_be_unpickled(*, send):
    raise Unpicklable("the disk", "is full")


def test_an_error_that_cannot_be_unpickled_comes_back_as_its_text():
    with pytest.raises(ProcessDiedError, match="Unpicklable: the disk is full"):
        run_isolated(fail_with_an_error_that_cannot_be_unpickled)


def test_a_function_without_a_module_of_its_own_is_refused_before_anything_is_sent():
    with Worker() as worker:
        with pytest.raises((pickle.PicklingError, AttributeError)):
            worker.call(lambda send: None)
        assert worker.ready
        assert worker.call(double, number=1)["twice"] == 2


def test_the_module_of_a_function_is_imported_after_threads_and_environment_are_set(tmp_path, monkeypatch):
    (tmp_path / "eager.py").write_text(
        "import os\n"
        "AT_IMPORT = [os.environ['OMP_NUM_THREADS'], os.environ['GPU']]\n"
        "def at_import(*, send): return AT_IMPORT\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("GPU", "none")
    import eager

    assert run_isolated(eager.at_import, threads=3, environment={"GPU": "5"}) == ["3", "5"]
    # 0 leaves what the environment says
    assert run_isolated(eager.at_import, threads=0, environment={"GPU": "5"}) == ["7", "5"]


def work_until_stopped(*, send):
    rounds = 0
    while not send.stop_requested(0.01):
        rounds += 1
        send(rounds)
    return rounds


def test_a_call_that_is_asked_to_stop_returns():
    with Worker() as worker:
        assert worker.call(work_until_stopped, on_message=lambda rounds: worker.request_stop()) >= 1
    assert not worker.ready


def test_a_call_that_is_aborted_is_an_error_of_its_caller():
    with Worker() as worker, pytest.raises(ProcessDiedError, match="SIGKILL"):
        worker.call(say_and_sleep, seconds=600, on_message=lambda _: worker.abort())


def take_part(*, number, send):
    if number == 1:
        raise ValueError("no such clip")
    time.sleep(600)


def lose_a_partner(*, number, path, send):
    if number == 1:
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    while not path.exists():
        time.sleep(0.01)
    raise ConnectionError("the partner is gone")


def test_processes_that_work_together_give_their_results_in_order():
    messages = []
    results = run_together(double, [{"number": 1}, {"number": 2}], on_message=messages.append)
    assert [result["twice"] for result in results] == [2, 4]
    assert len({result["pid"] for result in results}) == 2
    assert messages == ["started", "started"]


def test_the_first_failure_ends_all_that_work_together():
    started = time.monotonic()
    with pytest.raises(ValueError, match="no such clip"):
        run_together(take_part, [{"number": 0}, {"number": 1}])
    assert time.monotonic() - started < 60
    assert not multiprocessing.active_children()


def test_the_death_of_one_is_raised_rather_than_the_errors_that_follow_from_it(tmp_path):
    with pytest.raises(ProcessDiedError, match="SIGKILL"):
        run_together(lose_a_partner, [{"number": number, "path": tmp_path / "dead"} for number in (0, 1)])


def test_a_killed_process_is_an_error_that_says_so():
    with pytest.raises(ProcessDiedError, match="SIGKILL"):
        run_isolated(kill_itself)


def test_the_process_dies_with_a_killed_parent(tmp_path):
    target = tmp_path / "beat"
    code = (
        "import test_processes\n"
        "from dfer.system.processes import run_isolated\n"
        f"if __name__ == '__main__': run_isolated(test_processes.write_for_ever, path={str(target)!r})"
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
        first = worker.call(double, number=1)
        with pytest.raises(ValueError, match="no such clip"):
            worker.call(fail)
        second = worker.call(double, number=2)
    assert (first["twice"], second["twice"]) == (2, 4)
    assert first["pid"] == second["pid"]


def test_workers_are_kept_and_dead_or_busy_ones_replaced():
    workers = Workers()
    try:
        with workers.one() as process:
            first = process.call(double, number=1)["pid"]
        with workers.one() as process, workers.one() as beside:
            assert process.call(double, number=1)["pid"] == first
            assert beside.call(double, number=1)["pid"] != first
        with pytest.raises(ProcessDiedError), workers.one() as process:
            process.call(kill_itself)

        def refuse(message):
            raise RuntimeError(f"enough after {message}")

        # broken off between its message and its result: the next caller must not be given that result
        with pytest.raises(RuntimeError, match="enough"), workers.one() as process:
            process.call(double, number=20, on_message=refuse)
        with workers.one() as process:
            assert process.call(double, number=3)["twice"] == 6
    finally:
        workers.close()


def test_a_call_that_is_broken_off_is_not_waited_for():
    def enough(_):
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_isolated(say_and_sleep, on_message=enough, seconds=60)
    assert time.monotonic() - started < 30


def test_workers_that_were_closed_keep_nobody():
    workers = Workers()
    with workers.one() as busy:
        workers.close()
        assert busy.call(double, number=2)["twice"] == 4
    assert not busy.ready
    with workers.one() as late:
        assert late.call(double, number=3)["twice"] == 6
    assert not late.ready


def test_a_worker_that_died_while_it_was_idle_is_replaced():
    workers = Workers()
    with workers.one() as first:
        pid = first.call(double, number=1)["pid"]
    os.kill(pid, signal.SIGKILL)
    first._process.join(10)
    with workers.one() as second:
        assert second.call(double, number=2)["pid"] != pid
    workers.close()
