"""A model goes to MLflow once, however often its delivery is broken off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Killed(BaseException):
    """The delivering process is gone."""


def saved_and_begun(folder: Path, classes: Sequence[str]) -> tuple[Any, str, str]:
    """A model with random weights in the folder, a client of a database there, an experiment and a run of it."""
    from mlflow.tracking import MlflowClient

    from dfer.models import build
    from dfer.models.saved import save_model

    network = build("resnet18_tsm", num_classes=len(classes), num_segments=2, width=0.125, dropout=0.0)
    card = {
        "model": "resnet18_tsm",
        "classes": list(classes),
        "num_segments": 2,
        "width": 0.125,
        "dropout": 0.0,
        "input_size": 32,
        "normalization": {"mean": [0.5] * 3, "std": [0.5] * 3},
    }
    save_model(folder, network.state_dict(), card)
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.create_experiment("demo", artifact_location=(folder / "artifacts").as_uri())
    return client, experiment, client.create_run(experiment).info.run_id


@pytest.mark.parametrize("number", [2, 6, 8, 11])
def test_its_classes_are_the_model_s_own(tmp_path, number):
    import mlflow
    import numpy as np

    from tasks.tracking.logged_model import log_model

    names = ("bored", "engaged", "confused", "calm", "proud", "shy", "tired", "alert", "angry", "sad", "happy")
    classes = names[:number]
    client, experiment, run_id = saved_and_begun(tmp_path, classes)
    log_model(tmp_path, client, run_id, experiment)
    (model,) = client.search_logged_models([experiment])
    loaded = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
    assert loaded.metadata.metadata["classes"] == list(classes)
    probabilities = loaded.predict(np.zeros((3, 2, 32, 32, 3), np.uint8))
    assert probabilities.shape == (3, number)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_its_probabilities_are_read_out_as_the_card_says(tmp_path):
    import mlflow
    import numpy as np

    from dfer import read_out
    from dfer.models.saved import load_model, save_model
    from dfer.training.transforms import to_float
    from tasks.tracking.logged_model import log_model

    client, experiment, run_id = saved_and_begun(tmp_path, "abcdefg")
    network, card = load_model(tmp_path)
    card = {**card, "settings": {"arm": {"normalize": "softmax"}}}
    save_model(tmp_path, network.state_dict(), card)
    log_model(tmp_path, client, run_id, experiment)
    (model,) = client.search_logged_models([experiment])
    frames = np.random.default_rng(0).integers(0, 256, (3, 2, 32, 32, 3), np.uint8)
    clips = to_float(torch.from_numpy(frames).permute(0, 1, 4, 2, 3), [0.5] * 3, [0.5] * 3)
    with torch.inference_mode():
        logits = network(clips).numpy()
    answered = mlflow.pyfunc.load_model(f"models:/{model.model_id}").predict(frames)
    np.testing.assert_allclose(answered, read_out.probabilities(logits, card), atol=1e-5)
    assert not np.allclose(answered, read_out.read(logits, "softmax"), atol=1e-2)


@pytest.mark.parametrize("when", ["before it is in the run", "before its files are there", "after everything"])
def test_broken_off_and_delivered_again(tmp_path, monkeypatch, when):
    import mlflow
    from mlflow.tracking import MlflowClient

    from dfer.labels import EMOTIONS
    from tasks.tracking.logged_model import log_model

    client, experiment, run_id = saved_and_begun(tmp_path, EMOTIONS)

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
