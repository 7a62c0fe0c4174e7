"""The database behind Prefect's and MLflow's servers: PostgreSQL where it is installed, else SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from dfer.services import postgres
from dfer.services.ports import HOST
from dfer.services.state import Folder

Database = Literal["sqlite", "postgresql"]
TITLES: Mapping[Database, str] = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
_SWITCH = "--set services.database=postgresql"


@dataclass(frozen=True)
class Addresses:
    """What each server connects to, passwords included."""

    prefect: str
    mlflow: str


def begun(folder: Folder) -> Database | None:
    """The database that holds the services' history: where there are two, the one that was used last."""
    data: dict[Database, bool] = {
        "postgresql": (folder.postgres / "data").exists(),
        "sqlite": (folder.sqlite / "prefect.db").exists(),
    }
    last = folder.database.read_text().strip() if folder.database.exists() else None
    kept = sorted((name for name in data if data[name]), key=lambda name: name != last)
    return kept[0] if kept else None


def choose(folder: Folder, wanted: Literal["auto", "sqlite", "postgresql"]) -> tuple[Database, str]:
    """The database to run on, and a line that says why where it is not the expected one (else an empty line)."""
    history, to_install = begun(folder), postgres.how_to_install()
    if wanted == "auto" and history is None and to_install:
        return "sqlite", f"on SQLite, which is enough for one worker. For PostgreSQL: {to_install}; then {_SWITCH}"
    if wanted == "auto" and history == "sqlite" and not to_install:
        return "sqlite", f"on SQLite, where the history is. To begin an empty one on PostgreSQL: {_SWITCH}"
    database = wanted if wanted != "auto" else history or "postgresql"
    if history not in (None, database):
        back = f"--set services.database={history}"
        return database, f"on {TITLES[database]}. The history on {TITLES[history]} is kept, and not shown here: {back}"
    return database, ""


def prepare_sqlite(folder: Folder) -> Addresses:
    """Make the folder of the two files, for its owner alone."""
    folder.sqlite.mkdir(mode=0o700, parents=True, exist_ok=True)
    # MLflow's server has two processes: in this mode, which stays with the file, readers and a writer do not wait for
    # each other. Prefect's server sets it by itself.
    with closing(sqlite3.connect(folder.sqlite / "mlflow.db", timeout=60)) as database:
        database.execute("pragma journal_mode = wal")
    return sqlite_addresses(folder)


def sqlite_addresses(folder: Folder) -> Addresses:
    return Addresses(
        prefect=f"sqlite+aiosqlite:///{folder.sqlite / 'prefect.db'}",
        mlflow=f"sqlite:///{folder.sqlite / 'mlflow.db'}",
    )


def postgres_addresses(port: int, passwords: Mapping[str, str]) -> Addresses:
    return Addresses(
        prefect=f"postgresql+asyncpg://prefect:{passwords['prefect']}@{HOST}:{port}/prefect",
        mlflow=f"postgresql+psycopg2://mlflow:{passwords['mlflow']}@{HOST}:{port}/mlflow",
    )
