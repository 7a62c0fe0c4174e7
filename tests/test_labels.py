from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfer.labels import EMOTIONS, class_name, emotion_index, hard_labels, majority, soft_labels

VOTES = st.lists(st.integers(0, 12), min_size=7, max_size=7).filter(any)


def test_the_class_order_is_dfews() -> None:
    assert EMOTIONS == ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")


@pytest.mark.parametrize(
    ("spelling", "emotion"),
    [
        ("Happy", "happy"),
        ("happiness", "happy"),
        ("Sadness", "sad"),
        ("NEUTRAL", "neutral"),
        ("Anger", "angry"),
        (" Angry ", "angry"),
        ("Surprised", "surprise"),
        ("disgusted", "disgust"),
        ("Fear", "fear"),
        ("fearful", "fear"),
        ("HAP", "happy"),
        ("NEU", "neutral"),
    ],
)
def test_spellings(spelling: str, emotion: str) -> None:
    assert EMOTIONS[emotion_index(spelling)] == emotion


@pytest.mark.parametrize("name", ["", "contempt", "1happy", "calm", "hap py"])
def test_an_unknown_emotion_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"unknown emotion.*happy.*surprised.*fearful"):
        emotion_index(name)


def test_the_votes_of_the_papers_figure() -> None:
    soft = soft_labels([[0, 8, 0, 2, 0, 0, 0], [0, 0, 0, 0, 0, 0, 9]])
    assert soft.dtype == np.float64
    np.testing.assert_allclose(soft, [[0, 0.8, 0, 0.2, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1]])


@settings(deadline=None)
@given(st.lists(VOTES, min_size=1, max_size=20), st.integers(2, 5))
def test_soft_labels_are_distributions_that_ignore_the_number_of_raters(votes: list[list[int]], times: int) -> None:
    soft = soft_labels(votes)
    assert soft.shape == (len(votes), 7)
    assert ((soft >= 0) & (soft <= 1)).all()
    np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(soft * np.sum(votes, axis=1, keepdims=True), votes, atol=1e-9)
    np.testing.assert_allclose(soft_labels(np.array(votes) * times), soft, rtol=1e-12)


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        ([[1, 0, 0, 0, 0, 0, 0], [0] * 7], "1 clips have no votes .first row 1."),
        ([[5, -1, 0, 0, 0, 0, 0]], "not negative"),
        ([[float("nan"), 1, 0, 0, 0, 0, 0]], "finite"),
        ([[float("inf"), 1, 0, 0, 0, 0, 0]], "finite"),
        ([[1]], r"two or more; got \[1, 1\]"),
        ([1, 0, 0, 0, 0, 0, 0], r"got \[7\]"),
        ([[1, 0, 0, 0, 0, 0, 0], None], "as many numbers for every clip"),
    ],
)
def test_votes_that_make_no_soft_label(votes: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        soft_labels(votes)


def test_every_class_has_one_name() -> None:
    assert [class_name(name) for name in (" Happiness", "FEAR", "Engaged ", "calm")] == [
        "happy",
        "fear",
        "engaged",
        "calm",
    ]


def test_soft_labels_of_any_number_of_classes() -> None:
    assert soft_labels([[3, 1]]).tolist() == [[0.75, 0.25]]
    assert soft_labels(np.ones((2, 11))).shape == (2, 11)


def test_hard_labels_are_one_hot() -> None:
    hard = hard_labels([2, 0, 6], 7)
    assert hard.dtype == np.float64
    assert hard.shape == (3, 7)
    np.testing.assert_array_equal(hard.argmax(axis=1), [2, 0, 6])
    np.testing.assert_array_equal(hard.sum(axis=1), 1)
    assert hard_labels([], 7).shape == (0, 7)
    assert hard_labels(pd.Series([1, 5], dtype="Int64"), 6).shape == (2, 6)


@pytest.mark.parametrize("labels", [[7], [-1], [0.5], [[1]], pd.Series([1, None], dtype="Int64")])
def test_labels_that_are_no_classes(labels: object) -> None:
    with pytest.raises(ValueError, match="labels must"):
        hard_labels(labels, 7)  # type: ignore[arg-type]


def test_majority() -> None:
    assert majority([0, 1, 4, 3, 1, 1, 0]) == 2
    assert majority((0, 5, 0, 5, 0, 0, 0)) is None
    assert majority([0] * 7) is None


@settings(deadline=None)
@given(VOTES)
def test_a_majority_is_the_only_greatest(votes: list[int]) -> None:
    winner = majority(votes)
    greatest = [place for place, count in enumerate(votes) if count == max(votes)]
    assert ([winner] == greatest) == (winner is not None)
