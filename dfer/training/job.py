"""A training as files, for processes that do it together, on one machine or several that share the folder.

`job/` in the training's folder: `job.json` (settings and paths), the clip tables and the align index as Parquet, and in
the end `result.json`. No pickles.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dfer.config.settings import (
    ArmSettings,
    GroupSettings,
    MixingSettings,
    ModelSettings,
    SamplingSettings,
    Section,
    TrainSettings,
)
from dfer.storage.files import replacing, sha256, write_atomically
from dfer.storage.remote import is_url

FOLDER, _JOB, _RESULT = "job", "job.json", "result.json"
_SECTIONS: dict[str, type[Section]] = {
    "arm": ArmSettings,
    "mixing": MixingSettings,
    "model": ModelSettings,
    "sampling": SamplingSettings,
    "groups": GroupSettings,
    "settings": TrainSettings,
}
_TABLES = ("clips", "monitor", "index")


@dataclass(frozen=True)
class Job:
    """A job's folder, and what it says: `what` decides the training, `how` its speed; see `dfer.training.train`."""

    path: Path
    what: Mapping[str, Any]
    how: Mapping[str, int | None]

    @property
    def folder(self) -> Path:
        """The training's."""
        return self.path.parent

    @property
    def settings(self) -> TrainSettings:
        return TrainSettings.model_validate(self.what["settings"])

    def arguments(self) -> dict[str, Any]:
        """Arguments for `dfer.training.train`; the tables are read."""
        sections = {name: kind.model_validate(self.what[name]) for name, kind in _SECTIONS.items()}
        tables = {
            name: pd.read_parquet(self.path / f"{name}.parquet") if self.what[name] is not None else None
            for name in _TABLES
        }
        plain = {
            "root": self.what["root"] if is_url(self.what["root"]) else Path(self.what["root"]),
            "card": self.what["card"],
            "extra": self.what["extra"],
        }
        return {**sections, **tables, **plain, **self.how, "folder": self.folder}

    def finish(self, result: Mapping[str, Any]) -> None:
        """Note that the training is done: its `epoch`, `history` and `summary`."""
        write_atomically(self.path / _RESULT, json.dumps(result, allow_nan=False).encode())

    @property
    def result(self) -> dict[str, Any] | None:
        """What `finish` has noted; None before that."""
        path = self.path / _RESULT
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def remove(self) -> None:
        shutil.rmtree(self.path)


def write_job(
    folder: Path,
    *,
    sections: Mapping[str, Section],
    tables: Mapping[str, pd.DataFrame | None],
    root: Path | str,
    card: Mapping[str, Any],
    extra: Mapping[str, Any] | None,
    how: Mapping[str, int | None],
) -> Job:
    """Write a job into a training's folder. The same one that is there already keeps its result."""
    path = folder.resolve() / FOLDER
    path.mkdir(parents=True, exist_ok=True)
    before = read_job(path) if (path / _JOB).exists() else None
    digests: dict[str, str | None] = {}
    for name, table in tables.items():
        digests[name] = None
        if table is not None:
            with replacing(path / f"{name}.parquet") as temporary:
                table.to_parquet(temporary)
            digests[name] = sha256(path / f"{name}.parquet")
    what = {
        **{name: section.model_dump(mode="json") for name, section in sections.items()},
        **digests,
        "root": str(root.resolve()) if isinstance(root, Path) else root,
        "card": dict(card),
        "extra": dict(extra) if extra is not None else None,
    }
    if before is None or before.what != what:
        (path / _RESULT).unlink(missing_ok=True)
    write_atomically(path / _JOB, json.dumps({"what": what, "how": dict(how)}, indent=1).encode())
    return Job(path, what, how)


def read_job(path: Path) -> Job:
    """Raises FileNotFoundError where there is none."""
    file = path / _JOB
    if not file.exists():
        raise FileNotFoundError(f"{file} is not there: expected a job that a run with train.processes has written")
    content = json.loads(file.read_text(encoding="utf-8"))
    return Job(path, content["what"], content["how"])
