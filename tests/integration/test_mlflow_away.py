"""MLflow's server is killed, or was never there: work goes on, and everything arrives once in the end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from tiny import TINY

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

EPOCHS = 20


def dfer(services, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "import dfer.cli; dfer.cli.main()", *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=services.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start(services, work: Path) -> subprocess.Popen[str]:
    values = [*TINY, f"train.epochs={EPOCHS}", f"work_dir={work}"]
    return dfer(services, "run", "demo", *(word for value in values for word in ("--set", value)))


def check(services, work: Path) -> None:
    """Every epoch of both arms is in MLflow once, with all that belongs to a run."""
    client = MlflowClient(services.environment["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("demo").experiment_id
    ids = {path.parent.name for path in (work / "mlflow" / "outbox").glob("*/operations.jsonl")}
    runs = [run for run in client.search_runs([experiment]) if run.data.tags["dfer.id"] in ids]
    assert len(runs) == len(ids) == 3
    assert {run.info.status for run in runs} == {"FINISHED"}
    arms = [run for run in runs if run.data.tags["dfer.kind"] == "arm"]
    for run in arms:
        history = client.get_metric_history(run.info.run_id, "epoch/loss")
        assert [metric.step for metric in history] == list(range(1, EPOCHS + 1))
        assert len(run.outputs.model_outputs) == 1
        files = {item.path for item in client.list_artifacts(run.info.run_id)}
        assert {"batch.jpg", "learning_curves.png", "model.safetensors", "evaluation"} <= files
        assert {"demo-dfew/UAR", "demo-afew/UAR"} <= run.data.metrics.keys()


@pytest.mark.slow
def test_killed_during_a_training_and_started_again(services):
    work = services.work / "mlflow-killed"
    process = start(services, work)
    while not any(work.glob("stages/train/.*.partial/checkpoint.pt")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    services.kill("mlflow")
    time.sleep(5)
    services.up()
    said = process.communicate(timeout=900)[0]
    assert process.returncode == 0, said
    delivered = dfer(services, "mlflow", "deliver", "--set", f"work_dir={work}")
    said = delivered.communicate(timeout=600)[0]
    assert delivered.returncode == 0, said
    check(services, work)


def test_away_from_beginning_to_end_and_delivered_by_the_command(services):
    work = services.work / "mlflow-away"
    services.kill("mlflow")
    try:
        process = start(services, work)
        said = process.communicate(timeout=900)[0]
        assert process.returncode == 0, said
        assert "MLflow does not take what is logged" in said
        assert "dfer mlflow deliver" in said
        (page,) = work.glob("stages/report/*/report.html")
        assert "/#/experiments/" not in page.read_text()  # no link rather than a wrong one
        refused = dfer(services, "mlflow", "deliver", "--set", f"work_dir={work}")
        assert "Connection" in refused.communicate(timeout=600)[0]
        assert refused.returncode == 1
    finally:
        services.up()
    delivered = dfer(services, "mlflow", "deliver", "--set", f"work_dir={work}")
    said = delivered.communicate(timeout=600)[0]
    assert delivered.returncode == 0, said
    assert "midas fold 1" in said
    assert "MLflow has everything" in said
    check(services, work)
