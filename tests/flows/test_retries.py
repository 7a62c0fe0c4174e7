"""What can pass is tried again, a counted number of times; what cannot is tried once."""

from __future__ import annotations

from http.client import HTTPMessage
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import requests
import torchvision
from prefect import flow, task

from dfer.config.catalogue import network
from dfer.config.problems import ConfigError, Problem
from dfer.config.reading import load_pipeline
from dfer.datasets import IngestError, IngestReport
from dfer.faces import model_files
from dfer.models import weights
from dfer.storage.files import sha256
from tasks.align import fetch_detector
from tasks.running.retries import WHERE_IT_CAN_PASS, can_pass
from tasks.train import train_arm

CONFIG = Path(__file__).parents[2] / "pipeline_config.yaml"


def answer(code: int) -> HTTPError:
    return HTTPError("http://weights", code, "", HTTPMessage(), None)


PASSING = [
    weights.WeightsNotFetchedError("no route to host"),
    model_files.ModelFileNotFetchedError("no route to host"),
    ConnectionResetError(),
    TimeoutError(),
    requests.ConnectionError(),
]
LASTING = [
    ConfigError(CONFIG, [Problem(None, "train", "wrong")]),
    IngestError(IngestReport("dfew", "dfew", ())),
    model_files.ModelFileError("has another SHA-256"),
    weights.WeightsError("does not fit"),
    FileNotFoundError(),
    PermissionError(),
    ValueError(),
]


def attempts(error: Exception) -> int:
    """How often a task with the stages' options is tried that always fails so."""
    tried = 0

    @task(**{**WHERE_IT_CAN_PASS, "retry_delay_seconds": 0})
    def fail() -> None:
        nonlocal tried
        tried += 1
        raise error

    @flow
    def failing() -> None:
        fail()

    with pytest.raises(type(error)):
        failing()
    return tried


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_what_can_pass_is_tried_four_times(prefect_server, error):
    assert attempts(error) == 4


@pytest.mark.parametrize("error", LASTING, ids=lambda error: type(error).__name__)
def test_what_cannot_pass_is_tried_once(prefect_server, error):
    assert attempts(error) == 1


def test_tries_are_further_and_further_apart_and_not_all_at_once():
    for stage in (fetch_detector, train_arm):
        assert stage.retry_delay_seconds == [5, 10, 20]
        assert stage.retry_jitter_factor == 0.5


@pytest.mark.parametrize(
    ("error", "passing"),
    [(answer(503), True), (answer(429), True), (answer(404), False), (answer(403), False), (URLError("dns"), True)],
    ids=str,
)
def test_a_server_that_says_no_is_believed(monkeypatch, error, passing):
    def fetch(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", fetch)
    with pytest.raises(weights.WeightsError) as raised:
        weights.load_pretrained(torchvision.models.resnet18(), network("resnet18_tsm"), "imagenet")
    assert can_pass(raised.value) is passing


@pytest.fixture
def no_index(monkeypatch, tmp_path) -> list[Path]:
    """A package index that serves what it is told to; the folders it was asked to fetch into."""
    asked: list[Path] = []
    monkeypatch.setenv("DFER_CACHE", str(tmp_path))
    monkeypatch.setattr(fetch_detector, "retry_delay_seconds", 0)
    return asked


def fetch(work: Path) -> object:
    pipeline = load_pipeline("demo", CONFIG, [f"work_dir={work}"])

    @flow
    def fetching() -> str:
        return fetch_detector(pipeline, pipeline.settings.detection.model)

    return fetching()


def test_the_detector_is_fetched_when_the_index_answers_again(prefect_server, no_index, monkeypatch, tmp_path):
    def broken_off_twice(folder: Path) -> Path:
        no_index.append(folder)
        if len(no_index) < 3:
            raise model_files.ModelFileNotFetchedError("connection reset")
        return folder

    def extract(archive: Path, target: Path) -> Path:
        target.write_bytes(b"detector")
        return target

    monkeypatch.setattr(model_files, "_fetch_archive", broken_off_twice)
    monkeypatch.setattr(model_files, "_extract", extract)
    assert fetch(tmp_path) == sha256(tmp_path / "scrfd-2.5g.onnx")
    assert len(no_index) == 3


def test_a_detector_with_another_checksum_is_fetched_once(prefect_server, no_index, monkeypatch, tmp_path):
    def other(folder: Path) -> Path:
        no_index.append(folder)
        archive = folder / "scrfd-0.3.0.tar.gz"
        archive.write_bytes(b"another file")
        return archive

    monkeypatch.setattr(model_files, "_fetch_archive", other)
    with pytest.raises(model_files.ModelFileError, match="SHA-256"):
        fetch(tmp_path)
    assert len(no_index) == 1
