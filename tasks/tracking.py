"""MLflow: one experiment a pipeline, a parent run a pipeline run, a child run an arm and fold.

Runs are addressed by their ids throughout, since stages work in threads and processes of their own. A parent run is
opened when the first stage has something to log, so that a pipeline with nothing to do leaves no trace.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import yaml

from dfer.config import Pipeline
from dfer.experiments import Training

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.tracking import MlflowClient

# before MLflow is imported, which takes a second and waits until something is tracked: no call home from a research
# machine, and what it says of its system metrics and its database's migrations helps nobody here
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
logging.getLogger("alembic").setLevel(logging.WARNING)

PACKAGES = ("torch", "torchvision", "insightface", "onnxruntime", "opencv-python", "numpy", "prefect", "mlflow", "dfer")

_SQLITE = "sqlite:///"
_data_sets = threading.Lock()


@dataclass(frozen=True)
class TrackedRun:
    """Where a run is tracked. `uri` may name a server, never a password."""

    uri: str
    experiment_id: str
    run_id: str

    @property
    def client(self) -> MlflowClient:
        return client_of(self.uri)

    @property
    def page(self) -> str:
        """The run's page; of an embedded database, as `make ui` shows it."""
        return f"{self._server}/#/experiments/{self.experiment_id}/runs/{self.run_id}"

    def page_beside(self, others: Sequence[TrackedRun]) -> str:
        """The page that shows this run and others of its experiment side by side."""
        ids = json.dumps([self.run_id, *(run.run_id for run in others)], separators=(",", ":"))
        experiment = json.dumps([self.experiment_id], separators=(",", ":"))
        return f"{self._server}/#/compare-runs?runs={quote(ids)}&experiments={quote(experiment)}"

    @property
    def _server(self) -> str:
        return self.uri if self.uri.startswith("http") else "http://127.0.0.1:5000"

    def write(self, folder: Path) -> None:
        (folder / "tracking.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def noted(cls, folder: Path) -> TrackedRun | None:
        """The run that was noted in a folder, if there is a note; MLflow is not asked."""
        try:
            return cls(**json.loads((folder / "tracking.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    @classmethod
    def read(cls, folder: Path) -> TrackedRun | None:
        """The run that was noted in a folder, if there is a note and the run still exists."""
        run = cls.noted(folder)
        # MLflow would make a database of another machine's that is not here
        if run is None or (run.uri.startswith(_SQLITE) and not Path(run.uri.removeprefix(_SQLITE)).exists()):
            return None
        from mlflow.exceptions import MlflowException

        try:
            run.client.get_run(run.run_id)
        except MlflowException:
            return None
        return run

    def log(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics in one call; values that are not numbers (a recall of a class without clips) are left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, step) for name, value in values.items() if value == value]
        self.client.log_batch(self.run_id, metrics=metrics)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        self.client.log_artifact(self.run_id, str(path), folder)

    def close(self, status: str = "FINISHED") -> None:
        self.client.set_terminated(self.run_id, status)


class PipelineTracking:
    """The parent run of one run of a pipeline."""

    def __init__(self, pipeline: Pipeline, fingerprint: str) -> None:
        self.pipeline = pipeline
        self._key = hashlib.sha256((fingerprint + _identity(pipeline)).encode()).hexdigest()[:16]
        self._lock = threading.Lock()
        self._parent: TrackedRun | None = None

    def parent(self) -> TrackedRun:
        """The parent run: opened now, or the one that an interrupted run of the same pipeline left behind."""
        with self._lock:
            if self._parent is None:
                self._parent = self._continue() or self._create()
            return self._parent

    def arm_run(self, training: Training) -> TrackedRun:
        """A new child run, with its parameters."""
        parent = self.parent()
        tags = {
            "mlflow.runName": training.title,
            "mlflow.parentRunId": parent.run_id,
            "dfer.kind": "arm",
            "dfer.arm": training.arm_name,
            "dfer.model": training.model,
            "dfer.fold": str(training.fold),
            "dfer.seed": str(training.seed),
            **self._tags(),
            "dfer.dataset": training.dataset,
        }
        run = parent.client.create_run(parent.experiment_id, tags=tags)
        stages = training.settings.model_dump(mode="json")
        if training.arm.mixing == "none":
            del stages["mixing"]
        if training.arm.clips == "all":
            del stages["groups"]
        arm = training.arm.model_dump(mode="json", exclude={"alpha", "ambiguous"})
        params = {"arm": training.arm_name, "fold": training.fold, "dataset": training.dataset, **arm}
        self._log_params(run.info.run_id, {**params, **_flat(stages)})
        return TrackedRun(parent.uri, parent.experiment_id, run.info.run_id)

    def belongs(self, run: TrackedRun | None) -> bool:
        """Whether a run is a child of this pipeline run."""
        if run is None or run.uri != self.pipeline.tracking_uri:
            return False
        return run.client.get_run(run.run_id).data.tags.get("mlflow.parentRunId") == self.parent().run_id

    def copy_of(self, run: TrackedRun | None, training: Training, folder: Path) -> TrackedRun:
        """A child run that stands for an arm trained in an earlier pipeline run, whose output is in `folder`: its last
        values and its curves, without its model."""
        copy = self.arm_run(training)
        if run is not None:
            metrics = run.client.get_run(run.run_id).data.metrics
            copy.log(metrics)
            for name in ("learning_curves.png", "batch.jpg", "history.json"):
                if (folder / name).exists():
                    copy.log_artifact(folder / name)
            copy.client.set_tag(copy.run_id, "dfer.trained_in_run", run.run_id)
            copy.client.set_tag(copy.run_id, "mlflow.note.content", f"Trained earlier: see run {run.page}")
        copy.close()
        return copy

    def __enter__(self) -> PipelineTracking:
        _open.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the parent run, if one was opened, with the status that fits."""
        self._close("FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED")

    def _close(self, status: str) -> None:
        _open.discard(self)
        if self._parent is None:
            return
        parent = self._parent
        unfinished = f"tags.`mlflow.parentRunId` = '{parent.run_id}' and status = 'RUNNING'"
        for child in parent.client.search_runs([parent.experiment_id], unfinished):
            parent.client.set_terminated(child.info.run_id, status)
        parent.close(status)

    def _continue(self) -> TrackedRun | None:
        from mlflow.entities import RunStatus

        uri, experiment = self._experiment()
        client = client_of(uri)
        left = client.search_runs(
            [experiment], f"tags.`dfer.key` = '{self._key}' and status != 'FINISHED'", max_results=1
        )
        if not left:
            return None
        client.update_run(left[0].info.run_id, status=RunStatus.to_string(RunStatus.RUNNING))
        return TrackedRun(uri, experiment, left[0].info.run_id)

    def _create(self) -> TrackedRun:
        uri, experiment = self._experiment()
        client = client_of(uri)
        tags = {
            "mlflow.runName": f"{self.pipeline.name} {time.strftime('%Y-%m-%d %H:%M')}",
            "mlflow.note.content": self.pipeline.description,
            "dfer.kind": "pipeline",
            "dfer.key": self._key,
            **self._tags(),
        }
        run = TrackedRun(uri, experiment, client.create_run(experiment, tags=tags).info.run_id)
        resolved = self.pipeline.as_dict()
        client.log_text(run.run_id, yaml.safe_dump(resolved, sort_keys=False), "config.yaml")
        client.log_dict(run.run_id, versions(), "versions.json")
        self._log_params(run.run_id, _flat(self.pipeline.settings.model_dump(mode="json")))
        return run

    def _experiment(self) -> tuple[str, str]:
        uri = self.pipeline.tracking_uri
        location = None
        if uri.startswith(_SQLITE):
            folder = Path(uri.removeprefix(_SQLITE)).parent
            folder.mkdir(parents=True, exist_ok=True)
            url, name = self.pipeline.work_url, self.pipeline.name
            location = f"{url}/mlflow/artifacts/{name}" if url else (folder / "artifacts" / name).as_uri()
        client = client_of(uri)
        found = client.get_experiment_by_name(self.pipeline.name)
        if found is not None:
            return uri, found.experiment_id
        # the kind decides which of its two faces MLflow's page shows: that of trained models
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return uri, client.create_experiment(self.pipeline.name, artifact_location=location, tags=kind)

    def _tags(self) -> dict[str, str]:
        synthetic = any(dataset.generated for dataset in self.pipeline.datasets.values())
        return {
            "dfer.pipeline": self.pipeline.name,
            "dfer.dataset": self.pipeline.dataset,
            "dfer.data": "synthetic" if synthetic else "real",
            "mlflow.source.name": f"dfer run {self.pipeline.name}",
            **({"mlflow.source.git.commit": commit} if (commit := git_revision()) else {}),
        }

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        client_of(self.pipeline.tracking_uri).log_batch(
            run_id, params=[Param(name, str(value)) for name, value in params.items()]
        )


_open: set[PipelineTracking] = set()


def close_interrupted() -> None:
    """Mark the parent runs that are open as killed, when the process is about to end."""
    for tracking in list(_open):
        tracking._close("KILLED")


def client_of(uri: str) -> MlflowClient:
    """MLflow's client of a server or database."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri)


def log_dataset(run: TrackedRun, clips: pd.DataFrame, *, name: str, source: Path, context: str) -> None:
    """Note in a run which clips it used, and where they came from. To be called in the flow's own process."""
    from mlflow.data.pandas_dataset import from_pandas
    from mlflow.entities import DatasetInput, InputTag

    plain = clips[["clip_id", "label"]].astype({"clip_id": object, "label": "float64"})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The specified dataset source can be interpreted in multiple ways")
        dataset = from_pandas(plain, source=str(source), name=name, targets="label")
    entity = DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", context)])
    # MLflow looks whether it knows a data set before it adds it, which two threads can do at the same time
    with _data_sets:
        run.client.log_inputs(run.run_id, [entity])


def git_revision() -> str | None:
    """The checkout's commit, marked if files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    try:
        run = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
        return subprocess.run(run, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str | None]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": git_revision(),
        **{package: _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        # onnxruntime for CUDA is a package of another name
        return importlib.metadata.version(f"{package}-gpu")


def _identity(pipeline: Pipeline) -> str:
    """What makes two runs of a pipeline the same run: all of the configuration but where and how much at a time."""
    described = {k: v for k, v in pipeline.as_dict().items() if k not in ("work_dir", "run", "description")}
    return json.dumps(described, sort_keys=True)


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{above}{key}."))
        else:
            flat[f"{above}{key}"] = value
    return flat
