from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from arm_factory import arm_from, toy_arm
from scipy.spatial.distance import jensenshannon
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from dfer import metrics
from dfer.analysis.calibration import reliability, summary


@pytest.fixture(scope="module")
def arm() -> pd.DataFrame:
    return toy_arm(500, seeds=2)


@pytest.fixture(scope="module")
def scored(arm: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    rows = arm[arm["label"].notna()]
    return np.stack(rows["probabilities"].to_list()), rows["label"].to_numpy("int64")


def test_the_diagram_agrees_with_scikit_learn(arm: pd.DataFrame, scored: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = scored
    diagram = reliability(arm, bins=10)
    # scikit-learn leaves out bins without predictions
    accuracy, confidence = calibration_curve(
        probabilities.argmax(axis=1) == labels, probabilities.max(axis=1), n_bins=10, strategy="uniform"
    )
    filled = diagram[diagram["clips"] > 0]
    assert filled["accuracy"].to_numpy() == pytest.approx(accuracy)
    assert filled["confidence"].to_numpy() == pytest.approx(confidence)
    assert diagram["clips"].sum() == len(labels)
    assert diagram.loc[diagram["clips"] == 0, ["confidence", "accuracy"]].isna().all(axis=None)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_ece_is_the_mean_gap_of_the_diagram_and_that_of_torchmetrics(
    arm: pd.DataFrame, scored: tuple[np.ndarray, np.ndarray], bins: int
) -> None:
    probabilities, labels = scored
    diagram = reliability(arm, bins=bins).dropna()
    gap = ((diagram["accuracy"] - diagram["confidence"]).abs() * diagram["clips"]).sum() / len(labels)
    assert gap == pytest.approx(metrics.ece(probabilities, labels, bins=bins))
    theirs = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=7, n_bins=bins, norm="l1"
    )
    assert gap == pytest.approx(float(theirs), abs=1e-6)


def test_bins_are_open_below_and_closed_above() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2, 0, 0, 0, 0], [0.4, 0.3, 0.3, 0, 0, 0, 0], [0.6, 0.2, 0.2, 0, 0, 0, 0]])
    diagram = reliability(arm_from([0, 0, 0], [0, 0, 0], probabilities=probabilities), bins=2)
    assert diagram[["low", "high", "clips"]].to_numpy().tolist() == [[0, 0.5, 2], [0.5, 1, 1]]


def test_the_summary_agrees_with_scikit_learn_and_scipy(
    arm: pd.DataFrame, scored: tuple[np.ndarray, np.ndarray]
) -> None:
    probabilities, labels = scored
    found = summary(arm)
    assert found["nll"] == pytest.approx(log_loss(labels, probabilities, labels=range(7)))
    assert found["brier"] == pytest.approx(
        brier_score_loss(labels, probabilities, labels=range(7), scale_by_half=False)
    )
    assert found["ece"] == metrics.ece(probabilities, labels)
    votes = np.stack(arm["votes"].to_list())
    divergence = jensenshannon(np.stack(arm["probabilities"].to_list()), votes, axis=1) ** 2
    assert found["js_divergence"] == pytest.approx(divergence.mean())
    assert (found["clips"], found["voted_clips"]) == (len(labels), len(arm))
    assert found["clips"] < found["voted_clips"]


def test_without_votes_there_is_no_distance_to_voters() -> None:
    assert summary(arm_from([0], [0]))["js_divergence"] is None


def test_without_labels_or_bins_there_is_no_diagram() -> None:
    with pytest.raises(ValueError, match="single label"):
        reliability(arm_from([None], [0]))
    with pytest.raises(ValueError, match="at least one"):
        reliability(arm_from([0], [0]), bins=0)
