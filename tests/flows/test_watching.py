"""What a run of the demo pipeline lets a person see: its log, its progress in Prefect's page, its status."""

from __future__ import annotations

import re
import sys

import pytest
from mlflow.tracking import MlflowClient
from prefect.client.orchestration import get_client
from tiny import CONFIG

from dfer import cli
from dfer.config.reading import load_pipeline
from dfer.system import logs
from tasks.inspection.status import outputs, runs

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def outcome(finished_demo):
    return finished_demo.first


@pytest.fixture
def lines(outcome):
    return logs.read(outcome.log)


def plan(demo, *overrides):
    return load_pipeline("demo", CONFIG, [*demo.overrides, *overrides])


def test_the_log_begins_and_ends_with_what_ran(lines, finished_demo, outcome):
    assert outcome.log.parent == finished_demo.work / "logs"
    assert lines[0]["event"] == "began"
    assert lines[0]["run"] == outcome.log.stem
    assert (lines[-1]["event"], lines[-1]["how"]) == ("ended", "finished")
    assert {line["pipeline"] for line in lines} == {"demo"}


def test_the_log_has_why_each_stage_was_run_and_how_long(lines, outcome):
    made = {(line["stage"], line["output"]): line for line in lines if "why" in line}
    executed = [made for stage in outcome.stages.values() for made in stage if made.executed]
    assert set(made) == {(one.output.stage, one.output.hash) for one in executed}
    for one in executed:
        line = made[one.output.stage, one.output.hash]
        assert line["why"] == one.why
        assert line["seconds"] == pytest.approx(one.seconds, abs=0.01)


def test_every_clip_that_failed_has_a_line_with_its_reason(lines, outcome):
    from dfer.faces.index import FILE_NAME, read_index

    made_now = [made.output for made in outcome.stages["align"] if made.executed]
    assert made_now
    failed = {
        row["clip_id"]: row["reason"]
        for output in made_now
        for row in read_index(output.path / FILE_NAME).to_dict(orient="records")
        if row["status"] != "ok"
    }
    said = {line["clip_id"]: line for line in lines if "reason" in line}
    assert {clip: line["reason"] for clip, line in said.items()} == failed
    for line in said.values():
        assert line["stage"] == "align"
        assert line["task"].startswith("align ")
        assert line["pid"] != lines[0]["pid"]


def artifacts(outcome, **of: dict) -> list[dict]:
    """Artifacts in Prefect of the run that an outcome is of."""
    run = {"name": {"any_": [outcome.log.stem]}}
    with get_client(sync_client=True) as client:
        return client.request("POST", "/artifacts/filter", json={"artifacts": of, "flow_runs": run}).json()


def test_prefects_page_shows_how_far_long_stages_are(outcome):
    shown = {artifact["key"]: artifact for artifact in artifacts(outcome, type={"any_": ["progress"]})}
    assert {f"progress-{each}" for each in ("demo-data-dfew", "demo-data-afew", "train-hard-fold-1")} <= set(shown)
    assert any(key.startswith("progress-align-demo-") for key in shown)
    for artifact in shown.values():
        assert artifact["data"] == 100
        assert artifact["task_run_id"] is not None
    trained = shown["progress-train-midas-fold-1"]["description"]
    assert re.match(r"train midas fold 1: 2 of 2 epochs, .* (each|a second)", trained)


def test_prefects_page_links_to_the_trainings_side_by_side_in_mlflow(outcome, finished_demo):
    (link,) = artifacts(outcome, key={"any_": ["trainings-demo"]})
    mlflow = MlflowClient(plan(finished_demo).tracking_uri)
    experiment = mlflow.get_experiment_by_name("demo")
    arms = mlflow.search_runs([experiment.experiment_id], "tags.`dfer.kind` = 'arm'")
    assert len(arms) == 2
    assert "/#/compare-runs?runs=" in link["data"]
    assert all(arm.info.run_id in link["data"] for arm in arms)


def test_status_and_doctor_of_what_ran(outcome, finished_demo, monkeypatch, capsys):
    assert {one.state for one in outputs(plan(finished_demo))} == {"done"}
    last = runs(plan(finished_demo), 1)[0]
    assert (last.log, last.how) == (outcome.log, "finished")
    states = {one.title: one.state for one in outputs(plan(finished_demo, "mixing.alpha=0.7"))}
    assert states["train hard fold 1"] == "done"
    assert states["train midas fold 1"] == "missing"
    words = [word for override in finished_demo.overrides for word in ("--set", override)]
    monkeypatch.setattr(sys, "argv", ["dfer", "doctor", "demo", *words, "--config", str(CONFIG)])
    with pytest.raises(SystemExit):
        cli.main()
    assert "mlflow.dbiswhole" in re.sub(r"\s+", "", capsys.readouterr().out)  # a long path is broken anywhere


def test_a_registered_model_keeps_its_training(demo):
    """Registered as a person does it, by the run's id."""
    import mlflow

    from tasks.inspection.clean import plan as clean_plan
    from tasks.tracking.runs import outbox_of

    pipeline = plan(demo)
    other = [plan(demo, "train.epochs=3")]  # needs none of the trainings that are there
    trained = {removal.path for removal in clean_plan(other).remove if removal.stage == "train"}
    assert len(trained) == 2
    model = min(trained)
    run = outbox_of(pipeline).noted(model).delivered.run_id
    mlflow.set_tracking_uri(pipeline.tracking_uri)
    mlflow.register_model(f"runs:/{run}/model", "faces")
    found = clean_plan(other)
    assert {removal.path for removal in found.remove if removal.stage == "train"} == trained - {model}
    assert [one.path for one in found.stays["registered model faces version 1"]] == [model]


def test_a_run_that_fails_says_where_its_log_is(demo):
    with pytest.raises(RuntimeError) as failure:
        demo.run("shards.max_failed_share=0.05")
    (said,) = {note for note in failure.value.__notes__ if "log of this run" in note}
    path = max((demo.work / "logs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert str(path) in said
    assert logs.read(path)[-1]["how"].startswith("failed: TooManyFailedError: demo-")
