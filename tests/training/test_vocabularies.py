"""Trainings and evaluations in any number of classes of any names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from toy_set import ToySet

from dfer import plots
from dfer.analysis.statistics import bootstrap, metrics_of, recall_intervals
from dfer.config.settings import (
    ArmSettings,
    LabelSettings,
    ModelSettings,
    SamplingSettings,
    StageSettings,
    TrainSettings,
)
from dfer.datasets.table import with_classes
from dfer.evaluation import predict, read_predictions, score, write_predictions
from dfer.labels import classes_of
from dfer.models.saved import load_model
from dfer.training import CheckpointError, Plan, Resources, TrainingData, train

NAMES = ("engaged", "bored", "confused", "happy", "calm", "contempt", "fear", "anxiety", "helplessness", "hope", "awe")
SOFT, MIDAS = ArmSettings(labels="soft"), ArmSettings(labels="soft", mixing="midas", normalize="softmax")


def in_other_classes(toy: ToySet, number: int) -> ToySet:
    """The toy set's clips under other names; with fewer classes than its seven, those of the first ones."""
    clips = toy.clips[toy.clips["label"] < number].reset_index(drop=True)
    votes = [None if row is None else (*row, 0, 0, 0, 0)[:number] for row in clips["votes"]]
    return replace(toy, clips=with_classes(clips.assign(votes=votes), NAMES[:number]))


def plan_of(number: int, arm: ArmSettings = SOFT, **train: object) -> Plan:
    chosen = {"epochs": 6, "optimizer": "adamw", "learning_rate": 3e-3, "monitor_every": 3, "device": "cpu"}
    return Plan(
        arm=arm,
        model=ModelSettings(pretrained=None, input_size=32, width=0.125, dropout=0.0),
        sampling=SamplingSettings(num_segments=4),
        train=TrainSettings(**{**chosen, **train}),
        labels=LabelSettings(classes=NAMES[:number]),
    )


@pytest.mark.parametrize("number", [2, 6, 8, 11])
@pytest.mark.parametrize("arm", [SOFT, MIDAS], ids=["soft", "midas"])
def test_any_number_of_classes_from_clips_to_scores(
    number: int, arm: ArmSettings, toy_set: ToySet, tmp_path: Path
) -> None:
    toy, names = in_other_classes(toy_set, number), NAMES[:number]
    data = TrainingData(toy.clips, toy.clips, toy.index, toy.root)
    result = train(plan_of(number, arm), data, tmp_path, card={}, resources=Resources(threads=1))
    model, card = load_model(tmp_path)
    assert (card["classes"], model.fc.out_features) == (list(names), number)
    table = predict(tmp_path, toy.clips, toy.index, toy.root, device="cpu", threads=1)
    assert classes_of(table) == names
    assert {len(row) for row in table["probabilities"]} == {number}
    write_predictions(table, tmp_path / "predictions.parquet")
    table = read_predictions(tmp_path / "predictions.parquet")
    scores = score(table, num_listed=len(toy.clips))
    assert scores["war"] == pytest.approx(result.history[-1]["monitor_war"])
    assert scores["war"] > 1.5 / min(number, 7)
    assert list(scores["per_class_recall"]) == list(names)
    arm_table = table.assign(fold=1, seed=0).astype({"fold": "Int64"})
    assert set(bootstrap(arm_table, draws=10).values) == set(metrics_of(names))
    assert set(recall_intervals(arm_table)) == set(names)
    plots.confusion(scores["confusion_matrix"], tmp_path / "confusion.png", title="toy", classes=names)
    settings = StageSettings(model=plan_of(number).model, sampling=plan_of(number).sampling)
    plots.training_clips(toy.clips, toy.index, toy.root, tmp_path / "batch.jpg", arm=arm, settings=settings)


def test_a_checkpoint_of_other_classes_is_another_trainings(toy_set: ToySet, tmp_path: Path) -> None:
    toy = in_other_classes(toy_set, 6)
    data = TrainingData(toy.clips, None, toy.index, toy.root)
    train(plan_of(6, epochs=1), data, tmp_path, card={}, resources=Resources(threads=1))
    other = replace(plan_of(6, epochs=1), labels=LabelSettings(classes=NAMES[1:7]))
    with pytest.raises(CheckpointError, match=r"labels\.classes was"):
        train(other, data, tmp_path, card={}, resources=Resources(threads=1))


def test_two_models_of_different_classes_are_compared_on_what_they_share(toy_set: ToySet, tmp_path: Path) -> None:
    six, eight = in_other_classes(toy_set, 6), in_other_classes(toy_set, 8)
    data = TrainingData(six.clips, None, six.index, six.root)
    train(plan_of(6, epochs=2), data, tmp_path, card={}, resources=Resources(threads=1))
    table = predict(tmp_path, eight.clips, eight.index, eight.root, device="cpu", threads=1)
    assert set(table["label"]) == set(range(6))
    assert set(table["prediction"]) <= set(range(6))
    assert classes_of(table) == NAMES[:8]
