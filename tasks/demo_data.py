"""Stage `demo-data`: the synthetic data sets."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from dfer.config.pipeline import Pipeline
from dfer.storage.store import CacheKey, StageResult
from tasks.running.failures import note_stage
from tasks.running.graph import ExpectedOutput, Graph, Node, Stage
from tasks.running.stage import RunResources, ensure, task_result

VERSION = 2

TITLE = "demo-data"


def cache_key(pipeline: Pipeline) -> CacheKey:
    """What determines the synthetic data sets."""
    return CacheKey("demo-data", VERSION, pipeline.demo_data.model_dump(mode="json"))


def nodes(graph: Graph) -> dict[str, Node]:
    """One node for all synthetic data sets."""
    pipeline = graph.pipeline
    expected = ExpectedOutput("demo-data", TITLE, cache_key(pipeline), clips=pipeline.demo_data.clips)
    return {TITLE: Node("demo-data", TITLE, make_demo_data, expect=lambda inputs: [expected], needs_run=True)}


def _generates(pipeline: Pipeline) -> bool:
    return any(dataset.generated for dataset in pipeline.datasets.values())


STAGE = Stage("demo-data", nodes, _generates)


@task(name="demo-data", task_run_name=TITLE, cache_policy=NO_CACHE, on_failure=[note_stage])
def make_demo_data(pipeline: Pipeline, run: RunResources) -> StageResult:
    """Write the synthetic data sets that the pipeline uses."""

    def work(folder: Path) -> dict[str, int]:
        from dfer.demo import generate

        with run.progress.bar(TITLE, "clips drawn") as advance:
            summary = generate(
                folder,
                clips=pipeline.demo_data.clips,
                seed=pipeline.demo_data.seed,
                workers=pipeline.workers,
                on_clip=advance,
            )
        return summary.clips

    return task_result(ensure(pipeline, cache_key(pipeline), work))
