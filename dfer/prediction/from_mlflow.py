"""Fetches a trained model from MLflow: the one module of the library that needs it, and only when it is asked for."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dfer.config.experiments import Faces
from dfer.config.problems import InputError
from dfer.config.settings import StageSettings
from dfer.storage.file_names import CARD, PREDICTIONS, WEIGHTS
from dfer.storage.files import write_atomically
from dfer.system.downloads import cache_folder

_RUN = re.compile(r"runs:/(?P<id>[0-9A-Za-z]+)(/.*)?")
_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))")
_TRAINED_IN = "dfer.trained_in_run"  # tag of a run that stands for a training in an earlier one
_SQLITE = "sqlite:///"


def fetch(reference: str, tracking_uri: str) -> Path:
    """The folder of the model of a run (`runs:/ID`) or of a registered version (`models:/NAME@ALIAS`,
    `models:/NAME/VERSION`), fetched into the cache unless it is there.

    The files are the artifacts that a training logs beside MLflow's own form of the model, which does not say how its
    faces were made. Raises InputError if MLflow does not have them.
    """
    if tracking_uri.startswith(_SQLITE) and not Path(tracking_uri.removeprefix(_SQLITE)).exists():
        raise InputError(f"{reference}: nothing was tracked in {tracking_uri} yet; name another by mlflow.tracking_uri")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri)
    try:
        run = client.get_run(_run_id(reference, client))
        run = client.get_run(run.data.tags.get(_TRAINED_IN, run.info.run_id))
        return _files(client, run, reference)
    except MlflowException as error:
        raise InputError(f"{reference}: MLflow at {tracking_uri} says: {str(error).splitlines()[0]}") from error


def _run_id(reference: str, client: Any) -> str:
    if matched := _RUN.fullmatch(reference):
        return matched["id"]
    matched = _REGISTERED.fullmatch(reference)
    if matched is None:
        raise InputError(f"{reference}: expected runs:/ID, models:/NAME@ALIAS or models:/NAME/VERSION")
    name, alias = matched["name"], matched["alias"]
    version = (
        client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, matched["version"])
    )
    if version.run_id:
        return str(version.run_id)
    logged = (version.source or "").removeprefix("models:/").split("/")[0]
    return str(client.get_logged_model(logged).source_run_id)


def _complete_card(card: Path, params: Mapping[str, str]) -> None:
    """Add how faces were made to a card of an earlier version, from the parameters of its run, which have all settings
    by section and key."""
    written = json.loads(card.read_text(encoding="utf-8"))
    if "faces" in written:
        return
    sections: dict[str, dict[str, str]] = {}
    for name, value in params.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, {})[key] = value
    with suppress(KeyError, ValueError):
        parts = {name: sections[name] for name in ("detection", "tracking", "alignment", "shards")}
        faces = Faces.of(str(written.get("dataset")), StageSettings.model_validate(parts))
        write_atomically(card, json.dumps({**written, "faces": faces.for_card()}, indent=2).encode())


def _files(client: Any, run: Any, reference: str) -> Path:
    """A run's model folder, with its predictions of its own test part beside it."""
    from mlflow.exceptions import MlflowException

    folder = cache_folder() / "models" / run.info.run_id
    if not ((folder / CARD).is_file() and (folder / WEIGHTS).is_file()):
        folder.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, CARD):  # the card last: a folder without one is no model
            try:
                client.download_artifacts(run.info.run_id, name, str(folder))
            except (MlflowException, OSError) as error:
                raise InputError(
                    f"{reference}: run {run.info.run_id} has no {name} among its artifacts, which a training of this "
                    "project logs: was the model logged by something else, or have the files been removed?"
                ) from error
    _complete_card(folder / CARD, run.data.params)
    dataset = run.data.tags.get("dfer.dataset")
    if dataset and not (folder / PREDICTIONS).is_file():
        with suppress(MlflowException, OSError):
            at = client.download_artifacts(run.info.run_id, f"evaluation/{dataset}/{PREDICTIONS}", str(folder))
            Path(at).replace(folder / PREDICTIONS)
    return folder
