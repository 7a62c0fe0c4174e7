"""Estimates of what never ran here, from what was tried for a few seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from dfer.config.experiments import Faces, evaluations_of, trainings_of
from dfer.config.reading import load_pipeline
from dfer.faces.videos import align_in_process
from tasks.inspection import estimate
from tasks.inspection.estimate import CLIPS, Trials

ROOT = Path(__file__).parents[3]


def pipeline(*overrides: str):
    return load_pipeline("demo", ROOT / "pipeline_config.yaml", ["train.monitor_every=10", *overrides])


def faces(dataset: str) -> Faces:
    return Faces.of(dataset, pipeline().settings)


def trainings(plan) -> list:
    rows = [row for experiment in plan.experiments for row in experiment.rows(has_folds=True)]
    return trainings_of(evaluations_of(rows))


@pytest.fixture
def calls(monkeypatch) -> list[Callable]:
    """Processes are not started; steps train 10 clips a second, and a clip takes as long to align as a message."""
    made: list[Callable] = []

    def run_isolated(function, *, threads=1, on_message=None, **arguments):
        made.append(function)
        if function is estimate.step_speed_in_process:
            return {"device": "cpu", "precision": "float32", "clips_per_second": 10.0, "share_of_peak": 0.5}
        for clip, _ in arguments["clips"]:
            on_message(clip)
        return {}

    monkeypatch.setattr(estimate, "run_isolated", run_isolated)
    return made


def test_training_time_is_that_of_its_steps_and_looks_at_the_test_fold(calls):
    plan = pipeline("train.epochs=30")
    trials = Trials(threads=1)
    # 30 epochs of 100 clips, and 3 looks at 20 clips for a third of the price
    assert trials.training(trainings(plan)[0], 100, 20) == pytest.approx((30 * 100 + 3 * 20 / 3) / 10)
    assert trials.evaluation(trainings(plan)[0], 60) == pytest.approx(2)


def test_each_network_is_tried_once(calls):
    plan = pipeline()
    trials = Trials(threads=2)
    for training in trainings(plan):
        trials.training(training, 100, 20)
    assert len(trainings(plan)) == 3
    assert calls == [estimate.step_speed_in_process]
    (made,) = trials.results
    assert "resnet18_tsm" in made.what
    assert made.device == "cpu, float32, 2 threads"


def test_a_few_clips_are_aligned_once_a_data_set(calls, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(estimate.time, "monotonic", lambda: 2.0 * next(clock))
    clips = pd.DataFrame({"clip_id": [f"a/{n}" for n in range(50)], "source": "x.mp4", "source_size": 1})
    clips.loc[0, "source_size"] = -1
    trials = Trials(threads=1)
    assert trials.alignment(faces("a"), Path("/data"), clips, 64) == 64 * 2.0
    assert trials.alignment(faces("a"), Path("/data"), clips, 10) == 10 * 2.0
    assert calls == [align_in_process]
    assert f"{CLIPS} clips of a" in trials.results[0].what
    # nothing can be said of a set whose files are not there
    assert trials.alignment(faces("b"), Path("/data"), clips.assign(source_size=-1), 10) is None


def test_a_real_step_is_timed(monkeypatch):
    monkeypatch.setattr(estimate, "SECONDS", 0.1)
    plan = pipeline("model.width=0.125", "model.input_size=32", "train.device=cpu")
    training = trainings(plan)[0]
    messages: list[object] = []
    speed = estimate.step_speed_in_process(
        settings=training.settings, arm=training.arm, threads_of_training=1, send=messages.append
    )
    assert speed["clips_per_second"] > 0
    assert 0 < speed["share_of_peak"] < 1
