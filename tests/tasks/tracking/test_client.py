from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.tracking.client import SQLITE, client_of

CREATE = "import sys; from tasks.tracking.client import client_of; client_of(sys.argv[1])"


def experiments(path: Path) -> list[str]:
    return [experiment.name for experiment in client_of(f"{SQLITE}{path}").search_experiments()]


@pytest.mark.parametrize("delay", [0.0, 0.3])
def test_a_database_whose_making_was_broken_off_is_made_again(tmp_path: Path, delay: float) -> None:
    path = tmp_path / "mlflow" / "mlflow.db"
    process = subprocess.Popen([sys.executable, "-c", CREATE, f"{SQLITE}{path}"], cwd=Path(__file__).parents[3])
    unfinished = path.with_name(".unfinished-mlflow.db")
    while not (unfinished.exists() and unfinished.stat().st_size > 0):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(delay)
    process.kill()
    process.wait()
    assert not path.exists()
    assert experiments(path) == ["Default"]
    assert not unfinished.exists()


def test_two_make_it_once(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    command = [sys.executable, "-c", CREATE, f"{SQLITE}{path}"]
    with ThreadPoolExecutor(2) as threads:
        run = lambda _: subprocess.run(command, cwd=Path(__file__).parents[3], check=True)  # noqa: E731
        list(threads.map(run, range(2)))
    assert experiments(path) == ["Default"]
