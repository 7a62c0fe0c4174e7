"""From the outbox to MLflow: every operation once, in order.

Before an operation is sent, its place is noted as being tried; after MLflow said yes, as delivered. So at most one
operation of a run is in doubt, whenever either side is killed, and for that one MLflow is asked what it has.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfer.system import garbage
from tasks.tracking.client import client_of, configure
from tasks.tracking.outbox import Delivered, Operation, Outbox, TrackedRun

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

# MLflow's codes for a request that it will never take.
_NEVER = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}

# Other errors of these packages may pass: a full disk on the server's side, a store or a database that is away.
_THEIRS = {"mlflow", "botocore", "sqlalchemy", "urllib3"}

# How often an operation is tried that fails by itself, such as a network that cannot be exported.
_TRIES = 3


@dataclass
class Report:
    """What a round of delivering came to.

    Attributes:
        delivered, refused: numbers of operations by run id. Refused ones are in the run's `refused.jsonl`.
        away: what went wrong, by tracking URI, where no server answers.
        stuck: what went wrong, by run id, where the server answers.
    """

    delivered: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    away: dict[str, str] = field(default_factory=dict)
    stuck: dict[str, str] = field(default_factory=dict)

    def add(self, later: Report) -> None:
        """What another round came to; its numbers are added, its problems are those that count."""
        self.delivered += later.delivered
        self.refused += later.refused
        self.away, self.stuck = later.away, later.stuck


class Delivery:
    """Sends what is in an outbox. One at a time may do so: see `tasks.tracking.deliverer`."""

    def __init__(self, outbox: Outbox, connect: Callable[[str], MlflowClient] | None = None) -> None:
        configure()
        self._outbox = outbox
        self._connect = connect or client_of
        self._clients: dict[str, MlflowClient] = {}
        self._done: dict[str, int] = {}  # run id -> bytes that were delivered: what has not grown is not looked into
        self._failures: Counter[tuple[str, int]] = Counter()  # of operations, while the server answered

    def round(self) -> Report:
        """Send what is there now. A run that cannot be delivered does not keep the others waiting."""
        report = Report()
        waiting = [run for run in self._outbox.runs() if self._done.get(run.id) != run.size]
        # new runs first, so that they can be seen; then what takes longer
        for step in (self._create, self._deliver):
            for run in waiting:
                uri = run.created["uri"]
                if uri in report.away or run.id in report.stuck:
                    continue
                try:
                    step(run, report)
                except Exception as error:
                    logger.debug("%s of %s: %s", run.id, uri, error, exc_info=True)
                    if self._answers(uri):
                        report.stuck[run.id] = first_line(error)
                        self._failures[run.id, run.delivered.offset] += 1
                    else:
                        report.away[uri] = first_line(error)
        return report

    def _create(self, run: TrackedRun, report: Report) -> Delivered:
        """The run in MLflow, and before it the one that it is a child of."""
        delivered = run.delivered
        if delivered.offset:
            return delivered
        end, operation = next(run.operations())
        parent = self._outbox.run(operation["parent"]) if operation["parent"] else None
        above = self._create(parent, report).run_id if parent is not None else None
        run.note_delivered(replace(delivered, trying=0))
        client = self._client(operation["uri"])
        experiment = _experiment(client, operation["experiment"], operation["location"])
        run_id = _find_run(client, experiment, run.id) if delivered.trying == 0 else None
        if run_id is None:
            tags = {"mlflow.runName": operation["name"], "dfer.id": run.id, **operation["tags"]}
            if above is not None:
                tags["mlflow.parentRunId"] = above
            run_id = client.create_run(experiment, start_time=operation["at"], tags=tags).info.run_id
        delivered = Delivered(offset=end, run_id=run_id, experiment_id=experiment)
        run.note_delivered(delivered)
        report.delivered[run.id] += 1
        return delivered

    def _deliver(self, run: TrackedRun, report: Report) -> None:
        delivered = self._create(run, report)
        client = self._client(run.created["uri"])
        for end, operation in run.operations(delivered.offset):
            in_doubt = delivered.trying == delivered.offset
            run.note_delivered(replace(delivered, trying=delivered.offset))
            try:
                self._send(client, run, delivered, operation, in_doubt, report)
            except Exception as error:
                for_good = getattr(error, "error_code", None) in _NEVER
                again = _may_pass(error) or self._failures[run.id, delivered.offset] + 1 < _TRIES
                if again and not for_good:
                    raise
                delivered = replace(delivered, refused=delivered.refused + 1)
                _note_refusal(run, operation, error)
                report.refused[run.id] += 1
                operation = {**operation, "kept": ""}  # what was refused stays
            else:
                report.delivered[run.id] += 1
            delivered = replace(delivered, offset=end, trying=-1)
            run.note_delivered(delivered)
            if operation.get("kept"):
                shutil.rmtree(run.folder / "kept" / operation["kept"], ignore_errors=True)
        self._done[run.id] = delivered.offset

    def _send(
        self,
        client: MlflowClient,
        run: TrackedRun,
        delivered: Delivered,
        operation: Operation,
        in_doubt: bool,
        report: Report,
    ) -> None:
        run_id = delivered.run_id
        kept = run.folder / "kept" / operation.get("kept", "")
        match operation["do"]:
            case "metrics":
                _send_metrics(client, run_id, operation, in_doubt)
            case "params":
                from mlflow.entities import Param

                client.log_batch(run_id, params=[Param(name, value) for name, value in operation["values"].items()])
            case "files":
                client.log_artifacts(run_id, str(kept), operation["to"])
            case "dataset":
                _send_dataset(client, run_id, kept, operation)
            case "model":
                with garbage.loading():
                    from tasks.tracking.logged_model import log_model

                log_model(kept, client, run_id, delivered.experiment_id, in_doubt=in_doubt)
            case "copied":
                earlier = self._outbox.run(operation["run"])
                if earlier is not None:
                    client.set_tag(run_id, "dfer.trained_in_run", self._create(earlier, report).run_id)
                    client.set_tag(run_id, "mlflow.note.content", f"Trained earlier: see run {earlier.page}")
            case "status" if operation["status"] == "RUNNING":
                client.update_run(run_id, status="RUNNING")
            case "status":
                client.set_terminated(run_id, operation["status"], operation["at"])
            case unknown:
                raise ValueError(f"{run.folder}: no such operation: {unknown}; was it written by a later version?")

    def _client(self, uri: str) -> MlflowClient:
        if uri not in self._clients:
            self._clients[uri] = self._connect(uri)
        return self._clients[uri]

    def _answers(self, uri: str) -> bool:
        try:
            self._client(uri).search_experiments(max_results=1)
        except Exception:
            return False
        return True


def first_line(error: Exception) -> str:
    """The first line of an error, short enough for a line of a log."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _may_pass(error: Exception) -> bool:
    """Whether it is MLflow's error, its store's or the network's, rather than that of what is sent."""
    origins = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return (isinstance(error, OSError) and not isinstance(error, FileNotFoundError)) or bool(origins & _THEIRS)


def _experiment(client: MlflowClient, name: str, location: str | None) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # the kind decides which of its two faces MLflow's page shows: that of trained models
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return str(client.create_experiment(name, artifact_location=location, tags=kind))
    if experiment.lifecycle_stage == "deleted":
        logger.warning("the experiment %s was deleted in MLflow, and is restored: it has runs to be tracked", name)
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _find_run(client: MlflowClient, experiment: str, id: str) -> str | None:
    runs = client.search_runs([experiment], f"tags.`dfer.id` = '{id}'", max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _send_metrics(client: MlflowClient, run_id: str, operation: Operation, in_doubt: bool) -> None:
    from mlflow.entities import Metric

    step, at = operation["step"], operation["at"]
    metrics = [Metric(name, value, at, step) for name, value in operation["values"].items()]
    if in_doubt:
        arrived = {
            name
            for name in operation["values"]
            if any((m.step, m.timestamp) == (step, at) for m in client.get_metric_history(run_id, name))
        }
        metrics = [metric for metric in metrics if metric.key not in arrived]
    if metrics:
        client.log_batch(run_id, metrics=metrics)


def _send_dataset(client: MlflowClient, run_id: str, kept: Path, operation: Operation) -> None:
    import pandas as pd
    from mlflow.data.pandas_dataset import from_pandas
    from mlflow.entities import DatasetInput, InputTag

    clips = pd.read_parquet(kept / "clips.parquet").astype({"clip_id": object, "label": "float64"})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The specified dataset source can be interpreted in multiple ways")
        dataset = from_pandas(clips, source=operation["source"], name=operation["name"], targets="label")
    entity = DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", operation["context"])])
    client.log_inputs(run_id, [entity])


def _note_refusal(run: TrackedRun, operation: Operation, error: Exception) -> None:
    line: dict[str, Any] = {**operation, "refused": str(error)}
    with (run.folder / "refused.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
