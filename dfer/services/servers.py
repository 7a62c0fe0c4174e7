"""The services: how each is started, where it answers, and how that is checked."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dfer.services import postgres
from dfer.services.ports import HOST
from dfer.services.processes import Started
from dfer.system.proxies import without_loopback

POOL = "dfer"
HEARTBEAT = 30  # seconds from one sign of life of a flow run to the next; Prefect takes no less


@dataclass(frozen=True)
class Service:
    """A service, whether it runs or not.

    Attributes:
        name: as in the state file, the logs and `dfer services status`.
        address: where people or programs find it.
        port: None for a service that does not listen.
        command: the program and its arguments, without secrets.
        environment: the whole environment, with secrets.
        working_folder: where it runs.
        answers: whether the process that was started does its work.
        user: the user that it runs as; None: the present one.
        stop_with: the signal that ends it in good order.
        patience: seconds until it is killed after that.
    """

    name: str
    address: str
    port: int | None
    command: tuple[str, ...]
    environment: Mapping[str, str]
    working_folder: Path
    answers: Callable[[Started], bool]
    user: str | None = None
    stop_with: signal.Signals = signal.SIGTERM
    patience: float = 30.0


def database_server(server: postgres.Postgres, password: str) -> Service:
    return Service(
        name="postgres",
        address=f"{HOST}:{server.port}",
        port=server.port,
        command=server.command,
        environment={"PATH": os.defpath, "LC_ALL": "C"},
        working_folder=server.data,
        answers=lambda _: postgres.answers(server.port, password),
        user=server.user,
        stop_with=signal.SIGINT,  # PostgreSQL's fast shutdown: it does not wait for connections to close
        patience=60.0,
    )


def prefect_server(folder: Path, port: int, database: str) -> Service:
    """Prefect's server; `database` is an address with its password."""
    return Service(
        name="prefect",
        address=prefect_page(port),
        port=port,
        command=(sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)),
        environment={
            **inherited(),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
            "PREFECT_SERVER_API_HOST": HOST,
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_SERVER_UI_API_URL": prefect_api(port),
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": _origins(port),
            # or any web page that a browser on this machine shows could ask for a run
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            # the holders of a concurrency limit's places outlive a restart; in memory they would be
            # forgotten, and their runs cancelled
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            **(
                {"PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "flows.event_broker"}
                if database.startswith("sqlite")
                else {}
            ),
        },
        working_folder=folder,
        answers=lambda _: _is_well(f"{prefect_api(port)}/ready"),
    )


def mlflow_server(folder: Path, port: int, database: str) -> Service:
    """MLflow's server; `database` is an address with its password."""
    hosts = f"{HOST}:{port},localhost:{port}"
    return Service(
        name="mlflow",
        address=mlflow_page(port),
        port=port,
        command=(
            *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "2"),
            *("--allowed-hosts", hosts, "--cors-allowed-origins", _origins(port)),
            *("--serve-artifacts", "--artifacts-destination", (folder / "artifacts").as_uri()),
            # a line a request fills disks during trainings; a process that is slow on a busy machine is not a dead one
            *("--uvicorn-opts", "--no-access-log --timeout-worker-healthcheck 120"),
        ),
        environment={
            **inherited(),
            "MLFLOW_BACKEND_STORE_URI": database,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # background jobs of its language model tools
        },
        working_folder=folder,
        answers=lambda _: _is_well(f"{mlflow_page(port)}/health"),
    )


def worker(folder: Path, number: int, home: Path, client: Mapping[str, str]) -> Service:
    """A worker: takes runs of deployments and starts each in a process of its own. `home` is the project's folder."""
    name = f"{socket.gethostname()}-{number}"
    return Service(
        name=f"worker-{number}",
        address=f"work pool {POOL}",
        port=None,
        command=(
            *(sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--name", name),
            *("--no-create-pool-if-not-found", "--install-policy", "never"),
        ),
        environment={
            **inherited(),
            **client,
            **{name: os.environ[name] for name in _TRACKING_LOGIN if name in os.environ},
            "PREFECT_HOME": str(folder / "worker"),
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        working_folder=home,
        answers=lambda started: _worker_is_online(client["PREFECT_API_URL"], name, started),
        patience=20.0,
    )


def prefect_page(port: int) -> str:
    return f"http://{HOST}:{port}"


def prefect_api(port: int) -> str:
    return f"{prefect_page(port)}/api"


def mlflow_page(port: int) -> str:
    return f"http://{HOST}:{port}"


_SQLITE_BROKER = {"PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "flows.event_broker"}
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is behind no proxy
_TRACKING_LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


def inherited() -> dict[str, str]:
    """This environment without what is meant for other servers of the same programs; loopback needs no proxy."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    return kept | without_loopback(kept)


def _origins(port: int) -> str:
    return f"http://{HOST}:{port},http://localhost:{port}"


def _is_well(address: str) -> bool:
    try:
        with _direct.open(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _worker_is_online(api: str, name: str, started: Started) -> bool:
    """Whether the server has heard from this very process, and lately."""
    try:
        workers = ask(f"{api}/work_pools/{POOL}/workers/filter", {})
    except (OSError, ValueError):
        return False
    return any(
        worker["name"] == name
        and worker["status"] == "ONLINE"
        and datetime.fromisoformat(worker["last_heartbeat_time"]).timestamp() >= started.created
        for worker in workers
    )


def ask(address: str, question: Mapping[str, Any]) -> Any:
    """POST a question to the API of Prefect's server that was started here; the answer as plain data.

    Raises:
        OSError: no answer, or a refusal. ValueError: the answer is not JSON.
    """
    api, client = address.partition("/api/")[0], uuid.uuid4().hex
    with _direct.open(f"{api}/api/csrf-token?client={client}", timeout=10) as answer:
        token = json.load(answer)["token"]
    headers = {"Content-Type": "application/json", "Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token}
    request = urllib.request.Request(address, json.dumps(question).encode(), headers)
    with _direct.open(request, timeout=10) as answer:
        return json.load(answer)
