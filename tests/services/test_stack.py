"""Services before any of them is started: what is refused, what is said, what is written."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dfer.config.settings import ServicesSettings
from dfer.services import ports, postgres, servers, stack
from dfer.services.errors import ServiceError
from dfer.services.processes import Started
from dfer.services.state import write_state


@pytest.fixture
def given(tmp_path) -> stack.Stack:
    (tmp_path / "prefect.yaml").touch()
    prefect, mlflow, database = ports.free_port(), ports.free_port(), ports.free_port()
    settings = ServicesSettings(prefect_port=prefect, mlflow_port=mlflow, postgres_port=database)
    return stack.Stack(tmp_path, tmp_path / "services", settings, 1)


def test_nothing_runs_at_first_and_asking_writes_nothing(given):
    found = stack.status(given)
    assert [service.name for service in found] == ["postgres", "prefect", "mlflow", "worker-1"]
    assert {service.state for service in found} == {"stopped"}
    assert not given.root.exists()


def test_a_taken_port_is_said_with_who_has_it_and_nothing_is_started(given):
    with socket.socket() as other:
        other.bind(("127.0.0.1", given.settings.prefect_port))
        other.listen()
        with pytest.raises(ServiceError, match=f"prefect is taken by process {os.getpid()} .*services.prefect_port"):
            stack.up(given, print)
    assert not (given.folder.root / "postgres").exists()
    assert not given.folder.state.exists()


def test_a_port_that_was_changed_while_its_server_runs(given):
    import psutil

    me = Started(os.getpid(), psutil.Process().create_time(), 1)
    write_state(given.folder, {"prefect": me})
    with pytest.raises(ServiceError, match=r"prefect runs on port 1, and services\.prefect_port is .*down"):
        stack.up(given, print)


def test_a_folder_without_deployments_is_refused(given):
    (given.home / "prefect.yaml").unlink()
    with pytest.raises(ServiceError, match=r"no prefect\.yaml"):
        stack.up(given, print)


def test_prefect_is_told_of_the_deployments_once_and_when_they_change(given, monkeypatch):
    told: list[list[str]] = []
    status = 1

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        told.append(command)
        return subprocess.CompletedProcess(command, status, "", "no such server")

    monkeypatch.setattr(subprocess, "run", run)
    (given.folder.root / "postgres").mkdir(parents=True)
    (given.home / "flows").mkdir()
    for name in ("set_up.py", "midas.py"):
        (given.home / "flows" / name).touch()
    with pytest.raises(ServiceError, match="no such server"):
        stack._set_up(given, print)
    status = 0
    for _ in range(2):
        stack._set_up(given, print)
    assert len(told) == 2  # a set-up that failed is tried again, one that was done is not
    assert told[1][-2:] == ["--trainings", "1"]
    (given.home / "prefect.yaml").write_text("deployments: []")
    stack._set_up(given, print)
    stack._set_up(replace(given, trainings=2), print)
    assert len(told) == 4
    assert told[3][-2:] == ["--trainings", "2"]


def test_down_says_what_was_not_running_and_workers_come_first(given):
    said: list[str] = []
    stack.down(given, said.append)
    assert said == [f"{name} was not running" for name in ("worker-1", "mlflow", "prefect", "postgres")]


def test_two_at_once_are_refused(given):
    with stack._alone(given.folder), pytest.raises(ServiceError, match="Another `dfer services` is at work"):
        stack.down(given, print)


def test_passwords_are_in_the_environment_and_never_in_the_command(tmp_path):
    for service in (
        servers.prefect_server(tmp_path, 4200, 5433, "secret-word"),
        servers.mlflow_server(tmp_path, 5000, 5433, "secret-word"),
    ):
        assert any("secret-word" in value for value in service.environment.values())
        assert not any("secret-word" in word for word in service.command)
    database = servers.database_server(postgres.Postgres(Path("/bin"), tmp_path, 5433, None), "secret-word")
    assert not any("secret-word" in word for word in (*database.command, *database.environment.values()))


def test_services_do_not_follow_the_terminal_to_another_server(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "https://elsewhere/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://elsewhere")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "intranet")
    client = {"PREFECT_API_URL": "http://127.0.0.1:4200/api", "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}
    environment = servers.worker(tmp_path, 1, tmp_path, client).environment
    assert {name: environment[name] for name in client} == client
    assert environment["no_proxy"] == "intranet,127.0.0.1,localhost"
    assert not any("elsewhere" in value for value in servers.prefect_server(tmp_path, 1, 2, "p").environment.values())


@pytest.mark.parametrize(
    ("gpus", "trainings", "processes", "places"), [(0, 0, 1, 1), (4, 0, 1, 4), (4, 0, 2, 4), (4, 2, 1, 2), (8, 2, 4, 8)]
)
def test_places_to_train_in(monkeypatch, gpus, trainings, processes, places):
    monkeypatch.setattr(stack, "visible_gpus", lambda: [str(number) for number in range(gpus)])
    assert stack.training_places(trainings, processes) == places


def test_ports(given):
    port = given.settings.mlflow_port
    assert ports.is_free(port)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        assert not ports.is_free(port)
        assert str(os.getpid()) in ports.listener(port)
    assert ports.is_free(port)


def test_runs_of_the_command_line_are_heard_of_before_they_are_given_up():
    from flows.set_up import SILENT

    asks = "from flows.midas import midas; from prefect.settings import get_current_settings as now; "
    code = asks + "print(now().flows.heartbeat_frequency)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert 2 * float(said.stdout) <= SILENT.seconds, said.stderr


def test_a_port_for_two_is_refused():
    with pytest.raises(ValueError, match="must differ"):
        ServicesSettings(prefect_port=4778, mlflow_port=4778)
