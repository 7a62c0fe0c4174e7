"""What every stage's task has in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from prefect.states import Completed, State

from dfer.config import Pipeline
from dfer.store import Made, Output, Recipe, Store


def store_of(pipeline: Pipeline) -> Store:
    return Store(pipeline.work_dir / "stages")


def is_made(pipeline: Pipeline, recipe: Recipe) -> bool:
    return isinstance(store_of(pipeline).find(recipe), Output)


def ensure(
    pipeline: Pipeline,
    recipe: Recipe,
    work: Callable[[Path], Mapping[str, int] | None],
    *,
    resumable: bool = False,
) -> Made | State:
    """Make a stage's output, or find it made.

    The one cache is the folder with its manifest, which is checked against the files that are there. An output that was
    found shows in Prefect as `Cached`, with or without a server's memory of earlier runs.
    """
    made = store_of(pipeline).ensure(recipe, work, resumable=resumable)
    if made.executed:
        return made
    return Completed(name="Cached", message=f"{recipe.stage} {recipe.hash[:8]} was there", data=made)
