"""A stage of one's own: clips of each label, after ingest. `own_stage.STAGE` goes into `PHASES` in tasks/stages.py."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from dfer.storage.store import CacheKey, Output, StageResult
from tasks.ingest import clips_of
from tasks.running.failures import note_stage
from tasks.running.graph import Graph, Node, Stage, one_output
from tasks.running.stage import ensure, task_result


def cache_key(ingested: Output) -> CacheKey:
    """What determines the counts: the clip table, and the version of the code below (1)."""
    return CacheKey("count", 1, {}, (ingested,))


def nodes(graph: Graph) -> dict[str, Node]:
    def node(dataset: str) -> Node:
        title, inputs = f"count {dataset}", {"ingested": graph["ingest"][dataset]}
        expect = one_output("count", title, cache_key, dataset)
        return Node("count", title, count_labels, inputs=inputs, expect=expect)

    return {dataset: node(dataset) for dataset in graph.pipeline.datasets}


STAGE = Stage("count", nodes)


@task(name="count", cache_policy=NO_CACHE, on_failure=[note_stage])
def count_labels(pipeline, ingested: StageResult) -> StageResult:
    def work(folder: Path) -> dict[str, int]:
        clips_of(ingested)["label"].value_counts().to_csv(folder / "counts.csv")

    return task_result(ensure(pipeline, cache_key(ingested.output), work))
