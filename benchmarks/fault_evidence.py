"""The results of a pipeline, for comparing a disturbed run with an undisturbed one."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.manifests import outputs_of_newest_report
from dfer.storage.files import sha256
from dfer.storage.manifest import MANIFEST
from tasks.tracking.outbox import Outbox


def tables(work: Path) -> dict[str, str]:
    """Name -> checksum of everything that the newest report was made from, without paths, times and links.

    Raises FileNotFoundError if no report is finished, or an output that it was made from is missing.
    """
    checksums: dict[str, str] = {}
    for manifest, folder in outputs_of_newest_report(work):
        match manifest["stage"]:
            case "align":
                # equal shards have one entry; the index shows the number of clips
                digest = sha256(folder / "clips.parquet")
                checksums[f"shard {digest[:12]}"] = digest
            case "index":
                name = f"index of {manifest['counts']['given']} clips"
                table = pd.read_parquet(folder / "index.parquet").drop(columns="shard").to_csv()
                checksums[name] = _digest(table.replace(str(work), ""))  # reasons name files
            case "train":
                checksums[f"model {_arm(manifest)}"] = sha256(folder / "model.safetensors")
            case "evaluate":
                model = json.loads((Path(manifest["made_from"][0]["folder"]) / MANIFEST).read_text())
                name = f"{_arm(model)} on {manifest['key']['dataset']}"
                checksums[f"predictions of {name}"] = sha256(folder / "predictions.parquet")
                checksums[f"metrics of {name}"] = sha256(folder / "metrics.json")
            case "report":
                checksums["results"] = sha256(folder / "results.csv")
                checksums["runs"] = _digest(pd.read_csv(folder / "runs.csv").drop(columns="url").to_csv())
    return checksums


def differences(expected: Mapping[str, str], actual: Mapping[str, str]) -> list[str]:
    """Entries that are missing, new, or different."""
    return [
        f"{name} {'is new' if name not in expected else 'differs' if name in actual else 'is missing'}"
        for name in sorted(expected.keys() | actual.keys())
        if expected.get(name) != actual.get(name)
    ]


def mlflow_problems(work: Path, uri: str, epochs: int) -> list[str]:
    """What MLflow lacks or has twice of the runs of a work folder."""
    from mlflow.tracking import MlflowClient

    client, outbox, problems = MlflowClient(uri), Outbox(work / "mlflow" / "outbox"), []
    if pending := outbox.pending():
        problems.append(f"{len(pending)} runs are not delivered")
    experiment = client.get_experiment_by_name("demo")
    if experiment is None:
        return ["MLflow has no experiment of the pipeline"]
    finished: Counter[str] = Counter()
    for run in outbox.runs():
        matches = client.search_runs([experiment.experiment_id], f"tags.`dfer.id` = '{run.id}'")
        if len(matches) != 1:
            problems.append(f"run {run.id} is in MLflow {len(matches)} times")
            continue
        (logged,) = matches
        name = logged.info.run_name
        if logged.info.status == "RUNNING":
            problems.append(f"{name} is still running")
        if refused := run.delivered.refused:
            problems.append(f"{name}: {refused} operations were refused")
        if logged.data.tags["dfer.kind"] != "arm":
            continue
        steps = [metric.step for metric in client.get_metric_history(logged.info.run_id, "epoch/loss")]
        if len(steps) != len(set(steps)):
            problems.append(f"{name}: epochs twice: {steps}")
        if logged.info.status == "FINISHED":
            finished[name] += 1
            if steps != list(range(1, epochs + 1)):
                problems.append(f"{name}: epochs {steps}")
            if len(logged.outputs.model_outputs if logged.outputs else ()) != 1:
                problems.append(f"{name}: not exactly one model")
    return problems + [f"{name} was trained {times} times" for name, times in finished.items() if times > 1]


def _arm(manifest: Mapping[str, Any]) -> str:
    arm = manifest["key"]["arm"]
    return f"{arm['labels']} {arm['mixing']}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
