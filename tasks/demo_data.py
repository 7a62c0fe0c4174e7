"""Stage `demo-data`: the synthetic data sets, each by itself, so that a pipeline draws only those that it uses."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from dfer.config.pipeline import Pipeline
from dfer.storage.store import CacheKey, StageResult
from tasks.running.failures import note_stage
from tasks.running.graph import ExpectedOutput, Graph, Node, Stage
from tasks.running.stage import RunResources, ensure, task_result

VERSION = 3


def part_of(pipeline: Pipeline, dataset: str) -> str | None:
    """Which of the demo data sets (`dfer.demo.casting.DATA_SETS`) a data set is; None for one that is not generated."""
    settings = pipeline.datasets[dataset]
    return str(settings.root) if settings.generated else None


def cache_key(pipeline: Pipeline, part: str) -> CacheKey:
    """What determines a synthetic data set."""
    return CacheKey("demo-data", VERSION, {**pipeline.demo_data.model_dump(mode="json"), "data_set": part})


def nodes(graph: Graph) -> dict[str, Node]:
    """One node for each synthetic data set that the pipeline uses."""
    pipeline = graph.pipeline

    def node(part: str) -> Node:
        title = f"demo-data {part}"
        expected = ExpectedOutput("demo-data", title, cache_key(pipeline, part), clips=pipeline.demo_data.clips)
        return Node(
            "demo-data", title, make_demo_data, {"part": part}, expect=lambda inputs: [expected], needs_run=True
        )

    return {part: node(part) for part in _parts(pipeline)}


def _parts(pipeline: Pipeline) -> list[str]:
    parts = (part_of(pipeline, dataset) for dataset in pipeline.datasets)
    return list(dict.fromkeys(part for part in parts if part is not None))


STAGE = Stage("demo-data", nodes, lambda pipeline: bool(_parts(pipeline)))


@task(name="demo-data", task_run_name="demo-data {part}", cache_policy=NO_CACHE, on_failure=[note_stage])
def make_demo_data(pipeline: Pipeline, part: str, run: RunResources) -> StageResult:
    """Write a synthetic data set that the pipeline uses."""

    def work(folder: Path) -> dict[str, int]:
        from dfer.demo import generate

        with run.progress.bar(f"demo-data {part}", "clips drawn") as advance:
            summary = generate(
                folder,
                clips=pipeline.demo_data.clips,
                seed=pipeline.demo_data.seed,
                data_sets=[part],
                workers=pipeline.workers,
                on_clip=advance,
            )
        return summary.clips

    return task_result(ensure(pipeline, cache_key(pipeline, part), work, slot=run.slots.drawing))
