"""What MLflow is to be told, on disk first: nothing waits for a server, and nothing is lost while it is away.

Every run has a folder of its own in the outbox:

    operations.jsonl   what was asked for, a line each, in order; a line that is there is on the disk
    kept/              copies of the files that are to be sent, until they are
    delivered.json     how much of it MLflow has, and the run's id there (`tasks.tracking.delivery` writes it)
    open.json          the process that works on the run, while it does

Neither MLflow nor Prefect is imported here, so a training's process can write as well.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import psutil
from filelock import FileLock

from dfer.storage.file_names import CARD, TRACKED_RUN, WEIGHTS
from dfer.storage.files import write_atomically
from dfer.system.passwords import mask_passwords

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
Operation = dict[str, Any]

PAGE = "DFER_MLFLOW_PAGE"
"""Environment variable: where a browser finds MLflow's server, if not at the address that programs use."""

MODEL_FILES = (CARD, WEIGHTS)
_PARAMS_AT_A_TIME = 100  # MLflow takes no more in one call


@dataclass(frozen=True)
class Delivered:
    """How much of a run's operations MLflow has.

    Attributes:
        offset: bytes of `operations.jsonl` that are delivered.
        trying: the offset of an operation that was under way; if it is `offset`, nobody knows whether it arrived.
        run_id, experiment_id: the run in MLflow; empty before it is made there.
        refused: operations that MLflow answered and did not take; they are in `refused.jsonl`.
    """

    offset: int = 0
    trying: int = -1
    run_id: str = ""
    experiment_id: str = ""
    refused: int = 0


@dataclass(frozen=True)
class TrackedRun:
    """A run by its folder in the outbox. What is logged is on the disk when the call returns, and in MLflow later."""

    folder: Path

    @property
    def id(self) -> str:
        """The run's name here; MLflow's run has it as the tag `dfer.id`."""
        return self.folder.name

    @property
    def delivered(self) -> Delivered:
        try:
            return Delivered(**json.loads((self.folder / "delivered.json").read_text()))
        except FileNotFoundError:
            return Delivered()

    def note_delivered(self, delivered: Delivered) -> None:
        write_atomically(self.folder / "delivered.json", json.dumps(asdict(delivered)).encode())

    @property
    def size(self) -> int:
        """Bytes of its operations; half a line that is being written, or was when its writer was killed, is none."""
        with self._operations.open("rb") as file:
            return _end_of_last_line(file)

    @property
    def pending(self) -> bool:
        """Whether something is not delivered yet."""
        return self.delivered.offset < self.size

    def operations(self, offset: int = 0) -> Iterator[tuple[int, Operation]]:
        """The operations from a byte offset on, each with the offset where the next one begins."""
        with self._operations.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # being written, or broken off
                offset += len(line)
                yield offset, json.loads(line)

    @property
    def created(self) -> Operation:
        """The operation that asks for the run: `uri`, `experiment`, `location`, `name`, `parent`, `tags`, `at` (ms)."""
        return next(operation for _, operation in self.operations())

    @property
    def status(self) -> Status:
        """The status that it was last given."""
        said = [operation["status"] for _, operation in self.operations() if operation["do"] == "status"]
        return said[-1] if said else "RUNNING"

    @property
    def is_mine(self) -> bool:
        """Whether this process works on the run."""
        try:
            process = json.loads((self.folder / "open.json").read_text())
        except FileNotFoundError:
            return False
        return bool(process["pid"] == os.getpid() and process["host"] == socket.gethostname() and not _ended(process))

    @property
    def page(self) -> str:
        """The run's page; of an embedded database, as `make ui` shows it. Empty while MLflow does not have the run."""
        there = self.delivered
        return f"{self._server}/#/experiments/{there.experiment_id}/runs/{there.run_id}" if there.run_id else ""

    def page_beside(self, others: Sequence[TrackedRun]) -> str:
        """The page that shows this run and others of its experiment side by side; empty while one is missing."""
        ids = [run.delivered.run_id for run in (self, *others)]
        if not all(ids):
            return ""
        runs, experiment = (json.dumps(value, separators=(",", ":")) for value in (ids, [self.delivered.experiment_id]))
        return f"{self._server}/#/compare-runs?runs={quote(runs)}&experiments={quote(experiment)}"

    @property
    def _server(self) -> str:
        uri = self.created["uri"]
        # in containers, the server has another name for browsers than for programs
        return os.environ.get(PAGE) or (uri if uri.startswith("http") else "http://127.0.0.1:5000")

    def log(self, values: Mapping[str, float], step: int = 0) -> None:
        """Metrics; values that are not numbers (a recall of a class without clips) are left out."""
        numbers = {name: float(value) for name, value in values.items() if not math.isnan(value)}
        self._append({"do": "metrics", "step": step, "values": numbers, "at": _now()})

    def log_params(self, params: Mapping[str, object]) -> None:
        named = [(name, mask_passwords(str(value))) for name, value in params.items()]
        for first in range(0, len(named), _PARAMS_AT_A_TIME):
            self._append({"do": "params", "values": dict(named[first : first + _PARAMS_AT_A_TIME])})

    def log_once(self, values: Mapping[str, float]) -> None:
        """Metrics of something that may be done again after a kill: what was logged last is not logged again."""
        last: dict[str, float] = {}
        for _, operation in self.operations():
            if operation["do"] == "metrics":
                last.update(operation["values"])
        if new := {name: value for name, value in values.items() if last.get(name) != value and not math.isnan(value)}:
            self.log(new)

    def log_files(self, paths: Sequence[Path], to: str | None = None) -> None:
        """Files, or all that is in folders, as artifacts in the folder `to`. They are copied now."""
        with self._keeping("files", to=to) as kept:
            for path in paths:
                if path.is_dir():
                    shutil.copytree(path, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
                else:
                    shutil.copy2(path, kept)

    def log_text(self, text: str, name: str) -> None:
        """A text as the artifact `name`."""
        with self._keeping("files", to=None) as kept:
            (kept / name).write_text(mask_passwords(text), encoding="utf-8")

    def log_dataset(self, clips: pd.DataFrame, *, name: str, source: Path, context: str) -> None:
        """Which clips were used, where they came from, and what for."""
        with self._keeping("dataset", name=name, source=str(source), context=context) as kept:
            clips[["clip_id", "label"]].to_parquet(kept / "clips.parquet", index=False)

    def log_model(self, folder: Path) -> None:
        """The model in a training's folder, once. Its files are copied now."""
        if not any(operation["do"] == "model" for _, operation in self.operations()):
            with self._keeping("model") as kept:
                for name in MODEL_FILES:
                    shutil.copy2(folder / name, kept)

    @property
    def copy_of(self) -> str | None:
        """The id of the run in which the training took place that this run shows, if that is another one."""
        return next((operation["run"] for _, operation in self.operations() if operation["do"] == "copied"), None)

    def copied_from(self, earlier: TrackedRun) -> None:
        """Note the run in which the training took place that this run shows."""
        self._append({"do": "copied", "run": earlier.id})

    def go_on(self) -> None:
        """This process works on the run from now on."""
        write_atomically(self.folder / "open.json", json.dumps(_this_process()).encode())
        self._append({"do": "status", "status": "RUNNING", "at": _now()})

    def close(self, status: Status = "FINISHED") -> None:
        self._append({"do": "status", "status": status, "at": _now()})
        (self.folder / "open.json").unlink(missing_ok=True)

    def last_step(self, metric: str) -> int:
        """The last step at which a metric was logged; -1 for none."""
        logged = (operation for _, operation in self.operations() if operation["do"] == "metrics")
        return max((operation["step"] for operation in logged if metric in operation["values"]), default=-1)

    def write(self, folder: Path) -> None:
        """Note the run in a stage's folder."""
        write_atomically(folder / TRACKED_RUN, json.dumps({"run": self.id}).encode())

    @property
    def _operations(self) -> Path:
        return self.folder / "operations.jsonl"

    @contextmanager
    def _keeping(self, do: str, **more: object) -> Iterator[Path]:
        """A folder for what goes with an operation: copies, since the originals may be gone when MLflow answers."""
        kept = self.folder / "kept" / uuid.uuid4().hex
        kept.mkdir(parents=True)
        try:
            yield kept
            for path in kept.rglob("*"):
                if path.is_file():
                    with path.open("rb") as file:
                        os.fsync(file.fileno())
            self._append({"do": do, "kept": kept.name, **more})
        except BaseException:
            shutil.rmtree(kept, ignore_errors=True)
            raise

    def _append(self, operation: Operation) -> None:
        """Add a line, whole or not at all, also where several processes write or one was killed half-way."""
        line = json.dumps(operation).encode() + b"\n"
        # without a buffer, which would be written again when the file is closed
        with FileLock(self.folder / ".lock"), self._operations.open("ab+", buffering=0) as file:
            end = _end_of_last_line(file)
            file.truncate(end)
            try:
                left = memoryview(line)
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)  # a full disk takes half a line
                raise


class Outbox:
    """All runs under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(
        self,
        id: str,
        *,
        uri: str,
        experiment: str,
        location: str | None,
        name: str,
        parent: str | None,
        tags: Mapping[str, str],
    ) -> TrackedRun:
        """A new run, which this process works on.

        Args:
            id, name, parent: a name that no other run has, what people call the run, and its parent's id if it has one.
            uri, experiment, location: where it is tracked, and where the experiment's files go if it has to be made.
            tags: more about it.
        """
        # under another name until it is whole: a run without its first line is none
        run, hidden = TrackedRun(self.root / id), TrackedRun(self.root / f".{id}")
        hidden.folder.mkdir(parents=True)
        operation = {
            "do": "create",
            "uri": uri,
            "experiment": experiment,
            "location": location,
            "name": name,
            "parent": parent,
            "tags": {tag: mask_passwords(value) for tag, value in tags.items()},
            "at": _now(),
        }
        hidden._append(operation)
        write_atomically(hidden.folder / "open.json", json.dumps(_this_process()).encode())
        hidden.folder.rename(run.folder)
        return run

    def runs(self, like: str = "*") -> list[TrackedRun]:
        """The runs whose ids match a pattern."""
        paths = [path.parent for path in sorted(self.root.glob(f"{like}/operations.jsonl"))]
        return [TrackedRun(path) for path in paths if not path.name.startswith(".")]

    def run(self, id: str) -> TrackedRun | None:
        return TrackedRun(self.root / id) if (self.root / id / "operations.jsonl").exists() else None

    def noted(self, folder: Path) -> TrackedRun | None:
        """The run that was noted in a stage's folder, if there is a note and the run is known here."""
        try:
            return self.run(json.loads((folder / TRACKED_RUN).read_text())["run"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def pending(self) -> list[TrackedRun]:
        """The runs of which something is not delivered yet."""
        return [run for run in self.runs() if run.pending]

    def close_abandoned(self) -> None:
        """Mark the runs as killed whose process has ended without a word. Who goes on with one opens it again."""
        for marker in self.root.glob("*/open.json"):
            run = TrackedRun(marker.parent)
            with suppress(FileNotFoundError):  # another process does the same, or the run has just ended
                if _ended(json.loads(marker.read_text())):
                    if run.status == "RUNNING":
                        run.close("KILLED")
                    marker.unlink()


def _end_of_last_line(file: Any) -> int:
    """The offset after the last whole line of a binary file."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        file.seek(max(0, end - 4096))
        block = file.read(min(end, 4096))
        if (newline := block.rfind(b"\n")) >= 0:
            return max(0, end - 4096) + newline + 1
        end = max(0, end - 4096)
    return 0


def _this_process() -> dict[str, object]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def _ended(process: Mapping[str, Any]) -> bool:
    """Whether a process of this machine has ended; of another machine's nobody knows."""
    if process["host"] != socket.gethostname():
        return False
    try:
        # a later process with the same number; a corrected clock moves the time a little
        return abs(psutil.Process(process["pid"]).create_time() - process["started"]) > 5
    except psutil.NoSuchProcess:
        return True


def _now() -> int:
    return int(time.time() * 1000)
