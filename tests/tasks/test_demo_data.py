from __future__ import annotations

from pathlib import Path

from tiny import CONFIG

from dfer.config.reading import load_pipeline
from dfer.storage.store import CacheKey, Output
from tasks.demo_data import make_demo_data
from tasks.inspection.dry_run import dry_run
from tasks.running.graph import ExpectedOutput
from tasks.running.progress import Count, Progress, under_way
from tasks.running.slots import Slots
from tasks.running.stage import RunResources

TINY = ("demo_data.clips=7", "run.workers=1")


def drawn_for(name: str, work: Path) -> dict[str, CacheKey]:
    """Title of each task of the stage -> what determines its output."""
    keys: dict[str, CacheKey] = {}

    def visit(expected: ExpectedOutput) -> Output | None:
        if expected.stage == "demo-data" and expected.cache_key is not None:
            keys[expected.title] = expected.cache_key
        return None

    dry_run(load_pipeline(name, CONFIG, [*TINY, f"work_dir={work}"]), visit, tolerant=True)
    return keys


def test_a_pipeline_draws_the_data_sets_that_it_uses_and_another_one_the_missing_one(tmp_path: Path) -> None:
    demo, paper = drawn_for("demo", tmp_path), drawn_for("paper-demo", tmp_path)
    assert set(demo) == {"demo-data dfew", "demo-data afew"}
    assert set(paper) - set(demo) == {"demo-data ferv39k"}
    assert {paper[title].hash for title in demo} == {key.hash for key in demo.values()}
    assert len({key.hash for key in paper.values()}) == 3


def test_the_output_is_one_data_set_and_is_drawn_once(tmp_path: Path) -> None:
    pipeline = load_pipeline("demo", CONFIG, [*TINY, f"work_dir={tmp_path}"])
    at_work: set[str] = set()

    class Sink:
        def update(self, count: Count) -> None:
            at_work.add(str(under_way))

    progress = Progress(Sink())
    with Slots(pipeline) as slots:
        run = RunResources(slots, None, progress)  # type: ignore[arg-type]
        result = make_demo_data.fn(pipeline, "afew", run)
        again = make_demo_data.fn(pipeline, "afew", run)
    assert {path.name for path in result.output.path.iterdir()} == {"afew", "README.txt", "manifest.json"}
    assert result.output.counts == {"afew": 7}
    assert str(progress.counts["demo-data afew"]).startswith("7 of 7 clips drawn")
    assert at_work == {"demo-data"}  # by its title in a run of a flow
    assert again.data.output == result.output  # Prefect's state `Cached`
