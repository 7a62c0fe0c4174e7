"""The walk asks for every output that a run makes, once, in order; and says what it cannot know."""

from __future__ import annotations

import shutil

import pytest
from made_up import make, write_config

from dfer.config.reading import load_pipeline, read_config
from dfer.storage.store import Output
from tasks.inspection.dry_run import STAGES, Step, walk
from tasks.running.stage import store_of


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


def steps(pipeline, answer, **how) -> tuple[list[Step], object]:
    asked: list[Step] = []

    def look(step):
        asked.append(step)
        return answer(step)

    return asked, walk(pipeline, look, **how)


def found(pipeline):
    store = store_of(pipeline)

    def answer(step):
        there = store.find(step.cache_key) if step.cache_key is not None else None
        return there if isinstance(there, Output) else None

    return answer


def test_all_outputs_in_the_order_of_the_stages(config):
    make(config, "on-a")
    pipeline = load_pipeline("on-a", config)
    asked, walked = steps(pipeline, found(pipeline))
    numbers = {stage: sum(step.stage == stage for step in asked) for stage in STAGES}
    assert numbers == {"demo-data": 0, "ingest": 2, "align": 14, "index": 2, "train": 1, "evaluate": 2, "report": 1}
    hashes = [step.cache_key.hash for step in asked]
    assert len(set(hashes)) == len(hashes)
    made_before: set[str] = set()
    for step in asked:
        assert {made.hash for made in step.cache_key.inputs} <= made_before
        made_before.add(step.cache_key.hash)
    assert not walked.unknown
    assert {name: list(own.values()) for name, own in walked.trainings.items()} == {
        "own-test-part": [True],
        "across-to-b": [True],
        "confusion": [True],
    }


def test_hashes_do_not_depend_on_whether_something_is_there(config):
    """What is needed can be told although nothing is made yet: builds do not count, only what things are made of."""
    pipeline = load_pipeline("on-a", config)
    asked, _ = steps(pipeline, lambda step: Output(step.stage, step.cache_key.hash, "", "/nowhere"))
    made = make(config, "on-a")
    assert {step.cache_key.hash for step in asked} == {output.hash for outputs in made.values() for output in outputs}


def test_without_an_input_there_is_no_recipe(config):
    asked, walked = steps(load_pipeline("on-a", config), lambda step: None)
    without = {step.stage for step in asked if step.cache_key is None}
    assert without == {"index", "train", "evaluate", "report"}
    assert not any(there for own in walked.trainings.values() for there in own.values())


def test_a_data_set_that_is_gone(config):
    shutil.rmtree(config.parent / "data" / "b")
    (pipeline, _) = read_config(config)[1]
    with pytest.raises(FileNotFoundError, match="b is not there"):
        steps(pipeline, lambda step: None)
    asked, walked = steps(
        pipeline, lambda step: step.cache_key and Output(step.stage, step.cache_key.hash, "", ""), tolerant=True
    )
    assert list(walked.unknown) == list(walked.broken) == ["b"]
    known = {(step.stage, step.dataset) for step in asked if step.cache_key is not None}
    assert known == {("ingest", "a"), ("align", "a"), ("index", "a"), ("train", "a"), ("evaluate", "a")}


def test_an_empty_folder_is_no_data_set(config):
    """As where a disk is not mounted."""
    shutil.rmtree(config.parent / "data" / "b")
    (config.parent / "data" / "b").mkdir()
    (pipeline, _) = read_config(config)[1]
    _, walked = steps(pipeline, lambda step: None, tolerant=True)
    assert walked.broken["b"].startswith("ERROR")


def test_weights_that_are_gone_leave_open_what_trainings_there_are(config):
    pipeline = read_config(config, ["model.pretrained=/nowhere/weights.pth"])[1][0]
    asked, walked = steps(
        pipeline, lambda step: step.cache_key and Output(step.stage, step.cache_key.hash, "", ""), tolerant=True
    )
    assert "/nowhere/weights.pth" in walked.unknown["a"]
    assert {step.stage for step in asked if step.cache_key is not None} == {"ingest", "align", "index"}


def test_a_detector_that_is_gone_leaves_open_what_shards_there_are(config):
    pipeline = read_config(config, ["detection.model=/nowhere/mine.onnx"])[1][0]
    asked, walked = steps(pipeline, lambda step: None, tolerant=True)
    assert set(walked.unknown) == {"a", "b"}
    assert all(step.cache_key is None for step in asked if step.stage == "align")
