"""A tiny model for the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_model import write_model

from dfer.prediction.models import TrainedModel, open_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), synthetic_data=True)


@pytest.fixture(scope="session")
def trained(model_folder: Path) -> TrainedModel:
    return open_model(str(model_folder))
