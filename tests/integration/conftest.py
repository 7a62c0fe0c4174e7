"""Real PostgreSQL, Prefect's server, MLflow's server and a worker, started once for all integration tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.services import Services, free_port


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """All services, running; what a test stops or kills it starts again."""
    # not pytest's own folder, which only its owner can pass: PostgreSQL may run as another user
    work = Path(tempfile.mkdtemp(prefix="dfer-services-"))
    work.chmod(0o755)
    prefect, mlflow, postgres = free_port(), free_port(), free_port()
    running = Services(work, (prefect, mlflow, postgres))
    try:
        running.up()
        yield running
    finally:
        stopped = running.dfer("down")
        if stopped.returncode == 0:
            shutil.rmtree(work)
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr
