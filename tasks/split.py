"""Stage `split`: a data set's clip table with folds in which no clip gives away one of another fold."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from dfer.config.experiments import Faces
from dfer.config.pipeline import Pipeline
from dfer.faces.index import FILE_NAME
from dfer.storage.store import CacheKey, Output, StageResult
from tasks.ingest import CLIPS, FINDINGS
from tasks.running.failures import note_stage
from tasks.running.graph import ExpectedOutput, Graph, Inputs, Node, Stage, complete
from tasks.running.stage import RunResources, ensure, store_of, task_result

if TYPE_CHECKING:
    from dfer.config.experiments import Training

VERSION = 1


def cache_key(ingested: Output, index: Output) -> CacheKey:
    """What determines the folds."""
    return CacheKey("split", VERSION, {"split": "disjoint"}, (ingested, index))


def nodes(graph: Graph) -> dict[Faces, Node]:
    """One node for each data set and the settings of its faces that is trained on with disjoint folds."""

    def node(faces: Faces) -> Node:
        title = f"split {graph.title(faces)}"

        def expect(inputs: Inputs) -> Iterator[ExpectedOutput]:
            key = cache_key(**inputs) if complete(inputs) else None
            clips = graph.clips(faces.dataset)
            yield ExpectedOutput("split", title, key, faces.dataset, 0 if clips is None else len(clips), faces=faces)

        inputs = {"ingested": graph["ingest"][faces.dataset], "index": graph["index"][faces]}
        return Node("split", title, split_anew, {"faces": faces, "title": title}, inputs, expect, needs_run=True)

    used = dict.fromkeys(training.faces for training in graph.trainings if training.split == "disjoint")
    for faces in used:
        _check_folds(graph, faces)
    return {faces: node(faces) for faces in used}


def _check_folds(graph: Graph, faces: Faces) -> None:
    clips = graph.clips(faces.dataset)
    if clips is not None and not clips["fold"].notna().any():
        graph.tolerate(
            ValueError(f"split: disjoint makes folds anew, but {faces.dataset} has splits: use split: official"),
            faces.dataset,
        )


def clip_table_of(graph: Graph, training: Training) -> Node:
    """The node whose output has the clip table that a training takes its folds from."""
    return graph["split"][training.faces] if training.split == "disjoint" else graph["ingest"][training.dataset]


STAGE = Stage(
    "split", nodes, lambda pipeline: any(experiment.entry.split != "official" for experiment in pipeline.experiments)
)


@task(name="split", cache_policy=NO_CACHE, on_failure=[note_stage])
def split_anew(
    pipeline: Pipeline, faces: Faces, title: str, ingested: StageResult, index: StageResult, run: RunResources
) -> StageResult:
    """Make folds without leakage. The output can stand for the ingest's: it has the same files, with other folds."""
    slot = run.slots.aligning()

    def work(folder: Path) -> dict[str, int]:
        from dfer.analysis.disjoint_split import write_in_process

        shutil.copy(ingested.output.file(FINDINGS), folder / FINDINGS)
        clips = index.output.counts["ok"]
        with run.progress.bar(title, "clips looked at", share=clips) as advance, slot.workers.one() as process:
            return process.call(
                write_in_process,
                on_message=lambda _: advance(),
                clips=ingested.output.file(CLIPS),
                index=index.output.file(FILE_NAME),
                root=store_of(pipeline).root,
                folder=folder,
                table_name=CLIPS,
            )

    return task_result(ensure(pipeline, cache_key(ingested.output, index.output), work, slot=lambda: slot))
