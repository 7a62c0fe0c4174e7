"""Whole trainings of arms with other labels, draws, methods and read-outs: resumed, saved, and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from toy_set import ToySet

from dfer import read_out
from dfer.config.settings import ArmSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.evaluation import predict, score
from dfer.models.saved import load_card, load_model
from dfer.training import Plan, Resources, TrainingData, TrainResult
from dfer.training import objective as objectives
from dfer.training import run as runs
from dfer.training.fit import fit

TIMES = {"seconds", "clips_per_second", "data_seconds", "data_wait"}
ARMS = {
    "vote": {"labels": "vote"},
    "balanced": {"labels": "soft", "sampler": "balanced", "mixing": "midas"},
    "scn": {"labels": "hard", "method": "scn"},
    "rul": {"labels": "hard", "method": "rul"},
    "eac": {"labels": "soft", "method": "eac"},
    "manifold": {"labels": "soft", "mixing": "manifold_mixup"},
    "patchup": {"labels": "soft", "mixing": "patchup"},
    "class_balanced": {"labels": "soft", "loss": "class_balanced"},
    "logit_adjusted": {"labels": "hard", "loss": "logit_adjusted"},
    "dirichlet": {"labels": "soft", "loss": "dirichlet_multinomial", "mixing": "midas"},
}


class Killed(Exception):
    """As good as a kill: nothing is written after it."""


def train(toy: ToySet, folder: Path, arm: dict[str, Any], settings: dict[str, Any], **options: Any) -> TrainResult:
    quick = {"epochs": 3, "optimizer": "adamw", "learning_rate": 2e-3, "schedule": "onecycle", "monitor_every": 0}
    plan = Plan(
        arm=ArmSettings(**arm),
        model=ModelSettings(name="resnet18", width=0.125, pretrained=None, input_size=32, dropout=0.0),
        sampling=SamplingSettings(num_segments=2),
        train=TrainSettings(**{**quick, **settings}),
    )
    data = TrainingData(toy.clips[:40], None, toy.index, toy.root)
    return fit(plan, data, folder, card={}, resources=Resources(threads=1), **options)


@pytest.mark.parametrize("name", ARMS)
def test_a_killed_training_goes_on_to_the_same_weights(
    toy_set: ToySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(runs, "SCN_FROM_EPOCH", 1)  # so that labels have changed when it is killed
    monkeypatch.setattr(objectives, "SCN_RELABEL", 0.01)
    whole = train(toy_set, tmp_path / "whole", ARMS[name], {})

    def kill(row: dict[str, Any]) -> None:
        if row["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        train(toy_set, tmp_path / "killed", ARMS[name], {}, on_epoch=kill)
    resumed = train(toy_set, tmp_path / "killed", ARMS[name], {})
    assert [{k: v for k, v in row.items() if k not in TIMES} for row in resumed.history] == [
        {k: v for k, v in row.items() if k not in TIMES} for row in whole.history
    ]
    first, second = (load_file(tmp_path / folder / "model.safetensors") for folder in ("whole", "killed"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    model, card = load_model(tmp_path / "whole")
    assert model(torch.zeros(2, 2, 3, 32, 32)).shape == (2, 7)
    assert card.get("method", "none") == ARMS[name].get("method", "none")


def test_new_labels_of_scn_are_in_the_checkpoint_and_trained_on(
    toy_set: ToySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SCN_FROM_EPOCH", 1)
    monkeypatch.setattr(objectives, "SCN_RELABEL", -1.0)  # every clip gets the class that is predicted
    train(toy_set, tmp_path, ARMS["scn"], {})
    relabelled = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["relabelled"]
    own = toy_set.clips["label"][:40].to_numpy("int64")
    assert (relabelled >= 0).all()
    assert (relabelled.numpy() != own).any()


def test_a_balanced_epoch_draws_as_many_clips_in_other_views(toy_set: ToySet, tmp_path: Path) -> None:
    result = train(toy_set, tmp_path, ARMS["balanced"], {})
    assert result.history[0]["clips_per_second"] * result.history[0]["seconds"] == pytest.approx(40)


def test_the_least_loss_is_in_the_history_of_a_cross_entropy_alone(toy_set: ToySet, tmp_path: Path) -> None:
    midas = train(toy_set, tmp_path / "midas", {"labels": "soft", "mixing": "midas", "normalize": "softmax"}, {})
    assert all(1.8 < row["target_entropy"] < row["loss"] for row in midas.history)
    focal = train(toy_set, tmp_path / "focal", {"labels": "soft", "loss": "focal"}, {})
    assert all("target_entropy" not in row for row in focal.history)


@pytest.mark.parametrize(
    ("arm", "calibrate"),
    [({"labels": "hard"}, "none"), ({"labels": "hard"}, "temperature"), ({"normalize": "softmax"}, "none")],
)
def test_the_inner_part_chooses_the_read_out(
    toy_set: ToySet, tmp_path: Path, arm: dict[str, Any], calibrate: str
) -> None:
    settings = {"selection": "validation", "calibrate": calibrate, "validation_share": 0.3}
    train(toy_set, tmp_path, {"labels": "soft", "mixing": "none", **arm}, settings)
    card = load_card(tmp_path)
    assert ("read_out" in card) == (calibrate == "temperature" or "normalize" in arm)
    if calibrate == "temperature":
        assert card["read_out"]["scale"] != 1
    predicted = predict(tmp_path, toy_set.clips[40:60], toy_set.index, toy_set.root)
    for logits, probabilities in zip(predicted["logits"], predicted["probabilities"], strict=True):
        assert probabilities == pytest.approx(read_out.probabilities([logits], card)[0])
    scores = score(predicted, num_listed=20)
    chosen = read_out.of_card(card)
    assert ("raw_nll" in scores) == (chosen["form"] == "inverse" or chosen["scale"] != 1)


def test_a_midas_arm_is_read_out_by_the_inverse(toy_set: ToySet, tmp_path: Path) -> None:
    train(toy_set, tmp_path, {"labels": "soft", "mixing": "midas", "normalize": "softmax"}, {})
    predicted = predict(tmp_path, toy_set.clips[40:60], toy_set.index, toy_set.root)
    flattest = max(max(row) for row in predicted["probabilities"])
    assert flattest > 0.35  # more than the softmax of any label distribution
    assert json.loads((tmp_path / "model.json").read_text()).get("read_out") is None
