"""Registers a trained model in MLflow, twice: as it was logged, which takes frames, and as one that takes videos."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfer.config import licences
from dfer.config.problems import InputError
from dfer.config.reading import read_config
from dfer.prediction.models import SYNTHETIC, TrainedModel, open_model
from dfer.storage.file_names import CARD, WEIGHTS
from dfer.storage.files import write_atomically
from tasks.tracking.client import client_of, is_missing_file
from tasks.tracking.outbox import Outbox

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.tracking import MlflowClient

VIDEO = "video"
"""The name of a run's logged model that takes videos."""

SUFFIX = "-video"
"""Behind the name of a registered model: that of the one which takes videos."""

_MODEL_CARD = "MODEL_CARD.md"
_LONGEST = 5000  # signs of a description that every database of MLflow takes


@dataclass(frozen=True)
class Registered:
    """What was registered.

    Attributes:
        versions: name -> version, of the model that takes frames and of the one that takes videos.
        licences: a sentence for each thing that it was made from.
        uri: of MLflow.
    """

    model: TrainedModel
    versions: dict[str, str]
    licences: list[str]
    uri: str


def register(reference: str, name: str, alias: str, *, config: Path, overrides: Sequence[str] = ()) -> Registered:
    """Register a trained model as NAME and NAME-video, and give these versions an alias.

    The version of NAME is of the model that its training has logged: with signature, input example and class names. The
    model that takes videos is logged now, once. Both versions have the card and the licences as tags. Registering the
    same model again moves the alias alone.

    Raises InputError if there is no such model, its run is not in MLflow or has no model, or MLflow takes no such name
    or alias; SavedModelError if its card is damaged. Then nothing was registered.
    """
    from mlflow.exceptions import MlflowException

    file, pipelines = read_config(config, overrides)
    trained = open_model(reference, config=config, overrides=overrides)
    run_id, uri = _run_of(trained, pipelines[0].tracking_uri)
    if is_missing_file(uri):
        raise InputError(f"{reference}: nothing was tracked in {uri} yet; name another by mlflow.tracking_uri")
    client = client_of(uri)
    _check(name, alias)
    try:
        run = client.get_run(run_id)
        frames = _logged(client, run.info.experiment_id, run_id, "model")
        if frames is None:
            raise InputError(
                f"{reference}: run {run_id} of MLflow at {uri} has no model that is complete: was it refused, or is it "
                "still to be delivered? Try: dfer mlflow deliver"
            )
        terms = licences.of_model(trained.complete_card(), file.datasets)
        tags, description = _tags(trained, terms), _description(trained, client, run_id)
        video = _logged(client, run.info.experiment_id, run_id, VIDEO) or _log_video_model(
            client, trained, run_id, run.info.experiment_id
        )
        versions = {}
        for its_name, model in ((name, frames), (name + SUFFIX, video)):
            versions[its_name] = _version(client, its_name, model, run_id, tags, description)
            client.set_registered_model_alias(its_name, alias, versions[its_name])
    except MlflowException as error:
        raise InputError(f"{reference}: MLflow at {uri} says: {str(error).splitlines()[0]}") from error
    return Registered(trained, versions, terms, uri)


def _run_of(trained: TrainedModel, tracking_uri: str) -> tuple[str, str]:
    """The id of a model's run, and the address of the MLflow that has it."""
    if trained.onnx is not None:
        raise InputError(
            f"{trained.name}: a file in ONNX has no run in MLflow: name the model that it was exported from"
        )
    if trained.name.startswith(("runs:/", "models:/")):
        return trained.folder.name, tracking_uri  # the cache has a folder a run
    above = trained.folder.resolve().parents[2:3]  # of a training's folder, the work directory
    run = Outbox(above[0] / "mlflow" / "outbox").noted(trained.folder) if above else None
    if run is None:
        raise InputError(
            f"{trained.name}: {trained.folder} was trained without MLflow, or not in this work directory: nothing says "
            "which run it is. Name the run itself: runs:/ID"
        )
    uri = str(run.created["uri"])
    if not run.delivered.run_id:
        raise InputError(f"{trained.name}: MLflow at {uri} has not been told of its run yet; run: dfer mlflow deliver")
    return run.delivered.run_id, uri


def _check(name: str, alias: str) -> None:
    """By MLflow's own rules, before anything is registered."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils import validation

    try:
        validation._validate_model_name(name)
        validation._validate_model_alias_name(alias)
        validation._validate_model_alias_name_reserved(alias)
    except MlflowException as error:
        raise InputError(f"--name {name} --alias {alias}: {str(error).splitlines()[0]}") from error


def _logged(client: MlflowClient, experiment_id: str, run_id: str, name: str) -> LoggedModel | None:
    """A run's logged model of that name, if it is complete."""
    from mlflow.entities import LoggedModelStatus

    models = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}' AND name = '{name}'")
    return next((model for model in models if model.status == LoggedModelStatus.READY), None)


def _version(
    client: MlflowClient, name: str, model: LoggedModel, run_id: str, tags: dict[str, str], description: str
) -> str:
    """The version of a logged model; a new one unless it has one of that name."""
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):  # there is one of that name already
        client.create_registered_model(name)
    source = f"models:/{model.model_id}"
    # of all versions, since what a filter can ask for is not the same in every store
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.model_id == model.model_id or version.source == source:
            return str(version.version)
    return str(
        client.create_model_version(
            name, source, run_id=run_id, tags=tags, description=description, model_id=model.model_id
        ).version
    )


def _tags(trained: TrainedModel, terms: Sequence[str]) -> dict[str, str]:
    card = trained.complete_card()
    return {
        "dfer.classes": ", ".join(trained.classes),
        "dfer.data": "synthetic" if trained.synthetic else "real",
        "dfer.licences": "\n".join(terms),
        "dfer.weights_sha256": str(card["weights_sha256"]),
        "dfer.card": json.dumps(card, allow_nan=False),
    }


def _description(trained: TrainedModel, client: MlflowClient, run_id: str) -> str:
    """The card for people, if the run has one; else what is known."""
    from mlflow.exceptions import MlflowException

    text = f"{trained.title}. {SYNTHETIC if trained.synthetic else ''}".strip()
    with tempfile.TemporaryDirectory() as folder, suppress(MlflowException, OSError):
        text = Path(client.download_artifacts(run_id, _MODEL_CARD, folder)).read_text(encoding="utf-8")
    where = f"\n\n(The whole card is {_MODEL_CARD} of run {run_id}.)"
    return text if len(text) <= _LONGEST else text[: _LONGEST - len(where)] + where


def _log_video_model(client: MlflowClient, trained: TrainedModel, run_id: str, experiment_id: str) -> LoggedModel:
    """Log the model that takes videos to the run of its training, which stays as it is."""
    import mlflow
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    from dfer import __version__
    from dfer.prediction import table as tables
    from dfer.prediction.encoded import WARNING

    kinds = {"string": "string", "int64": "long", "double": "double", "float": "float", "bool": "boolean"}
    columns = [ColSpec(kinds[str(field.type)], field.name) for field in tables.schema(trained.classes)]
    signature = ModelSignature(
        inputs=Schema([ColSpec("string", "video")]),
        outputs=Schema([*columns, ColSpec("string", WARNING)]),
        params=ParamSchema(
            [
                ParamSpec("people", "string", "all"),
                ParamSpec("window", "double", 2.0),
                ParamSpec("every", "double", 0.5),
            ]
        ),
    )
    begun = client.create_logged_model(experiment_id, name=VIDEO, source_run_id=run_id)
    mlflow.set_tracking_uri(client.tracking_uri)
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        folder.mkdir()
        shutil.copyfile(trained.folder / WEIGHTS, folder / WEIGHTS)  # MLflow refuses links to other places
        write_atomically(folder / CARD, json.dumps(trained.complete_card(), indent=2, allow_nan=False).encode())
        artifacts: dict[str, Any] = {"model": str(folder)}
        with warnings.catch_warnings():
            # an example would be a whole video; the signature says what is wanted
            warnings.filterwarnings("ignore", ".*input example was not provided")
            mlflow.pyfunc.log_model(
                name=VIDEO,
                model_id=begun.model_id,
                python_model=str(Path(__file__).with_name("video_model.py")),
                artifacts=artifacts,
                signature=signature,
                pip_requirements=[f"dfer=={__version__}"],
                metadata={
                    "classes": list(trained.classes),
                    "input": "video files in base64, a row each; the rows of the predictions table come back",
                },
            )
    client.log_outputs(run_id, [LoggedModelOutput(begun.model_id, step=0)])
    return client.get_logged_model(begun.model_id)
