"""A training without room is tried again in smaller parts, and nothing else is."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from dfer.settings import TrainSettings
from tasks.out_of_memory import in_smaller_parts

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
