"""The demo pipeline as a deployment: through Prefect's server and worker, into MLflow's server."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml
from mlflow.tracking import MlflowClient
from tiny import TINY

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]


def stages(states: dict[str, str]) -> Counter[tuple[str, str]]:
    """How many task runs of a stage ended how: the first word of a task run's name is its stage."""
    return Counter((name.split()[0], state) for name, state in states.items())


def tracked_runs(mlflow: MlflowClient) -> set[str]:
    """The ids of all runs of the demo on MLflow's server."""
    experiment = mlflow.get_experiment_by_name("demo")
    return {run.info.run_id for run in mlflow.search_runs([experiment.experiment_id])} if experiment else set()


def test_every_pipeline_is_a_deployment(services):
    pipelines = yaml.safe_load((ROOT / "pipeline_config.yaml").read_text())["pipelines"]
    deployments = {deployment["name"]: deployment for deployment in services.ask("deployments")}
    assert set(deployments) == {*pipelines, "predict"}
    del deployments["predict"]
    for name, deployment in deployments.items():
        assert deployment["parameters"]["pipeline"] == name
        assert deployment["description"] == pipelines[name]["description"]


def test_a_run_is_tracked_and_a_second_one_finds_all_of_it(services):
    overrides = [*TINY, f"work_dir={services.work / 'demo'}"]
    mlflow = MlflowClient(services.environment["MLFLOW_TRACKING_URI"])
    earlier = tracked_runs(mlflow)
    first = services.wait_for(services.deploy_run("midas/demo", overrides=overrides))
    assert first["state_name"] == "Completed", first["state"]
    done = stages(services.task_states(first["id"], 18))
    assert done == {
        ("demo-data", "Completed"): 2,
        ("ingest", "Completed"): 2,
        ("fetch-detector", "Completed"): 1,
        ("align", "Completed"): 4,
        ("index", "Completed"): 2,
        ("train", "Completed"): 2,
        ("evaluate", "Completed"): 4,
        ("report", "Completed"): 1,
    }

    experiment = mlflow.get_experiment_by_name("demo")
    assert experiment.artifact_location.startswith("mlflow-artifacts:")  # the server's store, not a path of the worker
    # the server is one for all files, and another file's runs of the demo may be in it
    runs = [run for run in mlflow.search_runs([experiment.experiment_id]) if run.info.run_id not in earlier]
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(children) == len(runs) - 1
    assert sorted(run.info.run_name for run in children) == ["hard fold 1", "midas fold 1"]
    for run in children:
        assert run.info.status == "FINISHED"
        assert len(mlflow.get_metric_history(run.info.run_id, "epoch/loss")) == 2
        assert 0 <= run.data.metrics["demo-afew/UAR"] <= 1
        assert any(artifact.path == "model.safetensors" for artifact in mlflow.list_artifacts(run.info.run_id))
    assert not (services.work / "demo" / "mlflow" / "mlflow.db").exists()

    second = services.wait_for(services.deploy_run("midas/demo", overrides=overrides))
    assert second["state_name"] == "Completed", second["state"]
    again = stages(services.task_states(second["id"], 17))
    executed = {name: state for name, state in again.items() if name[1] != "Cached"}
    assert {stage for stage, _ in executed} <= {"fetch-detector"}, executed  # it looks up a file, and makes none
    assert again["train", "Cached"] == 2
    assert again["evaluate", "Cached"] == 4
    assert tracked_runs(mlflow) == earlier | {run.info.run_id for run in runs}
