"""Whatever fails whenever, MLflow has everything once and in order in the end."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import CONFIG
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from typer.testing import CliRunner

from dfer.cli.app import app
from tasks.tracking.deliverer import LOCK
from tasks.tracking.delivery import Delivery
from tasks.tracking.outbox import Outbox, TrackedRun

FINE, BEFORE, AFTER, KILLED = "fine", "fails before", "fails after", "killed after"


class Killed(BaseException):
    """The delivering process is gone."""


class Refused(Exception):
    error_code = "INVALID_PARAMETER_VALUE"


class FakeServer:
    """Keeps what it is told, as MLflow does but with duplicates; fails as it is told to, before or after the deed."""

    def __init__(self, fates: Sequence[str] = ()) -> None:
        self.fates = iter(fates)
        self.runs: dict[str, dict[str, Any]] = {}
        self.log: list[tuple[str, Any]] = []
        self.experiments: dict[str, str] = {}
        self.away = False

    def _do(self, deed) -> Any:
        fate = BEFORE if self.away else next(self.fates, FINE)
        if fate == BEFORE:
            raise ConnectionError("no answer")
        result = deed()
        if fate == AFTER:
            raise ConnectionError("the answer was lost")
        if fate == KILLED:
            raise Killed
        return result

    def search_experiments(self, max_results):
        if self.away:
            raise ConnectionError("no answer")
        return []

    def get_experiment_by_name(self, name):
        id = self.experiments.get(name)
        return self._do(lambda: id and SimpleNamespace(experiment_id=id, lifecycle_stage="active"))

    def create_experiment(self, name, artifact_location, tags):
        return self._do(lambda: self.experiments.setdefault(name, str(len(self.experiments) + 1)))

    def create_run(self, experiment, start_time, tags):
        def deed():
            id = f"mlflow-{len(self.runs)}"
            self.runs[id] = {"tags": tags, "metrics": [], "params": {}, "status": ["RUNNING"], "files": []}
            return SimpleNamespace(info=SimpleNamespace(run_id=id))

        return self._do(deed)

    def search_runs(self, experiments, filter, max_results):
        wanted = filter.split("'")[1]
        found = [id for id, run in self.runs.items() if run["tags"]["dfer.id"] == wanted]
        return self._do(lambda: [SimpleNamespace(info=SimpleNamespace(run_id=id)) for id in found])

    def log_batch(self, run_id, metrics=(), params=()):
        def deed():
            self.runs[run_id]["metrics"] += [(m.key, m.step, m.value, m.timestamp) for m in metrics]
            self.runs[run_id]["params"].update({p.key: p.value for p in params})

        self._do(deed)

    def get_metric_history(self, run_id, name):
        history = [m for m in self.runs[run_id]["metrics"] if m[0] == name]
        return self._do(lambda: [SimpleNamespace(step=m[1], timestamp=m[3]) for m in history])

    def log_artifacts(self, run_id, folder, to):
        names = sorted(path.name for path in Path(folder).iterdir())
        self._do(lambda: self.runs[run_id]["files"].append((to, names)))

    def set_tag(self, run_id, name, value):
        self._do(lambda: self.runs[run_id]["tags"].update({name: value}))

    def update_run(self, run_id, status):
        self._do(lambda: self.runs[run_id]["status"].append(status))

    def set_terminated(self, run_id, status, at):
        self._do(lambda: self.runs[run_id]["status"].append(status))


def create(outbox: Outbox, id: str, parent: str | None = None) -> TrackedRun:
    return outbox.create(
        id, uri="fake", experiment="demo", location=None, name=id, parent=parent, tags={"dfer.kind": "arm"}
    )


def by_id(server: FakeServer) -> dict[str, dict[str, Any]]:
    ids = [run["tags"]["dfer.id"] for run in server.runs.values()]
    assert len(ids) == len(set(ids)), "a run was made twice"
    return {run["tags"]["dfer.id"]: run for run in server.runs.values()}


def deliver(outbox: Outbox, server: FakeServer, rounds: int = 1000) -> int:
    """Rounds until everything is delivered; a killed deliverer is replaced by a new one."""
    delivery = Delivery(outbox, lambda uri: server)
    for number in range(rounds):
        try:
            delivery.round()
        except Killed:
            delivery = Delivery(outbox, lambda uri: server)
        if not outbox.pending():
            return number
    raise AssertionError("not delivered")


FATES = st.lists(st.sampled_from([FINE, BEFORE, AFTER, KILLED]), max_size=60)


@settings(deadline=None, max_examples=60)
@given(fates=FATES, interrupted=st.booleans())
def test_any_failures_leave_every_metric_once_and_in_order(fates, interrupted):
    with tempfile.TemporaryDirectory() as folder:
        outbox, server = Outbox(Path(folder)), FakeServer(fates)
        parent = create(outbox, "parent")
        child = create(outbox, "child", parent="parent")
        child.log_params({"alpha": 0.4})
        for step in (1, 2, 3):
            child.log({"loss": 1 / step, "accuracy": step}, step)
            if interrupted and step == 2:
                deliver(outbox, server)
        child.log_text("config", "config.yaml")
        child.close()
        child.go_on()
        child.close("FAILED")
        parent.close()
        deliver(outbox, server)

        runs = by_id(server)
        assert set(runs) == {"parent", "child"}
        assert runs["child"]["tags"]["mlflow.parentRunId"] == parent.delivered.run_id
        assert [m[:3] for m in runs["child"]["metrics"] if m[0] == "loss"] == [
            ("loss", step, 1 / step) for step in (1, 2, 3)
        ]
        assert [m[1] for m in runs["child"]["metrics"] if m[0] == "accuracy"] == [1, 2, 3]
        assert runs["child"]["params"] == {"alpha": "0.4"}
        assert set(map(str, runs["child"]["files"])) == {"(None, ['config.yaml'])"}
        assert list(dict.fromkeys(runs["child"]["status"])) == ["RUNNING", "FINISHED", "FAILED"]
        assert runs["child"]["status"][-1] == "FAILED"
        assert runs["parent"]["status"][-1] == "FINISHED"
        assert not any((child.folder / "kept").iterdir())
        assert (parent.delivered.refused, child.delivered.refused) == (0, 0)


def test_while_mlflow_is_away_everything_is_kept_and_nothing_is_tried_twice(tmp_path):
    outbox, server = Outbox(tmp_path), FakeServer()
    server.away = True
    runs = [create(outbox, f"run{number}") for number in range(3)]
    delivery = Delivery(outbox, lambda uri: server)
    for step in range(10):
        runs[0].log({"loss": 1.0}, step)
        report = delivery.round()
        assert report.away == {"fake": "ConnectionError: no answer"}
        assert not report.delivered
    assert outbox.pending() == runs
    server.away = False
    report = delivery.round()
    assert report.delivered == {"run0": 11, "run1": 1, "run2": 1}
    assert [m[1] for m in by_id(server)["run0"]["metrics"]] == list(range(10))


def test_what_mlflow_refuses_is_kept_and_does_not_stop_the_rest(tmp_path):
    class Strict(FakeServer):
        def log_batch(self, run_id, metrics=(), params=()):
            if params:
                raise Refused("the parameter was logged with another value")
            super().log_batch(run_id, metrics, params)

    outbox, server = Outbox(tmp_path), Strict()
    run = create(outbox, "run")
    run.log_params({"alpha": 1})
    run.log({"loss": 1.0}, 1)
    report = Delivery(outbox, lambda uri: server).round()
    assert report.refused == {"run": 1}
    assert run.delivered.refused == 1
    assert "another value" in (run.folder / "refused.jsonl").read_text()
    assert [m[:3] for m in by_id(server)["run"]["metrics"]] == [("loss", 1, 1.0)]
    assert outbox.pending() == []


def test_what_fails_again_and_again_is_put_aside_with_its_files_and_others_do_not_wait(tmp_path):
    class Picky(FakeServer):
        def log_artifacts(self, run_id, folder, to):
            raise ValueError("a bug")

    outbox, server = Outbox(tmp_path), Picky()
    stuck, other = create(outbox, "a"), create(outbox, "b")
    stuck.log_text("text", "x.txt")
    stuck.close()
    other.log({"loss": 1.0}, 1)
    delivery = Delivery(outbox, lambda uri: server)
    assert delivery.round().stuck == {"a": "ValueError: a bug"}
    assert not other.pending
    assert deliver(outbox, server, rounds=5) <= 3
    assert by_id(server)["a"]["status"][-1] == "FINISHED"
    (kept,) = (stuck.folder / "kept").iterdir()
    assert (kept / "x.txt").read_text() == "text"


def test_what_mlflow_has_no_room_for_is_tried_until_it_has(tmp_path):
    class FullDisk(FakeServer):
        full = True

        def log_artifacts(self, run_id, folder, to):
            if self.full:
                raise MlflowException("[Errno 28] No space left on device", error_code=INTERNAL_ERROR)
            super().log_artifacts(run_id, folder, to)

    outbox, server = Outbox(tmp_path), FullDisk()
    run = create(outbox, "run")
    run.log_text("text", "x.txt")
    delivery = Delivery(outbox, lambda uri: server)
    for _ in range(10):
        assert delivery.round().stuck.keys() == {"run"}
    server.full = False
    delivery.round()
    assert not run.pending
    assert by_id(server)["run"]["files"] == [(None, ["x.txt"])]


def test_an_experiment_that_was_deleted_is_restored(tmp_path, caplog):
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.create_experiment("e", artifact_location=tmp_path.as_uri())
    client.delete_experiment(experiment)
    outbox = Outbox(tmp_path / "outbox")
    run = outbox.create("run", uri=uri, experiment="e", location=None, name="n", parent=None, tags={})
    assert Delivery(outbox).round().stuck == {}
    assert not run.pending
    assert [made.info.run_name for made in client.search_runs([experiment])] == ["n"]
    assert "restored" in caplog.text


def test_what_another_process_delivers_is_not_said_to_be_there(tmp_path):
    (tmp_path / "pipeline_config.yaml").write_text(CONFIG)
    outbox = Outbox(tmp_path / "work" / "mlflow" / "outbox")
    create(outbox, "run").close()
    arguments = ["mlflow", "deliver", "--config", str(tmp_path / "pipeline_config.yaml")]
    with FileLock(outbox.root / LOCK):
        done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "a run that is under way delivers it" in done.output
    assert "has everything" not in done.output


def test_an_earlier_run_that_a_copy_names_is_made_first(tmp_path):
    outbox, server = Outbox(tmp_path), FakeServer()
    copy, earlier = create(outbox, "a-copy"), create(outbox, "b-earlier")
    copy.copied_from(earlier)
    deliver(outbox, server)
    assert by_id(server)["a-copy"]["tags"]["dfer.trained_in_run"] == earlier.delivered.run_id


def test_a_database_that_is_locked_or_gone_for_a_while_gets_everything_once(tmp_path, monkeypatch):
    """MLflow's own store, an SQLite file, in place of the fake one."""
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client, broken = MlflowClient(uri), {"now": False}

    class Sometimes:
        def __getattr__(self, name):
            def call(*arguments, **more):
                if broken["now"] == "before":
                    raise ConnectionError("no answer")
                result = getattr(client, name)(*arguments, **more)
                if broken["now"] == "after":
                    raise ConnectionError("the answer was lost")
                return result

            return call

    outbox = Outbox(tmp_path / "outbox")
    run = outbox.create(
        "run", uri=uri, experiment="e", location=tmp_path.as_uri(), name="n", parent=None, tags={"dfer.kind": "arm"}
    )
    run.log_text("hello", "note.txt")
    for step in range(1, 7):
        run.log({"epoch/loss": 1 / step}, step)
        broken["now"] = (False, "after", "before")[step % 3]
        Delivery(outbox, lambda _: Sometimes()).round()
    run.close("KILLED")
    broken["now"] = False
    assert Delivery(outbox, lambda _: Sometimes()).round().stuck == {}
    assert outbox.pending() == []
    (made,) = client.search_runs([client.get_experiment_by_name("e").experiment_id])
    assert made.info.status == "KILLED"
    history = client.get_metric_history(made.info.run_id, "epoch/loss")
    assert [(m.step, m.value) for m in history] == [(step, 1 / step) for step in range(1, 7)]
    assert [item.path for item in client.list_artifacts(made.info.run_id)] == ["note.txt"]


@pytest.mark.parametrize("name", ["MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"])
def test_a_call_to_mlflow_does_not_last_for_minutes(name):
    from mlflow import environment_variables

    assert getattr(environment_variables, name).get() <= 30
