"""A tiny model and a video for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_model import SETTINGS, portrait, write_model
from videos import write_video

from dfer.faces.detector import FaceDetector
from dfer.prediction.models import TrainedModel, open_model
from dfer.prediction.recogniser import Recogniser


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def trained(model_folder: Path) -> TrainedModel:
    return open_model(str(model_folder))


@pytest.fixture(scope="session")
def recogniser(trained: TrainedModel) -> Recogniser:
    return Recogniser(trained, device="cpu", threads=1)


@pytest.fixture(scope="session")
def detector() -> FaceDetector:
    return FaceDetector(SETTINGS.detection)


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty frames of a moving portrait, 2.4 seconds."""
    path = tmp_path_factory.mktemp("video") / "portrait.mp4"
    return write_video(path, [portrait(number) for number in range(60)], options={"crf": "18"})
