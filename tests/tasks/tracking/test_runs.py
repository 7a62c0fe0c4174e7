"""The runs of a pipeline: which is opened, gone on with and closed how. Nothing here asks MLflow."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dfer.config.experiments import evaluations_of, trainings_of
from dfer.config.reading import load_pipeline
from dfer.system.processes import ProcessDiedError
from tasks.tracking.deliverer import Deliverer
from tasks.tracking.outbox import Delivered
from tasks.tracking.runs import PipelineTracking, close_interrupted, log_epoch, outbox_of

CONFIG = Path(__file__).parents[3] / "pipeline_config.yaml"


@pytest.fixture
def plan(tmp_path):
    return load_pipeline("demo", CONFIG, [f"work_dir={tmp_path}"])


@pytest.fixture
def training(plan):
    rows = [row for experiment in plan.experiments for row in experiment.rows(has_folds=True)]
    return trainings_of(evaluations_of(rows))[0]


@pytest.fixture
def track(plan, monkeypatch):
    """Opens the tracking of a run; nothing is delivered."""
    monkeypatch.setattr(Deliverer, "start", lambda self: None)

    def track(plan=plan, fingerprint="same clips") -> PipelineTracking:
        return PipelineTracking(plan, lambda: fingerprint, Deliverer(outbox_of(plan)))

    return track


def test_nothing_logged_leaves_no_run(track, plan):
    with track():
        pass
    assert outbox_of(plan).runs() == []


def test_a_finished_run_is_not_gone_on_with_and_one_that_failed_is(track):
    with pytest.raises(RuntimeError), track() as tracking:
        failed = tracking.parent()
        raise RuntimeError("the disk broke")
    assert failed.status == "FAILED"
    with track() as tracking:
        assert tracking.parent() == failed
        assert failed.status == "RUNNING"
    assert failed.status == "FINISHED"
    with track() as tracking:
        assert tracking.parent() != failed


def test_other_clips_another_configuration_or_another_server_are_another_run(track, plan):
    with track() as first, track(fingerprint="other clips") as second:
        assert first.parent() != second.parent()
    left = track()
    open_run = left.parent()
    assert track(replace(plan, tracking_uri="http://127.0.0.1:5000")).parent() != open_run
    assert track().parent() == open_run


def test_two_runs_of_a_pipeline_at_once_share_their_parent(track):
    with track() as one, track() as other:
        assert one.parent() == other.parent()


def test_the_status_of_an_arm_follows_its_training(track, training, tmp_path):
    with pytest.raises(RuntimeError), track() as tracking:
        fine, wrong, killed = (tracking.arm_run(training) for _ in range(3))
        with tracking.working_on(fine):
            pass
        with pytest.raises(ValueError, match="loss"), tracking.working_on(wrong):
            raise ValueError("the loss is infinite")
        with pytest.raises(ProcessDiedError), tracking.working_on(killed):
            raise ProcessDiedError("ended by signal SIGKILL")
        assert [run.status for run in (fine, wrong, killed)] == ["FINISHED", "FAILED", "RUNNING"]
        killed.write(tmp_path)
        raise RuntimeError("stop")
    assert killed.status == "FAILED"
    with track() as tracking:
        assert tracking.run_of(tmp_path) == killed
        with tracking.working_on(killed):
            assert killed.status == "RUNNING"
    assert killed.status == "FINISHED"


def test_the_page_has_the_trainings_that_mlflow_knows_also_of_before_a_kill(track, training):
    with pytest.raises(RuntimeError), track() as tracking:
        before = tracking.arm_run(training)
        with tracking.working_on(before):
            assert tracking.page() == ""
            before.note_delivered(Delivered(run_id="aa", experiment_id="1"))
            assert tracking.page() == before.page
        raise RuntimeError("the next stage failed")
    with track() as tracking:
        after = tracking.arm_run(training)
        with tracking.working_on(after):
            assert tracking.page() == before.page
            after.note_delivered(Delivered(run_id="bb", experiment_id="1"))
            assert tracking.page() == before.page_beside([after])
    with track() as tracking:  # another run of the pipeline
        tracking.parent()
        assert tracking.page() == ""


def test_ctrl_c_marks_what_is_open_as_killed(track, training):
    with track() as tracking:
        run = tracking.arm_run(training)
        with tracking.working_on(run):
            close_interrupted()
            assert (run.status, tracking.parent().status) == ("KILLED", "KILLED")


def test_an_arm_trained_for_an_earlier_run_is_shown_with_its_last_values(track, training, tmp_path):
    with track() as tracking:
        earlier = tracking.arm_run(training)
        earlier.write(tmp_path)
    epochs = [{"epoch": epoch, "loss": 1 / epoch, "train_accuracy": None} for epoch in (1, 2)]
    summary = {"best_on_test_fold": {"epoch": 1, "war": 0.5, "uar": 0.4}}
    (tmp_path / "history.json").write_text(json.dumps({"epochs": epochs, "summary": summary}))
    with track() as tracking:
        assert tracking.run_of(tmp_path) is None  # of another pipeline run
        copy = tracking.copy_of(tracking.outbox.noted(tmp_path), training, tmp_path)
    operations = [operation for _, operation in copy.operations()]
    metrics = [(o["step"], o["values"]) for o in operations if o["do"] == "metrics"]
    assert metrics == [(2, {"epoch/loss": 0.5}), (0, {"best_on_test_fold/WAR": 0.5, "best_on_test_fold/UAR": 0.4})]
    assert {"do": "copied", "run": earlier.id} in operations
    assert copy.status == "FINISHED"
    assert "model" not in [operation["do"] for operation in operations]


def test_a_run_that_goes_on_has_one_copy_of_an_earlier_training(track, training, tmp_path):
    with track() as tracking:
        tracking.arm_run(training).write(tmp_path)
    history = {"epochs": [{"epoch": 1, "loss": 1.0}], "summary": {"best_on_test_fold": None}}
    (tmp_path / "history.json").write_text(json.dumps(history))
    with pytest.raises(ValueError, match="another training"), track() as tracking:
        copy = tracking.copy_of(tracking.outbox.noted(tmp_path), training, tmp_path)
        assert tracking.run_of(tmp_path) == copy
        raise ValueError("another training has diverged; the report was made without it")
    with track() as tracking:  # goes on with the same parent
        assert tracking.run_of(tmp_path) == copy


def test_an_epoch_has_what_of_its_loss_is_above_the_entropy_of_its_targets(track, training):
    with track() as tracking:
        run = tracking.arm_run(training)
        log_epoch(run, {"epoch": 1, "loss": 1.75, "target_entropy": 1.5})
        log_epoch(run, {"epoch": 2, "loss": 1.75, "target_entropy": None})
    first, second = (o["values"] for _, o in run.operations() if o["do"] == "metrics")
    assert first == {"epoch/loss": 1.75, "epoch/target_entropy": 1.5, "epoch/loss_above_entropy": 0.25}
    assert second == {"epoch/loss": 1.75}


def test_a_full_disk_at_the_end_does_not_hide_what_went_wrong(track, training, monkeypatch):
    from tasks.tracking.outbox import TrackedRun

    def no_space(*_) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ValueError, match="loss"), track() as tracking, tracking.working_on(tracking.arm_run(training)):
        monkeypatch.setattr(TrackedRun, "_append", no_space)
        raise ValueError("the loss is infinite")


def test_mlflow_is_told_no_password(track, plan):
    data = {name: d.model_copy(update={"root": "s3://key:hunter2@bucket/x"}) for name, d in plan.datasets.items()}
    with track(replace(plan, datasets=data)) as tracking:
        folder = tracking.parent().folder
    assert not any("hunter2" in path.read_text() for path in folder.rglob("*") if path.is_file())
