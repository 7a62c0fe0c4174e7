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
from dfer.services.errors import ServiceError
from dfer.services.processes import Started, end, last_lines, left_behind, start
from dfer.services.servers import Service
from dfer.services.state import Folder, passwords, read_state, write_state
from dfer.storage.files import write_atomically
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
        """The environment of whoever wants to talk to the servers."""
        return {
            "PREFECT_API_URL": servers.prefect_api(self.settings.prefect_port),
            "MLFLOW_TRACKING_URI": servers.mlflow_page(self.settings.mlflow_port),
        }


@dataclass(frozen=True)
class Status:
    """How a service is; `since` in seconds since 1970, 0 and no pid if it is stopped."""

    name: str
    state: Literal["running", "not answering", "stopped"]
    address: str
    since: float
    pid: int | None
    log: Path


def training_places(trainings: int, processes: int) -> int:
    """The size of the named limit: as the configuration says, else one per GPU, else for one training."""
    return processes * trainings_at_a_time(trainings, processes, len(visible_gpus()))


def up(stack: Stack, say: Say) -> list[Status]:
    """Start what does not run, in order, each when what it needs answers. What runs is left alone.

    Raises:
        ServiceError: a port is taken, a program is missing, or a service ended early. What was started stays.
    """
    with _alone(stack.folder):
        if not (stack.home / "prefect.yaml").exists():
            raise ServiceError(f"{stack.home} has no prefect.yaml: give --config of the project's own folder")
        running = {name: process for name, process in read_state(stack.folder).items() if process.alive}
        _check_ports(stack, running)
        secret = passwords(stack.folder, (postgres.ADMIN, *postgres.DATABASES))
        server = postgres.prepare(stack.folder.root / "postgres", stack.settings.postgres_port, secret[postgres.ADMIN])
        database, *others = _servers(stack, server, secret)
        _start(stack, [database], running, say)
        postgres.make_databases(stack.settings.postgres_port, secret)
        _start(stack, others, running, say)
        _write_client(stack)
        _set_up(stack, say)
        _start(stack, _workers(stack), running, say)
    return status(stack)


def status(stack: Stack) -> list[Status]:
    """How each service is, those that should be there first."""
    started = read_state(stack.folder)
    known = {service.name: service for service in _known(stack)}
    found = []
    for name in dict.fromkeys([*known, *started]):
        process, service, log = started.get(name), known.get(name), stack.folder.log(name)
        address = service.address if service else "no longer in the configuration"
        if process is None or not process.alive:
            found.append(Status(name, "stopped", address, 0.0, None, log))
        else:
            answers = service is not None and service.port == process.port and service.answers(process)
            found.append(
                Status(name, "running" if answers else "not answering", address, process.created, process.pid, log)
            )
    return found


def down(stack: Stack, say: Say) -> None:
    """Stop everything: workers first, with the runs they have started; PostgreSQL last."""
    with _alone(stack.folder):
        started = read_state(stack.folder)
        known = {service.name: service for service in _known(stack)}
        names = list(dict.fromkeys([*known, *started]))
        for name in sorted(names, key=lambda name: _ORDER.index(name.partition("-")[0])):
            like = known.get(name) or known["worker-1"]
            process = started.pop(name, None)
            was_there = process is not None and process.stop(like.stop_with, like.patience)
            end(left_behind(stack.folder.root, name), like.patience)
            say(f"{name} stopped" if was_there else f"{name} was not running")
            if process is not None:
                write_state(stack.folder, started)


_ORDER = ("worker", "mlflow", "prefect", "postgres")


@contextmanager
def _alone(folder: Folder) -> Iterator[None]:
    """Nobody else starts or stops these services meanwhile."""
    folder.root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.lock).acquire(blocking=False):
            yield
    except Timeout:
        raise ServiceError(f"Another `dfer services` is at work on {folder.root}; wait for it to end") from None


def _servers(stack: Stack, server: postgres.Postgres, secret: Mapping[str, str]) -> list[Service]:
    root, wanted = stack.folder.root, stack.settings
    return [
        servers.database_server(server, secret[postgres.ADMIN]),
        servers.prefect_server(root, wanted.prefect_port, wanted.postgres_port, secret["prefect"]),
        servers.mlflow_server(root, wanted.mlflow_port, wanted.postgres_port, secret["mlflow"]),
    ]


def _workers(stack: Stack) -> list[Service]:
    return [
        servers.worker(stack.folder.root, number, stack.home, stack.client)
        for number in range(1, stack.settings.workers + 1)
    ]


def _known(stack: Stack) -> list[Service]:
    """All services, to be asked and stopped; nothing is made or looked for on the disk but the secrets."""
    names = (postgres.ADMIN, *postgres.DATABASES)
    secret = passwords(stack.folder, names) if stack.folder.secrets.exists() else dict.fromkeys(names, "")
    data = stack.folder.root / "postgres" / "data"
    server = postgres.Postgres(Path(), data, stack.settings.postgres_port, None)
    return [*_servers(stack, server, secret), *_workers(stack)]


def _check_ports(stack: Stack, running: Mapping[str, Started]) -> None:
    """All ports before anything is started."""
    wanted = {
        "postgres": ("postgres_port", stack.settings.postgres_port),
        "prefect": ("prefect_port", stack.settings.prefect_port),
        "mlflow": ("mlflow_port", stack.settings.mlflow_port),
    }
    for name, (key, port) in wanted.items():
        if name in running and running[name].port != port:
            raise ServiceError(
                f"{name} runs on port {running[name].port}, and services.{key} is {port}:"
                " `dfer services down` with the former setting first"
            )
        if name not in running:
            # what a server that was killed has left may still hold its port
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


def _set_up(stack: Stack, say: Say) -> None:
    """What Prefect's server has to know: told once, and again when something of it has changed."""
    told = stack.folder.root / "postgres" / "prefect-knows"  # it goes with the data if somebody removes them
    given = hashlib.sha256(f"{stack.home} {stack.trainings}".encode())
    for source in ("prefect.yaml", "flows/set_up.py", "flows/midas.py"):
        given.update((stack.home / source).read_bytes())
    if told.exists() and told.read_text() == given.hexdigest():
        return
    say("telling Prefect of the deployments")
    # in a process of its own, for this package does not know Prefect
    done = subprocess.run(
        [sys.executable, "-m", "flows.set_up", "--trainings", str(stack.trainings)],
        cwd=stack.home,
        env={**servers.inherited(), **stack.client, "PREFECT_HOME": str(stack.folder.root / "worker")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise ServiceError(f"Prefect's server could not be set up:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    write_atomically(told, given.hexdigest().encode())
