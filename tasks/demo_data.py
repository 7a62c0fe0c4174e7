"""Stage `demo-data`: the synthetic data sets."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from dfer.config.reading import Pipeline
from dfer.storage.store import CacheKey, StageResult
from tasks.running import progress
from tasks.running.failures import note_stage
from tasks.running.stage import ensure, shown

VERSION = 2


def cache_key(pipeline: Pipeline) -> CacheKey:
    """What determines the synthetic data sets."""
    return CacheKey("demo-data", VERSION, pipeline.demo_data.model_dump(mode="json"))


@task(name="demo-data", task_run_name="demo-data", cache_policy=NO_CACHE, on_failure=[note_stage])
def make_demo_data(pipeline: Pipeline) -> StageResult:
    """Write the synthetic data sets that the pipeline uses."""

    def work(folder: Path) -> dict[str, int]:
        from dfer.demo import generate

        with progress.bar("demo-data", "clips drawn") as advance:
            summary = generate(
                folder,
                clips=pipeline.demo_data.clips,
                seed=pipeline.demo_data.seed,
                workers=pipeline.workers,
                on_clip=advance,
            )
        return summary.clips

    return shown(ensure(pipeline, cache_key(pipeline), work))
