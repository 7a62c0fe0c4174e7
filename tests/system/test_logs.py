"""Logs as JSON lines: what is in them, from which processes, and which stay."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest

from dfer.system import logs
from dfer.system.processes import Worker, run_isolated

logger = logging.getLogger("dfer.tests")
ROOT = Path(__file__).parents[2]


def test_a_record_is_a_line_with_its_fields(tmp_path):
    with logs.writing(tmp_path, "run", pipeline="demo") as path:
        with logs.about(stage="align", clip_id="a/1"):
            logger.info("not kept: %s", "no_face", extra={"reason": "no_face"})
        logger.warning("odd")
    first, second = logs.read(path)
    assert first["message"] == "not kept: no_face"
    assert first["level"] == "INFO"
    assert first["logger"] == "dfer.tests"
    assert first["pid"] == os.getpid()
    assert {name: first[name] for name in ("pipeline", "stage", "clip_id", "reason")} == {
        "pipeline": "demo",
        "stage": "align",
        "clip_id": "a/1",
        "reason": "no_face",
    }
    assert "clip_id" not in second
    assert time.strptime(first["time"][:19], "%Y-%m-%dT%H:%M:%S")


def test_an_error_carries_its_traceback_in_one_line(tmp_path):
    with logs.writing(tmp_path, "run") as path:
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logger.exception("it failed")
    (line,) = path.read_text().splitlines()
    assert 'raise ValueError("two\\nlines")' in json.loads(line)["traceback"]


def test_threads_that_take_over_the_context_say_what_they_are_about(tmp_path):
    with logs.writing(tmp_path, "run") as path, ThreadPoolExecutor(2) as threads:
        for name in ("a", "b"):
            with logs.about(task=name):
                threads.submit(copy_context().run, logger.info, "from %s", name)
    assert {(line["task"], line["message"]) for line in logs.read(path)} == {("a", "from a"), ("b", "from b")}


def test_what_others_say_in_detail_is_left_out_and_their_warnings_are_not(tmp_path):
    with logs.writing(tmp_path, "run") as path:
        logging.getLogger("some.library").info("a detail")
        logging.getLogger("some.library").warning("a warning")
    assert [line["message"] for line in logs.read(path)] == ["a warning"]
    logger.info("after the end")
    assert len(logs.read(path)) == 1


def test_the_same_name_goes_on_in_the_same_file_and_odd_names_are_files_too(tmp_path):
    for _ in range(2):
        with logs.writing(tmp_path, "mine/../run 1") as path:
            logger.info("hello")
    assert path.parent == tmp_path
    assert len(logs.read(path)) == 2


def test_the_newest_logs_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "KEPT", 3)
    for number in range(5):
        (tmp_path / f"{number}.jsonl").write_text("{}\n")
        os.utime(tmp_path / f"{number}.jsonl", (number, number))
    with logs.writing(tmp_path, "0"):  # the oldest one, but it is continued
        logger.info("again")
    assert {path.stem for path in tmp_path.iterdir()} == {"0", "3", "4"}
    assert [path.stem for path in logs.newest(tmp_path, 2)] == ["0", "4"]


def test_half_a_line_is_left_out(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"message": "whole"}\n{"message": "ha')
    assert logs.read(path) == [{"message": "whole"}]
    path.write_text("".join(json.dumps({"message": str(number)}) + "\n" for number in range(100)))
    assert [line["message"] for line in logs.read(path, last=50)] == ["98", "99"]


def test_a_log_that_cannot_be_written_is_said_once_and_stops_nothing(tmp_path, capsys):
    with logs.writing(tmp_path, "run") as path:
        (handler,) = (one for one in logging.getLogger().handlers if getattr(one, "baseFilename", "") == str(path))
        handler.stream.close()
        handler.stream = Path("/dev/full").open("w")  # noqa: SIM115
        logger.info("one")
        logger.info("two")
    assert capsys.readouterr().err.count("cannot be written to") == 1


def test_it_is_known_who_writes(tmp_path):
    with logs.writing(tmp_path, "run") as path:
        assert logs.is_written(path)
    assert not logs.is_written(path)


# --- processes --------------------------------------------------------------------------------------------------------


UNHEARD = """
import logging, os, sys, threading
from dfer.system import logs
from prefect.logging.configuration import setup_logging
setup_logging()
unread, written = os.pipe()
os.close(unread)
for stream in (1, 2):
    os.dup2(written, stream)
logging.getLogger().addHandler(logging.FileHandler(sys.argv[1]))
logs.outlive_readers()
def work():
    for number in range(3):
        logging.getLogger("dfer.mlflow").warning("still here %d", number)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_a_thread_that_says_what_nobody_reads_goes_on(tmp_path):
    log = tmp_path / "log"
    subprocess.run([sys.executable, "-c", UNHEARD, str(log)], check=False, cwd=ROOT, timeout=120)
    assert log.read_text().splitlines() == [f"still here {number}" for number in range(3)]


def talk(*, send):
    with logs.about(clip_id="a/7"):
        logger.info("from %s", "afar")
    warnings.warn("a warning of Python's", stacklevel=1)
    logging.getLogger("some.library").info("a detail")
    try:
        raise ValueError("no such clip")
    except ValueError:
        logger.exception("it failed")
    logger.info("cannot travel", extra={"lock": logging.Handler().lock})
    send("a message")
    return os.getpid()


def talk_after_prefect(*, send):
    import prefect  # noqa: F401 - sets up its own logging

    logger.info("still here")


@pytest.fixture
def importable(monkeypatch):
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, str(ROOT), os.environ.get("PYTHONPATH", "")]))


def test_what_a_process_logs_is_in_the_log_of_the_run(importable, tmp_path, capfd):
    messages = []
    with logs.writing(tmp_path, "run") as path, logs.about(stage="align", clip_id="nobody's"), Worker() as worker:
        pid = worker.call(talk, on_message=messages.append)
    assert messages == ["a message"]
    lines = logs.read(path)
    info, warning, error = lines
    assert info["message"] == "from afar"
    assert {line["pid"] for line in lines} == {pid}
    assert {line["stage"] for line in lines} == {"align"}
    assert info["clip_id"] == "a/7"  # what the process says wins
    assert "a warning of Python's" in warning["message"]
    assert "ValueError: no such clip" in error["traceback"]
    assert "Traceback" not in error["message"]


def test_prefect_does_not_take_the_log_away_from_a_process(importable, tmp_path, capfd):
    with logs.writing(tmp_path, "run") as path:
        run_isolated(talk_after_prefect)
    assert [line["message"] for line in logs.read(path)] == ["still here"]
    assert "still here" not in "".join(capfd.readouterr())


def test_without_a_log_warnings_of_a_process_reach_the_terminal_as_ever(importable):
    code = (
        "import test_logs\n"
        "from dfer.system.processes import run_isolated\n"
        "if __name__ == '__main__': run_isolated(test_logs.talk, on_message=lambda _: None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "it failed" in done.stderr
    assert "from afar" not in done.stderr
