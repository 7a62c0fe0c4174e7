"""PostgreSQL's programs and its user, found or asked for by name."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from dfer.services import postgres
from dfer.services.errors import ServiceError


def installed(folder: Path, version: str) -> Path:
    """Programs that say of themselves that they are of a version."""
    folder.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        program = folder / name
        program.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}.4 (Debian)'\n")
        program.chmod(0o755)
    return folder


def test_programs_on_the_path_come_first_and_links_are_followed(tmp_path):
    real = installed(tmp_path / "real", "16")
    installed(tmp_path / "debian" / "17" / "bin", "17")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "initdb").symlink_to(real / "initdb")
    found = postgres.find_programs(None, str(tmp_path / "links"), tmp_path / "debian")
    assert found == real


def test_the_newest_of_the_distribution_is_taken(tmp_path):
    for version in ("9", "15", "10"):
        installed(tmp_path / version / "bin", version)
    assert postgres.find_programs(None, "", tmp_path) == tmp_path / "15" / "bin"
    assert postgres.find_programs("10", "", tmp_path) == tmp_path / "10" / "bin"


def test_data_of_a_version_that_is_not_installed(tmp_path):
    installed(tmp_path / "17" / "bin", "17")
    with pytest.raises(ServiceError, match=r"written by PostgreSQL 15.*but 17 is installed.*postgresql-15.*pg_upgrade"):
        postgres.find_programs("15", "", tmp_path)


def test_programs_that_are_not_there_are_asked_for_by_their_package(tmp_path):
    with pytest.raises(ServiceError, match=r"not installed.*apt-get install postgresql"):
        postgres.find_programs(None, str(tmp_path), tmp_path)


def test_what_is_missing_is_said_by_the_commands_that_install_it(monkeypatch):
    def missing(version: None) -> Path:
        raise ServiceError("not installed")

    monkeypatch.setattr(postgres, "_has_driver", lambda: True)
    monkeypatch.setattr(postgres, "user_to_run_as", lambda: None)
    monkeypatch.setattr(postgres, "find_programs", lambda version: Path("/bin"))
    assert postgres.how_to_install() == ""
    monkeypatch.setattr(postgres, "find_programs", missing)
    assert postgres.how_to_install() == "apt-get install postgresql"
    monkeypatch.setattr(postgres, "_has_driver", lambda: False)
    assert postgres.how_to_install() == "apt-get install postgresql, pip install -e '.[services]'"


def test_only_root_needs_another_user(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert postgres.user_to_run_as() is None

    def unknown(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", unknown)
    with pytest.raises(ServiceError, match=r"does not run as root.*no user `postgres`"):
        postgres.user_to_run_as()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a program as another user")
def test_a_folder_that_the_user_cannot_pass_is_named(tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.name.startswith(("pytest-", "popen-")):  # pytest's own, closed to others
            parent.chmod(0o755)
    monkeypatch.setattr(postgres, "find_programs", lambda version: Path("/nowhere"))
    monkeypatch.setattr(postgres, "user_to_run_as", lambda: "nobody")
    monkeypatch.setattr(postgres, "_has_driver", lambda: True)
    # TMPDIR itself may be in a closed folder
    first = next(folder for folder in [*reversed(tmp_path.parents), closed] if not folder.stat().st_mode & 0o001)
    with pytest.raises(ServiceError, match=rf"`nobody`.*cannot pass {first}\. .*chmod o.x {first}\)"):
        postgres.prepare(closed / "postgres", 5433, "secret")


def test_the_command_listens_on_loopback_alone():
    server = postgres.Postgres(Path("/bin"), Path("/data"), 5499, None)
    assert "listen_addresses=127.0.0.1" in server.command
    assert "unix_socket_directories=" in server.command
    assert "port=5499" in server.command


def test_a_server_without_its_driver_here(monkeypatch):
    monkeypatch.setattr(postgres, "_has_driver", lambda: False)
    with pytest.raises(ServiceError, match=r"psycopg2 is not installed: pip install -e '\.\[services\]'"):
        postgres.answers(5433, "word")
