from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import softmax
from torch import Tensor, nn
from toy_set import ToySet

from dfer.evaluation import (
    SCHEMA,
    predict,
    read_predictions,
    score,
    score_all_listed,
    shared_classes,
    write_predictions,
)
from dfer.labels import EMOTIONS, classes_of

CARD: dict[str, Any] = {
    "classes": list(EMOTIONS),
    "num_segments": 4,
    "input_size": 32,
    "normalization": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
}


class Colours(nn.Module):
    """Knows the toy set's classes without training, and returns logits in a class order of its own."""

    def __init__(self, classes: list[str]) -> None:
        super().__init__()
        self.columns = [EMOTIONS.index(name) for name in classes]
        self.seen: list[Tensor] = []

    def forward(self, clips: Tensor) -> Tensor:
        self.seen.append(clips)
        red, green, blue = (clips.mean(dim=(1, 3, 4)) > 0).float().T
        rises = (clips[:, -1].mean(dim=(1, 2, 3)) - clips[:, 0].mean(dim=(1, 2, 3))) * 3
        colour = [
            red * (1 - green) * (1 - blue),
            green * (1 - red) * (1 - blue),
            blue * (1 - red) * (1 - green),
            red * green * (1 - blue),
            green * blue * (1 - red),
        ]
        logits = torch.stack([*(3 * value for value in colour), rises * 2, -rises * 2], dim=1)
        return logits[:, self.columns]


def toy_predictions(toy: ToySet, classes: list[str] | None = None, **options: Any) -> pd.DataFrame:
    names = classes or list(EMOTIONS)
    card = {**CARD, "classes": names}
    return predict((Colours(names), card), toy.clips, toy.index, toy.root, device="cpu", **options)


def test_every_clip_with_a_face_gets_one_row_in_order(toy_set: ToySet) -> None:
    table = toy_predictions(toy_set, threads=1)
    assert list(table.columns) == SCHEMA.names
    assert table["clip_id"].tolist() == toy_set.clips["clip_id"][:70].tolist()
    assert table["label"].tolist() == toy_set.clips["label"][:70].tolist()
    logits, probabilities = np.stack(table["logits"]), np.stack(table["probabilities"])
    assert probabilities == pytest.approx(softmax(logits, axis=1))
    assert (table["prediction"] == probabilities.argmax(axis=1)).all()
    assert (table["prediction"] == table["label"]).mean() > 0.9


@pytest.mark.parametrize(
    ("card", "state"),
    [
        ({}, {"tf32": False, "deterministic": False}),
        ({"tf32": True}, {"tf32": True, "deterministic": False}),
        ({"settings": {"train": {"deterministic": True}}}, {"tf32": False, "deterministic": True}),
    ],
)
def test_a_gpu_rounds_as_in_the_training(
    card: dict[str, Any], state: dict[str, bool], toy_set: ToySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    @contextmanager
    def noted(threads: int, device: torch.device, **options: Any) -> Iterator[None]:
        seen.append(options)
        yield

    monkeypatch.setattr("dfer.training.optimization.torch_state", noted)
    predict((Colours(list(EMOTIONS)), {**CARD, **card}), toy_set.clips, toy_set.index, toy_set.root, device="cpu")
    assert seen == [state]


def test_classes_are_matched_by_name(toy_set: ToySet) -> None:
    ours, other = toy_predictions(toy_set), toy_predictions(toy_set, sorted(EMOTIONS))
    pd.testing.assert_frame_equal(ours, other)


def test_without_the_order_of_frames_a_network_that_needs_it_is_lost(toy_set: ToySet) -> None:
    right = {}
    for frames in ("in order", "reversed", "peak"):
        table = toy_predictions(toy_set, frames=frames)
        moving = table[table["label"] >= 5]
        right[frames] = (moving["prediction"] == moving["label"]).mean(), (table["prediction"] == table["label"]).mean()
    assert right["in order"][0] == 1
    # the classes that differ in their direction alone are taken for one another, the others are as they were
    assert right["reversed"][0] == 0
    assert right["reversed"][1] > 0.65
    assert right["peak"][0] < 0.7


def test_a_clip_listed_twice_is_an_error(toy_set: ToySet) -> None:
    with pytest.raises(ValueError, match="clip table lists 1 clips twice, the first is toy/003"):
        predict(
            (Colours(list(EMOTIONS)), CARD), toy_set.clips.replace("toy/004", "toy/003"), toy_set.index, toy_set.root
        )


def test_the_model_sees_frames_as_its_card_says(toy_set: ToySet) -> None:
    model = Colours(list(EMOTIONS))
    card = {**CARD, "num_segments": 3, "input_size": 16}
    predict((model, card), toy_set.clips, toy_set.index, toy_set.root, device="cpu", batch_size=32)
    assert [tuple(clips.shape) for clips in model.seen] == [(32, 3, 3, 16, 16)] * 2 + [(6, 3, 3, 16, 16)]
    assert -2 <= min(float(clips.min()) for clips in model.seen) < -0.5
    assert 0.5 < max(float(clips.max()) for clips in model.seen) <= 2


def test_batches_and_workers_change_nothing(toy_set: ToySet) -> None:
    singly, together = toy_predictions(toy_set, batch_size=1), toy_predictions(toy_set, batch_size=64, workers=1)
    assert (singly["prediction"] == together["prediction"]).all()
    assert np.stack(singly["logits"]) == pytest.approx(np.stack(together["logits"]), abs=1e-4)


@pytest.mark.parametrize(
    ("models", "among", "shared"),
    [
        ([*EMOTIONS[:6], "contempt"], None, EMOTIONS[:6]),
        (list(reversed(EMOTIONS)), ["fear", "happy"], ("happy", "fear")),
    ],
)
def test_what_a_model_and_a_data_set_share(models: list[str], among: list[str] | None, shared: tuple[str, ...]) -> None:
    assert shared_classes(models, EMOTIONS, among) == shared


@pytest.mark.parametrize(
    ("classes", "message"),
    [(["happy", "engaged"], "they share happy, and two are needed"), ([*EMOTIONS, "happy"], "each of them once")],
)
def test_other_classes_are_refused(classes: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shared_classes(classes, EMOTIONS)


def test_a_model_of_other_classes_is_compared_on_those_that_are_shared(toy_set: ToySet, tmp_path: Path) -> None:
    """Clips of a class that it does not know are left out, and a class that the data set lacks is never predicted."""
    card = {**CARD, "classes": [*EMOTIONS[:5], "contempt", "fear"]}
    model = Colours(list(EMOTIONS))
    table = predict((model, card), toy_set.clips, toy_set.index, toy_set.root, device="cpu")
    assert len(table) == 60
    assert set(table["label"]) == {0, 1, 2, 3, 4, 6}
    logits = np.stack(table["logits"])
    assert np.isneginf(logits[:, 5]).all()
    assert np.isfinite(np.delete(logits, 5, axis=1)).all()
    assert classes_of(table) == EMOTIONS
    few = toy_predictions(toy_set, among=["happy", "sad", "fear"])
    assert set(few["label"]) == set(few["prediction"]) == {0, 1, 6}
    write_predictions(few, tmp_path / "few.parquet")
    scores = score(read_predictions(tmp_path / "few.parquet"), num_listed=71)
    assert scores["classes_without_clips"] == list(EMOTIONS[2:6])
    assert scores["nll"] < 1


def test_a_prediction_table_survives_its_file(toy_set: ToySet, tmp_path: Path) -> None:
    table = toy_predictions(toy_set)
    table = table.assign(label=table["label"].mask(table.index == 3), votes=table["votes"].mask(table.index == 4))
    write_predictions(table, tmp_path / "predictions.parquet")
    back = read_predictions(tmp_path / "predictions.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"]
    assert back["label"].isna().sum() == back["votes"].isna().sum() == 1
    assert score(back, num_listed=71) == score(table, num_listed=71)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="logits"), "lacks logits"),
        (lambda table: table.assign(prediction="happy"), "right types"),
        (lambda table: table.assign(dataset=None), "dataset.* 70 null values"),
        (lambda table: table.assign(probabilities=[[0.5, 0.5]] * len(table)), "expected 7 numbers a clip, found .2."),
    ],
)
def test_a_table_that_is_none_is_not_written(toy_set: ToySet, tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_predictions(change(toy_predictions(toy_set)), tmp_path / "predictions.parquet")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_prediction_table_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"clip_id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=r"other\.parquet is no prediction table"):
        read_predictions(tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(ValueError, match="cannot be read"):
        read_predictions(tmp_path / "text.parquet")


def predictions(rows: list[tuple[int | None, list[int] | None, int]]) -> pd.DataFrame:
    """A table of (label, votes, predicted class), each predicted with probability 0.7."""
    probabilities = [(np.full(7, 0.05) + 0.65 * np.eye(7)[predicted]).tolist() for _, _, predicted in rows]
    return pd.DataFrame(
        {
            "clip_id": [str(number) for number in range(len(rows))],
            "dataset": "set",
            "label": pd.array([label for label, _, _ in rows], "Int64"),
            "votes": [votes for _, votes, _ in rows],
            "logits": [np.log(row).tolist() for row in probabilities],
            "probabilities": probabilities,
            "prediction": [predicted for _, _, predicted in rows],
        }
    )


def test_scores_worked_by_hand() -> None:
    votes = [10, 0, 0, 0, 0, 0, 0]
    scores = score(predictions([(0, votes, 0), (0, None, 0), (0, None, 1), (1, None, 1)]), num_listed=5)
    assert scores["war"] == pytest.approx(3 / 4)
    assert scores["uar"] == pytest.approx((2 / 3 + 1) / 2)
    assert scores["per_class_recall"] == {
        "happy": pytest.approx(2 / 3),
        "sad": 1.0,
        **dict.fromkeys(EMOTIONS[2:], None),
    }
    assert scores["nll"] == pytest.approx(-(3 * np.log(0.7) + np.log(0.05)) / 4)
    assert scores["ece"] == pytest.approx(abs(0.75 - 0.7))
    assert scores["coverage"] == pytest.approx(4 / 5)
    assert scores["clips_per_class"] == {"happy": 3, "sad": 1, **dict.fromkeys(EMOTIONS[2:], 0)}
    assert scores["classes_without_clips"] == list(EMOTIONS[2:])
    assert np.array(scores["confusion_matrix"])[:2, :2].tolist() == [[2, 1], [0, 1]]
    assert 0 < scores["js_divergence"] < np.log(2)


def test_clips_without_a_single_label_count_for_the_voters_alone() -> None:
    ambiguous = [0, 5, 5, 0, 0, 0, 0]
    scores = score(predictions([(0, None, 0), (None, ambiguous, 1)]), num_listed=2)
    assert (scores["num_scored"], scores["num_predicted"], scores["war"]) == (1, 2, 1.0)
    assert scores["js_divergence"] == pytest.approx(
        score(predictions([(1, ambiguous, 1)]), num_listed=1)["js_divergence"]
    )
    assert score(predictions([(0, None, 0)]), num_listed=1)["js_divergence"] is None


def test_scores_of_nothing_and_of_too_much_are_errors() -> None:
    with pytest.raises(ValueError, match="none of the 1 predictions is of a clip"):
        score(predictions([(None, [1] * 7, 0)]), num_listed=1)
    with pytest.raises(ValueError, match="2 clips are predicted, but only 1 listed"):
        score(predictions([(0, None, 0), (0, None, 0)]), num_listed=1)


def test_a_listed_clip_without_a_prediction_counts_as_wrong() -> None:
    predicted = predictions([(0, None, 0), (0, None, 0), (1, None, 1), (1, None, 0)])
    faceless = predictions([(1, None, 0), (2, None, 0)])  # sad, as two others are, and the only neutral one
    found = score_all_listed(predicted, pd.concat([predicted, faceless]))
    assert found == {"war_all_listed": 3 / 6, "uar_all_listed": pytest.approx((1 + 1 / 3 + 0) / 3)}
    scores = score(predicted, num_listed=4)
    assert score_all_listed(predicted, predicted) == {f"{name}_all_listed": scores[name] for name in ("war", "uar")}


def test_clips_of_a_class_that_the_model_lacks_are_not_wrong_for_want_of_a_face(toy_set: ToySet) -> None:
    few = toy_predictions(toy_set, among=["happy", "sad", "fear"])
    assert set(toy_set.clips["label"].dropna()) == set(range(7))
    found = score_all_listed(few, toy_set.clips)
    listed = toy_set.clips["label"].isin([0, 1, 6]).sum()
    assert found["war_all_listed"] == pytest.approx((few["label"] == few["prediction"]).sum() / listed)
