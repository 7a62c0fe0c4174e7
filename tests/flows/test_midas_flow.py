"""The whole pipeline on a few real (synthetic) videos: what is run, what is not, and what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from tiny import CONFIG

from dfer import shards
from dfer.demo.casting import plan_clips
from dfer.evaluation import read_predictions
from dfer.faces.index import read_index
from dfer.labels import EMOTIONS

pytestmark = pytest.mark.timeout(600)


def executed(outcome) -> dict[str, int]:
    """How many tasks of each stage did their work."""
    return {stage: n for stage, made in outcome.stages.items() if (n := sum(m.executed for m in made))}


@pytest.fixture
def first(finished_demo):
    return finished_demo.first


def client_of(demo) -> MlflowClient:
    return MlflowClient(f"sqlite:///{demo.work}/mlflow/mlflow.db")


def runs(client, kind):
    experiment = client.get_experiment_by_name("demo")
    return client.search_runs([experiment.experiment_id], f"tags.`dfer.kind` = '{kind}'")


def test_every_stage_runs_the_first_time(first):
    assert executed(first) == {
        "demo-data": 2,  # a third one is not asked for
        "ingest": 2,
        "align": len(first.stages["align"]),
        "index": 2,
        "train": 2,
        "evaluate": 4,
        "report": 1,
    }


def test_every_clip_is_accounted_for(first):
    for index in first.indexes.values():
        table = read_index(index.output.path / "index.parquet")
        counts = index.output.counts
        failed = sum(number for name, number in counts.items() if name.startswith("failed."))
        assert counts["ok"] + failed == counts["given"] == len(table)
    broken = {"empty_file", "undecodable", "not_a_video", "no_face", "missing_file"}
    dfew = read_index(first.indexes["demo-dfew"].output.path / "index.parquet")
    assert broken <= set(dfew["reason"])


def test_shards_hold_what_the_index_says(first, finished_demo):
    index = read_index(first.indexes["demo-dfew"].output.path / "index.parquet")
    for row in index[index["status"] == "ok"].to_dict(orient="records"):
        clip = shards.open_shard(finished_demo.work / "stages" / row["shard"]).read(row["row"])
        assert clip.clip_id == row["clip_id"]
        assert len(clip.frames) == row["frames_kept"]


def test_scores_are_those_of_the_predictions(first):
    for made in first.stages["evaluate"]:
        predictions = read_predictions(made.output.path / "predictions.parquet")
        metrics = json.loads((made.output.path / "metrics.json").read_text())
        assert metrics["war"] == pytest.approx((predictions["prediction"] == predictions["label"]).mean())
        assert len(predictions) == metrics["coverage"] * made.output.counts["listed"]


def test_no_clip_and_no_person_is_in_both_parts_of_a_fold(first):
    history = json.loads((first.stages["train"][0].output.path / "history.json").read_text())
    clips = pd.read_parquet(first.stages["ingest"][0].output.path / "clips.parquet")
    index = read_index(first.indexes["demo-dfew"].output.path / "index.parquet")
    usable = clips["clip_id"].isin(index.loc[index["status"] == "ok", "clip_id"]) & clips["fold"].notna()
    trained, tested = (set(clips.loc[usable & rows, "clip_id"]) for rows in (clips["fold"] != 1, clips["fold"] == 1))
    # one clip more in the training would be one of the tested
    assert history["summary"]["clips"]["training"] == len(trained)
    predictions = [read_predictions(made.output.path / "predictions.parquet") for made in first.stages["evaluate"]]
    own = [table for table in predictions if set(table["dataset"]) == {"demo-dfew"}]
    assert [set(table["clip_id"]) for table in own] == [tested, tested]

    plans = [plan for plan in plan_clips(21, 0) if plan.dataset == "dfew"]
    people = {f"demo-dfew/{plan.number:05d}": set(plan.people) for plan in plans}
    assert trained | tested <= people.keys()
    assert not set.union(*(people[clip] for clip in trained)) & set.union(*(people[clip] for clip in tested))


def test_mlflow_has_a_parent_and_a_child_for_every_arm(finished_demo):
    client = client_of(finished_demo)
    (parent,) = runs(client, "pipeline")
    children = runs(client, "arm")
    assert parent.info.status == "FINISHED"
    assert {child.data.tags["dfer.arm"] for child in children} == {"hard", "midas"}
    for child in children:
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.tags["dfer.data"] == "synthetic"
        assert {"demo-dfew/WAR", "demo-dfew/UAR", "demo-afew/UAR", "epoch/loss"} <= child.data.metrics.keys()
        assert len(client.get_metric_history(child.info.run_id, "epoch/loss")) == 2
        assert {item.dataset.name for item in child.inputs.dataset_inputs} >= {"demo-dfew", "demo-afew"}
        artifacts = {item.path for item in client.list_artifacts(child.info.run_id)}
        assert {"learning_curves.png", "batch.jpg", "model.safetensors", "evaluation"} <= artifacts
    assert "mixing.alpha" in next(c for c in children if c.data.tags["dfer.arm"] == "midas").data.params
    assert "mixing.alpha" not in next(c for c in children if c.data.tags["dfer.arm"] == "hard").data.params
    assert "own-test-part/resnet18_tsm/midas/in-order/UAR" in parent.data.metrics


def test_the_logged_model_predicts_in_a_process_that_does_not_know_us(finished_demo, tmp_path):
    child = next(c for c in runs(client_of(finished_demo), "arm") if c.data.tags["dfer.arm"] == "midas")
    (model,) = child.outputs.model_outputs
    code = (
        "import mlflow, numpy as np, sys\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model(sys.argv[2])\n"
        "clips = np.random.default_rng(0).integers(0, 256, (3, 8, 32, 32, 3), dtype=np.uint8)\n"
        "np.save(sys.argv[3], model.predict(clips))\n"
        "assert 'dfer' not in sys.modules\n"
        "assert model.metadata.metadata['classes'] == sys.argv[4].split(',')\n"
    )
    uri = f"sqlite:///{finished_demo.work}/mlflow/mlflow.db"
    target = tmp_path / "probabilities.npy"
    arguments = [uri, f"models:/{model.model_id}", str(target), ",".join(EMOTIONS)]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, cwd=tmp_path, env=environment)
    probabilities = np.load(target)
    assert probabilities.shape == (3, 7)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_the_second_time_nothing_is_run_and_nothing_is_logged(demo):
    client = client_of(demo)
    before = len(runs(client, "pipeline")), len(runs(client, "arm"))
    assert executed(demo.run()) == {}
    assert (len(runs(client, "pipeline")), len(runs(client, "arm"))) == before


def test_another_alpha_trains_the_arms_that_mix_and_nothing_before(demo):
    client = client_of(demo)
    outcome = demo.run("mixing.alpha=0.8")
    assert executed(outcome) == {"train": 1, "evaluate": 2, "report": 1}
    newest = max(runs(client, "pipeline"), key=lambda run: run.info.start_time)
    children = [c for c in runs(client, "arm") if c.data.tags["mlflow.parentRunId"] == newest.info.run_id]
    assert {child.data.tags["dfer.arm"] for child in children} == {"hard", "midas"}
    again = {child.data.tags["dfer.arm"]: "dfer.trained_in_run" in child.data.tags for child in children}
    assert again == {"hard": True, "midas": False}
    for child in children:
        scored = {item.path for item in client.list_artifacts(child.info.run_id, "evaluation")}
        assert scored == {"evaluation/demo-dfew", "evaluation/demo-afew"}


def test_a_deleted_shard_is_made_again_with_all_that_depends_on_it(demo):
    def scores(outcome):
        return [json.loads((made.output.path / "metrics.json").read_text()) for made in outcome.stages["evaluate"]]

    shard = demo.first.stages["align"][0].output.path / "clips.parquet"
    before = shard.read_bytes(), scores(demo.first)
    shard.unlink()
    outcome = demo.run()
    assert executed(outcome) == {"align": 1, "index": 1, "train": 2, "evaluate": 4, "report": 1}
    assert (shard.read_bytes(), scores(outcome)) == before


def test_too_many_failed_clips_stop_the_pipeline_with_their_reasons(demo):
    from tasks.align import TooManyFailedError

    with pytest.raises(TooManyFailedError, match=r"demo-dfew: \d+ of \d+ clips .*no_face"):
        demo.run("shards.max_failed_share=0.05")


def test_a_data_set_that_cannot_be_used_stops_before_any_face_is_looked_for(first, tmp_path):
    from dfer.datasets import IngestError
    from flows.midas import midas

    root = tmp_path / "DFEW"
    dfew, afew = (made.output.path for made in first.stages["demo-data"])
    shutil.copytree(dfew / "dfew", root)
    shutil.rmtree(root / "EmoLabel_DataSplit")
    with pytest.raises(IngestError, match="EmoLabel_DataSplit"):
        midas(
            "dfew-fold1",
            str(CONFIG),
            [
                f"datasets.dfew.root={root}",
                f"datasets.afew.root={afew / 'afew'}",
                f"work_dir={tmp_path}",
                "model.pretrained=null",
            ],
        )
    assert not (tmp_path / "stages" / "align").exists()


def test_folders_of_the_real_layout_run_through_the_pipeline_for_real_data(first, tmp_path):
    """The demo data's folders are in the real sets' layout: taken as if they were real, two folds, one arm."""
    from flows.midas import midas

    dfew, afew = (made.output.path for made in first.stages["demo-data"])
    small = ["model.pretrained=null", "model.width=0.125", "model.input_size=32", "train.epochs=1", "alignment.size=64"]
    small += ["run.workers=1"]
    where = [f"datasets.dfew.root={dfew / 'dfew'}", f"datasets.afew.root={afew / 'afew'}", f"work_dir={tmp_path}"]
    how = [
        "pipelines.dfew-full.arms=[soft]",
        "pipelines.dfew-full.folds=[1, 2]",
        "shards.max_failed_share=0.5",
        "shards.format=npz",
        "detection.input_size=320",
        "train.selection=validation",
        "train.validation_share=0.3",
    ]
    outcome = midas("dfew-full", str(CONFIG), [*where, *small, *how, "shards.frames_per_segment=1"])
    assert {stage: len(made) for stage, made in outcome.stages.items() if stage in ("train", "evaluate")} == {
        "train": 2,
        "evaluate": 4,
    }
    table = pd.read_csv(outcome.report.output.path / "results.csv")
    assert set(table["evaluated_on"]) == {"dfew", "afew"}
    summed = pd.read_csv(outcome.report.output.path / "summed_over_folds.csv")
    own = [
        m
        for m in outcome.stages["evaluate"]
        if json.loads((m.output.path / "metrics.json").read_text())["part"] != "val"
    ]
    assert set(summed["arm"]) == {"soft"}
    assert set(summed["num_listed"]) == {sum(m.output.counts["listed"] for m in own)}
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    assert "Synthetic" not in (outcome.report.output.path / "report.md").read_text()
