"""MLflow: one experiment a pipeline, a parent run a pipeline run, a child run an arm and fold.

All of it goes through the outbox (`tasks.tracking.outbox`): nothing here waits for MLflow. A parent run is opened when
the first stage has something to log, so that a pipeline with nothing to do leaves no trace.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import platform
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from dfer.config.experiments import Training
from dfer.config.pipeline import Pipeline
from dfer.storage.file_names import HISTORY
from dfer.system.processes import EndingError, ProcessDiedError
from tasks.tracking.client import SQLITE
from tasks.tracking.deliverer import Deliverer
from tasks.tracking.outbox import Outbox, Status, TrackedRun

logger = logging.getLogger("dfer.mlflow")

PACKAGES = ("torch", "torchvision", "insightface", "onnxruntime", "opencv-python", "numpy", "prefect", "mlflow", "dfer")


def outbox_of(pipeline: Pipeline) -> Outbox:
    return Outbox(pipeline.work_dir / "mlflow" / "outbox")


class PipelineTracking:
    """The parent run of one run of a pipeline."""

    def __init__(self, pipeline: Pipeline, fingerprint: Callable[[], str], deliverer: Deliverer) -> None:
        """`fingerprint`, of the data, is asked for when the first run is opened."""
        self.pipeline = pipeline
        self.deliverer = deliverer
        self.outbox = deliverer.outbox
        self._fingerprint = fingerprint
        self._lock = threading.Lock()
        self._parent: TrackedRun | None = None
        self._under_way: set[TrackedRun] = set()
        self._children: dict[TrackedRun, None] = {}  # in the order of their beginning
        self._copies: dict[str, TrackedRun] = {}  # the id of an earlier run -> the child that shows it

    @property
    def _key(self) -> str:
        """The same for runs of the same pipeline on the same data."""
        return hashlib.sha256((self._fingerprint() + _identity(self.pipeline)).encode()).hexdigest()[:16]

    def parent(self) -> TrackedRun:
        """The parent run: opened now, or the one that an interrupted run of the same pipeline left behind."""
        with self._lock:
            if self._parent is None:
                self.outbox.root.mkdir(parents=True, exist_ok=True)
                with FileLock(self.outbox.root / ".parents.lock"):
                    self._parent = self._continue() or self._create()
                self.deliverer.start()
            return self._parent

    def arm_run(self, training: Training) -> TrackedRun:
        """A new child run, with its parameters."""
        tags = {
            "dfer.kind": "arm",
            "dfer.arm": training.arm_name,
            "dfer.model": training.model,
            "dfer.fold": str(training.fold),
            "dfer.seed": str(training.seed),
            **({"dfer.split": training.split} if training.split != "official" else {}),
            **self._tags(),
            "dfer.dataset": training.dataset,
        }
        run = self._open(f"arm-{uuid.uuid4().hex[:16]}", training.title, self.parent().id, tags)
        stages = training.settings.model_dump(mode="json")
        if training.arm.mixing == "none":
            del stages["mixing"]
        if training.arm.clips == "all":
            del stages["groups"]
        arm = training.arm.model_dump(mode="json", exclude={"alpha", "ambiguous"})
        params = {"arm": training.arm_name, "fold": training.fold, "dataset": training.dataset, **arm}
        run.log_params({**params, **_flat(stages)})
        return run

    def run_of(self, folder: Path) -> TrackedRun | None:
        """The child run of this pipeline run that a note in a stage's folder names, or that is a copy of the run which
        it names; None without either."""
        run = self.outbox.noted(folder)
        if run is None or self._is_child(run):
            return run
        return self._copies.get(run.id)

    def page(self) -> str:
        """Where MLflow shows the trainings of this run side by side, as far as it has them; empty before the first."""
        shown = [run for run in tuple(self._children) if run.page]
        return shown[0].page_beside(shown[1:]) if len(shown) > 1 else shown[0].page if shown else ""

    @contextlib.contextmanager
    def working_on(self, run: TrackedRun) -> Iterator[None]:
        """The run's status follows what happens meanwhile."""
        self._under_way.add(run)
        self._children[run] = None
        try:
            if run.status != "RUNNING" or not run.is_mine:
                run.go_on()
            yield
        except (ProcessDiedError, EndingError):
            raise  # perhaps of a Ctrl-C that this process is about to hear of: the run ends as the pipeline's does
        except BaseException:
            self._under_way.discard(run)
            with contextlib.suppress(OSError):  # a full disk does not hide the error itself
                run.close("FAILED")
            raise
        run.close()
        self._under_way.discard(run)

    def copy_of(self, earlier: TrackedRun | None, training: Training, folder: Path) -> TrackedRun:
        """A child run that stands for an arm trained in an earlier pipeline run, whose output is in `folder`: the last
        values and the curves, without the model."""
        copy = self.arm_run(training)
        self._children[copy] = None
        history = json.loads((folder / HISTORY).read_text())
        log_epoch(copy, history["epochs"][-1])
        log_summary(copy, history["summary"])
        copy.log_files([folder / n for n in ("learning_curves.png", "batch.jpg", HISTORY) if (folder / n).exists()])
        if earlier is not None:
            copy.copied_from(earlier)
            self._copies[earlier.id] = copy
        copy.close()
        return copy

    def __enter__(self) -> PipelineTracking:
        _open.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the parent run, if one was opened, with the status that fits."""
        self._close("FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED")

    def _close(self, status: Status) -> None:
        _open.discard(self)
        try:
            for run in [*self._under_way, *([self._parent] if self._parent is not None else [])]:
                run.close(status)
        except OSError as error:
            logger.warning("the runs in MLflow stay open until the next run of a pipeline: %s", error)

    def _is_child(self, run: TrackedRun) -> bool:
        created = run.created
        return created["uri"] == self.pipeline.tracking_uri and created["parent"] == self.parent().id

    def _continue(self) -> TrackedRun | None:
        for run in self.outbox.runs(f"{self._key}-*"):
            if run.status != "FINISHED" and run.created["uri"] == self.pipeline.tracking_uri:
                run.go_on()
                children = self._children_of(run)
                self._children |= dict.fromkeys(children)
                self._copies = {earlier: child for child in children if (earlier := child.copy_of) is not None}
                return run
        return None

    def _children_of(self, parent: TrackedRun) -> list[TrackedRun]:
        """In the order of their beginning."""
        arms = [run for run in self.outbox.runs("arm-*") if run.created["parent"] == parent.id]
        return sorted(arms, key=lambda run: run.created["at"])

    def _create(self) -> TrackedRun:
        tags = {
            "mlflow.note.content": self.pipeline.description,
            "dfer.kind": "pipeline",
            "dfer.key": self._key,
            **self._tags(),
        }
        name = f"{self.pipeline.name} {time.strftime('%Y-%m-%d %H:%M')}"
        run = self._open(f"{self._key}-{uuid.uuid4().hex[:8]}", name, None, tags)
        run.log_text(yaml.safe_dump(self.pipeline.as_dict(), sort_keys=False), "config.yaml")
        run.log_text(json.dumps(versions(), indent=2), "versions.json")
        run.log_params(_flat(self.pipeline.settings.model_dump(mode="json")))
        return run

    def _open(self, id: str, name: str, parent: str | None, tags: Mapping[str, str]) -> TrackedRun:
        uri, location = self.pipeline.tracking_uri, None
        if uri.startswith(SQLITE):
            folder, url, pipeline = Path(uri.removeprefix(SQLITE)).parent, self.pipeline.work_url, self.pipeline.name
            location = f"{url}/mlflow/artifacts/{pipeline}" if url else (folder / "artifacts" / pipeline).as_uri()
        return self.outbox.create(
            id, uri=uri, experiment=self.pipeline.name, location=location, name=name, parent=parent, tags=tags
        )

    def _tags(self) -> dict[str, str]:
        synthetic = any(dataset.generated for dataset in self.pipeline.datasets.values())
        return {
            "dfer.pipeline": self.pipeline.name,
            "dfer.dataset": self.pipeline.dataset,
            "dfer.data": "synthetic" if synthetic else "real",
            "mlflow.source.name": f"dfer run {self.pipeline.name}",
            **({"mlflow.source.git.commit": commit} if (commit := git_revision()) else {}),
        }


_open: set[PipelineTracking] = set()


def close_interrupted() -> None:
    """Mark the runs that are open as killed, when the process is about to end, and give that some seconds to arrive."""
    for tracking in list(_open):
        tracking._close("KILLED")
        tracking.deliverer.settle(patience=5)


def log_epoch(run: TrackedRun, row: Mapping[str, Any]) -> None:
    """A row of a training's history, at its epoch; and what of the loss is above the least that it can be, where the
    mean entropy of the targets is known."""
    values = {k: v for k, v in row.items() if k != "epoch" and v is not None}
    if "target_entropy" in values:
        values["loss_above_entropy"] = values["loss"] - values["target_entropy"]
    run.log({f"epoch/{name}": value for name, value in values.items()}, step=row["epoch"])


def log_summary(run: TrackedRun, summary: Mapping[str, Any]) -> None:
    """Metrics of the best epoch on the test fold, from a training's history."""
    if best := summary["best_on_test_fold"]:
        run.log_once({f"best_on_test_fold/{name}": best[key] for name, key in (("WAR", "war"), ("UAR", "uar"))})


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
