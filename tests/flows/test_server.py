"""A real Prefect server and worker, through Prefect's own command line: deployments, and a retry after a failure."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from tiny import TINY

ROOT = Path(__file__).parents[2]
PREFECT = str(Path(sys.executable).with_name("prefect"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

Prefect = Callable[..., str]


@pytest.fixture(scope="module")
def prefect(tmp_path_factory) -> Iterator[Prefect]:
    """Runs Prefect's command against a server with the project's deployments and a worker."""
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "COLUMNS": "200",  # or names are cut off in tables
    }

    def prefect(*arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            [PREFECT, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def service(*arguments: str) -> subprocess.Popen:
        log = (home / f"{arguments[0]}.log").open("w")
        return subprocess.Popen([PREFECT, *arguments], cwd=ROOT, env=environment, stdout=log, stderr=log)

    running = [service("server", "start", "--host", "127.0.0.1", "--port", str(port))]
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5).close()
                break
            except OSError:
                time.sleep(1)
        prefect("work-pool", "create", "--type", "process", "dfer")
        prefect("--no-prompt", "deploy", "--all")
        running.append(service("worker", "start", "--pool", "dfer"))
        prefect.api = f"http://127.0.0.1:{port}/api"  # type: ignore[attr-defined]
        yield prefect
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(60)


def ask(prefect, path: str, **question: object) -> list[dict]:
    request = urllib.request.Request(
        f"{prefect.api}/{path}/filter", json.dumps(question).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def wait_for(prefect, name: str, states: set[str]) -> None:
    for _ in range(600):
        (run,) = ask(prefect, "flow_runs", flow_runs={"name": {"any_": [name]}})
        if run["state_type"] in states:
            return
        time.sleep(1)
    raise AssertionError(f"{name} did not come to {states}: {run['state']}")


def task_states(prefect, name: str) -> dict[str, str]:
    """The state of the newest run of every task, by the task run's name."""
    runs = ask(prefect, "task_runs", flow_runs={"name": {"any_": [name]}}, limit=200)
    return {run["name"]: run["state_name"] for run in sorted(runs, key=lambda run: run["start_time"] or "")}


def test_every_pipeline_is_a_deployment(prefect):
    pipelines = yaml.safe_load((ROOT / "pipeline_config.yaml").read_text())["pipelines"]
    deployments = {deployment["name"]: deployment for deployment in ask(prefect, "deployments")}
    assert set(deployments) == set(pipelines)
    for name, deployment in deployments.items():
        assert deployment["parameters"]["pipeline"] == name
        assert deployment["description"] == pipelines[name]["description"]


def test_a_retry_runs_what_failed_and_nothing_that_was_done(prefect, tmp_path):
    weights = tmp_path / "resnet18.pth"
    weights.write_bytes(b"a download that broke off")
    overrides = [
        *TINY,
        f"work_dir={tmp_path / 'work'}",
        f"model.pretrained={weights}",
        "model.width=1.0",
        "train.epochs=1",
        "pipelines.demo.arms=[midas]",
    ]
    prefect("deployment", "run", "midas/demo", "--param", f"overrides={json.dumps(overrides)}")
    (run,) = ask(prefect, "flow_runs")
    wait_for(prefect, run["name"], {"FAILED"})
    before = task_states(prefect, run["name"])
    assert before["train midas fold 1"] == "Failed"
    assert before["align demo-dfew 0"] == "Completed"

    torch.save(torchvision.models.resnet18().state_dict(), weights)
    prefect("flow-run", "retry", run["name"])
    wait_for(prefect, run["name"], {"COMPLETED"})
    after = task_states(prefect, run["name"])
    assert after["train midas fold 1"] == "Completed"
    aligned = {state for name, state in after.items() if name.startswith(("demo-data", "ingest", "align", "index"))}
    assert aligned <= {"Cached", "Completed"}
    made = list((tmp_path / "work" / "stages" / "align").glob("*/manifest.json"))
    trained = next((tmp_path / "work" / "stages" / "train").glob("*/manifest.json"))
    assert all(manifest.stat().st_mtime < weights.stat().st_mtime for manifest in made)
    assert trained.stat().st_mtime > weights.stat().st_mtime
    assert run["name"] in prefect("flow-run", "ls")
