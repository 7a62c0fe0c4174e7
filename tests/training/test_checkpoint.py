"""A training goes on from its own checkpoint, also from one of an earlier version, and from no other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from toy_set import ToySet

from dfer.config.settings import ArmSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.storage.file_names import CHECKPOINT
from dfer.training import CheckpointError, Plan, Resources, TrainingData, TrainResult, begin_with, remove_damaged
from dfer.training.checkpoint import fingerprint
from dfer.training.fit import fit
from dfer.training.split import split_clips

HARD, SOFT = ArmSettings(labels="hard"), ArmSettings(labels="soft")


def plan_of(arm: ArmSettings, **settings: object) -> Plan:
    return Plan(
        arm=arm,
        model=ModelSettings(width=0.125, pretrained=None, input_size=32),
        sampling=SamplingSettings(num_segments=4),
        train=TrainSettings(**{"epochs": 2, "device": "cpu", **settings}),  # type: ignore[arg-type]
    )


def data_of(toy: ToySet) -> TrainingData:
    return TrainingData(toy.clips, None, toy.index, toy.root)


def few(toy: ToySet, count: int) -> ToySet:
    return replace(toy, clips=toy.clips[:count])


def run(toy: ToySet, folder: Path, arm: ArmSettings = HARD, *, settings: dict | None = None) -> TrainResult:
    return fit(plan_of(arm, **(settings or {})), data_of(toy), folder, card={}, resources=Resources(threads=1))


def test_a_checkpoint_of_other_settings_or_clips_is_refused(toy_set: ToySet, tmp_path: Path) -> None:
    toy = few(toy_set, 10)
    run(toy, tmp_path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt .*train\.epochs was 2, is 3"):
        run(toy, tmp_path, settings={"epochs": 3})
    with pytest.raises(CheckpointError, match=r"arm\.labels was hard, is soft"):
        run(toy, tmp_path, SOFT)
    with pytest.raises(CheckpointError, match=r"training clips was 10 .*, is 9"):
        run(few(toy_set, 9), tmp_path)
    relabelled = toy.clips.assign(label=(toy.clips["label"] + 1) % 7)
    with pytest.raises(CheckpointError, match="training clips was 10"):
        run(replace(toy, clips=relabelled), tmp_path)
    # How fast it runs may change.
    run(toy, tmp_path, settings={"loader_workers": 1, "checkpoint_every": 2, "cache": "none"})


STEP = {"schedule": "step", "step_epochs": 2, "step_factor": 0.5, "warmup_epochs": 1, "selection": "validation"}


def test_a_longer_training_goes_on_from_a_shorter_one_and_ends_as_one_that_did_not(
    toy_set: ToySet, tmp_path: Path
) -> None:
    toy = few(toy_set, 24)
    whole = run(toy, tmp_path / "whole", SOFT, settings={**STEP, "epochs": 4})
    run(toy, tmp_path / "shorter", SOFT, settings={**STEP, "epochs": 3})
    history = begin_with(tmp_path / "shorter" / CHECKPOINT, tmp_path / "longer", 4)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    longer = run(toy, tmp_path / "longer", SOFT, settings={**STEP, "epochs": 4})
    assert [row["loss"] for row in longer.history] == [row["loss"] for row in whole.history]
    assert longer.history[-1]["learning_rate"] == whole.history[-1]["learning_rate"] < whole.history[1]["learning_rate"]
    assert longer.epoch == whole.epoch
    states = [torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("whole", "longer")]
    assert states[0]["fingerprint"] == states[1]["fingerprint"]
    for name, tensor in states[0]["model"].items():
        assert torch.equal(tensor, states[1]["model"][name]), name


def test_what_cannot_be_gone_on_with_is_refused(toy_set: ToySet, tmp_path: Path) -> None:
    toy = few(toy_set, 10)
    run(toy, tmp_path / "cosine")
    with pytest.raises(ValueError, match="of 2 epochs with the schedule cosine: expected"):
        begin_with(tmp_path / "cosine" / CHECKPOINT, tmp_path / "longer", 4)
    run(toy, tmp_path / "step", settings=STEP)
    with pytest.raises(ValueError, match="fewer than 2 epochs"):
        begin_with(tmp_path / "step" / CHECKPOINT, tmp_path / "longer", 2)
    assert not (tmp_path / "longer").exists()
    begin_with(tmp_path / "step" / CHECKPOINT, tmp_path / "longer", 3)
    with pytest.raises(CheckpointError, match="step_epochs was 2, is 3"):
        run(toy, tmp_path / "longer", settings={**STEP, "epochs": 3, "step_epochs": 3})


@pytest.mark.parametrize("damage", ["cut", "flip", "text"])
def test_a_damaged_checkpoint_is_an_error_that_says_what_to_do(toy_set: ToySet, tmp_path: Path, damage: str) -> None:
    toy = few(toy_set, 10)
    run(toy, tmp_path, settings={"epochs": 1})
    path = tmp_path / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"cut": content[: len(content) // 2], "flip": content, "text": b"no checkpoint"}[damage])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is damaged .*delete it to train again"):
        run(toy, tmp_path, settings={"epochs": 1})
    remove_damaged(tmp_path)
    assert len(run(toy, tmp_path, settings={"epochs": 1}).history) == 1
    remove_damaged(tmp_path)
    assert path.exists()


def test_a_checkpoint_with_keys_of_an_earlier_version_is_gone_on_with(toy_set: ToySet, tmp_path: Path) -> None:
    toy = few(toy_set, 10)
    first = run(toy, tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.save({**state, "extra": {"run_id": "abc"}}, tmp_path / "checkpoint.pt")
    assert run(toy, tmp_path).history == first.history


def test_the_fingerprint_is_that_of_earlier_versions(toy_set: ToySet) -> None:
    """Computed by the version before this test was written: another text would refuse every earlier checkpoint."""
    plan = plan_of(ArmSettings(labels="soft", mixing="midas", normalize="softmax"), precision="float32")
    identity = fingerprint(plan, split_clips(plan, data_of(few(toy_set, 10))), "cpu", tf32=True)
    assert identity["arm.mixing"] == "midas"
    assert identity["monitor clips"] == "none"
    assert hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16] == "54abdcc6e81ad22e"


def test_other_published_shares_are_another_training(toy_set: ToySet) -> None:
    toy, plan = few(toy_set, 10), plan_of(HARD)
    without = toy.clips.assign(votes=None)

    def digest(clips: pd.DataFrame) -> str:
        splits = split_clips(plan, data_of(replace(toy, clips=clips)))
        return fingerprint(plan, splits, "cpu", tf32=True)["training clips"]

    def with_shares(*first: tuple[float, ...] | None) -> pd.DataFrame:
        rows = [*first, *[None] * (len(without) - len(first))]
        return without.assign(shares=pd.Series(rows, index=without.index, dtype=object))

    one, other = (0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0), (0.4, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert digest(with_shares(one)) == digest(with_shares(one))
    assert len({digest(clips) for clips in (without, with_shares(one), with_shares(other))}) == 3
    assert digest(with_shares()) == digest(without)


def test_a_loss_of_ones_own_is_part_of_the_fingerprint(toy_set: ToySet) -> None:
    plan = plan_of(ArmSettings(labels="soft", loss="own:loss"))
    assert fingerprint(plan, split_clips(plan, data_of(toy_set)), "cpu", tf32=True)["arm.loss"] == "own:loss"
