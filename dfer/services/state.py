"""The folder of the services: which processes were started, and the secrets between them."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dfer.services.errors import ServiceError
from dfer.services.processes import Started
from dfer.storage.files import write_atomically


@dataclass(frozen=True)
class Folder:
    """The files of the services of one work directory."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets.json"

    @property
    def sqlite(self) -> Path:
        return self.root / "sqlite"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def database(self) -> Path:
        """The name of the database that was used last."""
        return self.root / "database"

    @property
    def client(self) -> Path:
        return self.root / "client.env"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"


def read_state(folder: Folder) -> dict[str, Started]:
    """Service -> the process that was started last, which may have ended since.

    Raises:
        ServiceError: the file cannot be read.
    """
    try:
        state = json.loads(folder.state.read_text(encoding="utf-8"))
        return {name: Started(int(of["pid"]), float(of["created"]), of["port"]) for name, of in state.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ServiceError(
            f"{folder.state} cannot be read ({error}). Remove it; services that still run hold their ports and are"
            " named by `dfer services up`."
        ) from None


def write_state(folder: Folder, started: Mapping[str, Started]) -> None:
    folder.root.mkdir(parents=True, exist_ok=True)
    content = json.dumps({name: asdict(process) for name, process in started.items()}, indent=1)
    write_atomically(folder.state, content.encode())


def passwords(folder: Folder, names: tuple[str, ...]) -> dict[str, str]:
    """Database role -> password: drawn the first time, and kept in a file that only its owner can read."""
    try:
        known: dict[str, str] = json.loads(folder.secrets.read_text(encoding="utf-8"))
        if missing := set(names) - known.keys():
            raise ServiceError(f"{folder.secrets} has no password of {', '.join(sorted(missing))}")
        return known
    except FileNotFoundError:
        pass
    except ValueError as error:
        raise ServiceError(f"{folder.secrets} cannot be read: {error}") from None
    drawn = {name: secrets.token_hex(24) for name in names}
    folder.root.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder.secrets, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(drawn, file)
        file.flush()
        os.fsync(handle)
    return drawn
