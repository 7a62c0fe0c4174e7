"""Which database the services run on: what is installed, what was begun, what was asked for."""

from __future__ import annotations

import sqlite3
import stat

import pytest

from dfer.services import postgres
from dfer.services.database import begun, choose, prepare_sqlite
from dfer.services.state import Folder


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path / "services")


def begin(folder: Folder, database: str) -> None:
    """What `up` leaves behind."""
    (folder.postgres / "data" if database == "postgresql" else folder.sqlite).mkdir(parents=True, exist_ok=True)
    if database == "sqlite":
        (folder.sqlite / "prefect.db").touch()
    folder.database.write_text(database)


@pytest.mark.parametrize(
    ("to_install", "wanted", "history", "database", "note"),
    [
        ("", "auto", [], "postgresql", ""),
        (
            "pip install x",
            "auto",
            [],
            "sqlite",
            "PostgreSQL: pip install x; then --set services.database=postgresql",
        ),
        ("pip install x", "postgresql", [], "postgresql", ""),
        ("", "sqlite", [], "sqlite", ""),
        # PostgreSQL was installed after the services had begun on SQLite, or is gone
        ("", "auto", ["sqlite"], "sqlite", "where the history is"),
        ("pip install x", "auto", ["postgresql"], "postgresql", ""),
        # another one was asked for
        ("", "postgresql", ["sqlite"], "postgresql", "The history on SQLite is kept, and not shown here"),
        ("", "sqlite", ["postgresql"], "sqlite", "--set services.database=postgresql"),
        # both have a history: the one that was used last
        ("", "auto", ["sqlite", "postgresql"], "postgresql", ""),
        ("", "auto", ["postgresql", "sqlite"], "sqlite", "where the history is"),
    ],
)
def test_the_database_and_what_is_said_about_it(folder, monkeypatch, to_install, wanted, history, database, note):
    monkeypatch.setattr(postgres, "how_to_install", lambda: to_install)
    for used in history:
        begin(folder, used)
    chosen, line = choose(folder, wanted)
    assert chosen == database
    assert note in line if note else line == ""


def test_services_of_a_version_that_knew_postgresql_alone_go_on_there(folder):
    begin(folder, "postgresql")
    folder.database.unlink()
    assert begun(folder) == "postgresql"


def test_data_that_were_removed_are_no_history(folder):
    begin(folder, "postgresql")
    begin(folder, "sqlite")
    (folder.sqlite / "prefect.db").unlink()
    assert begun(folder) == "postgresql"


def test_the_files_are_their_owners_and_take_readers_beside_a_writer(folder):
    for _ in range(2):
        addresses = prepare_sqlite(folder)
    assert stat.S_IMODE(folder.sqlite.stat().st_mode) == 0o700
    path = addresses.mlflow.removeprefix("sqlite:///")
    assert sqlite3.connect(path).execute("pragma journal_mode").fetchone() == ("wal",)
    assert addresses.prefect == f"sqlite+aiosqlite:///{folder.sqlite}/prefect.db"
