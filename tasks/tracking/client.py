"""The way to MLflow: its client, and what it may do, which is set in the environment before MLflow is loaded."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from dfer.system import garbage

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SQLITE = "sqlite:///"

# No call home from a research machine; no lines about its database's migrations; and a server that is away is tried
# again by us, rather than for minutes by each call.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # printing fails where nobody reads the output any more
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def configure() -> None:
    """To be called before MLflow is imported. What the environment says already counts."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def client_of(uri: str) -> MlflowClient:
    """MLflow's client of a server or a database. The folder of an embedded database is made if it is missing."""
    configure()
    with garbage.loading():
        from mlflow.tracking import MlflowClient  # takes seconds

    if is_missing_file(uri):
        _create(Path(uri.removeprefix(SQLITE)))
    return MlflowClient(uri)


def _create(path: Path) -> None:
    """Make a database under another name first: MLflow cannot open one whose making was broken off, ever again."""
    from mlflow.tracking import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".unfinished-{path.name}")
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not path.exists():
            unfinished.unlink(missing_ok=True)
            MlflowClient(f"{SQLITE}{unfinished}").search_experiments(max_results=1)
            unfinished.replace(path)


def is_missing_file(uri: str) -> bool:
    """Whether a tracking address is a database file that does not exist. A client would create it."""
    return uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists()
