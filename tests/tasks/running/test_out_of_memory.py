"""A training without room is tried again in smaller parts, and nothing else is."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_set import ToySet

from dfer.config.settings import ArmSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.system.processes import run_isolated
from dfer.training import Plan, Resources, TrainingData, train
from tasks.running.out_of_memory import in_smaller_parts

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has")


class Training:
    """Has room for parts of so many clips."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.tried: list[int] = []
        self.slept: list[float] = []

    def __call__(self, settings: TrainSettings) -> str:
        self.tried.append(settings.micro_batches)
        if settings.batch_size / settings.processes / settings.micro_batches > self.room:
            raise FULL
        return "done"

    def run(self, folder: Path, **settings: Any) -> str:
        chosen = TrainSettings(**settings)
        return in_smaller_parts(self, chosen, folder, title="midas", sleep=self.slept.append)


def test_parts_are_halved_until_they_fit_with_a_longer_pause_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = Training(room=2)
    with caplog.at_level(logging.WARNING):
        assert training.run(tmp_path, batch_size=16) == "done"
    assert (training.tried, training.slept) == ([1, 2, 4, 8], [5.0, 10.0, 20.0])
    assert (
        "midas: the GPU's memory ran out; going on from the checkpoint in 5 s with every batch in 2 parts"
        in caplog.text
    )
    assert "Tried to allocate 2.00 GiB" in caplog.text
    assert "GPU 0 has" not in caplog.text


def test_what_fits_is_not_tried_twice(tmp_path: Path) -> None:
    training = Training(room=16)
    assert training.run(tmp_path, batch_size=16) == "done"
    assert (training.tried, training.slept) == ([1], [])


@pytest.mark.parametrize(
    ("settings", "tried"),
    [({"batch_size": 8}, [1, 2, 4]), ({"batch_size": 12}, [1, 2, 4, 6]), ({"batch_size": 8, "processes": 2}, [1, 2])],
)
def test_two_clips_a_part_is_the_least(tmp_path: Path, settings: dict, tried: list[int]) -> None:
    training = Training(room=1)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        training.run(tmp_path, **settings)
    assert training.tried == tried
    assert f"computed in {tried[-1]} parts" in caught.value.__notes__[-1]
    FULL.__notes__.clear()


def test_a_later_run_begins_with_the_parts_that_fitted(tmp_path: Path) -> None:
    (tmp_path / "history.json").write_text(json.dumps({"summary": {"micro_batches": 4}, "epochs": []}))
    training = Training(room=2)
    assert training.run(tmp_path, batch_size=8) == "done"
    assert training.tried == [4]


def test_every_other_failure_is_raised_at_once(tmp_path: Path) -> None:
    tried: list[int] = []

    def train(settings: TrainSettings) -> None:
        tried.append(settings.micro_batches)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        in_smaller_parts(train, TrainSettings(), tmp_path, title="midas", sleep=lambda _: None)
    assert tried == [1]


def train_with_one_gibibyte(*, toy: ToySet, settings: TrainSettings, folder: Path, send: Any) -> int:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(2**30 / total)
    plan = Plan(
        arm=ArmSettings(labels="soft"),
        model=ModelSettings(width=1.0, pretrained=None, input_size=112),
        sampling=SamplingSettings(num_segments=8),
        train=settings,
    )
    data = TrainingData(toy.clips, toy.clips, toy.index, toy.root)
    result = train(plan, data, folder, card={}, resources=Resources(threads=1))
    return len(result.history)


@pytest.mark.gpu
def test_a_gpu_whose_memory_really_runs_out(
    toy_set: ToySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2] / "support"), *sys.path]))
    settings = TrainSettings(epochs=2, batch_size=32, device="cuda", precision="float32", cache="none")

    def in_a_process(settings: TrainSettings) -> int:
        return run_isolated(train_with_one_gibibyte, toy=toy_set, settings=settings, folder=tmp_path)

    with caplog.at_level(logging.WARNING):
        assert in_smaller_parts(in_a_process, settings, tmp_path, title="soft", sleep=lambda _: None) == 2
    assert "the GPU's memory ran out" in caplog.text
    assert json.loads((tmp_path / "history.json").read_text())["summary"]["micro_batches"] > 1
