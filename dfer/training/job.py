"""A training as files, for processes that do it together, on one machine or several that share the folder.

`job/` in the training's folder: `job.json` (settings and paths), the clip tables and the align index as Parquet, and in
the end `result.json`. No pickles.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd

from dfer.storage.files import replacing, sha256, write_atomically
from dfer.storage.remote import Location, is_url
from dfer.training.plan import Plan, Resources, TrainingData

FOLDER, _JOB, _RESULT = "job", "job.json", "result.json"
_TABLES = ("clips", "monitor", "index")
_NAMES = {"train": "settings"}  # sections that job.json has under another name


@dataclass(frozen=True)
class Job:
    """A training that is written down."""

    path: Path  # the job's folder
    plan: Plan  # plan, root, card, resources: see `dfer.training.train`
    digests: Mapping[str, str | None]  # table -> SHA-256 of its Parquet file; None for a table that is None
    root: Location
    card: Mapping[str, Any]
    resources: Resources

    @property
    def folder(self) -> Path:
        """The training's folder."""
        return self.path.parent

    def data(self) -> TrainingData:
        """Read the tables."""
        tables = {
            name: None if self.digests[name] is None else pd.read_parquet(self.path / f"{name}.parquet")
            for name in _TABLES
        }
        return TrainingData(**tables, root=self.root)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Note that the training is done: its `epoch`, `history` and `summary`."""
        write_atomically(self.path / _RESULT, json.dumps(result, allow_nan=False).encode())

    @property
    def result(self) -> dict[str, Any] | None:
        """What `finish` noted; None before that."""
        path = self.path / _RESULT
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def remove(self) -> None:
        """Delete the job's folder."""
        shutil.rmtree(self.path)


def write_job(plan: Plan, data: TrainingData, folder: Path, *, card: Mapping[str, Any], resources: Resources) -> Job:
    """Write a training into its folder. The result of the same job from before stays, even if its resources differ."""
    path = folder.resolve() / FOLDER
    path.mkdir(parents=True, exist_ok=True)
    before = read_job(path) if (path / _JOB).exists() else None
    digests: dict[str, str | None] = {}
    for name in _TABLES:
        table = getattr(data, name)
        if table is not None:
            with replacing(path / f"{name}.parquet") as temporary:
                table.to_parquet(temporary)
        digests[name] = None if table is None else sha256(path / f"{name}.parquet")
    sections = {_NAMES.get(name, name): section for name, section in plan.as_dict().items()}
    root = str(data.root.resolve()) if isinstance(data.root, Path) else data.root
    what = {**sections, **digests, "root": root, "card": dict(card)}
    text = json.dumps({"what": what, "how": asdict(resources)}, indent=1)
    job = _parsed(path, text)
    if before is None or replace(before, resources=resources) != job:
        (path / _RESULT).unlink(missing_ok=True)
    write_atomically(path / _JOB, text.encode())
    return job


def read_job(path: Path) -> Job:
    """The job in a folder. Raises FileNotFoundError if it holds none."""
    file = path / _JOB
    if not file.exists():
        raise FileNotFoundError(f"{file} is not there: expected a job that a run with train.processes has written")
    return _parsed(path, file.read_text(encoding="utf-8"))


def _parsed(path: Path, text: str) -> Job:
    content = json.loads(text)
    what = content["what"]  # earlier versions wrote `extra` too, which decides nothing
    kinds = get_type_hints(Plan)
    # a section that an earlier version did not write has its defaults
    sections = {
        name: kinds[name].model_validate(what.get(_NAMES.get(name, name), {})) for name in Plan.__dataclass_fields__
    }
    root = what["root"] if is_url(what["root"]) else Path(what["root"])
    digests = {name: what[name] for name in _TABLES}
    return Job(path, Plan(**sections), digests, root, what["card"], Resources(**content["how"]))
