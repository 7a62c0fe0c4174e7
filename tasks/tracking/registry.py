"""MLflow's model registry: which runs the registered models came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tasks.tracking.client import client_of, is_missing_file

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient


class RegistryError(RuntimeError):
    """MLflow cannot be asked which models are registered."""


def registered_runs(uri: str) -> dict[str, str]:
    """The run that each registered model came from -> 'NAME version 3', for all versions of all models.

    A run is named by its id in MLflow, and by its name in the outbox (`TrackedRun.id`) if it has one. A database file
    that does not exist has no models. Raises RegistryError if the server or database cannot be asked.
    """
    if is_missing_file(uri):
        return {}  # asking would create it
    try:
        client = client_of(uri)
        return {
            run: f"{version.name} version {version.version}"
            for version in _versions(client)
            for run in _runs(client, version)
        }
    except Exception as error:  # of MLflow, its HTTP client, its database: each has its own
        raise RegistryError(
            f"MLflow at {uri} cannot be asked which models are registered, and what they came from must not be "
            f"removed: {str(error).splitlines()[0]}\nStart it, or name the right one with --set mlflow.tracking_uri=..."
        ) from error


def _versions(client: MlflowClient) -> Iterator[ModelVersion]:
    token = None
    while True:
        page = client.search_model_versions(page_token=token) if token else client.search_model_versions()
        yield from page
        if not (token := page.token):
            return


def _runs(client: MlflowClient, version: ModelVersion) -> Iterator[str]:
    """The run that a version names, that of the model it names, and where this was a copy the run it was trained in."""
    from mlflow.exceptions import MlflowException

    runs = {version.run_id}
    if (source := version.source or "").startswith("models:/m-"):  # a model that was logged, named by its id
        runs.add(client.get_logged_model(source.removeprefix("models:/").split("/")[0]).source_run_id)
    for run in filter(None, runs):
        yield run
        try:
            tags = client.get_run(run).data.tags
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            continue  # the run was deleted for good; its id still says which training it was
        yield from (tags[name] for name in ("dfer.id", "dfer.trained_in_run") if tags.get(name))
