from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pandas as pd
import pytest
from arm_factory import arm_from, toy_arm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import entr, softmax
from scipy.stats import entropy as scipy_entropy

from dfer.analysis.ambiguity import entropy_correlation, vote_entropy
from dfer.analysis.vote_entropy import agreement, draw_votes, expected_entropy

DISTRIBUTIONS = st.lists(st.floats(0.01, 1), min_size=2, max_size=4).map(lambda p: np.array(p) / sum(p))


def world(clips: int, votes: int | np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What all annotators would say of each clip, and a few votes."""
    generator = np.random.default_rng(seed)
    truth = generator.dirichlet(np.full(7, 0.3), size=clips)
    return truth, generator.multinomial(votes, truth)


def arm_of(probabilities: np.ndarray, votes: np.ndarray) -> pd.DataFrame:
    predictions = probabilities.argmax(axis=1).tolist()
    return arm_from([None] * len(votes), predictions, votes=votes.tolist(), probabilities=probabilities)


@given(DISTRIBUTIONS, st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_expected_entropy_is_that_of_all_ways_to_vote(p: np.ndarray, number: int) -> None:
    by_hand = 0.0
    for people in product(range(len(p)), repeat=number):
        by_hand += p[list(people)].prod() * scipy_entropy(np.bincount(people))
    assert expected_entropy([p], [number])[0] == pytest.approx(by_hand, abs=1e-12)


@given(DISTRIBUTIONS)
@settings(deadline=None, max_examples=40)
def test_few_votes_have_too_little_entropy_and_many_have_nearly_all(p: np.ndarray) -> None:
    few = expected_entropy(np.tile(p, (4, 1)), [1, 3, 10, 3000])
    assert few[0] == 0
    assert (np.diff(few) > 0).all()
    # Miller's correction, which holds for many votes
    assert few[3] == pytest.approx(entr(p).sum() - (len(p) - 1) / 6000, abs=2e-5)


def test_two_votes_by_hand() -> None:
    # they differ with probability 2 * 0.2 * 0.8, and then have the entropy ln 2
    assert expected_entropy([[0.2, 0.8]], [2])[0] == pytest.approx(0.32 * np.log(2))
    with pytest.raises(ValueError, match="at least one"):
        expected_entropy([[0.2, 0.8]], [0])


def test_a_model_that_is_right_has_no_excess_though_its_entropy_is_greater_than_that_of_the_votes() -> None:
    truth, votes = world(3000, np.random.default_rng(5).integers(3, 12, 3000))
    found = agreement(arm_of(truth, votes), draws=500)
    assert found.excess.low < 0 < found.excess.high
    assert found.excess.high - found.excess.low < 0.06
    assert found.few_votes > 0.15
    seen = entr(truth).sum(axis=1).mean() - vote_entropy(votes).mean()
    assert found.few_votes + found.excess.estimate == pytest.approx(seen)


def test_a_model_that_is_too_sure_predicts_too_little_disagreement() -> None:
    truth, votes = world(600, 10)
    sure = softmax(2 * np.log(np.maximum(truth, 1e-9)), axis=1)
    assert agreement(arm_of(sure, votes), draws=200).excess.high < 0
    assert agreement(arm_of((truth + 1) / 8, votes), draws=200).excess.low > 0


def test_different_numbers_of_votes_are_accounted_for() -> None:
    # the same disagreement everywhere: only the number of votes makes the entropies of votes differ
    generator = np.random.default_rng(0)
    even = np.tile([0.5, 0.5, 0, 0, 0, 0, 0], (2000, 1))
    votes = generator.multinomial(generator.integers(2, 20, 2000), even)
    table = arm_of(even, votes)
    assert np.isnan(entropy_correlation(table)[0])
    found = agreement(table, draws=200)
    assert np.isnan(found.uncorrected)
    assert found.correlation.low > 0.1


def test_the_ceiling_is_about_what_the_truth_reaches() -> None:
    for votes, off in ((10, 0.05), (30, 0.02)):
        table = arm_of(*world(3000, votes, seed=votes))
        found = agreement(table, draws=50)
        assert found.ceiling == pytest.approx(found.correlation.estimate, abs=off)
        assert found.correlation.estimate < 0.95


def test_without_the_correction_it_is_the_rank_correlation_of_before_and_seeds_are_not_more_clips() -> None:
    arm = toy_arm(200)
    found = agreement(arm, draws=200)
    assert found.uncorrected == pytest.approx(entropy_correlation(arm)[0])
    assert found.correlation.low < found.correlation.estimate < found.correlation.high
    again = agreement(pd.concat([arm, arm.assign(seed=1)]).sample(frac=1, random_state=0), draws=200)
    one, other = (dataclasses.asdict(each) for each in (found, again))
    for name, value in one.items():
        assert other[name] == pytest.approx(value), name


def test_clips_with_one_vote_say_nothing() -> None:
    lonely, torn, agreed = [1, 0, 0, 0, 0, 0, 0], [5, 5, 0, 0, 0, 0, 0], [10, 0, 0, 0, 0, 0, 0]
    probabilities = np.array([[0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], [0.5, 0.5, 0, 0, 0, 0, 0], [1.0, 0, 0, 0, 0, 0, 0]])
    found = agreement(arm_of(probabilities, np.array([lonely, torn, agreed])), draws=50)
    assert (found.clips, found.clips_with_one_vote) == (2, 1)
    assert found.correlation.estimate == 1
    with pytest.raises(ValueError, match="single vote"):
        agreement(arm_of(probabilities[:1], np.array([lonely])))
    with pytest.raises(ValueError, match="has votes"):
        agreement(arm_from([0], [0]))


def test_entropies_that_do_not_vary_have_no_correlation() -> None:
    votes = np.array([[3, 2, 0, 0, 0, 0, 0], [2, 3, 0, 0, 0, 0, 0]])
    found = agreement(arm_of(np.full((2, 7), 1 / 7), votes), draws=20)
    assert np.isnan(found.correlation.estimate)
    assert np.isnan(found.ceiling)


@given(st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3).filter(any), min_size=1, max_size=5), st.randoms())
@settings(deadline=None)
def test_votes_are_drawn_without_replacement(votes: list[list[int]], random) -> None:
    counts = np.array(votes)
    number = np.array([random.randint(0, sum(clip)) for clip in votes])
    drawn = draw_votes(counts, number, np.random.default_rng(0))
    assert (drawn.sum(axis=1) == number).all()
    assert ((drawn >= 0) & (drawn <= counts)).all()


def test_each_vote_is_drawn_as_often_as_any_other() -> None:
    votes = np.tile([4, 1, 3], (20_000, 1))
    drawn = draw_votes(votes, np.full(20_000, 2), np.random.default_rng(0))
    assert drawn.mean(axis=0) == pytest.approx(np.array([1, 0.25, 0.75]), abs=0.02)
