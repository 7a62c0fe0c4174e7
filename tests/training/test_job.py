"""A training that is written down is read back as it was, and is known again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from toy_set import ToySet

from dfer.config.settings import ArmSettings, MixingSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.training import Plan, Resources, TrainingData
from dfer.training.job import Job, read_job, write_job
from dfer.training.targets import label_distributions

PLAN = Plan(
    arm=ArmSettings(labels="soft", mixing="midas", normalize="softmax"),
    mixing=MixingSettings(alpha=0.2),
    model=ModelSettings(pretrained=None),
    sampling=SamplingSettings(num_segments=4),
    train=TrainSettings(processes=2),
)
RESULT = {"epoch": 1, "history": [], "summary": {}}


def write(folder: Path, toy: ToySet, *, plan: Plan = PLAN, threads: int = 3) -> Job:
    data = TrainingData(toy.clips, None, toy.index, toy.root)
    resources = Resources(threads, side_by_side=2)
    return write_job(plan, data, folder, card={"alignment": {"size": 32}}, resources=resources)


def test_a_job_is_read_as_it_was_written(toy_set: ToySet, tmp_path: Path) -> None:
    written = write(tmp_path, toy_set)
    job = read_job(tmp_path / "job")
    assert job == written
    assert (job.plan, job.card, job.resources) == (PLAN, {"alignment": {"size": 32}}, Resources(3, 2, None))
    assert job.folder == tmp_path
    data = job.data()
    assert (data.root, data.monitor) == (toy_set.root, None)
    expected = label_distributions(toy_set.clips, PLAN.arm, 0)
    assert label_distributions(data.clips, PLAN.arm, 0).equal(expected)
    assert data.clips["label"].equals(toy_set.clips["label"])
    assert data.index.equals(toy_set.index)
    with pytest.raises(FileNotFoundError, match=r"expected a job that a run with train\.processes has written"):
        read_job(tmp_path)


def test_the_same_job_keeps_its_result_and_another_does_not(toy_set: ToySet, tmp_path: Path) -> None:
    write(tmp_path, toy_set).finish(RESULT)
    assert write(tmp_path, toy_set).result == RESULT
    # what decides how fast it is decides no result
    assert write(tmp_path, toy_set, threads=1).result == RESULT
    assert write(tmp_path, replace(toy_set, clips=toy_set.clips[:9])).result is None
    write(tmp_path, toy_set).finish(RESULT)
    other = replace(PLAN, train=TrainSettings(processes=2, seed=1))
    assert write(tmp_path, toy_set, plan=other).result is None


def test_a_job_of_an_earlier_version_is_the_same_job(toy_set: ToySet, tmp_path: Path) -> None:
    """Earlier ones hold the tracker's run id as `extra`, and know fewer settings."""
    write(tmp_path, toy_set).finish(RESULT)
    path = tmp_path / "job" / "job.json"
    content = json.loads(path.read_text())
    assert list(content["what"]) == [
        *("arm", "mixing", "model", "sampling", "groups", "settings", "labels"),
        *("clips", "monitor", "index", "root", "card"),
    ]
    content["what"]["extra"] = {"run_id": "abc"}
    del content["what"]["settings"]["micro_batches"], content["what"]["labels"]
    path.write_text(json.dumps(content))
    assert write(tmp_path, toy_set).result == RESULT
