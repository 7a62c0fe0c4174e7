"""The same shards, whatever runs the align tasks."""

from __future__ import annotations

import json
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest
from tiny import CONFIG

from dfer.faces.index import FILE_NAME, read_index
from dfer.storage.store import StageResult

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

SMALL = (
    "shards.clips_per_shard=6",
    "shards.max_failed_share=0.5",
    "shards.frames_per_segment=1",
    "model.pretrained=null",
    "run.workers=2",
)


@dataclass(frozen=True)
class Aligned:
    """What a flow that ends with the indexes came to, and the states of its task runs by their names."""

    shards: dict[str, list[StageResult]]
    indexes: dict[str, StageResult]
    states: dict[str, str]

    def checksums(self) -> dict[str, list[dict[str, str]]]:
        return {
            name: [{file["path"]: file["sha256"] for file in manifest(made)["files"]} for made in shards]
            for name, shards in self.shards.items()
        }


def manifest(made: StageResult) -> dict:
    return json.loads((made.output.path / "manifest.json").read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    from dfer.demo import generate

    folder = tmp_path_factory.mktemp("data")
    generate(folder, clips=21, seed=0, workers=2)
    return folder


@pytest.fixture(scope="module")
def align(data: Path) -> Iterator[Callable[..., Aligned]]:
    """Ingest and align the demo data's two sets in a work directory; everything after that is left out."""
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.context import FlowRunContext
    from prefect.testing.utilities import prefect_test_harness

    from dfer.config.reading import load_pipeline
    from tasks.ingest import clips_of
    from tasks.running.graph_run import GraphRun
    from tasks.running.progress import Progress
    from tasks.running.slots import Slots
    from tasks.running.stage import RunResources
    from tasks.stages import graph_of

    where = (f"datasets.dfew.root={data / 'dfew'}", f"datasets.afew.root={data / 'afew'}")
    runs = []

    @flow
    def aligned(overrides: list[str]) -> tuple[dict[str, list[StageResult]], dict[str, StageResult]]:
        runs.append(FlowRunContext.get().flow_run.id)
        plan = load_pipeline("dfew-fold1", CONFIG, overrides)
        run = GraphRun(plan)
        graph = graph_of(plan, clips=lambda dataset: clips_of(run.result(graph["ingest"][dataset])))
        with Slots(plan) as slots:
            for phase in islice(graph.phases(), 2):
                run.run(phase, RunResources(slots, None, Progress()))  # nothing is tracked before a training
        indexes = {faces.dataset: run.result(node) for faces, node in graph["index"].items()}
        tasks = [node for node in graph["align"].values() if node.remote]
        names = {node: node.arguments["faces"].dataset for node in tasks}
        return {name: run.results(n for n in tasks if names[n] == name) for name in plan.datasets}, indexes

    def states() -> dict[str, str]:
        """Of the newest run's tasks, as the server has them once it knows the end of all."""
        newest = FlowRunFilter(id=FlowRunFilterId(any_=[runs[-1]]))
        for _ in range(60):
            with get_client(sync_client=True) as client:
                ours = client.read_task_runs(flow_run_filter=newest)
            if all(task.state.is_final() for task in ours):
                break
            time.sleep(1)
        return {task.name: task.state_name for task in ours}

    def run(work: Path, *overrides: str) -> Aligned:
        shards, indexes = aligned([*SMALL, *where, f"work_dir={work}", *overrides])
        return Aligned(shards, indexes, states())

    run.states = states  # type: ignore[attr-defined]
    with prefect_test_harness(server_startup_timeout=180):
        yield run


@pytest.fixture(scope="module")
def by_threads(align, tmp_path_factory) -> Aligned:
    return align(tmp_path_factory.mktemp("threads"))


@pytest.mark.parametrize("runner", ["processes", "dask", "ray"])
def test_shards_are_the_same_byte_for_byte(align, by_threads, tmp_path, caplog, runner):
    with caplog.at_level(logging.INFO, "tasks.running.task_runners"):
        there = align(tmp_path, f"run.task_runner={runner}")
    said = {(record.clip_id, record.reason) for record in caplog.records if record.name == "tasks.running.task_runners"}
    indexes = [read_index(index.output.path / FILE_NAME) for index in there.indexes.values()]
    failed = [index[index["status"] != "ok"] for index in indexes]
    assert said == {clip for index in failed for clip in zip(index["clip_id"], index["reason"], strict=True)}
    assert said
    assert there.checksums() == by_threads.checksums()
    assert sum(map(len, there.shards.values())) >= 4
    for name, index in there.indexes.items():
        ours = read_index(index.output.path / FILE_NAME)
        assert ours.equals(read_index(by_threads.indexes[name].output.path / FILE_NAME))
        assert (ours["status"] != "ok").sum() == index.output.counts["given"] - index.output.counts["ok"]
    assert {state for name, state in there.states.items() if name.startswith("align ")} == {"Completed"}

    again = align(tmp_path, f"run.task_runner={runner}")
    assert not any(made.executed for shards in again.shards.values() for made in shards)
    assert {state for name, state in again.states.items() if name.startswith("align ")} == {"Cached"}


def test_a_process_that_dies_fails_its_task_and_nothing_is_left_half_done(align, by_threads, tmp_path):
    def kill() -> None:
        while not list(tmp_path.glob("stages/align/.*.partial")):
            time.sleep(0.02)
        for process in multiprocessing.active_children():
            process.kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(BrokenProcessPool) as caught:
        align(tmp_path, "run.task_runner=processes")
    killer.join()
    (note,) = caught.value.__notes__
    states = align.states()
    # one that was killed right after its beginning may not have come to tell the server of it
    assert states.get(note.removeprefix("stage: "), "Crashed") == "Crashed"
    assert "Running" not in states.values()

    assert align(tmp_path, "run.task_runner=processes").checksums() == by_threads.checksums()
