"""Every network of the catalogue is trained from scratch: it learns, and a killed training goes on as if it was not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_networks import ONE_SIZE
from toy_set import ToySet

from dfer.config.catalogue import NETWORKS
from dfer.config.settings import ArmSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.training import Plan, Resources, TrainingData, TrainResult
from dfer.training.fit import fit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EPOCHS = 12


class Killed(Exception):
    pass


def run(toy: ToySet, folder: Path, network: str, *, epochs: int, killed_in: int = 0) -> TrainResult:
    def on_epoch(row: dict) -> None:
        if row["epoch"] == killed_in:
            raise Killed

    train = {"optimizer": "adamw", "learning_rate": 2e-3, "weight_decay": 0.02, "schedule": "onecycle"}
    plan = Plan(
        arm=ArmSettings(labels="hard"),
        model=ModelSettings(
            name=network, width=0.125, pretrained=None, dropout=0.1, input_size=ONE_SIZE.get(network, 32)
        ),
        sampling=SamplingSettings(num_segments=4),
        train=TrainSettings(epochs=epochs, monitor_every=epochs, **train),
    )
    data = TrainingData(toy.clips, None, toy.index, toy.root)
    return fit(plan, data, folder, card={}, resources=Resources(threads=1), on_epoch=on_epoch)


@pytest.mark.parametrize("network", NETWORKS)
def test_it_learns_its_clips(toy_set: ToySet, tmp_path: Path, network: str) -> None:
    last = run(toy_set, tmp_path, network, epochs=EPOCHS).history[-1]
    assert last["training_war"] > 0.5  # chance is a seventh


@pytest.mark.parametrize("network", NETWORKS)
def test_a_killed_training_goes_on_to_the_same_bits(toy_set: ToySet, tmp_path: Path, network: str) -> None:
    whole = run(toy_set, tmp_path / "whole", network, epochs=3)
    with pytest.raises(Killed):
        run(toy_set, tmp_path / "killed", network, epochs=3, killed_in=2)
    resumed = run(toy_set, tmp_path / "killed", network, epochs=3)
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]
    ours, theirs = (load_file(result.folder / "model.safetensors") for result in (resumed, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
