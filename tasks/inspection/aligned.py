"""The aligned faces of a data set that a pipeline has made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from dfer.config.pipeline import Pipeline
from dfer.config.problems import InputError
from dfer.faces.index import FILE_NAME, read_index
from dfer.storage.remote import Location
from dfer.storage.store import Output
from tasks.inspection.dry_run import dry_run
from tasks.running.graph import ExpectedOutput
from tasks.running.stage import store_of


@dataclass(frozen=True)
class Aligned:
    """`clips`: the clip table; `index`: the align index; `root`: the folder that its shards are below."""

    pipeline: str
    clips: pd.DataFrame
    index: pd.DataFrame
    root: Location


def find(dataset: str, pipelines: Sequence[Pipeline]) -> Aligned:
    """What the first of the pipelines that has aligned all clips of a data set has made of them.

    Raises InputError if none has, with the command that does.
    """
    users = [pipeline for pipeline in pipelines if dataset in pipeline.datasets]
    if not users:
        raise InputError(f"no pipeline uses {dataset}, so none has aligned its faces: add one, or see `dfer datasets`")
    for pipeline in users:
        tables, indexes = _visited(dataset, pipeline)
        if tables and indexes:
            return Aligned(pipeline.name, tables[0], read_index(indexes[0].file(FILE_NAME)), store_of(pipeline).root)
    raise InputError(
        f"the faces of {dataset} are not aligned yet, and clips are compared by their faces: make them with: dfer run "
        f"{users[0].name}"
    )


def _visited(dataset: str, pipeline: Pipeline) -> tuple[list[pd.DataFrame], list[Output]]:
    """The clip tables of a data set in a pipeline, and its align indexes that exist."""
    store = store_of(pipeline)
    tables: list[pd.DataFrame] = []
    indexes: list[Output] = []

    def visit(expected: ExpectedOutput) -> Output | None:
        is_it = expected.dataset == dataset
        if is_it and expected.table is not None:
            tables.append(expected.table)
        found = None if expected.cache_key is None else store.find(expected.cache_key)
        if not isinstance(found, Output):
            return None
        if is_it and expected.stage == "index":
            indexes.append(found)
        return found

    dry_run(pipeline, visit, tolerant=True)
    return tables, indexes
