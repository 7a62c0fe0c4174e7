"""`dfer services`: the servers and workers behind deployments, without Docker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dfer.cli.app import services_app
from dfer.cli.common import Config, Overrides, examples, new_table, out, relative
from dfer.config.problems import ConfigError, Problem
from dfer.config.reading import DEFAULT_CONFIG, read_config
from dfer.storage.remote import is_url

if TYPE_CHECKING:
    from dfer.services.stack import Stack, Status


@services_app.command(epilog=examples("dfer services up", "dfer services up --set services.prefect_port=4300"))
def up(config: Config = DEFAULT_CONFIG, overrides: Overrides = []) -> None:  # noqa: B006
    """Start a database, Prefect's server, MLflow's server and the workers: those that do not run.

    The database is PostgreSQL where it is installed, else SQLite (services.database).
    """
    from dfer.services import stack

    services = _stack(config, overrides)
    statuses = stack.up(services, lambda line: out.print(f"  {line}", highlight=False, soft_wrap=True))
    _print(services, statuses)
    out.print("\nIn each terminal from which you run or deploy something:")
    out.print(f"  source {relative(services.folder.client)}", highlight=False, soft_wrap=True)
    out.print("  prefect deployment run midas/demo")


@services_app.command(epilog=examples("dfer services status"))
def status(config: Config = DEFAULT_CONFIG, overrides: Overrides = []) -> None:  # noqa: B006
    """Show of each service whether it runs and answers. Ends with status 0 if all do, otherwise with 1."""
    from dfer.services import stack

    services = _stack(config, overrides)
    statuses = stack.status(services)
    _print(services, statuses)
    if any(service.state != "running" for service in statuses):
        raise typer.Exit(1)


@services_app.command(epilog=examples("dfer services down"))
def down(config: Config = DEFAULT_CONFIG, overrides: Overrides = []) -> None:  # noqa: B006
    """Stop the services, with the runs that workers have started. What they have written is kept."""
    from dfer.services import stack

    stack.down(_stack(config, overrides), lambda line: out.print(line, highlight=False))


def _stack(config: Config, overrides: Overrides) -> Stack:
    from dfer.services.stack import Stack, training_places

    file, _ = read_config(config, overrides)
    home = config.resolve().parent
    if file.services.folder is None and is_url(file.work_dir):
        message = f"work_dir is {file.work_dir}, and databases need a folder of this machine: name one"
        raise ConfigError(config, [Problem(None, "services.folder", message)])
    folder = file.services.folder or Path(file.work_dir, "services")
    return Stack(home, home / folder, file.services, training_places(file.run.trainings, file.train.processes))


def _print(services: Stack, statuses: list[Status]) -> None:
    from dfer.services.database import TITLES
    from dfer.services.processes import local_time
    from dfer.services.stack import database_of

    title = f"Services on {TITLES[database_of(services)]} (logs in {relative(services.folder.log('x').parent)})"
    table = new_table(title, "service", "state", "since", "address", "pid", "log")
    for service in statuses:
        since = local_time(service.since) if service.pid else ""
        table.add_row(service.name, service.state, since, service.address, str(service.pid or ""), service.log.name)
    out.print(table)
