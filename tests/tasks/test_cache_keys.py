"""A work folder made by an earlier version is found again: the keys of the demo's stages are what they were.

A key that comes out otherwise makes everybody compute everything again. Where a stage's output is meant to be another
one, raise the stage's VERSION and write the new key here. A setting that is added is left out while it has its default.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny import CONFIG

from dfer.config.catalogue import KINETICS_MEAN, KINETICS_STD
from dfer.config.experiments import Faces, evaluations_of, trainings_of
from dfer.config.pipeline import Pipeline
from dfer.config.reading import load_pipeline
from dfer.datasets import IngestReport
from dfer.datasets.table import ClipRow, from_rows
from dfer.storage.store import CacheKey, Output
from tasks import align, demo_data, evaluate, ingest, report, train

KEYS = {
    "demo-data": "342277a1a6e3bc7e",
    "ingest": "f1c92504977b0e62",
    "align": "c6ddea90d58b03e9",
    "index": "9893aaeaa53be414",
    "train": "9b120aeaaa338efa",
    # of an arm whose targets are normalised by softmax, since its probabilities are read out by the inverse
    "evaluate": "189a70d1888a6d60",
    "report": "52b0353bec3f73c9",
}


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_pipeline("demo", CONFIG)


@pytest.fixture(scope="module")
def keys(pipeline: Pipeline) -> dict[str, CacheKey]:
    """Of the demo's first training, which mixes, on a table of one clip; every input has the hash `0...0`."""
    made = Output("any", "0" * 16, "a build", "/work")
    votes = (0, 1, 2, 3, 4, 0, 0)
    clips = from_rows([ClipRow("set/1", "set", "a/1.mp4", votes, 4, fold=1, source_size=7, source_mtime_ns=9)])
    findings = IngestReport("demo-dfew", "/data", (), {"clips": 1})
    rows = {experiment.name: experiment.rows(has_folds=True) for experiment in pipeline.experiments}
    evaluations = evaluations_of(row for table in rows.values() for row in table)
    training = next(one for one in trainings_of(evaluations) if one.arm.mixing != "none")
    evaluation = next(one for one in evaluations if one.training == training)
    keys = [
        demo_data.cache_key(pipeline, "dfew"),
        ingest.cache_key(pipeline, "demo-dfew", clips, findings, made),
        align.align_cache_key(Faces.of("demo-dfew", pipeline.settings), clips, "the detector's checksum"),
        align.index_cache_key("demo-dfew", [made]),
        train.cache_key(training, made, made),
        evaluate.cache_key(evaluation, made, made, made),
        report.cache_key(pipeline, rows, [made], [made], [made]),
    ]
    return {key.stage: key for key in keys}


@pytest.mark.parametrize("stage", KEYS)
def test_a_key_is_what_it_was(keys: dict[str, CacheKey], stage: str) -> None:
    assert keys[stage].hash == KEYS[stage], keys[stage].key


def test_other_arms_are_not_evaluated_anew(pipeline: Pipeline) -> None:
    made = Output("any", "0" * 16, "a build", "/work")
    evaluations = evaluations_of(pipeline.experiments[0].rows(has_folds=True))
    plain = next(one for one in evaluations if one.training.arm.normalize == "none")
    assert "read_out" not in evaluate.cache_key(plain, made, made, made).key


def test_the_weight_of_a_loss_is_in_the_key_of_a_training_that_uses_it(pipeline: Pipeline) -> None:
    made = Output("any", "0" * 16, "a build", "/work")
    rows = next(iter(pipeline.experiments)).rows(has_folds=True)
    training = trainings_of(evaluations_of(rows))[0]

    def arm_in_key(**changes: object) -> dict[str, object]:
        arm = training.arm.model_copy(update=changes)
        key: dict[str, object] = train.cache_key(replace(training, arm=arm), made, made).key["arm"]
        return key

    before = arm_in_key()
    assert not {"loss", "ial_weight"} & before.keys()
    assert arm_in_key(loss="ial") == {**before, "loss": "ial"}
    assert arm_in_key(loss="ial", ial_weight=0.5) == {**before, "loss": "ial", "ial_weight": 0.5}


def test_pixels_are_in_the_key_of_networks_for_which_they_have_changed(pipeline: Pipeline) -> None:
    made = Output("any", "0" * 16, "a build", "/work")
    rows = next(iter(pipeline.experiments)).rows(has_folds=True)
    training = trainings_of(evaluations_of(rows))[0]

    def key_of(network: str) -> dict[str, object]:
        model = training.settings.model.model_copy(update={"name": network})
        settings = training.settings.model_copy(update={"model": model})
        return train.cache_key(replace(training, settings=settings), made, made).key

    assert "pixels" not in key_of("resnet18_gru")
    assert key_of("r3d_18")["pixels"] == {"mean": list(KINETICS_MEAN), "std": list(KINETICS_STD)}
