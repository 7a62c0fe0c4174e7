"""One process or many: both train through the same door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy_set import ToySet

from dfer.config.settings import ArmSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.training import Plan, Resources, TrainingData, TrainResult, distributed, train
from dfer.training.job import Job


@pytest.mark.parametrize("processes", [1, 2])
def test_train_chooses_one_process_or_many(
    toy_set: ToySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    jobs: list[Job] = []

    def train_together(job: Job, on_epoch: Any) -> TrainResult:
        jobs.append(job)
        return TrainResult(job.folder, 1, [], {"processes": 2})

    monkeypatch.setattr(distributed, "train_together", train_together)
    plan = Plan(
        arm=ArmSettings(labels="soft"),
        model=ModelSettings(name="smooth_network:Smooth", pretrained=None, input_size=32),
        sampling=SamplingSettings(num_segments=4),
        train=TrainSettings(epochs=1, device="cpu", processes=processes),
    )
    data = TrainingData(toy_set.clips[:8], None, toy_set.index, toy_set.root)
    result = train(plan, data, tmp_path, card={"fold": 1}, resources=Resources(threads=1))
    assert result.summary["processes"] == processes
    assert [(job.plan, job.card, job.resources.threads) for job in jobs] == [(plan, {"fold": 1}, 1)] * (processes - 1)
    assert (tmp_path / "model.json").exists() == (processes == 1)
