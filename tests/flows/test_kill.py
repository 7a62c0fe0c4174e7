"""Killed at the worst moments, the same command goes on and ends with the same numbers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from tiny import TINY

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> Callable[[Path], subprocess.Popen]:
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect"))}

    def start(work: Path) -> subprocess.Popen:
        overrides = [*TINY, "train.epochs=12", f"work_dir={work}"]
        arguments = [word for override in overrides for word in ("--set", override)]
        code = "from dfer.cli import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", code, "run", "demo", *arguments], cwd=ROOT, env=environment, start_new_session=True
        )

    return start


def finish(process: subprocess.Popen) -> None:
    assert process.wait() == 0


def kill_once(process: subprocess.Popen, seen: Callable[[], bool]) -> None:
    """SIGKILL for the command alone, as soon as something is seen; its stages' processes have to end by themselves."""
    while not seen():
        assert process.poll() is None, "the command ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def metrics(work: Path) -> dict[str, dict]:
    """The metrics of every evaluation, by what was evaluated on what."""
    found = {}
    for path in (work / "stages" / "evaluate").glob("*/metrics.json"):
        evaluation = json.loads((path.parent / "manifest.json").read_text())
        model = json.loads((Path(evaluation["made_from"][0]["folder"]) / "manifest.json").read_text())
        found[f"{model['key']['arm']['mixing']} {evaluation['key']['dataset']}"] = json.loads(path.read_text())
    return found


def test_killed_during_alignment_and_training(command, tmp_path):
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    finish(command(undisturbed))

    stages = disturbed / "stages"
    kill_once(
        command(disturbed), lambda: any(stages.glob("align/.*.partial/.*")) and any(stages.glob("align/[0-9a-f]*"))
    )
    finished = {path: path.stat().st_mtime_ns for path in stages.glob("align/[0-9a-f]*/manifest.json")}
    kill_once(command(disturbed), lambda: any(stages.glob("train/.*.partial/checkpoint.pt")))
    assert finished.items() <= {path: path.stat().st_mtime_ns for path in finished}.items()
    finish(command(disturbed))

    assert metrics(disturbed) == metrics(undisturbed)
    assert len(metrics(disturbed)) == 4
    client = MlflowClient(f"sqlite:///{disturbed}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("demo").experiment_id
    (parent,) = client.search_runs([experiment], "tags.`dfer.kind` = 'pipeline'")
    assert parent.info.status == "FINISHED"
    for child in client.search_runs([experiment], "tags.`dfer.kind` = 'arm'"):
        history = client.get_metric_history(child.info.run_id, "epoch/loss")
        assert sorted(metric.step for metric in history) == list(range(1, 13))


@pytest.mark.parametrize(("stop", "seconds"), [(signal.SIGINT, 10), (signal.SIGTERM, 60)])
def test_who_is_told_to_stop_stops_and_the_same_command_goes_on(command, tmp_path, capfd, stop, seconds):
    """To the whole group of processes, as a terminal and `timeout` do it."""
    process = command(tmp_path)
    stages = tmp_path / "stages"
    while not any(stages.glob("train/.*.partial/checkpoint.pt")):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, stop)
    assert process.wait(seconds) == 128 + stop
    assert "the same command goes on from here" in " ".join(capfd.readouterr().err.split())
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("demo").experiment_id
    assert {run.info.status for run in client.search_runs([experiment])} == {"KILLED"}
    finish(command(tmp_path))
    assert {run.info.status for run in client.search_runs([experiment])} == {"FINISHED"}
