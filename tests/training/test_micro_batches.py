"""A batch in parts: the same gradient, in less memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from toy_set import ToySet

from dfer.config.settings import ArmSettings, MixingSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.models.saved import load_model
from dfer.training import TrainResult, train

SOFT = ArmSettings(labels="soft")
MIDAS = ArmSettings(labels="soft", mixing="midas", normalize="softmax")


def run(
    toy: ToySet, folder: Path, arm: ArmSettings = SOFT, *, network: str = "WithoutNorm", parts: int = 1, **options: Any
) -> TrainResult:
    settings = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01, "device": "cpu", "micro_batches": parts}
    return train(
        clips=toy.clips[:21],
        monitor=toy.clips[30:41],
        index=toy.index,
        root=toy.root,
        arm=arm,
        mixing=MixingSettings(),
        model=ModelSettings(name=f"smooth_network:{network}", pretrained=None, input_size=32, dropout=0.0),
        sampling=SamplingSettings(num_segments=4),
        settings=TrainSettings(**settings),
        folder=folder,
        card={},
        threads=1,
        **options,
    )


@pytest.mark.parametrize("arm", [SOFT, MIDAS], ids=["soft", "midas"])
def test_without_batchnorm_the_parts_come_to_what_the_whole_does(
    toy_set: ToySet, tmp_path: Path, arm: ArmSettings
) -> None:
    """Pairs and lambdas are drawn for the whole batch; the last one, of 5 clips, has parts of 3 and 2."""
    results = {parts: run(toy_set, tmp_path / str(parts), arm, parts=parts) for parts in (1, 2, 4)}
    whole = load_file(tmp_path / "1" / "model.safetensors")
    for parts in (2, 4):
        losses = [row["loss"] for row in results[parts].history]
        assert losses == pytest.approx([row["loss"] for row in results[1].history], rel=1e-5)
        accuracies = [row["train_accuracy"] for row in results[parts].history]
        assert accuracies == [row["train_accuracy"] for row in results[1].history]
        for name, tensor in load_file(tmp_path / str(parts) / "model.safetensors").items():
            torch.testing.assert_close(tensor, whole[name], rtol=1e-5, atol=1e-6)


def test_batchnorm_sees_the_parts_and_summary_and_card_say_how_many(toy_set: ToySet, tmp_path: Path) -> None:
    whole, parts = (run(toy_set, tmp_path / str(k), network="Smooth", parts=k) for k in (1, 4))
    assert parts.history[0]["loss"] != pytest.approx(whole.history[0]["loss"], rel=1e-4)
    assert (whole.summary["micro_batches"], parts.summary["micro_batches"]) == (1, 4)
    _, card = load_model(tmp_path / "4")
    assert card["settings"]["train"]["micro_batches"] == 4


class Killed(Exception):
    pass


def test_a_training_goes_on_with_more_parts_and_never_with_fewer(toy_set: ToySet, tmp_path: Path) -> None:
    def kill(row: dict) -> None:
        if row["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        run(toy_set, tmp_path, on_epoch=kill)
    with pytest.raises(Killed):
        run(toy_set, tmp_path, parts=2, on_epoch=kill)
    seen: list[int] = []
    result = run(toy_set, tmp_path, parts=4, on_epoch=lambda row: seen.append(row["epoch"]))
    assert (seen, result.summary["micro_batches"]) == ([2, 3], 4)
    assert run(toy_set, tmp_path, parts=2).summary["micro_batches"] == 4
