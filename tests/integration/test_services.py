"""`dfer services`: started, seen, stopped, killed and started again, with nothing lost."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import psutil
import pytest
from mlflow.tracking import MlflowClient

from dfer.services.processes import left_behind
from dfer.services.state import read_state

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

NAMES = ("postgres", "prefect", "mlflow", "worker-1")


def processes(services) -> list[psutil.Process]:
    """Every process of the services."""
    started = [psutil.Process(process.pid) for process in read_state(services.folder).values()]
    found = {process for parent in started for process in [parent, *parent.children(recursive=True)]}
    return sorted(found | {p for name in NAMES for p in left_behind(services.folder.root, name)}, key=lambda p: p.pid)


def pids(services) -> dict[str, int]:
    return {name: process.pid for name, process in read_state(services.folder).items()}


def test_up_again_changes_nothing(services):
    before = pids(services)
    assert set(before) == set(NAMES)
    services.up()
    assert pids(services) == before
    status = services.dfer("status")
    assert status.returncode == 0
    assert status.stdout.count("running") == len(NAMES)


def test_what_a_client_needs_is_in_a_file_to_source(services):
    given = dict(line.removeprefix("export ").split("=", 1) for line in services.folder.client.read_text().splitlines())
    assert given == {name: services.environment[name] for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")}


def test_limit_of_trainings_and_work_pool_are_there(services):
    limits = {limit["name"]: limit["limit"] for limit in services.ask("v2/concurrency_limits")}
    assert limits["dfer-training"] >= 1
    assert [pool["type"] for pool in services.ask("work_pools") if pool["name"] == "dfer"] == ["process"]
    assert all(automation["enabled"] for automation in services.ask("automations"))
    assert len(services.ask("automations")) == 2


def test_all_of_it_listens_on_loopback_alone(services):
    listening = {
        (process.name(), connection.laddr.ip, connection.laddr.port)
        for process in processes(services)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {port for _, _, port in listening} >= set(services.ports)
    assert {address for _, address, _ in listening} == {"127.0.0.1"}


def test_passwords_are_seen_nowhere(services):
    secrets = json.loads(services.folder.secrets.read_text())
    assert stat.S_IMODE(services.folder.secrets.stat().st_mode) == 0o600
    found = processes(services)
    assert len(found) > len(NAMES)
    lines = [" ".join(process.cmdline()) for process in found]
    logs = [path.read_text(errors="replace") for path in (services.folder.root / "logs").iterdir()]
    assert len(logs) >= len(NAMES)
    for secret in secrets.values():
        assert not any(secret in text for text in lines + logs)
    outside = [path for path in services.work.rglob("*") if path.is_file() and path != services.folder.secrets]
    data = services.folder.root / "postgres" / "data"
    for path in outside:
        if not path.is_relative_to(data):
            content = path.read_bytes()
            assert not any(secret.encode() in content for secret in secrets.values()), path


def test_data_outlive_down_and_up_and_a_taken_port_is_named_before_anything_is_started(services):
    mlflow = MlflowClient(services.environment["MLFLOW_TRACKING_URI"])
    experiment = mlflow.create_experiment("kept")
    mlflow.log_text(mlflow.create_run(experiment).info.run_id, "kept as well", "note.txt")
    run = services.deploy_run("midas/demo", pipeline="no-such-pipeline")
    assert services.wait_for(run)["state_type"] == "FAILED"
    said = services.down()
    assert [said.index(f"{name} stopped") for name in ("worker-1", "mlflow", "prefect", "postgres")] == sorted(
        said.index(f"{name} stopped") for name in NAMES
    )
    assert not any(left_behind(services.folder.root, name) for name in NAMES)
    stopped = services.dfer("status")
    assert stopped.returncode == 1
    assert stopped.stdout.count("stopped") == len(NAMES)
    assert services.down().count("was not running") == len(NAMES)

    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", services.ports[1]))
        other.listen()
        refused = services.dfer("up")
    assert refused.returncode == 1
    message = " ".join(refused.stderr.split())
    assert f"Port {services.ports[1]} for mlflow is taken by process {os.getpid()}" in message
    assert "services.mlflow_port" in message
    assert pids(services) == {}

    services.up()
    assert services.flow_run(run)["state_type"] == "FAILED"
    assert mlflow.get_experiment(experiment).name == "kept"
    (kept,) = mlflow.search_runs([experiment])
    assert Path(mlflow.download_artifacts(kept.info.run_id, "note.txt")).read_text() == "kept as well"
    assert len(services.ask("automations")) == 2


def killed_and_brought_back(services, *names: str) -> None:
    """SIGKILL to services, in this order; `dfer services` shows it, starts exactly these again, and all is well."""
    before = pids(services)
    for name in names:
        services.kill(name)
    killed = {"worker-1" if name == "worker" else name for name in names if name != "runs"}
    status = services.dfer("status")
    assert status.returncode == 1
    assert all(f"{name} stopped" in " ".join(status.stdout.split()) for name in killed)
    services.up()
    after = pids(services)
    assert {name for name in NAMES if after[name] != before[name]} == killed
    assert services.dfer("status").returncode == 0


def test_what_was_killed_comes_back(services):
    killed_and_brought_back(services, "postgres", "mlflow")


def test_a_run_whose_process_died_is_given_up_and_the_next_one_starts(services):
    """SIGKILL to all of them at once, as when the machine's power fails."""
    from tiny import TINY

    slow = [*TINY, f"work_dir={services.work / 'killed'}", "demo_data.clips=320"]
    run = services.deploy_run("midas/demo", overrides=slow)
    services.wait_for(run, ("RUNNING",))
    waiting = services.deploy_run("midas/demo", pipeline="no-such-pipeline")
    killed_and_brought_back(services, "worker", "runs", "prefect")  # the worker first: it would report the run's end
    crashed = services.wait_for(run, ("CRASHED",), seconds=400)
    assert "Retry the run" in crashed["state"]["message"]
    assert services.wait_for(waiting, seconds=400)["state_type"] == "FAILED"  # it was let in, and there is no such one
