"""Only what failed is run again, in each of the three ways there are; a cancelled run and two at once leave all valid.

Everything through a real Prefect server and worker; how many tasks were executed is read back from its API.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from mlflow.tracking import MlflowClient
from tiny import TINY

from benchmarks.fault_victims import flow_processes

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]

# fetch-detector only looks whether a file is there: it has nothing to find made
STAGES = ("demo-data", "ingest", "align", "index", "train", "evaluate", "report")
UP_TO_INDEX = {"demo-data": 2, "ingest": 2, "align": 4, "index": 2}


def overrides_for(work: Path, *more: str) -> list[str]:
    """One arm on the tiny demo data, tracked beside its outputs."""
    tracked = f"mlflow.tracking_uri=sqlite:///{work}/mlflow/mlflow.db"
    return [*TINY, f"work_dir={work}", tracked, "train.epochs=1", "pipelines.demo.arms=[midas]", *more]


def counts(services, run: str) -> dict[str, dict[str, int]]:
    """How many task runs of each stage ended in each state in a flow run's latest attempt, from Prefect's API.

    `Completed`: the stage did its work; `Cached`: its output was there.
    """
    attempt = services.flow_run(run)["run_count"]
    found: dict[str, Counter] = {}
    for task in services.ask("task_runs", flow_runs={"id": {"any_": [run]}}, limit=200):
        stage = task["name"].split()[0]
        if task["flow_run_run_count"] == attempt and stage in STAGES:
            found.setdefault(task["state_name"], Counter())[stage] += 1
    return {state: dict(stages) for state, stages in found.items()}


def show(how: str, found: dict[str, dict[str, int]]) -> None:
    """A line for whoever reads the output: `pytest -s`."""
    states = "; ".join(
        f"{state} {sum(stages.values())} ({', '.join(f'{n} {stages[n]}' for n in STAGES if n in stages)})"
        for state, stages in sorted(found.items())
    )
    sys.stdout.write(f"\ntask runs, {how}: {states}\n")


def settled(services, run: str, how: str, tasks: int) -> dict[str, dict[str, int]]:
    """The counts of a flow run that has ended, when all of its task runs have arrived."""
    until = time.monotonic() + 60
    found = counts(services, run)
    while sum(sum(stages.values()) for stages in found.values()) < tasks or found.keys() & {"Pending", "Running"}:
        assert time.monotonic() < until, found
        time.sleep(1)
        found = counts(services, run)
    show(how, found)
    return found


def explanation(services, run: str) -> str:
    """What the artifact of the run's latest attempt says: a hook makes one an attempt, after the state is known."""
    attempts, until = services.flow_run(run)["run_count"], time.monotonic() + 60
    filters = {"flow_runs": {"id": {"any_": [run]}}, "artifacts": {"key": {"any_": ["how-to-go-on"]}}}
    while len(said := services.ask("artifacts", **filters)) < attempts:
        assert time.monotonic() < until, f"{len(said)} artifacts of {attempts} attempts after a minute"
        time.sleep(0.5)
    return max(said, key=lambda artifact: artifact["created"])["data"]


def in_shell(services, command: str) -> subprocess.CompletedProcess[str]:
    """A command as a person pastes it."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**services.environment, "PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=900)


def newest_run(services) -> dict:
    return max(services.ask("flow_runs", limit=200), key=lambda run: run["created"])


def test_the_three_ways_to_run_again_only_what_failed(services, tmp_path):
    work, weights = tmp_path / "work", tmp_path / "resnet18.pth"
    weights.write_bytes(b"a download that broke off")
    overrides = overrides_for(work, f"model.pretrained={weights}", "model.width=1.0")
    in_the_way = work / "stages" / "evaluate", work / "stages" / "report"

    run = services.deploy_run("midas/demo", overrides=overrides)
    name = services.wait_for(run, ("FAILED",))["name"]
    found = settled(services, run, "first run, broken weights", 12)
    assert found["Completed"] == {**UP_TO_INDEX, "report": 1}  # of what there is
    assert found["Failed"] == {"train": 1}
    said = explanation(services, run)
    assert "- stage: train midas fold 1\n" in said
    assert str(weights) in said
    assert f"    prefect flow-run retry {name}\n" in said
    assert f"dfer run demo {shlex.join(['--set', overrides[0]])}" in said

    # 1. a retry of the same flow run; the next stage fails now
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    in_the_way[0].write_text("a file where a folder should be")
    in_shell(services, next(line for line in said.splitlines() if "flow-run retry" in line))
    services.wait_for(run, ("SCHEDULED", "PENDING", "RUNNING"), seconds=60)
    services.wait_for(run, ("FAILED",))
    found = settled(services, run, "1. prefect flow-run retry (weights mended; then evaluations fail)", 14)
    assert found["Cached"] == UP_TO_INDEX
    assert found["Completed"] == {"train": 1, "report": 1}
    assert found["Failed"] == {"evaluate": 2}
    assert "- stage: evaluate midas" in explanation(services, run)

    # 2. a fresh run of the same deployment; the last stage fails now
    in_the_way[0].unlink()
    shutil.rmtree(in_the_way[1])  # the reports of what there was
    in_the_way[1].write_text("a file where a folder should be")
    run = services.deploy_run("midas/demo", overrides=overrides)
    services.wait_for(run, ("FAILED",))
    found = settled(services, run, "2. a fresh run of the deployment (then the report fails)", 14)
    assert found["Cached"] == {**UP_TO_INDEX, "train": 1}
    assert found["Completed"] == {"evaluate": 2}
    assert found["Failed"] == {"report": 1}
    said = explanation(services, run)
    assert "- stage: report\n" in said

    # 3. the command that the failed run gave, here and now
    in_the_way[1].unlink()
    (again,) = (line.strip() for line in said.splitlines() if "dfer run" in line)
    done = in_shell(services, again)
    assert done.returncode == 0, done.stderr
    found = settled(services, newest_run(services)["id"], "3. dfer run, as the failed run said", 14)
    assert found == {"Cached": {**UP_TO_INDEX, "train": 1, "evaluate": 2}, "Completed": {"report": 1}}

    # and one that is forced though all is there
    done = in_shell(services, f"{again} --from train")
    assert done.returncode == 0, done.stderr
    found = settled(services, newest_run(services)["id"], "3. dfer run demo --from train", 14)
    assert found == {"Cached": UP_TO_INDEX, "Completed": {"train": 1, "evaluate": 2, "report": 1}}
    run = services.deploy_run("midas/demo", overrides=overrides, start_from="evaluate")
    services.wait_for(run, ("COMPLETED",))
    found = settled(services, run, "start_from: evaluate, of the deployment", 14)
    assert found == {"Cached": {**UP_TO_INDEX, "train": 1}, "Completed": {"evaluate": 2, "report": 1}}


def wait_until(seen: Callable[[], object], seconds: float = 600) -> None:
    until = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


def mlflow_statuses(work: Path) -> set[str]:
    client = MlflowClient(f"sqlite:///{work}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("demo").experiment_id
    return {run.info.status for run in client.search_runs([experiment])}


def epochs_tracked(work: Path) -> list[list[int]]:
    client = MlflowClient(f"sqlite:///{work}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("demo").experiment_id
    arms = client.search_runs([experiment], "tags.`dfer.kind` = 'arm'")
    return [sorted(m.step for m in client.get_metric_history(arm.info.run_id, "epoch/loss")) for arm in arms]


@pytest.fixture
def training(services, tmp_path) -> Iterator[tuple[str, Path, list[str]]]:
    """A flow run that is in the middle of its training: its id, its work directory, its overrides."""
    overrides = overrides_for(tmp_path, "train.epochs=150")
    run = services.deploy_run("midas/demo", overrides=overrides)
    wait_until(lambda: any(tmp_path.glob("stages/train/.*.partial/checkpoint.pt")))
    yield run, tmp_path, overrides


def left_valid(services, work: Path) -> None:
    """Nothing half made under a final name, nobody at work, and MLflow knows that it was stopped."""
    wait_until(lambda: not flow_processes(services)[1], 40)
    assert not list(work.glob("stages/train/[0-9a-f]*"))
    wait_until(lambda: mlflow_statuses(work) == {"KILLED"}, 40)
    (state,) = work.glob("stages/train/.*.partial/.state.json")
    assert "error" not in json.loads(state.read_text())


def test_a_cancelled_run_leaves_everything_valid_and_the_next_goes_on(services, training):
    run, work, overrides = training
    assert flow_processes(services)[1]
    began = time.monotonic()
    services.prefect("flow-run", "cancel", run)
    services.wait_for(run, ("CANCELLED",), seconds=120)
    sys.stdout.write(f"\ncancelled after {time.monotonic() - began:.0f} s\n")
    left_valid(services, work)
    assert "train midas fold 1" in explanation(services, run)

    run = services.deploy_run("midas/demo", overrides=overrides)
    services.wait_for(run, ("COMPLETED",))
    found = settled(services, run, "after a cancellation", 14)
    assert found == {"Cached": UP_TO_INDEX, "Completed": {"train": 1, "evaluate": 2, "report": 1}}
    assert mlflow_statuses(work) == {"FINISHED"}
    assert epochs_tracked(work) == [list(range(1, 151))]


@pytest.mark.slow
def test_the_place_of_a_killed_training_is_given_to_the_next(services, tmp_path):
    overrides = overrides_for(tmp_path, "train.epochs=150")
    words = ["run", "demo", *(word for value in overrides for word in ("--set", value))]

    def start() -> subprocess.Popen:
        command = [sys.executable, "-c", "import dfer.cli; dfer.cli.main()", *words]
        return subprocess.Popen(command, cwd=ROOT, env=services.environment)

    def taken() -> int:
        (limit,) = (one for one in services.ask("v2/concurrency_limits") if one["name"] == "dfer-training")
        return limit["active_slots"]

    killed = start()
    wait_until(lambda: any(tmp_path.glob("stages/train/.*.partial/checkpoint.pt")))
    assert taken() == 1
    killed.kill()
    killed.wait()
    wait_until(lambda: taken() == 0, 120)
    assert start().wait(900) == 0
    assert taken() == 0
    assert epochs_tracked(tmp_path) == [list(range(1, 151))]


@pytest.mark.slow
def test_two_runs_at_once_make_everything_once(services, tmp_path):
    overrides = overrides_for(tmp_path)
    command = shlex.join(["dfer", "run", "demo", *(word for value in overrides for word in ("--set", value))])
    runs = [services.deploy_run("midas/demo", overrides=overrides) for _ in range(2)]
    wait_until(lambda: services.flow_run(runs[0])["state_type"] != "SCHEDULED")
    done = in_shell(services, f"cd {shlex.quote(str(ROOT))} && {command}")
    assert done.returncode == 0, done.stderr
    here = newest_run(services)["id"]
    executed: Counter = Counter()
    for run, how in ((runs[0], "one"), (runs[1], "the other"), (here, "and a third beside them")):
        services.wait_for(run, ("COMPLETED",))
        executed += Counter(settled(services, run, how, 14).get("Completed", {}))
    assert executed == {**UP_TO_INDEX, "train": 1, "evaluate": 2, "report": 1}
    assert epochs_tracked(tmp_path) == [[1]]
