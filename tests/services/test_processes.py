"""Processes that were started: known again, stopped, and found with all that they have started."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace

import psutil
import pytest

from dfer.services.processes import Started, end, last_lines, left_behind, start

SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def python(tmp_path):
    """Starts a Python program as a service named `it`; whatever is left of it is killed in the end."""

    def run(program: str, **environment: str) -> Started:
        return start(
            [sys.executable, "-c", program],
            folder=tmp_path,
            name="it",
            log=tmp_path / "logs" / "it.log",
            environment=environment,
            working_folder=tmp_path,
            port=1234,
        )

    yield run
    for process in left_behind(tmp_path, "it"):
        process.kill()


def wait_until(true) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_service_has_a_session_and_an_environment_of_its_own(python, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_TERMINAL", "1")
    started = python("import os; print(os.getsid(0) == os.getpid(), sorted(os.environ), os.getcwd())", ONLY="this")
    wait_until(lambda: not started.alive)
    said = (tmp_path / "logs" / "it.log").read_text()
    assert said.startswith("True")
    assert "ONLY" in said
    assert "SECRET_OF_THE_TERMINAL" not in said
    assert str(tmp_path) in said


def test_what_was_said_last_time_is_kept_beside_the_log(python, tmp_path):
    for word in ("first", "second"):
        started = python(f"print('{word}')")
        wait_until(lambda: not started.alive)  # noqa: B023
    assert (tmp_path / "logs" / "it.log.1").read_text() == "first\n"
    assert last_lines(tmp_path / "logs" / "it.log") == "second"


def test_a_process_with_a_number_that_was_used_again_is_not_ours(python):
    started = python(SLEEP)
    assert started.alive
    other = replace(started, created=started.created - 100)
    assert not other.alive
    assert other.stop(signal.SIGTERM, 1) is False
    assert started.alive
    assert started.stop(signal.SIGTERM, 30) is True
    assert not started.alive
    assert started.stop(signal.SIGTERM, 1) is False


def test_a_process_that_does_not_listen_is_killed(python, tmp_path):
    started = python("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True);" + SLEEP)
    wait_until(lambda: "deaf" in (tmp_path / "logs" / "it.log").read_text())
    assert started.stop(signal.SIGTERM, 0.2) is True
    assert not started.alive


def test_what_outlives_a_service_is_found_though_it_left_its_session(python, tmp_path):
    child = f"subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)"
    started = python(f"import subprocess, sys; {child}")
    wait_until(lambda: not started.alive)
    (orphan,) = left_behind(tmp_path, "it")
    assert os.getsid(orphan.pid) == orphan.pid
    assert left_behind(tmp_path, "another") == []
    assert left_behind(tmp_path / "elsewhere", "it") == []
    end([orphan], 30)
    assert not psutil.pid_exists(orphan.pid) or orphan.status() == psutil.STATUS_ZOMBIE


def test_the_end_of_a_log(tmp_path):
    log = tmp_path / "it.log"
    assert "No such file" in last_lines(log)
    log.write_text("")
    assert last_lines(log) == "(it is empty)"
    log.write_text("\n".join(str(number) for number in range(100)))
    assert last_lines(log, 2) == "98\n99"
