"""Services before any of them is started: what is refused, printed and written."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks.services import free_port
from dfer.config.settings import ServicesSettings
from dfer.services import ports, postgres, servers, stack
from dfer.services.errors import ServiceError
from dfer.services.processes import Started
from dfer.services.state import write_state
from dfer.system.gpus import Gpu


@pytest.fixture
def services(tmp_path) -> stack.Stack:
    (tmp_path / "prefect.yaml").touch()
    settings = ServicesSettings(prefect_port=free_port(), mlflow_port=free_port(), postgres_port=free_port())
    return stack.Stack(tmp_path, tmp_path / "services", settings, 1)


@pytest.fixture
def to_install(monkeypatch) -> Callable[[str], None]:
    """Sets what is missing of PostgreSQL; nothing at first."""
    missing = [""]
    monkeypatch.setattr(postgres, "how_to_install", lambda: missing[0])
    return lambda commands: missing.__setitem__(0, commands)


def on(services: stack.Stack, database: str, **settings) -> stack.Stack:
    return replace(services, settings=services.settings.model_copy(update={"database": database, **settings}))


@pytest.mark.parametrize(("database", "first"), [("postgresql", ["postgres"]), ("sqlite", [])])
def test_nothing_runs_at_first_and_asking_writes_nothing(services, database, first):
    statuses = stack.status(on(services, database))
    assert [service.name for service in statuses] == [*first, "prefect", "mlflow", "worker-1"]
    assert {service.state for service in statuses} == {"stopped"}
    assert not services.root.exists()


def test_a_taken_port_is_said_with_who_has_it_and_nothing_is_started(services):
    with socket.socket() as other:
        other.bind(("127.0.0.1", services.settings.prefect_port))
        other.listen()
        with pytest.raises(ServiceError, match=f"prefect is taken by process {os.getpid()} .*services.prefect_port"):
            stack.up(services, print)
    assert not services.folder.postgres.exists() and not services.folder.sqlite.exists()
    assert not services.folder.state.exists()


def test_a_port_that_was_changed_while_its_server_runs(services):
    me = Started(os.getpid(), psutil.Process().create_time(), 1)
    write_state(services.folder, {"prefect": me})
    with pytest.raises(ServiceError, match=r"prefect runs on port 1, and services\.prefect_port is .*down"):
        stack.up(on(services, "sqlite"), print)


def test_several_workers_need_postgresql(services, to_install):
    to_install("apt-get install postgresql")
    with pytest.raises(ServiceError, match=r"services\.workers is 2.*need PostgreSQL \(apt-get install postgresql\)"):
        stack.up(on(services, "auto", workers=2), print)
    to_install("")
    with pytest.raises(ServiceError, match=r"need PostgreSQL \(it is installed: --set services\.database=postgresql\)"):
        stack.up(on(services, "sqlite", workers=2), print)
    assert not services.folder.sqlite.exists()


def test_running_servers_are_not_moved_to_another_database(services):
    me = Started(os.getpid(), psutil.Process().create_time(), services.settings.prefect_port)
    write_state(services.folder, {"prefect": me})
    with pytest.raises(ServiceError, match=r"run on another database than PostgreSQL.*down"):
        stack.up(on(services, "postgresql"), print)
    write_state(services.folder, {"postgres": replace(me, pid=2**30), "prefect": me})
    with pytest.raises(ServiceError, match=r"run on another database than SQLite.*down"):
        stack.up(on(services, "sqlite"), print)


def test_postgresql_that_is_gone_is_not_replaced_by_an_empty_history(services, monkeypatch):
    (services.folder.postgres / "data").mkdir(parents=True)
    monkeypatch.setattr(postgres, "_has_driver", lambda: False)
    with pytest.raises(ServiceError, match=r"(?s)psycopg2 is not installed.*history.*/postgres.*database=sqlite"):
        stack.up(services, print)
    assert not services.folder.sqlite.exists()


def test_a_folder_without_deployments_is_refused(services):
    (services.home / "prefect.yaml").unlink()
    with pytest.raises(ServiceError, match=r"no prefect\.yaml"):
        stack.up(services, print)


def test_prefect_is_told_of_the_deployments_once_and_when_they_change(services, monkeypatch):
    told: list[list[str]] = []
    status = 1

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        told.append(command)
        return subprocess.CompletedProcess(command, status, "", "no such server")

    monkeypatch.setattr(subprocess, "run", run)
    services.folder.sqlite.mkdir(parents=True)
    (services.home / "flows").mkdir()
    for name in ("set_up.py", "midas.py", "predict.py"):
        (services.home / "flows" / name).touch()
    with pytest.raises(ServiceError, match="no such server"):
        stack._set_up(services, "sqlite", print)
    status = 0
    for _ in range(2):
        stack._set_up(services, "sqlite", print)
    assert len(told) == 2  # a set-up that failed is tried again, one that was done is not
    assert told[1][-2:] == ["--trainings", "1"]
    (services.home / "prefect.yaml").write_text("deployments: []")
    stack._set_up(services, "sqlite", print)
    stack._set_up(replace(services, trainings=2), "sqlite", print)
    assert len(told) == 4
    assert told[3][-2:] == ["--trainings", "2"]


def test_down_says_what_was_not_running_and_workers_come_first(services):
    lines: list[str] = []
    stack.down(on(services, "postgresql"), lines.append)
    assert lines == [f"{name} was not running" for name in ("worker-1", "mlflow", "prefect", "postgres")]


def test_two_at_once_are_refused(services):
    with stack._alone(services.folder), pytest.raises(ServiceError, match="Another `dfer services` is at work"):
        stack.down(services, print)


def test_passwords_are_in_the_environment_and_never_in_the_command(tmp_path):
    for service in (
        servers.prefect_server(tmp_path, 4200, "postgresql+asyncpg://prefect:secret-word@127.0.0.1/prefect"),
        servers.mlflow_server(tmp_path, 5000, "postgresql+psycopg2://mlflow:secret-word@127.0.0.1/mlflow"),
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
    assert environment["no_proxy"] == "intranet,127.0.0.1,localhost,::1"
    assert not any(
        "elsewhere" in value for value in servers.prefect_server(tmp_path, 1, "sqlite:").environment.values()
    )


@pytest.mark.parametrize(
    ("gpus", "trainings", "processes", "places"), [(0, 0, 1, 1), (4, 0, 1, 8), (4, 0, 2, 4), (4, 2, 1, 2), (8, 2, 4, 8)]
)
def test_places_to_train_in(monkeypatch, gpus, trainings, processes, places):
    monkeypatch.setattr(stack, "visible_gpus", lambda: [Gpu(str(number), 80 * 2**30) for number in range(gpus)])
    assert stack.training_places(trainings, processes) == places


def test_ports(services):
    port = services.settings.mlflow_port
    assert ports.is_free(port)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        assert not ports.is_free(port)
        assert str(os.getpid()) in ports.listener(port)
    assert ports.is_free(port)


def test_runs_of_the_command_line_are_heard_of_before_they_are_services_up():
    from flows.set_up import SILENT

    asks = "from flows.midas import midas; from prefect.settings import get_current_settings as now; "
    code = asks + "print(now().flows.heartbeat_frequency)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert 2 * float(said.stdout) <= SILENT.seconds, said.stderr


def test_a_port_for_two_is_refused():
    with pytest.raises(ValueError, match="must differ"):
        ServicesSettings(prefect_port=4778, mlflow_port=4778)
