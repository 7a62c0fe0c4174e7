"""A PostgreSQL server for the services alone: a data folder, two databases, on loopback.

PostgreSQL refuses to run as root; started by root, it runs as the user `postgres` of the distribution's package.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dfer.services.errors import ServiceError
from dfer.services.ports import HOST
from dfer.services.processes import identity

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

ADMIN = "postgres"
DATABASES = ("prefect", "mlflow")  # each belongs to a role of the same name
_DEBIAN = Path("/usr/lib/postgresql")
_GET_SERVER, _GET_DRIVER = "apt-get install postgresql", "pip install -e '.[services]'"
_PACKAGE = f"On Debian and Ubuntu: {_GET_SERVER} (its own server on port 5432 is not touched)."


@dataclass(frozen=True)
class Postgres:
    """A server to be started: the folder of its programs, and the user that it runs as where root starts it."""

    programs: Path
    data: Path
    port: int
    user: str | None

    @property
    def command(self) -> tuple[str, ...]:
        settings = {"listen_addresses": HOST, "port": self.port, "unix_socket_directories": ""}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return (str(self.programs / "postgres"), "-D", str(self.data), *options)


def how_to_install() -> str:
    """The commands that install what is missing of PostgreSQL and its driver; empty where nothing is."""
    commands = []
    try:
        find_programs(None)
        user_to_run_as()
    except ServiceError:
        commands.append(_GET_SERVER)
    if not _has_driver():
        commands.append(_GET_DRIVER)
    return ", ".join(commands)


def prepare(folder: Path, port: int, password: str) -> Postgres:
    """Find PostgreSQL, and make its data folder the first time.

    The data lie in `data` below the folder; new data get the administrator's `password`. Raises ServiceError if the
    programs or the driver are not installed, or the user that runs them cannot reach the folder.
    """
    _check_driver()
    data = folder / "data"
    version = (data / "PG_VERSION").read_text().strip() if (data / "PG_VERSION").exists() else None
    server = Postgres(find_programs(version), data, port, user_to_run_as())
    folder.mkdir(parents=True, exist_ok=True)
    if server.user is not None:
        _check_reachable(folder, server.user)
    if version is None:
        _make_data(server, password)
    return server


def find_programs(version: str | None, path: str | None = None, debian: Path = _DEBIAN) -> Path:
    """The folder with `initdb` and `postgres`: on the PATH or where Debian puts them, the newest first.

    `version` is the major version that wrote the data, None for new data; `path` is searched in place of PATH; `debian`
    has a folder for each major version. Raises ServiceError if there is none, or none of that version.
    """
    on_path = shutil.which("initdb", path=path)
    candidates = [folder / "bin" for folder in sorted(debian.glob("*"), key=_number, reverse=True)]
    if on_path is not None:
        # the folder it really lies in: `postgres` is beside it there
        candidates.insert(0, Path(on_path).resolve().parent)
    installed = [folder for folder in candidates if (folder / "initdb").exists() and (folder / "postgres").exists()]
    if not installed:
        raise ServiceError(f"PostgreSQL is not installed: no initdb on the PATH, none in {debian}/*/bin. {_PACKAGE}")
    if version is None:
        return installed[0]
    for folder in installed:
        if _version_of(folder) == version:
            return folder
    raise ServiceError(
        f"The data were written by PostgreSQL {version}, but {_version_of(installed[0])} is installed."
        f" Install postgresql-{version}, or move the data with pg_upgrade."
    )


def user_to_run_as() -> str | None:
    """None for the present user; `postgres` where that is root.

    Raises:
        ServiceError: the present user is root, and there is no user `postgres`.
    """
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(ADMIN).pw_name
    except KeyError:
        raise ServiceError(
            "PostgreSQL does not run as root, and there is no user `postgres` to run it as."
            f" {_PACKAGE} Or run this command as another user."
        ) from None


def connect(port: int, role: str, password: str, database: str) -> Connection:
    """A connection to the server.

    Raises:
        psycopg2.OperationalError: there is no answer, or the password is not right.
    """
    import psycopg2

    return psycopg2.connect(
        host=HOST, port=port, user=role, password=password, dbname=database, connect_timeout=5, sslmode="disable"
    )


def answers(port: int, password: str) -> bool:
    """Whether the server takes connections of its administrator. Raises ServiceError if that cannot be asked."""
    _check_driver()
    import psycopg2

    try:
        connect(port, ADMIN, password, "postgres").close()
    except psycopg2.OperationalError as error:
        if "password authentication failed" in str(error):
            raise ServiceError(
                "PostgreSQL does not take the password of services/secrets.json: the file does not belong to these data"
            ) from None
        return False
    return True


def make_databases(port: int, passwords: Mapping[str, str]) -> None:
    """Make the databases and their roles, those that do not exist yet."""
    from psycopg2 import sql
    from psycopg2.extensions import encrypt_password

    connection = connect(port, ADMIN, passwords[ADMIN], "postgres")
    try:
        connection.autocommit = True  # a database is not made inside a transaction
        with connection.cursor() as cursor:
            for name in DATABASES:
                cursor.execute("select 1 from pg_roles where rolname = %s", (name,))
                verb = sql.SQL("alter" if cursor.fetchone() else "create")
                # scrambled here, so that the server's log never shows the password itself
                secret = encrypt_password(passwords[name], name, connection, "scram-sha-256")
                role = sql.SQL("{} role {} login password {}").format(verb, sql.Identifier(name), sql.Literal(secret))
                cursor.execute(role)
                cursor.execute("select 1 from pg_database where datname = %s", (name,))
                if cursor.fetchone() is None:
                    names = {"name": sql.Identifier(name)}
                    cursor.execute(sql.SQL("create database {name} owner {name}").format(**names))
                    cursor.execute(sql.SQL("revoke all on database {name} from public").format(**names))
    finally:
        connection.close()


def _make_data(server: Postgres, password: str) -> None:
    """`initdb` into a folder that gets its name when it is whole."""
    unfinished, secret = server.data.with_name("data.part"), server.data.with_name("password.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    secret.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password)
        if server.user is not None:
            for path in (unfinished, secret):
                shutil.chown(path, server.user, pwd.getpwnam(server.user).pw_gid)
        # from the documented defaults, whatever the language of the machine: sorted by bytes, UTF-8
        options = ["--username", ADMIN, "--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8", "--locale=C"]
        initdb = subprocess.run(
            [str(server.programs / "initdb"), "-D", str(unfinished), "--pwfile", str(secret), *options],
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            **identity(server.user),
        )
        if initdb.returncode != 0:
            raise ServiceError(f"initdb failed:\n{initdb.stdout}{initdb.stderr}")
    finally:
        secret.unlink(missing_ok=True)
    unfinished.rename(server.data)


def _check_reachable(folder: Path, user: str) -> None:
    """Every folder on the way has to let the user through; the kernel is asked as that user."""
    for parent in reversed([folder, *folder.parents]):
        if subprocess.run(["test", "-x", str(parent)], cwd="/", **identity(user)).returncode != 0:
            raise ServiceError(
                f"PostgreSQL runs as the user `{user}` when root starts it, and that user cannot pass {parent}."
                f" Let it pass (chmod o+x {parent}), choose another work_dir, run this command as another user,"
                " or use SQLite (services.database=sqlite)."
            )


def _check_driver() -> None:
    if not _has_driver():
        raise ServiceError(f"PostgreSQL's driver psycopg2 is not installed: {_GET_DRIVER}")


def _has_driver() -> bool:
    return importlib.util.find_spec("psycopg2") is not None


def _version_of(programs: Path) -> str:
    command = [str(programs / "postgres"), "--version"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return output.split()[2].split(".")[0]  # postgres (PostgreSQL) 15.13 (Debian ...)


def _number(folder: Path) -> int:
    return int(folder.name) if folder.name.isdigit() else -1
