"""Data sets on disk -> the clip table. One adapter a layout; all of them speak the same table and the same report."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from dfer.config.catalogue import LAYOUTS, load
from dfer.datasets.report import Finding, IngestError, IngestReport
from dfer.datasets.table import from_rows

__all__ = ["LAYOUTS", "Finding", "IngestError", "IngestReport", "inspect", "load_clips"]


def load_clips(name: str, root: Path | str, *, dataset: str | None = None, source: str | None = None) -> pd.DataFrame:
    """The clip table of the data set in `root`, sorted by clip id; see `dfer.datasets.table` for its columns.

    `name`: the layout, a key of `LAYOUTS`, or `module:function` for an adapter of one's own. `dataset`: what the set is
    called in the table and in the clip ids, the layout's name unless given, so that a second set of the same layout can
    stand beside the first; a layout named `module:function` needs one. `source`: which of the layout's kinds of clips
    to use (the adapter's `SOURCES`), its default unless given.
    Raises IngestError, holding the report, if the data cannot be used as it is; ValueError for an unknown name or
    source.
    """
    table, report = inspect(name, root, dataset=dataset, source=source)
    if report.fatal:
        raise IngestError(report)
    return table


def inspect(
    name: str, root: Path | str, *, dataset: str | None = None, source: str | None = None
) -> tuple[pd.DataFrame, IngestReport]:
    """The clip table, as far as it can be made, and the report on everything that was found; arguments as in
    `load_clips`.

    Whatever is wrong with the data is a finding of the report, nothing is raised for it. Raises ValueError for an
    unknown name or source and for a `dataset` that is no plain word.
    """
    if name not in LAYOUTS and ":" not in name:
        raise ValueError(
            f"unknown data set layout {name!r}; known are {', '.join(LAYOUTS)}, or your own as module:function"
        )
    adapter = load(LAYOUTS.get(name, name))
    dataset = name if dataset is None else dataset
    if not re.fullmatch(r"[\w-]+", dataset, flags=re.ASCII):
        raise ValueError(f"a data set's name may hold letters, digits, '-' and '_' only, got {dataset!r}")
    chosen = {} if source is None else {"source": source}
    try:
        table, report = adapter(Path(root), dataset=dataset, **chosen)
    except OSError as error:
        unreadable = Finding("unreadable", "error", f"a file or folder cannot be read; check its permissions: {error}")
        return from_rows([]), IngestReport(dataset, str(root), (unreadable,))
    if table.empty and not report.fatal:
        nothing = Finding("no_clips", "error", "the folders are there but hold no clips; unpack the download into them")
        report = replace(report, findings=(*report.findings, nothing))
    return table, report
