"""Distributions in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dfer.certainty import Certainty
from dfer.prediction.words import about, in_words

CLASSES = ("happy", "sad", "fear", "angry", "disgust")
MEASURED = Certainty("an inner part", 120, 100, 0.8, 0.6, 0.9, 0.2, (0.9, 0.3), (0.1, 0.4))


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ((0.03, 0.46, 0.31, 0.1, 0.1), "probably sad (0.46) or fear (0.31): people would disagree"),
        ((0.86, 0.05, 0.03, 0.03, 0.03), "happy (0.86): people would agree"),
        ((0.60, 0.21, 0.07, 0.06, 0.06), "happy (0.60): people would agree"),
        ((0.34, 0.26, 0.2, 0.1, 0.1), "probably happy (0.34), sad (0.26) or fear (0.20): people would disagree"),
    ],
)
def test_the_named_classes_and_whether_people_would_agree(probabilities: tuple[float, ...], expected: str) -> None:
    assert in_words(np.array(probabilities), CLASSES, MEASURED) == expected


def test_many_classes_with_and_without_a_favourite() -> None:
    wide = replace(MEASURED, named_mass=0.99)
    flat = in_words(np.array([0.25, 0.2, 0.19, 0.18, 0.18]), CLASSES, wide)
    assert flat == "no expression stands out: happy (0.25), sad (0.20), fear (0.19) and 1 more: people would disagree"
    one = in_words(np.array([0.8, 0.06, 0.05, 0.05, 0.04]), CLASSES, wide)
    assert one == "probably happy (0.80), or one of several others: people would agree"


def test_nothing_is_said_that_was_not_measured() -> None:
    probabilities = np.array([0.03, 0.46, 0.31, 0.1, 0.1])
    assert in_words(probabilities, CLASSES, None) == "sad (0.46), fear (0.31)"
    silent = replace(MEASURED, disagree_above=None, hits=None, false_alarms=None)
    assert in_words(probabilities, CLASSES, silent) == "probably sad (0.46) or fear (0.31)"


def test_every_output_says_where_the_thresholds_come_from() -> None:
    assert "No thresholds" in about(None)
    assert "120 clips (an inner part)" in about(MEASURED) and "90% of the clips" in about(MEASURED)
    assert "do not show" in about(replace(MEASURED, disagree_above=None))
