"""A trained model in MLflow's registry."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from plain_network import Tracked, write_plain
from small_model import CLASSES, portrait
from videos import write_video

import dfer
from dfer.config.problems import InputError
from dfer.prediction.models import SYNTHETIC
from tasks.tracking.outbox import Delivered
from tasks.tracking.registering import register
from tasks.tracking.registry import registered_runs


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    return Tracked(tmp_path_factory.mktemp("tracked"))


@pytest.fixture(scope="module")
def registered(tracked: Tracked) -> Tracked:
    done = register(str(tracked.model), "faces", "champion", config=tracked.config)
    assert done.versions == {"faces": "1", "faces-video": "1"}
    assert done.licences[1].startswith("Face detector")
    return tracked


def loaded(tracked: Tracked, name: str):
    mlflow.set_tracking_uri(tracked.uri)
    return mlflow.pyfunc.load_model(f"models:/{name}@champion")


def test_a_version_is_the_model_that_was_logged(registered: Tracked) -> None:
    client = registered.client
    version = client.get_model_version_by_alias("faces", "champion")
    assert version.run_id == registered.run
    assert version.tags["dfer.data"] == "synthetic"
    assert "Apache" in version.tags["dfer.licences"]
    assert json.loads(version.tags["dfer.card"])["faces"]["alignment"]["size"] == 48
    assert SYNTHETIC in version.description
    (of_frames,) = client.search_logged_models([registered.experiment], "name = 'model'")
    assert version.source == f"models:/{of_frames.model_id}"
    run = client.get_run(registered.run)
    assert (run.info.status, run.info.end_time) == ("FINISHED", 1234)
    assert len(run.outputs.model_outputs) == 2
    model = loaded(registered, "faces")
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, 4, 32, 32, 3)
    assert model.metadata.saved_input_example_info is not None
    assert model.predict(np.zeros((2, 4, 32, 32, 3), np.uint8)).shape == (2, 3)
    assert registered_runs(registered.uri)[registered.run].startswith("faces")


def test_a_second_time_nothing_is_logged(registered: Tracked) -> None:
    before = registered.client.search_logged_models([registered.experiment])
    again = register(f"runs:/{registered.run}", "faces", "other", config=registered.config)
    assert again.versions == {"faces": "1", "faces-video": "1"}
    assert len(registered.client.search_logged_models([registered.experiment])) == len(before) == 2
    found = dfer.load("models:/faces@other", config=registered.config)
    assert found.classes == tuple(CLASSES)


def test_it_takes_videos(registered: Tracked, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [portrait(number) for number in range(30)])
    encoded = base64.b64encode(video.read_bytes()).decode()
    model = loaded(registered, "faces-video")
    table = model.predict(pd.DataFrame({"video": [encoded]}), params={"window": 0.8, "every": 0.2})
    expected = dfer.load(registered.model, device="cpu").predict(video, window=0.8, every=0.2).table
    assert list(table.columns) == [*expected.columns, "warning"] == model.metadata.signature.outputs.input_names()
    pd.testing.assert_frame_equal(table[expected.columns[1:]], expected.iloc[:, 1:], check_exact=False)
    assert set(table["warning"]) == {SYNTHETIC}
    assert set(table["video"]) == {"0"}


@pytest.mark.parametrize(
    ("video", "params", "message"),
    [
        ("not base64!", {}, "video 0: expected the bytes of a video file in base64"),
        (base64.b64encode(b"no video at all").decode(), {}, "video 0: not_a_video: it"),
        ("", {}, "video 0: empty_file"),
        ("", {"people": "some"}, "expected people 'all' or 'main'"),
        ("", {"window": 0.0}, "at least 0.04 seconds"),
    ],
)
def test_what_is_no_video_is_a_sentence(registered: Tracked, video: str, params: dict, message: str) -> None:
    with pytest.raises(MlflowException, match=message) as caught:
        loaded(registered, "faces-video").predict(pd.DataFrame({"video": [video]}), params=params)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert "/tmp" not in str(caught.value)


def test_what_cannot_be_registered(registered: Tracked, tmp_path: Path) -> None:
    config = registered.config
    before = len(registered.client.search_model_versions())

    def refused(message: str, model: str, name: str = "faces", alias: str = "champion") -> None:
        with pytest.raises(InputError, match=message):
            register(model, name, alias, config=config)

    refused("demo has no arm sft", "demo/sft")
    refused("is reserved", str(registered.model), alias="latest")
    refused("Invalid alias name", str(registered.model), alias="a b")
    refused("cannot contain", str(registered.model), name="a/b")
    refused("nothing says which run it is", str(write_plain(tmp_path / "stages" / "train" / "x")))
    delivered = registered.tracked.delivered
    try:
        registered.tracked.note_delivered(Delivered())
        refused("dfer mlflow deliver", str(registered.model))
        registered.tracked.note_delivered(Delivered(run_id="0" * 32))
        refused("not found", str(registered.model))
        empty = registered.client.create_run(registered.experiment).info.run_id
        registered.tracked.note_delivered(Delivered(run_id=empty))
        refused("has no model that is complete", str(registered.model))
    finally:
        registered.tracked.note_delivered(delivered)
    assert len(registered.client.search_model_versions()) == before
