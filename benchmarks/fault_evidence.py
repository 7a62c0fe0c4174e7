"""What a pipeline has come to, for comparing a disturbed run with an undisturbed one."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dfer.storage.files import sha256
from dfer.storage.manifest import MANIFEST
from tasks.tracking.outbox import Outbox


def tables(work: Path) -> dict[str, str]:
    """Name -> checksum of everything that the newest report was made from, without paths, times and links.

    Raises:
        FileNotFoundError: there is no report, or something that it was made from is gone.
    """
    found: dict[str, str] = {}
    for manifest, folder in _made_from(_newest_report(work)):
        match manifest["stage"]:
            case "align":
                # two shards with the same clips would be one: the index has their number
                digest = sha256(folder / "clips.parquet")
                found[f"shard {digest[:12]}"] = digest
            case "index":
                name = f"index of {manifest['counts']['given']} clips"
                table = pd.read_parquet(folder / "index.parquet").drop(columns="shard").to_csv()
                found[name] = _digest(table.replace(str(work), ""))  # reasons name files
            case "train":
                found[f"model {_arm(manifest)}"] = sha256(folder / "model.safetensors")
            case "evaluate":
                model = json.loads((Path(manifest["made_from"][0]["folder"]) / MANIFEST).read_text())
                name = f"{_arm(model)} on {manifest['key']['dataset']}"
                found[f"predictions of {name}"] = sha256(folder / "predictions.parquet")
                found[f"metrics of {name}"] = sha256(folder / "metrics.json")
            case "report":
                found["results"] = sha256(folder / "results.csv")
                found["runs"] = _digest(pd.read_csv(folder / "runs.csv").drop(columns="url").to_csv())
    return found


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What is missing, too much, or not the same."""
    return [
        f"{name} {'differs' if name in expected and name in found else 'is missing' if name in expected else 'is new'}"
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]


def untold(work: Path, uri: str, epochs: int) -> list[str]:
    """What MLflow lacks or has twice of the runs of a work folder; nothing if all is well."""
    from mlflow.tracking import MlflowClient

    client, outbox, problems = MlflowClient(uri), Outbox(work / "mlflow" / "outbox"), []
    if pending := outbox.pending():
        problems.append(f"{len(pending)} runs are not delivered")
    known = client.get_experiment_by_name("demo")
    if known is None:
        return ["MLflow has no experiment of the pipeline"]
    experiment = known.experiment_id
    finished: Counter[str] = Counter()
    for run in outbox.runs():
        there = client.search_runs([experiment], f"tags.`dfer.id` = '{run.id}'")
        if len(there) != 1:
            problems.append(f"run {run.id} is in MLflow {len(there)} times")
            continue
        (made,) = there
        name = made.info.run_name
        if made.info.status == "RUNNING":
            problems.append(f"{name} is still running")
        if refused := run.delivered.refused:
            problems.append(f"{name}: {refused} operations were refused")
        if made.data.tags["dfer.kind"] != "arm":
            continue
        steps = [metric.step for metric in client.get_metric_history(made.info.run_id, "epoch/loss")]
        if len(steps) != len(set(steps)):
            problems.append(f"{name}: epochs twice: {steps}")
        if made.info.status == "FINISHED":
            finished[name] += 1
            if steps != list(range(1, epochs + 1)):
                problems.append(f"{name}: epochs {steps}")
            if len(made.outputs.model_outputs if made.outputs else ()) != 1:
                problems.append(f"{name}: not exactly one model")
    return problems + [f"{name} was trained {times} times" for name, times in finished.items() if times > 1]


def _newest_report(work: Path) -> Path:
    manifests = sorted(work.glob(f"stages/report/*/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
    if not manifests:
        raise FileNotFoundError(f"{work}: no finished report")
    return manifests[-1].parent


def _made_from(folder: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """An output's manifest and those of all that it was made from, each once."""
    left, seen = [folder], set()
    while left:
        folder = left.pop()
        if folder in seen:
            continue
        seen.add(folder)
        manifest = json.loads((folder / MANIFEST).read_text())
        yield manifest, folder
        left += [Path(made["folder"]) for made in manifest["made_from"]]


def _arm(manifest: Mapping[str, Any]) -> str:
    arm = manifest["key"]["arm"]
    return f"{arm['labels']} {arm['mixing']}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
