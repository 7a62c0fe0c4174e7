from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
from toy_set import ToySet, make_toy_set

os.environ.pop("MLFLOW_TRACKING_URI", None)
# before any test loads Prefect, which reads them once
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")


def pytest_configure(config: pytest.Config) -> None:
    """What tests expect is computed on a CPU, also on a machine with GPUs; `-m gpu` is for these.

    Processes of `pytest -n` share the cores, so each computes in one thread.
    """
    if not re.search(r"(?<!not )\bgpu\b", config.option.markexpr):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"


LONGEST = ("flows", "test_reruns.py", "test_s3.py", "test_runners.py")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """What `pytest -n` runs in one process: the tests of a file, or of flows, which share a server and a run."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "flows" if nodeid.startswith("tests/flows/") else super()._split_scope(nodeid)

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first."""
    items.sort(key=lambda item: min(LONGEST.index(part) if part in LONGEST else 9 for part in item.path.parts))


@pytest.fixture(autouse=True)
def no_tracking_server_left() -> Iterator[None]:
    """MLflow writes the address it is given into the environment, where the next test's pipeline would find it."""
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="session")
def toy_set(tmp_path_factory: pytest.TempPathFactory) -> ToySet:
    return make_toy_set(tmp_path_factory.mktemp("toy"))
