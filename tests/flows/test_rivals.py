"""Every rival of MIDAS goes through the whole pipeline, for one epoch: training, evaluation, report, MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import CONFIG

from dfer.config.catalogue import LOSSES, METHODS, MIXINGS, NORMALIZATIONS
from dfer.config.reading import load_pipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ARMS = {
    name: arm
    for experiment in load_pipeline("rivals-demo", CONFIG).experiments
    for name, arm in experiment.arms.items()
}


@pytest.fixture(scope="module")
def outcome(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from flows.midas import midas

    overrides = [
        "demo_data.clips=42",
        "shards.max_failed_share=0.5",
        "train.epochs=1",
        f"work_dir={tmp_path_factory.mktemp('rivals') / 'work'}",
    ]
    return midas("rivals-demo", str(CONFIG), overrides)


def test_the_pipeline_has_all_of_the_catalogue() -> None:
    arms = ARMS.values()
    assert {arm.mixing for arm in arms} == MIXINGS.keys()
    assert {arm.normalize for arm in arms} == NORMALIZATIONS.keys()
    assert {arm.loss for arm in arms} == LOSSES.keys() - {"ial"}  # which is in the pipeline `networks`
    assert {arm.method for arm in arms} == METHODS.keys()
    assert {arm.labels for arm in arms} == {"hard", "soft", "vote"}


def test_every_table_has_its_arms(outcome: Any) -> None:
    for experiment in load_pipeline("rivals-demo", CONFIG).experiments:
        lines = (outcome.report.output.path / "tables" / f"{experiment.name}.csv").read_text().splitlines()
        ours = [line for line in lines if line.startswith("own,") and "raw softmax" not in line]
        assert len(ours) == len(experiment.arms), experiment.name


def test_methods_with_parts_of_their_own_are_in_mlflow_as_they_are_here(outcome: Any) -> None:
    import mlflow
    import torch
    from mlflow.tracking import MlflowClient

    from dfer import read_out
    from dfer.models.saved import load_model
    from dfer.training.transforms import to_float

    folders: dict[str, Path] = {}
    for made in outcome.stages["train"]:
        card = json.loads((made.output.path / "model.json").read_text())
        folders[card.get("method", "none")] = made.output.path
    uri = f"sqlite:///{outcome.report.output.path.parents[2]}/mlflow/mlflow.db"
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    for method in ("scn", "rul", "eac"):
        (run,) = client.search_runs(experiments, f"tags.`dfer.kind` = 'arm' and tags.`dfer.arm` = '{method}'")
        (model,) = run.outputs.model_outputs
        network, card = load_model(folders[method])
        size, frames = card["input_size"], card["num_segments"]
        clips = np.random.default_rng(0).integers(0, 256, (2, frames, size, size, 3), dtype=np.uint8)
        theirs = mlflow.pyfunc.load_model(f"models:/{model.model_id}").predict(clips)
        inputs = to_float(torch.from_numpy(clips).permute(0, 1, 4, 2, 3), **card["normalization"])
        with torch.inference_mode():
            logits = network(inputs).numpy()
        np.testing.assert_allclose(theirs, read_out.probabilities(logits, card), atol=1e-5)
