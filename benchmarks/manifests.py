"""Reads the manifests of a finished run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]


def outputs_of_newest_report(work: Path) -> Iterator[tuple[Manifest, Path]]:
    """Manifest and folder of the newest report of a work folder, and of every output that it was made from.

    Raises FileNotFoundError if no report is finished, or an output that it was made from is missing.
    """
    reports = {path.parent: json.loads(path.read_text()) for path in work.glob("stages/report/[!.]*/manifest.json")}
    if not reports:
        raise FileNotFoundError(f"no finished report in {work}: run a pipeline to its end first")
    # not by the paths in the manifests: the folder may have been copied
    pending = [max(reports, key=lambda folder: reports[folder]["created"])]
    visited: set[Path] = set()
    while pending:
        if (folder := pending.pop()) not in visited:
            visited.add(folder)
            manifest = json.loads((folder / "manifest.json").read_text())
            yield manifest, folder
            pending += [work / "stages" / upstream["stage"] / upstream["hash"] for upstream in manifest["made_from"]]
