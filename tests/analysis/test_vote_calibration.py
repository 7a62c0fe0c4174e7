from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from arm_factory import arm_from, toy_arm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from dfer import metrics
from dfer.analysis.vote_calibration import by_class, by_predicted_entropy, distance, expected_distance
from dfer.labels import EMOTIONS

DISTRIBUTIONS = st.lists(st.integers(0, 5), min_size=2, max_size=4).filter(any).map(lambda p: np.array(p) / sum(p))


def arm_of(probabilities: np.ndarray, votes: np.ndarray, seed: int = 0) -> pd.DataFrame:
    predictions = probabilities.argmax(axis=1).tolist()
    return arm_from([None] * len(votes), predictions, votes=votes.tolist(), probabilities=probabilities, seed=seed)


def right_model(clips: int = 1500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.dirichlet(np.full(7, 0.3), size=clips)
    return truth, generator.multinomial(generator.integers(2, 11, clips), truth)


@given(DISTRIBUTIONS, st.integers(1, 5))
@settings(deadline=None, max_examples=40)
def test_expected_distance_is_that_of_all_ways_to_vote(p: np.ndarray, number: int) -> None:
    by_hand = 0.0
    for people in product(range(len(p)), repeat=number):
        share = np.bincount(people, minlength=len(p)) / number
        by_hand += p[list(people)].prod() * np.abs(share - p).sum() / 2
    assert expected_distance([p], [number])[0] == pytest.approx(by_hand, abs=1e-12)


def test_one_vote_by_hand() -> None:
    # the vote is of class k with p_k and then 1 - p_k away
    assert expected_distance([[0.2, 0.8], [1, 0]], [1, 1]).tolist() == pytest.approx([0.32, 0])


def test_a_model_that_is_right_is_as_far_from_votes_as_chance_makes_it() -> None:
    found = distance(arm_of(*right_model()), draws=500)
    for name in ("excess", "squared"):
        assert found[name].low < 0 < found[name].high, name
        assert found[name].high - found[name].low < 0.03, name
    assert found["total_variation"].estimate > 0.15
    difference = found["total_variation"].estimate - found["by_chance"].estimate
    assert found["excess"].estimate == pytest.approx(difference)


def test_the_squared_distance_is_that_to_the_truth_not_to_the_votes() -> None:
    truth, votes = right_model(6000, seed=1)
    wrong = softmax(np.log(np.maximum(truth, 1e-3)) / 2, axis=1)
    expected = ((wrong - truth) ** 2).sum(axis=1).mean()
    found = distance(arm_of(wrong, votes), draws=300)["squared"]
    assert found.low < expected < found.high
    assert found.high - found.low < 0.02 < expected


def test_distances_by_hand() -> None:
    votes = np.array([[1, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]])
    probabilities = np.array([[0.5, 0.5, 0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0, 0]])
    found = distance(arm_of(probabilities, votes), draws=20)
    assert found["total_variation"].estimate == pytest.approx((0 + 0.5) / 2)
    # two votes are alike half of the time, and then 0.5 away; one vote always is
    assert found["by_chance"].estimate == pytest.approx((0.25 + 0.5) / 2)
    # the first clip alone: 0 from its shares, whose variances are thought to be (1 - 0.5) / 1
    assert found["squared"].estimate == pytest.approx(-0.5)
    lonely = distance(arm_of(probabilities[1:], votes[1:]), draws=20)
    assert np.isnan(lonely["squared"].estimate)


def test_seeds_that_say_the_same_do_not_count_as_more_clips() -> None:
    arm = toy_arm(150)
    twice = pd.concat([arm, arm.assign(seed=1)])
    for name, interval in distance(arm, draws=200).items():
        again = distance(twice, draws=200)[name]
        assert (again.estimate, again.low, again.high) == pytest.approx(
            (interval.estimate, interval.low, interval.high)
        )
    one, other = by_class(arm, draws=5), by_class(twice, draws=5)
    pd.testing.assert_frame_equal(one, other)


def test_classwise_ece_of_a_model_that_is_right_is_what_chance_makes() -> None:
    truth, votes = right_model()
    found = by_class(arm_of(truth, votes), draws=30)
    assert found.index.tolist() == list(EMOTIONS)
    assert found["ece"].mean() == pytest.approx(found["ece_by_chance"].mean(), rel=0.15)
    assert found["ece"].to_numpy() == pytest.approx(
        metrics.classwise_ece(truth, votes / votes.sum(axis=1, keepdims=True))
    )
    assert found[["predicted", "voted"]].sum().tolist() == pytest.approx([1, 1])


def test_a_class_that_is_said_too_often_is_seen() -> None:
    truth, votes = right_model()
    more_fear = (truth + 0.3 * np.eye(7)[6]) / 1.3
    found = by_class(arm_of(more_fear, votes), draws=10)
    assert found["ece"].idxmax() == "fear"
    assert found.loc["fear", "ece"] > 5 * found.loc["fear", "ece_by_chance"]
    assert found.loc["fear", "predicted"] - found.loc["fear", "voted"] > 0.15


def test_the_diagram_of_disagreement_follows_a_model_that_is_right() -> None:
    truth, votes = right_model(4000)
    diagram = by_predicted_entropy(arm_of(truth, votes), bins=8)
    assert diagram["clips"].sum() == 4000
    assert (diagram["clips"] == 500).all()
    assert diagram["voted"].to_numpy() == pytest.approx(diagram["predicted"].to_numpy(), abs=0.07)
    assert diagram["total_variation"].to_numpy() == pytest.approx(diagram["by_chance"].to_numpy(), abs=0.03)
    assert diagram["voted"].is_monotonic_increasing
    flat = by_predicted_entropy(arm_of(np.full((4000, 7), 1 / 7), votes), bins=8)
    assert flat["clips"].tolist() == [4000]


@pytest.mark.parametrize("function", [by_class, distance, by_predicted_entropy])
def test_without_votes_there_is_nothing_to_calibrate_against(function) -> None:
    with pytest.raises(ValueError, match="has votes"):
        function(arm_from([0], [0]))


def test_a_diagram_has_bins() -> None:
    with pytest.raises(ValueError, match="at least one"):
        by_predicted_entropy(toy_arm(10), bins=0)
