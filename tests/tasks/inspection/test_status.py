"""`dfer status`: every state is told, with its reason, and nothing is touched."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading

import pytest
from made_up import everything, make, write_config

from dfer import cli
from dfer.config.reading import load_pipeline
from dfer.system import logs
from tasks.inspection.dry_run import dry_run
from tasks.inspection.status import outputs, runs
from tasks.running.stage import store_of


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


@pytest.fixture
def status(config, monkeypatch, capsys):
    """Run the command; its exit status and what it printed, in one line."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["dfer", "status", *arguments, "--config", str(config)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), re.sub(r"\s+", " ", captured.out + captured.err)

    return run


def states(config, name="on-a") -> dict[str, str]:
    return {one.title: one.state for one in outputs(load_pipeline(name, config))}


def test_nothing_is_there_and_nothing_is_written(config, status):
    before = everything(config.parent)
    code, text = status("on-a")
    assert code == 0
    assert "never run" in text
    assert set(states(config).values()) == {"missing"}
    assert everything(config.parent) == before
    assert not (config.parent / "work").exists()


def test_all_done(config, status):
    make(config, "on-a")
    before = everything(config.parent)
    code, text = status("on-a")
    assert code == 0
    assert "align 14" in text
    assert set(states(config).values()) == {"done"}
    assert everything(config.parent) == before


def cache_keys(config) -> dict[str, object]:
    """The outputs of on-a by title, as far as they can be known."""
    pipeline, found = load_pipeline("on-a", config), {}
    store = store_of(pipeline)

    def visit(step):
        found[step.title] = step.cache_key
        there = store.find(step.cache_key) if step.cache_key is not None else ""
        return None if isinstance(there, str) else there

    dry_run(pipeline, visit)
    return found


def test_every_state_and_its_reason(config, status):
    made = make(config, "on-a")
    for stage, number in (("align", 0), ("train", 0), ("evaluate", 0)):
        shutil.rmtree(made[stage][number].path)
    (made["align"][1].path / "data").unlink()
    store, known = store_of(load_pipeline("on-a", config)), cache_keys(config)

    def fails(folder):
        raise ValueError("no clip is usable\nand more")

    with pytest.raises(ValueError):
        store.ensure(known["align a 0"], fails)
    code, text = status("on-a", "--all")
    assert code == 1
    assert "ValueError: no clip is usable" in text
    assert "and more" not in text
    assert "data is gone or damaged" in text
    seen = states(config)
    assert (seen["align a 0"], seen["align a 1"], seen["align a 2"]) == ("failed", "stale", "done")
    assert seen["index a"] == seen["train hard a"] == "missing"

    working, go_on = threading.Event(), threading.Event()

    def slow(folder):
        working.set()
        assert go_on.wait(30)
        raise KeyboardInterrupt

    def run():
        with pytest.raises(KeyboardInterrupt):
            store.ensure(known["align a 0"], slow)

    thread = threading.Thread(target=run)
    thread.start()
    assert working.wait(30)
    try:
        assert states(config)["align a 0"] == "running"
        code, text = status("on-a")
        assert code == 0
        assert f"by process {os.getpid()}" in text
    finally:
        go_on.set()
        thread.join()
    assert states(config)["align a 0"] == "interrupted"


def test_an_index_with_too_many_failures_is_a_failure(config, status):
    pipeline = load_pipeline("on-a", config)
    make(config, "on-a")
    store, cache_key = store_of(pipeline), cache_keys(config)["index a"]
    shutil.rmtree(store.folder(cache_key))
    store.ensure(cache_key, lambda folder: {"given": 14, "ok": 3})
    code, text = status("on-a")
    assert code == 1
    assert "11 of 14 clips have no usable face" in text


def test_a_data_set_that_cannot_be_used_is_a_failure(config, status):
    shutil.rmtree(config.parent / "data" / "b" / "Val_AFEW")
    code, text = status("on-a")
    assert code == 1
    assert "ingest b: b has neither labelled test nor validation clips" in text
    shutil.rmtree(config.parent / "data" / "b")
    (config.parent / "data" / "b").mkdir()
    code, text = status("on-a")
    assert code == 1
    assert "ingest b: ERROR" in text


def test_a_pipeline_that_there_is_not(status):
    code, text = status("on-c")
    assert code == 2
    assert "no such pipeline" in text


# --- runs ---


def write_run(config, name, *, how=None, event="ended", pipeline="on-a"):
    import logging

    logger = logging.getLogger("tasks.running.run_log")
    with logs.writing(config.parent / "work" / "logs", name, pipeline=pipeline) as path:
        logger.info("begins", extra={"event": "began", "run": name})
        logger.info("align a: 3 of 14 clips", extra={"progress": "align a", "done": 3, "total": 14})
        if how:
            logger.info("ended", extra={"event": event, "how": how})
    return path


def test_the_last_runs(config, status):
    for number, (name, how) in enumerate(
        [("red-fox", "finished"), ("blue-ox", "failed: ValueError: x"), ("gray-owl", None)]
    ):
        os.utime(write_run(config, name, how=how), (number, number))
    write_run(config, "not-ours", how="finished", pipeline="on-b")
    found = runs(load_pipeline("on-a", config), 5)
    assert [(run.name, run.how) for run in found] == [
        ("gray-owl", "interrupted"),
        ("blue-ox", "failed: ValueError: x"),
        ("red-fox", "finished"),
    ]
    _, text = status("on-a")
    assert "gray-owl.jsonl" in text
    assert "not-ours" not in text


def test_a_run_that_is_under_way_says_how_far_it_is(config, status):
    import logging

    with logs.writing(config.parent / "work" / "logs", "red-fox", pipeline="on-a"):
        logger = logging.getLogger("tasks.running.run_log")
        logger.info("begins", extra={"event": "began", "run": "red-fox"})
        for done in (3, 7):
            logger.info(f"align a: {done} of 14 clips", extra={"progress": "align a", "done": done, "total": 14})
        _, text = status("on-a")
        assert "running" in text
        assert "align a: 7 of 14 clips" in text
        assert "3 of 14" not in text
        logger.info("done", extra={"task": "align a 0", "seconds": 1.0})
        assert "align a: 7 of 14 clips" in status("on-a")[1]  # there may be more tasks that align
        logger.info("done", extra={"task": "index a", "seconds": 1.0})
        assert "of 14 clips" not in status("on-a")[1]


def test_the_beginning_of_a_long_run_is_found(config):
    path = write_run(config, "red-fox", how="finished")
    began, *rest = path.read_text().splitlines()
    early = json.dumps({**json.loads(began), "time": "2026-01-01T00:00:00Z"})
    path.write_text("\n".join([early, *(rest[0] for _ in range(3000)), *rest]) + "\n")
    assert path.stat().st_size > 256 * 1024
    assert runs(load_pipeline("on-a", config), 1)[0].began == "2026-01-01T00:00:00Z"
