"""Thresholds on probabilities that are measured, not chosen."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from dfer.certainty import COVERED, Certainty, answers_of, disagreement, measure, named


def crowd(clips: int, seed: int = 0, *, votes: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distributions, votes that are drawn from them, and the labels that most voted for."""
    generator = np.random.default_rng(seed)
    sharpness = generator.uniform(0.5, 8, (clips, 1))
    probabilities = generator.dirichlet(np.ones(5), clips) ** sharpness
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    drawn = np.stack([generator.multinomial(votes, row) for row in probabilities]).astype(float)
    return probabilities, drawn, drawn.argmax(axis=1)


def test_named_classes_cover_four_in_five_answers_of_other_clips() -> None:
    probabilities, votes, labels = crowd(1500)
    certainty = measure(probabilities, labels, votes, measured_on="these")
    assert certainty is not None
    others, their_votes, _ = crowd(1500, seed=1)
    shares = their_votes / their_votes.sum(axis=1, keepdims=True)
    covered = np.mean(
        [share[named(row, certainty.named_mass)].sum() for row, share in zip(others, shares, strict=True)]
    )
    assert COVERED - 0.03 < covered < COVERED + 0.05


def test_the_mass_is_the_smallest_that_covers_them() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.6, 0.25, 0.15], [0.4, 0.35, 0.25], [0.5, 0.4, 0.1], [0.7, 0.2, 0.1]])
    labels = np.array([0, 1, 0, 0, 2])  # the fifth is wrong by both others, the second by one
    certainty = measure(probabilities, labels, np.zeros((5, 3)), measured_on="")
    assert certainty is not None
    assert certainty.named_mass == pytest.approx(0.85)
    assert named(probabilities[1], certainty.named_mass) == [0, 1]
    assert named(probabilities[4], certainty.named_mass) == [0]


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=9), st.floats(0, 1))
def test_one_class_at_least_is_named_and_the_largest_first(weights: list[float], mass: float) -> None:
    probabilities = np.array(weights) / sum(weights)
    chosen = named(probabilities, mass)
    assert chosen[0] == probabilities.argmax()
    assert probabilities[chosen].tolist() == sorted(probabilities.tolist(), reverse=True)[: len(chosen)]
    if len(chosen) > 1:
        assert probabilities[chosen].sum() <= mass + 1e-6


def test_disagreement_is_the_chance_that_two_draws_differ() -> None:
    probabilities = np.array([0.5, 0.3, 0.2])
    generator = np.random.default_rng(0)
    one, other = generator.choice(3, (2, 40_000), p=probabilities)
    assert disagreement(probabilities) == pytest.approx((one != other).mean(), abs=0.01)
    assert disagreement(np.eye(3)).tolist() == [0, 0, 0]


def test_the_threshold_of_disagreement_tells_divided_clips_from_others() -> None:
    probabilities, votes, labels = crowd(600)
    certainty = measure(probabilities, labels, votes, measured_on="these")
    assert certainty is not None and certainty.disagree_above is not None
    agree = np.array([(row * (row - 1)).sum() / 90 for row in votes])
    above = disagreement(probabilities) > certainty.disagree_above
    assert certainty.hits == pytest.approx(above[agree < 0.5].mean())
    assert certainty.false_alarms == pytest.approx(above[agree >= 0.5].mean())
    assert certainty.hits > 0.75 > 0.25 > certainty.false_alarms
    best = certainty.hits - certainty.false_alarms
    for threshold in np.linspace(0, 0.8, 200):  # no other does better
        above = disagreement(probabilities) > threshold
        assert above[agree < 0.5].mean() - above[agree >= 0.5].mean() <= best + 1e-12


def test_nothing_is_said_about_disagreement_that_the_model_does_not_know() -> None:
    probabilities, votes, labels = crowd(400)
    shuffled = np.random.default_rng(3).permutation(probabilities)
    certainty = measure(shuffled, labels, votes, measured_on="")
    assert certainty is not None and certainty.disagree_above is None
    few = measure(probabilities[:15], labels[:15], votes[:15], measured_on="")
    assert few is not None and few.disagree_above is None
    unvoted = measure(probabilities, labels, np.zeros_like(votes), measured_on="")
    assert unvoted is not None and unvoted.voted == 0 and unvoted.disagree_above is None


def test_the_risk_is_bounded_as_the_binomial_test_says() -> None:
    probabilities, votes, labels = crowd(200)
    certainty = measure(probabilities, labels, votes, measured_on="")
    assert certainty is not None
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != labels
    assert list(certainty.confidence) == sorted(certainty.confidence, reverse=True)
    for at, bound in zip(certainty.confidence, certainty.risk, strict=True):
        kept = confidence >= at
        expected = binomtest(int(wrong[kept].sum()), int(kept.sum())).proportion_ci(0.9).high
        assert bound == pytest.approx(expected, abs=1e-9)
    needed = certainty.needed_confidence(0.3)
    assert needed is not None
    kept = confidence >= needed
    assert binomtest(int(wrong[kept].sum()), int(kept.sum())).proportion_ci(0.9).high <= 0.3
    assert certainty.needed_confidence(0.0) is None


def test_equally_confident_clips_stay_together() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    labels = np.array([0] * 9 + [1] + [0] * 5 + [1] * 5)
    certainty = measure(probabilities, labels, np.zeros((20, 2)), measured_on="")
    assert certainty is not None and certainty.confidence == (0.9, 0.6)


def test_clips_without_an_answer_say_nothing() -> None:
    assert measure(np.full((3, 2), 0.5), np.full(3, -1), np.zeros((3, 2)), measured_on="") is None


def test_answers_are_votes_or_published_shares() -> None:
    answers = answers_of([[1, 2], None, None], [None, (0.25, 0.75), None], 2)
    assert answers.tolist() == [[1, 2], [0.25, 0.75], [0, 0]]
    certainty = measure(np.full((3, 2), 0.5), np.full(3, -1), answers, measured_on="x")
    assert certainty is not None and (certainty.clips, certainty.voted) == (2, 1)
    assert certainty.confidence == ()


def test_it_comes_back_from_a_card() -> None:
    certainty = measure(*[crowd(50)[k] for k in (0, 2, 1)], measured_on="these")
    assert certainty is not None
    assert Certainty.of(json.loads(json.dumps(certainty.as_dict()))) == certainty
