"""One Prefect server for all tests of flows, and pipelines small enough to run whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from tiny import CONFIG, TINY

os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture(scope="session")
def run_demo(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., object]:
    """The demo pipeline, reduced; every call works in the same folder. `run_demo.work` is that folder."""
    from flows.midas import midas

    work = tmp_path_factory.mktemp("work")

    def run(*overrides: str) -> object:
        return midas("demo", str(CONFIG), [*TINY, f"work_dir={work}", *overrides])

    run.work = work  # type: ignore[attr-defined]
    return run
