"""Every network goes through the whole pipeline: training, evaluation on the own part and across, report, MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import CONFIG

from dfer.config.catalogue import NETWORKS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def outcome(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from flows.midas import midas

    overrides = [
        "demo_data.clips=21",
        "shards.max_failed_share=0.5",
        "pipelines.networks-demo.arms=[midas]",
        "train.epochs=1",
        "model.dropout=0.0",
        f"work_dir={tmp_path_factory.mktemp('networks') / 'work'}",
    ]
    return midas("networks-demo", str(CONFIG), overrides, only=["networks", "networks-afew"])


def test_each_has_its_row_with_what_it_costs(outcome: Any) -> None:
    page = (outcome.report.output.path / "report.html").read_text()
    for network in (one for one in NETWORKS.values() if one.reconstructed):
        assert network.reconstructed.split(".")[0] in page
    rows = (outcome.report.output.path / "tables" / "networks.csv").read_text().splitlines()
    ours = [row for row in rows if row.startswith("own,")]
    assert {row.split(",")[1].split()[0] for row in ours} == NETWORKS.keys()
    assert "GFLOPs" in rows[0]
    assert len(outcome.stages["evaluate"]) == 2 * len(NETWORKS)


def test_mlflow_s_models_give_the_probabilities_of_ours(outcome: Any) -> None:
    import mlflow
    import torch
    from mlflow.tracking import MlflowClient

    from dfer import read_out
    from dfer.models.saved import load_model
    from dfer.training.transforms import to_float

    folders: dict[str, Path] = {}
    for made in outcome.stages["train"]:
        folder = made.output.path
        folders[json.loads((folder / "model.json").read_text())["model"]] = folder
    assert folders.keys() == NETWORKS.keys()
    work = outcome.report.output.path.parents[2]
    uri = f"sqlite:///{work}/mlflow/mlflow.db"
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    arms = client.search_runs(experiments, "tags.`dfer.kind` = 'arm'")
    seen = set()
    for run in arms:
        name = run.data.params["model.name"]
        (model,) = run.outputs.model_outputs
        network, card = load_model(folders[name])
        size, frames = card["input_size"], card["num_segments"]
        clips = np.random.default_rng(0).integers(0, 256, (2, frames, size, size, 3), dtype=np.uint8)
        theirs = mlflow.pyfunc.load_model(f"models:/{model.model_id}").predict(clips)
        inputs = to_float(torch.from_numpy(clips).permute(0, 1, 4, 2, 3), **card["normalization"])
        with torch.inference_mode():
            logits = network(inputs).numpy()
        np.testing.assert_allclose(theirs, read_out.probabilities(logits, card), atol=1e-5)
        seen.add(name)
    assert seen == NETWORKS.keys()
