"""All services together: up, status, down."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from dfer.config.settings import ServicesSettings
from dfer.services import ports, postgres, servers
from dfer.services.database import (
    TITLES,
    Addresses,
    Database,
    begun,
    choose,
    postgres_addresses,
    prepare_sqlite,
    sqlite_addresses,
)
from dfer.services.errors import ServiceError
from dfer.services.processes import Started, end, last_lines, left_behind, start
from dfer.services.servers import Service
from dfer.services.state import Folder, passwords, read_state, write_state
from dfer.storage.files import write_atomically
from dfer.system import gpus
from dfer.system.gpus import trainings_at_a_time, visible_gpus

SECONDS_TO_ANSWER = 600  # the first start of a server makes its tables; a busy machine takes minutes for it
Say = Callable[[str], None]


@dataclass(frozen=True)
class Stack:
    """What `dfer services` works on.

    Attributes:
        home: the project's folder, with prefect.yaml and the flows; deployments and workers run there.
        root: everything the services write lies below this folder of this machine.
        settings: ports and the number of workers.
        trainings: the size of the named limit `dfer-training`: processes of trainings at a time, over all runs.
    """

    home: Path
    root: Path
    settings: ServicesSettings
    trainings: int

    @property
    def folder(self) -> Folder:
        return Folder(self.root)

    @property
    def client(self) -> dict[str, str]:
        """The environment variables that clients of the servers need."""
        return {
            "PREFECT_API_URL": servers.prefect_api(self.settings.prefect_port),
            "MLFLOW_TRACKING_URI": servers.mlflow_page(self.settings.mlflow_port),
        }


@dataclass(frozen=True)
class Status:
    """The state of a service; `since` in seconds since 1970, 0 and no pid where it is stopped."""

    name: str
    state: Literal["running", "not answering", "stopped"]
    address: str
    since: float
    pid: int | None
    log: Path


def training_places(trainings: int, processes: int) -> int:
    """The size of the named limit: as the configuration says, else what the GPUs have places for, else for one
    training."""
    places = gpus.training_places(visible_gpus(), processes)
    return processes * trainings_at_a_time(trainings, processes, places)


def up(stack: Stack, say: Say) -> list[Status]:
    """Start what does not run, in order, each when what it needs answers. What runs is left alone.

    Raises:
        ServiceError: a port is taken, a program is missing, or a service ended early. What was started keeps running.
    """
    folder = stack.folder
    with _alone(folder):
        if not (stack.home / "prefect.yaml").exists():
            raise ServiceError(f"{stack.home} has no prefect.yaml: give --config of the project's own folder")
        state = read_state(folder)
        running = {name: process for name, process in state.items() if process.alive}
        database, note = choose(folder, stack.settings.database)
        _check_database(stack, database, state, running)
        _check_ports(stack, database, running)
        if note:
            say(note)
        addresses = prepare_sqlite(folder) if database == "sqlite" else _start_postgres(stack, running, say)
        write_atomically(folder.database, database.encode())
        _start(stack, _servers(stack, addresses), running, say)
        _write_client(stack)
        _set_up(stack, database, say)
        _start(stack, _workers(stack), running, say)
    return status(stack)


def status(stack: Stack) -> list[Status]:
    """The state of each service, in the order in which they are started."""
    state = read_state(stack.folder)
    known = _known(stack)
    statuses = []
    for name in dict.fromkeys([*known, *state]):
        process, service, log = state.get(name), known.get(name), stack.folder.log(name)
        address = service.address if service else "no longer in the configuration"
        if process is None or not process.alive:
            statuses.append(Status(name, "stopped", address, 0.0, None, log))
        else:
            answers = service is not None and service.port == process.port and service.answers(process)
            word: Literal["running", "not answering"] = "running" if answers else "not answering"
            statuses.append(Status(name, word, address, process.created, process.pid, log))
    return statuses


def down(stack: Stack, say: Say) -> None:
    """Stop everything: workers first, with the runs they have started; the database last."""
    with _alone(stack.folder):
        state = read_state(stack.folder)
        known = _known(stack)
        names = list(dict.fromkeys([*known, *state]))
        for name in sorted(names, key=lambda name: _ORDER.index(name.partition("-")[0])):
            service = known.get(name) or known["worker-1"]
            process = state.pop(name, None)
            was_running = process is not None and process.stop(service.stop_with, service.patience)
            end(left_behind(stack.folder.root, name), service.patience)
            say(f"{name} stopped" if was_running else f"{name} was not running")
            if process is not None:
                write_state(stack.folder, state)


def database_of(stack: Stack) -> Database:
    """The database that the services run on, or else that `up` would choose."""
    state = read_state(stack.folder)
    return _running_on(state, state) or choose(stack.folder, stack.settings.database)[0]


_ORDER = ("worker", "mlflow", "prefect", "postgres")
_ROLES = (postgres.ADMIN, *postgres.DATABASES)


@contextmanager
def _alone(folder: Folder) -> Iterator[None]:
    """Hold the lock against another process that starts or stops these services."""
    folder.root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.lock).acquire(blocking=False):
            yield
    except Timeout:
        raise ServiceError(f"Another `dfer services` is at work on {folder.root}; wait until it ends") from None


def _servers(stack: Stack, addresses: Addresses) -> list[Service]:
    root, settings = stack.folder.root, stack.settings
    return [
        servers.prefect_server(root, settings.prefect_port, addresses.prefect),
        servers.mlflow_server(root, settings.mlflow_port, addresses.mlflow),
    ]


def _workers(stack: Stack) -> list[Service]:
    return [
        servers.worker(stack.folder.root, number, stack.home, stack.client)
        for number in range(1, stack.settings.workers + 1)
    ]


def _known(stack: Stack) -> dict[str, Service]:
    """All services by name, to be asked and stopped; nothing is made."""
    services = [*_servers(stack, sqlite_addresses(stack.folder)), *_workers(stack)]
    if database_of(stack) == "postgresql":
        password = passwords(stack.folder, _ROLES)[postgres.ADMIN] if stack.folder.secrets.exists() else ""
        data = stack.folder.postgres / "data"
        server = postgres.Postgres(Path(), data, stack.settings.postgres_port, None)
        services.insert(0, servers.database_server(server, password))
    return {service.name: service for service in services}


def _start_postgres(stack: Stack, running: dict[str, Started], say: Say) -> Addresses:
    port, secrets = stack.settings.postgres_port, passwords(stack.folder, _ROLES)
    try:
        server = postgres.prepare(stack.folder.postgres, port, secrets[postgres.ADMIN])
    except ServiceError as error:
        if stack.settings.database == "auto" and begun(stack.folder) == "postgresql":
            fresh = "--set services.database=sqlite begins an empty one beside it."
            raise ServiceError(
                f"{error}\nThe history of these services is in {stack.folder.postgres}; {fresh}"
            ) from None
        raise
    _start(stack, [servers.database_server(server, secrets[postgres.ADMIN])], running, say)
    postgres.make_databases(port, secrets)
    return postgres_addresses(port, secrets)


def _running_on(state: Mapping[str, Started], running: Mapping[str, Started]) -> Database | None:
    """The database that running servers are connected to; None where none runs."""
    if not running.keys() & {"postgres", "prefect", "mlflow"}:
        return None
    return "postgresql" if "postgres" in state else "sqlite"


def _check_database(
    stack: Stack, database: Database, state: Mapping[str, Started], running: Mapping[str, Started]
) -> None:
    if _running_on(state, running) not in (None, database):
        raise ServiceError(f"The services run on another database than {TITLES[database]}: `dfer services down` first")
    if database == "sqlite" and stack.settings.workers > 1:
        to_install = postgres.how_to_install()
        raise ServiceError(
            f"services.workers is {stack.settings.workers}, and several workers need PostgreSQL"
            f" ({to_install or 'it is installed: --set services.database=postgresql'}). Nothing was started."
        )


def _check_ports(stack: Stack, database: Database, running: Mapping[str, Started]) -> None:
    """All ports before anything is started."""
    for name in ("postgres", "prefect", "mlflow") if database == "postgresql" else ("prefect", "mlflow"):
        key = f"{name}_port"
        port = getattr(stack.settings, key)
        if name in running and running[name].port != port:
            raise ServiceError(
                f"{name} runs on port {running[name].port}, and services.{key} is {port}:"
                " `dfer services down` with the former setting first"
            )
        if name not in running:
            # children of a server that was killed may still hold its port
            end(left_behind(stack.folder.root, name), 10.0)
            if not ports.is_free(port):
                raise ServiceError(
                    f"Port {port} for {name} is taken by {ports.listener(port)}. End that, or choose another port with"
                    f" services.{key} (--set services.{key}={port + 1}). Nothing was started."
                )


def _start(stack: Stack, services: list[Service], running: dict[str, Started], say: Say) -> None:
    """Start those that do not run, side by side, and wait until all answer."""
    for service in services:
        if service.name not in running:
            say(f"{service.name} starting")
            running[service.name] = start(
                service.command,
                folder=stack.folder.root,
                name=service.name,
                log=stack.folder.log(service.name),
                environment=service.environment,
                working_folder=service.working_folder,
                user=service.user,
                port=service.port,
            )
            write_state(stack.folder, running)
    for service in services:
        _wait(stack.folder, service, running[service.name])


def _wait(folder: Folder, service: Service, started: Started) -> None:
    log, until = folder.log(service.name), time.monotonic() + SECONDS_TO_ANSWER
    while not service.answers(started):
        if not started.alive:
            raise ServiceError(f"{service.name} ended while it started. The end of {log}:\n{last_lines(log)}")
        if time.monotonic() > until:
            raise ServiceError(
                f"{service.name} runs (process {started.pid}) and has not answered in {SECONDS_TO_ANSWER} s."
                f" The end of {log}:\n{last_lines(log)}"
            )
        time.sleep(0.3)


def _write_client(stack: Stack) -> None:
    lines = [f"export {name}={value}" for name, value in stack.client.items()]
    stack.folder.client.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _set_up(stack: Stack, database: Database, say: Say) -> None:
    """Tell Prefect's server of deployments, limit and automations: once, and again when they have changed."""
    # beside the data, so that it is removed with them
    done = (stack.folder.sqlite if database == "sqlite" else stack.folder.postgres) / "prefect-knows"
    sources = hashlib.sha256(f"{stack.home} {stack.trainings}".encode())
    for source in ("prefect.yaml", "flows/set_up.py", "flows/midas.py", "flows/predict.py"):
        sources.update((stack.home / source).read_bytes())
    if done.exists() and done.read_text() == sources.hexdigest():
        return
    say("telling Prefect of the deployments")
    # in a process of its own: this package does not import Prefect
    process = subprocess.run(
        [sys.executable, "-m", "flows.set_up", "--trainings", str(stack.trainings)],
        cwd=stack.home,
        env={**servers.inherited(), **stack.client, "PREFECT_HOME": str(stack.folder.root / "worker")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if process.returncode != 0:
        output = process.stdout[-3000:] + process.stderr[-3000:]
        raise ServiceError(f"Prefect's server could not be set up:\n{output}")
    write_atomically(done, sources.hexdigest().encode())
