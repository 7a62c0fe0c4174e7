"""One Prefect server for all tests of flows, and pipelines small enough to run whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")

CONFIG = Path(__file__).parents[2] / "pipeline_config.yaml"

TINY = (
    "demo_data.clips=21",
    "shards.clips_per_shard=12",
    "shards.max_failed_share=0.5",
    "shards.frames_per_segment=1",
    "pipelines.demo.arms=[hard, midas]",
    "model.width=0.125",
    "model.input_size=32",
    "train.epochs=2",
)


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
