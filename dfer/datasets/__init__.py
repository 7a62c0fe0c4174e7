"""Data sets on disk -> the clip table. Each layout has an adapter; all return the same kinds of table and report."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from dfer.config.catalogue import LAYOUTS, load
from dfer.datasets.report import Finding, IngestError, IngestReport, SourceError
from dfer.datasets.table import from_rows

__all__ = ["LAYOUTS", "Finding", "IngestError", "IngestReport", "SourceError", "inspect", "load_clips"]


def load_clips(name: str, root: Path | str, *, dataset: str | None = None, source: str | None = None) -> pd.DataFrame:
    """Read the clip table of a data set, sorted by clip id; see `dfer.datasets.table` for its columns.

    Args:
        name: the layout, a key of `LAYOUTS`, or `module:function` for another adapter.
        root: the data set's folder.
        dataset: the set's name in the table and in the clip ids; by default the layout's. Required for a layout named
            `module:function`, and for a second set of the same layout.
        source: which of the layout's kinds of clips to use (the adapter's `SOURCES`).

    Raises IngestError, which has the report, if the data cannot be used as it is; ValueError for an unknown name,
    SourceError, which is one, for an unknown source.
    """
    table, report = inspect(name, root, dataset=dataset, source=source)
    if report.fatal:
        raise IngestError(report)
    return table


def inspect(
    name: str, root: Path | str, *, dataset: str | None = None, source: str | None = None
) -> tuple[pd.DataFrame, IngestReport]:
    """Read the clip table as far as possible, and report all problems of the data; arguments as for `load_clips`.

    Problems of the data are findings of the report; ValueError for an unknown name, or a `dataset` that is no plain
    word; SourceError, which is one, for an unknown source.
    """
    if name not in LAYOUTS and ":" not in name:
        raise ValueError(
            f"unknown data set layout {name!r}; known are {', '.join(LAYOUTS)}, or your own as module:function"
        )
    adapter = load(LAYOUTS.get(name, name))
    dataset = name if dataset is None else dataset
    if not re.fullmatch(r"[\w-]+", dataset, flags=re.ASCII):
        raise ValueError(f"a data set's name may hold letters, digits, '-' and '_' only, got {dataset!r}")
    options = {} if source is None else {"source": source}
    try:
        table, report = adapter(Path(root), dataset=dataset, **options)
    except OSError as error:
        unreadable = Finding("unreadable", "error", f"a file or folder cannot be read; check its permissions: {error}")
        return from_rows([]), IngestReport(dataset, str(root), (unreadable,))
    if table.empty and not report.fatal:
        nothing = Finding("no_clips", "error", "the folders are there but hold no clips; unpack the download into them")
        report = replace(report, findings=(*report.findings, nothing))
    return table, report
