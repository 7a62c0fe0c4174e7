"""A model goes to MLflow once, however often its delivery is broken off."""

from __future__ import annotations

import pytest
import torch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Killed(BaseException):
    """The delivering process is gone."""


@pytest.mark.parametrize("when", ["before it is in the run", "before its files are there", "after everything"])
def test_broken_off_and_delivered_again(tmp_path, monkeypatch, when):
    import mlflow
    from mlflow.tracking import MlflowClient

    from dfer.labels import EMOTIONS
    from dfer.models import build
    from dfer.models.saved import save_model
    from tasks.tracking.logged_model import log_model

    network = build("resnet18_tsm", num_classes=len(EMOTIONS), num_segments=2, width=0.125, dropout=0.0)
    card = {
        "model": "resnet18_tsm",
        "classes": list(EMOTIONS),
        "num_segments": 2,
        "width": 0.125,
        "dropout": 0.0,
        "input_size": 32,
        "normalization": {"mean": [0.5] * 3, "std": [0.5] * 3},
    }
    save_model(tmp_path, network.state_dict(), card)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("demo", artifact_location=(tmp_path / "artifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id

    def killed(*_: object, **__: object) -> None:
        raise Killed

    match when:
        case "before it is in the run":
            monkeypatch.setattr(MlflowClient, "log_outputs", killed)
        case "before its files are there":
            monkeypatch.setattr(MlflowClient, "log_model_artifacts", killed)
    try:
        log_model(tmp_path, client, run_id, experiment)
    except Killed:
        assert when != "after everything"
    monkeypatch.undo()
    log_model(tmp_path, client, run_id, experiment, in_doubt=True)

    (output,) = client.get_run(run_id).outputs.model_outputs
    (model,) = client.search_logged_models([experiment])
    assert output.model_id == model.model_id
    assert str(model.status) == "READY"
    mlflow.set_tracking_uri(client.tracking_uri)
    loaded = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
    assert loaded.predict(torch.zeros(1, 2, 32, 32, 3, dtype=torch.uint8).numpy()).shape == (1, len(EMOTIONS))
