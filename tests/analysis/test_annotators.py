from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from arm_factory import arm_from, toy_arm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import entr

from dfer.analysis.annotators import information, worth

VOTES = st.lists(st.integers(0, 6), min_size=3, max_size=6).map(
    lambda people: np.bincount(people, minlength=7).tolist()
)


def arm_of(votes: np.ndarray, probabilities: np.ndarray | None = None) -> pd.DataFrame:
    number = len(votes)
    return arm_from([None] * number, [0] * number, votes=votes.tolist(), probabilities=probabilities)


def world(clips: int, votes: int = 11, strength: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What all annotators would say, Dirichlet with this strength, and a few votes."""
    generator = np.random.default_rng(seed)
    prior = np.array([0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05])
    truth = generator.dirichlet(strength * prior, size=clips)
    return truth, generator.multinomial(votes, truth)


def by_enumeration(votes: list[list[int]], number: int, strength: float) -> float:
    """Over every vote that can be left out and every way to choose so many of the others."""
    prior = np.mean([np.array(clip) / sum(clip) for clip in votes], axis=0)
    clips = []
    for clip in votes:
        people = [emotion for emotion, count in enumerate(clip) for _ in range(count)]
        values = []
        for place, person in enumerate(people):
            others = people[:place] + people[place + 1 :]
            for chosen in combinations(others, number):
                share = (chosen.count(person) + strength * prior[person]) / (number + strength)
                values.append(-np.log(share))
        clips.append(np.mean(values))
    return float(np.mean(clips))


@given(st.lists(VOTES, min_size=2, max_size=4))
@settings(deadline=None, max_examples=15)
def test_the_curve_is_that_of_all_ways_to_choose_votes(votes: list[list[int]]) -> None:
    found = information(arm_of(np.array(votes)), most=2, draws=2)
    for number in (0, 1, 2):
        expected = by_enumeration(votes, number, found.strength)
        assert found.curve["cross_entropy"][number] == pytest.approx(expected)


def test_a_dirichlet_world_gives_its_strength_and_its_entropies_back() -> None:
    truth, votes = world(4000)
    found = information(arm_of(votes), draws=100)
    assert found.strength == pytest.approx(2, rel=0.1)
    assert (found.clips, found.clips_with_fewer_votes) == (4000, 0)
    curve = found.curve
    assert curve["votes"].tolist() == list(range(11))
    # nothing known: the entropy of the classes' shares; everything: the mean entropy of the clips
    assert curve["cross_entropy"][0] == pytest.approx(entr(votes.sum(axis=0) / votes.sum()).sum())
    assert curve["cross_entropy"][10] > entr(truth).sum(axis=1).mean()
    assert (curve["gain"][1:] > 0).all()
    assert curve["gain"][1:].is_monotonic_decreasing
    assert curve["gain"][1:].sum() == pytest.approx(curve["cross_entropy"][0] - curve["cross_entropy"][10])
    assert np.isnan(curve["gain"][0])
    assert (curve["low"] < curve["cross_entropy"]).all() and (curve["cross_entropy"] < curve["high"]).all()
    assert (curve["gain_low"][1:] < curve["gain"][1:]).all()


def test_more_votes_are_needed_where_people_disagree_more() -> None:
    clear, torn = (information(arm_of(world(1500, strength=s)[1]), draws=10) for s in (0.3, 10))
    assert clear.needed() < torn.needed()
    assert clear.needed(0.5) <= clear.needed(0.9)
    assert torn.needed(1) == 10


def test_the_interval_is_that_of_a_mean_over_clips() -> None:
    _, votes = world(1000)
    found = information(arm_of(votes), draws=2000).curve
    other = [information(arm_of(world(1000, seed=seed)[1]), draws=2).curve["cross_entropy"][5] for seed in range(25)]
    width = found["high"][5] - found["low"][5]
    assert width == pytest.approx(2 * 1.96 * np.std(other, ddof=1), rel=0.4)


def test_the_same_clips_are_used_for_all_numbers_of_votes() -> None:
    few, many = [2, 1, 0, 0, 0, 0, 0], [4, 2, 1, 0, 0, 0, 0]
    votes = np.array([few] * 2 + [many] * 8)
    found = information(arm_of(votes), draws=2)
    assert (found.clips, found.clips_with_fewer_votes, len(found.curve)) == (8, 2, 7)
    assert found.curve["cross_entropy"][0] == pytest.approx(entr(np.array(many) / 7).sum())


def test_a_model_that_knows_the_truth_is_worth_all_votes_and_one_that_knows_the_classes_none() -> None:
    truth, votes = world(1500)
    assert worth(arm_of(votes, truth), draws=50).estimate == 10
    prior = np.tile(votes.sum(axis=0) / votes.sum(), (1500, 1))
    assert worth(arm_of(votes, prior), draws=50).estimate == pytest.approx(0, abs=1e-6)
    assert worth(arm_of(votes, np.full((1500, 7), 1 / 7)), draws=50).high == 0


def test_a_model_that_has_seen_three_other_votes_is_worth_three() -> None:
    truth, votes = world(4000)
    seen = np.random.default_rng(9).multinomial(3, truth)
    prior = np.array([0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05])
    found = worth(arm_of(votes, (seen + 2 * prior) / 5), draws=300)
    assert found.low < 3 < found.high
    assert found.high - found.low < 0.5


def test_runs_and_the_order_of_rows_do_not_count_as_more_clips() -> None:
    arm = toy_arm(150)
    twice = pd.concat([arm, arm.assign(seed=1)]).sample(frac=1, random_state=0)
    one, other = information(arm, draws=50), information(twice, draws=50)
    pd.testing.assert_frame_equal(one.curve, other.curve)
    assert worth(twice, draws=50).estimate == pytest.approx(worth(arm, draws=50).estimate)


def test_votes_that_cannot_tell_are_refused() -> None:
    with pytest.raises(ValueError, match="has votes"):
        information(arm_from([0], [0]))
    with pytest.raises(ValueError, match="more than 1 votes"):
        information(arm_of(np.eye(7, dtype=int)))
    with pytest.raises(ValueError, match="at least one vote"):
        information(toy_arm(10), most=0)
