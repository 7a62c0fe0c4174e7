"""What is logged is on the disk at once, whole, and without passwords."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.tracking import outbox as module
from tasks.tracking.outbox import Outbox


@pytest.fixture
def outbox(tmp_path) -> Outbox:
    return Outbox(tmp_path / "outbox")


def create(outbox: Outbox, id: str = "run", **more):
    given = {
        "uri": "http://mlflow",
        "experiment": "demo",
        "location": None,
        "name": "A run",
        "parent": None,
        "tags": {},
    }
    return outbox.create(id, **{**given, **more})


def done(run) -> list[dict]:
    return [operation for _, operation in run.operations()]


def test_operations_come_back_as_they_were_given_and_with_their_offsets(outbox):
    run = create(outbox, tags={"dfer.arm": "midas"})
    run.log({"loss": 0.1, "accuracy": float("nan")}, step=3)
    run.log_params({f"p{number}": number for number in range(150)})
    run.close()
    operations = list(run.operations())
    assert [operation["do"] for _, operation in operations] == ["create", "metrics", "params", "params", "status"]
    assert run.created["tags"] == {"dfer.arm": "midas"}
    assert operations[1][1]["values"] == {"loss": 0.1}
    assert [len(operations[place][1]["values"]) for place in (2, 3)] == [100, 50]
    assert operations[-1][0] == run.size
    for place, (offset, _) in enumerate(operations[:-1]):
        assert next(run.operations(offset)) == operations[place + 1]


@settings(deadline=None, max_examples=30)
@given(garbage=st.binary(max_size=9000).filter(lambda data: b"\n" not in data))
def test_half_a_line_of_a_killed_writer_is_not_read_and_is_gone_with_the_next_one(tmp_path_factory, garbage):
    run = create(Outbox(tmp_path_factory.mktemp("outbox")))
    with (run.folder / "operations.jsonl").open("ab") as file:
        file.write(garbage)
    assert [operation["do"] for operation in done(run)] == ["create"]
    ((offset, _),) = run.operations()
    run.note_delivered(module.Delivered(offset=offset))
    assert not run.pending
    run.log({"loss": 1.0})
    assert run.pending
    assert [operation["do"] for operation in done(run)] == ["create", "metrics"]


def test_a_full_disk_leaves_whole_lines(outbox, monkeypatch):
    run = create(outbox)
    before = run.size

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        run.log({"loss": 1.0})
    assert run.size == before
    monkeypatch.undo()
    run.log({"loss": 1.0})
    assert [operation["do"] for operation in done(run)] == ["create", "metrics"]


def test_a_disk_that_takes_half_a_line_takes_no_more_of_it(outbox):
    """Once what was taken is removed there is room again, which must not be filled with the rest."""
    run = create(outbox)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (run.size + 1200, limit[1]))
        with pytest.raises(OSError, match="too large"):
            run.log({f"metric {number}": number for number in range(100)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    run.log({"loss": 1.0})
    assert [operation["do"] for operation in done(run)] == ["create", "metrics"]
    assert run.size == (run.folder / "operations.jsonl").stat().st_size


def test_many_writers_at_a_time_lose_nothing(outbox):
    run = create(outbox)

    def write(who: int) -> None:
        for step in range(20):
            run.log({f"m{who}": step}, step)

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    metrics = [operation for operation in done(run) if operation["do"] == "metrics"]
    for who in range(4):
        assert [m["step"] for m in metrics if f"m{who}" in m["values"]] == list(range(20))


def test_what_was_logged_last_is_not_logged_again(outbox):
    run = create(outbox)
    run.log_once({"WAR": 0.5, "UAR": 0.4, "recall": float("nan")})
    run.log_once({"WAR": 0.5, "UAR": 0.4, "recall": float("nan")})
    run.log_once({"WAR": 0.5, "UAR": 0.6})
    assert [operation["values"] for operation in done(run)[1:]] == [{"WAR": 0.5, "UAR": 0.4}, {"UAR": 0.6}]


def test_files_are_copied_so_that_the_originals_may_go(outbox, tmp_path):
    run = create(outbox)
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    run.log_model(tmp_path)
    run.log_model(tmp_path)  # a training that was killed after it: one model
    run.log_files([tmp_path / "model.json"], "models")
    run.log_dataset(pd.DataFrame({"clip_id": ["a"], "label": [1], "x": [0]}), name="n", source=tmp_path, context="c")
    (tmp_path / "model.json").unlink()
    model, files, dataset = done(run)[1:]
    assert sorted(path.name for path in (run.folder / "kept" / model["kept"]).iterdir()) == list(module.MODEL_FILES)
    assert (run.folder / "kept" / files["kept"] / "model.json").read_text() == "{}"
    table = pd.read_parquet(run.folder / "kept" / dataset["kept"] / "clips.parquet")
    assert table.to_dict(orient="records") == [{"clip_id": "a", "label": 1}]


def test_a_file_that_cannot_be_copied_leaves_nothing_behind(outbox, tmp_path):
    run = create(outbox)
    with pytest.raises(FileNotFoundError):
        run.log_files([tmp_path / "nowhere"])
    assert list((run.folder / "kept").iterdir()) == []
    assert [operation["do"] for operation in done(run)] == ["create"]


def test_runs_of_processes_that_have_ended_are_closed_and_those_of_living_ones_are_not(outbox):
    mine, finished = create(outbox, "mine"), create(outbox, "finished")
    finished.close()
    code = (
        "import sys; from pathlib import Path; from tasks.tracking.outbox import Outbox\n"
        "given = dict(uri='u', experiment='e', location=None, name='n', parent=None, tags={})\n"
        "outbox = Outbox(Path(sys.argv[1]))\n"
        "outbox.create('left', **given)\n"
        "assert not {'mlflow', 'prefect', 'torch', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(outbox.root)], check=True, env={**os.environ, "PYTHONPATH": "."})
    left = outbox.run("left")
    assert left is not None
    assert left.status == "RUNNING"
    outbox.close_abandoned()
    assert (mine.status, finished.status, left.status) == ("RUNNING", "FINISHED", "KILLED")
    assert mine.is_mine
    left.go_on()
    outbox.close_abandoned()
    assert left.status == "RUNNING"


def test_a_run_is_found_by_the_note_in_a_stages_folder(outbox, tmp_path):
    run = create(outbox)
    run.write(tmp_path)
    assert outbox.noted(tmp_path) == run
    (tmp_path / "tracking.json").write_text(json.dumps({"run": "another"}))
    assert outbox.noted(tmp_path) is None
    assert outbox.noted(tmp_path / "nowhere") is None


def test_pages_are_empty_until_mlflow_has_the_run(outbox):
    run, other = create(outbox), create(outbox, "other")
    assert run.page == ""
    run.note_delivered(module.Delivered(offset=10, run_id="abc", experiment_id="7"))
    assert run.page == "http://mlflow/#/experiments/7/runs/abc"
    assert run.page_beside([other]) == ""
    other.note_delivered(module.Delivered(offset=10, run_id="def", experiment_id="7"))
    assert "abc" in run.page_beside([other])


def test_no_parameter_tag_or_text_has_a_password(outbox):
    secret = "s3://key:hunter2@bucket/data"
    run = create(outbox, tags={"from": secret})
    run.log_params({"root": secret})
    run.log_text(f"root: {secret}\n", "config.yaml")
    written = [path.read_text() for path in run.folder.rglob("*") if path.is_file()]
    assert not any("hunter2" in text for text in written)
