"""Two processes of one training (gloo, on the CPU) against one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file
from toy_set import ToySet

from dfer.mixing import midas as mixing
from dfer.settings import ArmSettings, MixingSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.training import TrainResult, train
from dfer.training.data import TrainingBatches
from dfer.training.distributed import Place, run_job
from dfer.training.job import read_job, write_job
from dfer.training.randomness import torch_seed
from dfer.training.world import World

SOFT = ArmSettings(labels="soft")
MIDAS = ArmSettings(labels="soft", mixing="midas", normalize="softmax")
TIMES = {"seconds", "clips_per_second", "data_seconds", "data_wait"}


def run(toy: ToySet, folder: Path, arm: ArmSettings = SOFT, *, clips: int = 21, **options: Any) -> TrainResult:
    """Batches of 8, 8 and 5 clips: shares of 4 and 4, and in the last batch of 3 and 2."""
    chosen = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01, "device": "cpu", "selection": "validation"}
    network = {"name": "smooth_network:Smooth", "dropout": 0.0}
    return train(
        clips=toy.clips[: clips + 9],
        monitor=toy.clips[30:41],
        index=toy.index,
        root=toy.root,
        arm=arm,
        mixing=MixingSettings(),
        model=ModelSettings(**{**network, **options.pop("model", {})}, pretrained=None, input_size=32),
        sampling=SamplingSettings(num_segments=4),
        settings=TrainSettings(**{**chosen, "validation_share": 0.3, **options.pop("settings", {})}),
        folder=folder,
        card={},
        threads=1,
        **options,
    )


def close(first: TrainResult, second: TrainResult, tolerance: float) -> None:
    for one, other in zip(first.history, second.history, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - TIMES:
            assert one[name] == pytest.approx(other[name], rel=tolerance), name
    weights = [load_file(result.folder / "model.safetensors") for result in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=tolerance, atol=tolerance)


def test_two_processes_come_to_what_one_does(toy_set: ToySet, tmp_path: Path) -> None:
    """Losses, looks at both other parts, choice of the epoch, running statistics and weights; uneven batches included."""
    one = run(toy_set, tmp_path / "one")
    rows: list[dict] = []
    two = run(toy_set, tmp_path / "two", settings={"processes": 2}, on_epoch=rows.append)
    assert one.summary["clips"]["training"] % 8 not in (0, 1)
    close(one, two, 1e-5)
    assert (two.epoch, two.summary["processes"], one.summary["processes"]) == (one.epoch, 2, 1)
    assert rows == two.history
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}
