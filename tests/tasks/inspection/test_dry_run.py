"""A dry run visits every output that a run makes, once, in order; and says what it cannot know."""

from __future__ import annotations

import shutil

import pytest
from made_up import make, write_config

from dfer.config.reading import load_pipeline, read_config
from dfer.storage.store import Output
from tasks.inspection.dry_run import DryRun, dry_run
from tasks.running.graph import ExpectedOutput
from tasks.running.stage import store_of
from tasks.stages import STAGES


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


def visits(pipeline, answer, **how) -> tuple[list[ExpectedOutput], DryRun]:
    visited: list[ExpectedOutput] = []

    def visit(expected):
        visited.append(expected)
        return answer(expected)

    return visited, dry_run(pipeline, visit, **how)


def in_store(pipeline):
    store = store_of(pipeline)

    def answer(expected):
        existing = store.find(expected.cache_key) if expected.cache_key is not None else None
        return existing if isinstance(existing, Output) else None

    return answer


def test_all_outputs_in_the_order_of_the_stages(config):
    make(config, "on-a")
    pipeline = load_pipeline("on-a", config)
    visited, result = visits(pipeline, in_store(pipeline))
    numbers = {stage: sum(expected.stage == stage for expected in visited) for stage in STAGES}
    expected = {"ingest": 2, "align": 14, "index": 2, "train": 1, "evaluate": 2, "report": 1}
    assert numbers == {"demo-data": 0, "split": 0, **expected}
    hashes = [expected.cache_key.hash for expected in visited]
    assert len(set(hashes)) == len(hashes)
    made_before: set[str] = set()
    for expected in visited:
        assert {made.hash for made in expected.cache_key.inputs} <= made_before
        made_before.add(expected.cache_key.hash)
    assert not result.unknown
    assert {name: list(trainings.values()) for name, trainings in result.trainings.items()} == {
        "own-test-part": [True],
        "across-to-b": [True],
        "confusion": [True],
    }


def test_hashes_do_not_depend_on_whether_something_is_there(config):
    """What is needed can be told although nothing is made yet: builds do not count, only what things are made of."""
    pipeline = load_pipeline("on-a", config)
    visited, _ = visits(pipeline, lambda expected: Output(expected.stage, expected.cache_key.hash, "", "/nowhere"))
    made = make(config, "on-a")
    assert {expected.cache_key.hash for expected in visited} == {
        output.hash for outputs in made.values() for output in outputs
    }


def test_without_an_input_there_is_no_cache_key(config):
    visited, result = visits(load_pipeline("on-a", config), lambda expected: None)
    without = {expected.stage for expected in visited if expected.cache_key is None}
    assert without == {"index", "train", "evaluate", "report"}
    assert not any(exists for trainings in result.trainings.values() for exists in trainings.values())


def test_a_data_set_that_is_gone(config):
    shutil.rmtree(config.parent / "data" / "b")
    (pipeline, _) = read_config(config)[1]
    with pytest.raises(FileNotFoundError, match="b does not exist"):
        visits(pipeline, lambda expected: None)
    visited, result = visits(
        pipeline,
        lambda expected: expected.cache_key and Output(expected.stage, expected.cache_key.hash, "", ""),
        tolerant=True,
    )
    assert list(result.unknown) == list(result.broken) == ["b"]
    known = {(expected.stage, expected.dataset) for expected in visited if expected.cache_key is not None}
    assert known == {("ingest", "a"), ("align", "a"), ("index", "a"), ("train", "a"), ("evaluate", "a")}


def test_an_empty_folder_is_no_data_set(config):
    """As where a disk is not mounted."""
    shutil.rmtree(config.parent / "data" / "b")
    (config.parent / "data" / "b").mkdir()
    (pipeline, _) = read_config(config)[1]
    _, result = visits(pipeline, lambda expected: None, tolerant=True)
    assert result.broken["b"].startswith("ERROR")


def test_weights_that_are_gone_leave_open_what_trainings_there_are(config):
    pipeline = read_config(config, ["model.pretrained=/nowhere/weights.pth"])[1][0]
    visited, result = visits(
        pipeline,
        lambda expected: expected.cache_key and Output(expected.stage, expected.cache_key.hash, "", ""),
        tolerant=True,
    )
    assert "/nowhere/weights.pth" in result.unknown["a"]
    assert {expected.stage for expected in visited if expected.cache_key is not None} == {"ingest", "align", "index"}


def test_a_detector_that_is_gone_leaves_open_what_shards_there_are(config):
    pipeline = read_config(config, ["detection.model=/nowhere/mine.onnx"])[1][0]
    visited, result = visits(pipeline, lambda expected: None, tolerant=True)
    assert set(result.unknown) == {"a", "b"}
    assert all(expected.cache_key is None for expected in visited if expected.stage == "align")
