"""What is drawn of a training."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from toy_set import ToySet

from dfer import plots
from dfer.config import catalogue
from dfer.config.settings import ArmSettings, ModelSettings, SamplingSettings, StageSettings

NEARLY_ALL_ENTROPY = [
    {"epoch": 1, "loss": 1.92, "target_entropy": 1.84, "train_accuracy": 0.2},
    {"epoch": 2, "loss": 1.85, "target_entropy": 1.83, "train_accuracy": 0.4},
]
WITHOUT_ENTROPY = [{"epoch": 1, "loss": 1.92, "train_accuracy": 0.2}, {"epoch": 2, "loss": 1.85, "train_accuracy": 0.4}]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path) -> list[Figure]:
    figures: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    return figures


def test_a_loss_is_drawn_above_the_entropy_of_its_targets(drawn, tmp_path) -> None:
    plots.learning_curves(NEARLY_ALL_ENTROPY, tmp_path / "c.png", title="midas fold 1", num_classes=7)
    axes = drawn[0].axes[0]
    assert axes.lines[0].get_ydata() == pytest.approx([0.08, 0.02])
    assert axes.get_title(loc="left") == "midas fold 1: loss above the targets' entropy"


def test_an_earlier_history_has_its_plain_loss(drawn, tmp_path) -> None:
    plots.learning_curves(WITHOUT_ENTROPY, tmp_path / "c.png", title="midas fold 1", num_classes=7)
    assert drawn[0].axes[0].lines[0].get_ydata() == pytest.approx([1.92, 1.85])
    assert drawn[0].axes[0].get_title(loc="left") == "midas fold 1: training loss"


@pytest.mark.parametrize("unknown", [None, np.nan])
def test_curves_on_one_axis_are_of_one_kind(unknown) -> None:
    new, old = (pd.DataFrame(NEARLY_ALL_ENTROPY).set_index("epoch") for _ in range(2))
    assert plots.shown_losses([new, old])[1] == plots.LOSS_ABOVE_ENTROPY
    old.loc[1, "target_entropy"] = unknown  # a training that went on from an earlier version's checkpoint
    losses, what = plots.shown_losses([new, old])
    assert what == plots.LOSS
    assert [list(values) for values in losses] == [[1.92, 1.85]] * 2


@pytest.mark.parametrize("mixing", catalogue.MIXINGS)
def test_clips_are_drawn_under_every_mixing(toy_set: ToySet, tmp_path: Path, mixing: str) -> None:
    """Also under those that need a network, which is not there yet."""
    arm = ArmSettings(labels="soft", mixing=mixing, normalize="softmax", temperature=0.5)
    settings = StageSettings(
        model=ModelSettings(pretrained=None, input_size=32), sampling=SamplingSettings(num_segments=4)
    )
    picture = tmp_path / "clips.jpg"
    plots.training_clips(toy_set.clips, toy_set.index, toy_set.root, picture, arm=arm, settings=settings)
    assert cv2.imread(str(picture)).std() > 10
