from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from toy_set import ToySet, make_toy_set

os.environ.pop("MLFLOW_TRACKING_URI", None)


def pytest_configure(config: pytest.Config) -> None:
    """What tests expect is computed on a CPU, also on a machine with GPUs; `-m gpu` is for these."""
    if config.option.markexpr.strip() != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(autouse=True)
def no_tracking_server_left() -> Iterator[None]:
    """MLflow writes the address it is given into the environment, where the next test's pipeline would find it."""
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="session")
def toy_set(tmp_path_factory: pytest.TempPathFactory) -> ToySet:
    return make_toy_set(tmp_path_factory.mktemp("toy"))
