"""Folds without copies and other takes of a scene, and trainings that go on with shorter ones, in a whole run."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from tiny import CONFIG

from dfer.config.problems import InputError
from dfer.config.reading import load_pipeline
from dfer.datasets import protocol, table
from dfer.evaluation import read_predictions

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def overrides(demo_of_module):
    """An arm and a fold, without leakage, after one and two epochs."""
    overrides = [value for value in demo_of_module.overrides if not value.startswith(("pipelines.", "train."))]
    overrides += ["pipelines.leakage-demo.arms=[hard]", "pipelines.leakage-demo.folds=[1]"]
    overrides += [
        f"pipelines.leakage-demo.experiments.disjoint.{value}" for value in ("split=disjoint", "epochs=[2, 1]")
    ]
    return [*overrides, "train.schedule=step", "train.monitor_every=1"]


@pytest.fixture(scope="module")
def runs(overrides):
    """The same run twice."""
    from flows.midas import midas

    return [midas("leakage-demo", str(CONFIG), overrides) for _ in range(2)]


def test_trainings_and_evaluations_take_the_folds_of_their_split(runs):
    first, _ = runs
    (split,) = first.stages["split"]
    (ingested,) = first.stages["ingest"]
    tables = [table.read(result.output.path / "clips.parquet") for result in (ingested, split)]
    official, disjoint = (set(protocol.part(clips, fold=1, part="test")["clip_id"]) for clips in tables)
    assert official != disjoint
    files = [evaluated.output.path / "predictions.parquet" for evaluated in first.stages["evaluate"]]
    assert len(files) == len(first.stages["train"]) == 2
    for file in files:
        predicted = set(read_predictions(file)["clip_id"])
        assert predicted <= disjoint and predicted - official


def test_a_longer_training_goes_on_with_the_shorter_one(runs):
    first, _ = runs
    trained = [json.loads((made.output.path / "manifest.json").read_text()) for made in first.stages["train"]]
    assert sorted(manifest["key"]["train"]["epochs"] for manifest in trained) == [1, 2]
    assert [manifest["counts"]["epochs"] for manifest in trained] == [1, 1]
    for made, manifest in zip(first.stages["train"], trained, strict=True):
        history = json.loads((made.output.path / "history.json").read_text())["epochs"]
        assert [row["epoch"] for row in history] == list(range(1, manifest["key"]["train"]["epochs"] + 1))
    client = MlflowClient(f"sqlite:///{first.report.output.path.parents[2]}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("leakage-demo")
    children = client.search_runs([experiment.experiment_id], "tags.dfer.kind = 'arm'")
    logged = {
        run.info.run_name: [value.step for value in client.get_metric_history(run.info.run_id, "epoch/loss")]
        for run in children
    }
    assert logged == {
        "hard disjoint fold 1 1 epochs": [1],
        "hard disjoint fold 1 2 epochs": [1, 2],
    }


def test_trainings_are_named_by_split_and_length(runs):
    from tasks.inspection.compare import find

    pipeline = load_pipeline("leakage-demo", CONFIG, [f"work_dir={runs[0].report.output.path.parents[2]}"])
    one, two = find([f"leakage-demo/hard@disjoint@{epochs}epochs" for epochs in (1, 2)], [pipeline], None)
    assert (one.runs, two.runs) == (1, 1) and not one.predictions["logits"].equals(two.predictions["logits"])
    for name, message in (
        ("leakage-demo/hard", "name one: @disjoint@1epochs, @disjoint@2epochs"),
        (
            "leakage-demo/hard@disjoint",
            r"name their length \(@30epochs\), or give ids:\n  [0-9a-f]{32}  train.epochs [12]",
        ),
        ("leakage-demo/hard@disjont", "expected PIPELINE/ARM"),
    ):
        with pytest.raises(InputError, match=message):
            find([name], [pipeline], None)


def test_the_report_shows_the_pairs_and_a_second_run_makes_nothing(runs):
    first, second = runs
    saved = pd.read_csv(first.report.output.path / "results.csv")
    assert saved[["split", "epochs"]].to_numpy().tolist() == [["disjoint", 2], ["disjoint", 1]]
    page = (first.report.output.path / "report.html").read_text()
    assert "Pairs of clips across the borders of folds" in page
    assert not any(made.executed for stage in second.stages.values() for made in stage)


@pytest.mark.slow
def test_folds_that_are_made_again_are_trained_on_again(runs, overrides):
    from flows.midas import midas

    again = midas("leakage-demo", str(CONFIG), overrides, start_from="split")
    executed = {stage: n for stage, made in again.stages.items() if (n := sum(m.executed for m in made))}
    assert executed == {"split": 1, "train": 2, "evaluate": 2, "report": 1}
