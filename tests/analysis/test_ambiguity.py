from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
from arm_factory import arm_from, toy_arm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy
from scipy.stats import spearmanr

from dfer.analysis.ambiguity import (
    against_voters,
    aurc,
    by_ambiguity,
    entropy_correlation,
    risk_against_voters,
    risk_coverage,
    vote_entropy,
)

VOTES = st.lists(st.integers(0, 6), min_size=7, max_size=7).filter(any)


def confident(confidences: list[float], right: list[bool]) -> pd.DataFrame:
    """Clips of class 0 with predictions of class 0 (right) or 1 of the given confidence."""
    probabilities = np.repeat((1 - np.array(confidences))[:, None] / 6, 7, axis=1)
    predictions = [0 if hit else 1 for hit in right]
    probabilities[np.arange(len(right)), predictions] = confidences
    return arm_from([0] * len(right), predictions, probabilities=probabilities)


@given(VOTES)
@settings(deadline=None)
def test_vote_entropy_agrees_with_scipy_and_does_not_depend_on_which_class_is_which(votes: list[int]) -> None:
    assert vote_entropy([votes])[0] == pytest.approx(scipy_entropy(votes), abs=1e-9)
    assert vote_entropy([votes])[0] == vote_entropy([votes[::-1]])[0]
    assert (vote_entropy([votes])[0] == 0) == (sum(count > 0 for count in votes) == 1)


def test_equal_entropies_are_equal_numbers() -> None:
    assert len(set(vote_entropy([[4, 3, 3, 0, 0, 0, 0], [0, 1, 2, 1, 0, 6, 0]]))) == 1


def test_bins_of_ambiguity_hold_every_clip_once_and_do_not_overlap() -> None:
    arm = toy_arm(600, seeds=2)
    report = by_ambiguity(arm)
    scored = arm[arm["label"].notna()]
    assert report["clips"].sum() == scored["clip_id"].nunique()
    assert (report["high"].to_numpy()[:-1] < report["low"].to_numpy()[1:]).all()
    assert ((report["low"] <= report["entropy"]) & (report["entropy"] <= report["high"])).all()
    in_bin = vote_entropy(np.stack(scored["votes"].to_list())) >= report["low"].iloc[-1]
    hardest = scored[in_bin]
    assert report["war"].iloc[-1] == (hardest["label"] == hardest["prediction"]).mean()
    assert len(report) == 4


def test_clips_that_all_agree_on_are_one_bin() -> None:
    votes = [[10, 0, 0, 0, 0, 0, 0]] * 6 + [[9, 1, 0, 0, 0, 0, 0], [8, 2, 0, 0, 0, 0, 0]]
    report = by_ambiguity(arm_from([0] * 8, [0] * 6 + [0, 1], votes=votes))
    assert report["clips"].tolist() == [6, 2]
    assert report["war"].tolist() == [1, 0.5]
    assert report["high"].iloc[0] == 0


@pytest.mark.parametrize("function", [by_ambiguity, entropy_correlation, against_voters, risk_against_voters])
def test_without_votes_nothing_is_known_about_ambiguity(function) -> None:
    with pytest.raises(ValueError, match="has votes"):
        function(arm_from([0], [0]))


def test_entropy_correlation_agrees_with_scipy_and_seeds_are_not_more_clips() -> None:
    arm = toy_arm(200)
    model = scipy_entropy(np.stack(arm["probabilities"].to_list()), axis=1)
    voters = vote_entropy(np.stack(arm["votes"].to_list()))
    expected = spearmanr(model, voters)
    assert entropy_correlation(arm) == pytest.approx((expected.statistic, expected.pvalue))
    assert entropy_correlation(pd.concat([arm, arm.assign(seed=1)])) == pytest.approx(entropy_correlation(arm))
    assert expected.statistic > 0.1


def test_entropy_that_does_not_vary_has_no_rank_correlation() -> None:
    arm = arm_from([0, 0], [0, 1], votes=[[10, 0, 0, 0, 0, 0, 0], [5, 5, 0, 0, 0, 0, 0]])
    assert np.isnan(entropy_correlation(arm)).all()


def test_risk_coverage_worked_by_hand() -> None:
    curve = risk_coverage(confident([0.9, 0.5, 0.7, 0.3], [True, True, False, False]))
    assert curve["coverage"].tolist() == [0.25, 0.5, 0.75, 1]
    assert curve["risk"].tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])


def test_among_equally_confident_clips_every_order_counts_the_same() -> None:
    right = [True, False, True, False]
    places = [
        confident([0.9, 0.8, 0.79, 0.78], [right[0], *(right[1 + p] for p in order)])
        for order in permutations(range(3))
    ]
    expected = np.mean([risk_coverage(arm)["risk"] for arm in places], axis=0)
    tied = confident([0.9, 0.8, 0.8, 0.8], right)
    assert risk_coverage(tied)["risk"].to_numpy() == pytest.approx(expected)
    assert aurc(tied) == pytest.approx(expected.mean())
    assert aurc(tied.sample(frac=1, random_state=3)) == pytest.approx(aurc(tied))


def test_a_model_that_knows_when_it_is_wrong_has_the_smaller_area() -> None:
    right = [True] * 6 + [False] * 4
    falling = np.linspace(0.9, 0.3, 10).tolist()
    ignorant = aurc(confident([0.5] * 10, right))
    assert aurc(confident(falling, right)) < ignorant < aurc(confident(falling[::-1], right))
    assert ignorant == pytest.approx(0.4)


def test_risk_against_voters_worked_by_hand() -> None:
    votes = [[3, 0, 0, 0, 0, 0, 0], [2, 1, 0, 0, 0, 0, 0]]
    arm = confident([0.9, 0.5], [True, False])
    arm["votes"] = [np.array(each) for each in votes]
    found = risk_against_voters(arm, points=4)
    # the model: none of the first clip's votes, then all but one of the second's, which it is less sure of
    assert found["model"].tolist() == pytest.approx([0, 0, (2 / 3) / 2 / 1.5, (2 / 3) / 2])
    # the voters: all of the first agree with the others (2:0), and so does one of the second's, wrongly; then two ties
    # of 1:1, each right by half
    assert found["voters"].tolist() == pytest.approx([1 / 4, 1 / 4, (1 / 3 + 1 / 12) / 1.5, (1 / 3 + 1 / 3) / 2])


def test_at_full_coverage_the_voters_are_as_often_wrong_as_they_are_not_of_one_mind() -> None:
    arm = toy_arm(150)
    found = risk_against_voters(arm, points=10)
    assert found["voters"].iloc[-1] == pytest.approx(1 - against_voters(arm, splits=2)["human_accuracy"])
    votes = np.stack(arm["votes"].to_list()) / 10
    assert found["model"].iloc[-1] == pytest.approx(1 - votes[np.arange(len(arm)), arm["prediction"]].mean())
    again = risk_against_voters(pd.concat([arm, arm.assign(seed=1)]).sample(frac=1, random_state=0), points=10)
    pd.testing.assert_frame_equal(found, again)


def test_a_model_that_knows_what_all_say_is_at_least_as_good_as_a_panel_that_guesses_it() -> None:
    generator = np.random.default_rng(0)
    truth = generator.dirichlet(np.full(7, 0.3), size=3000)
    votes = generator.multinomial(5, truth)
    predictions = truth.argmax(axis=1).tolist()
    arm = arm_from([None] * 3000, predictions, votes=votes.tolist(), probabilities=truth)
    found = risk_against_voters(arm)
    assert (found["model"] < found["voters"] + 0.01).all()
    assert found["model"].is_monotonic_increasing


def test_a_curve_against_voters_needs_several_of_them() -> None:
    with pytest.raises(ValueError, match="single vote"):
        risk_against_voters(arm_from([0], [0], votes=[[1, 0, 0, 0, 0, 0, 0]]))
    with pytest.raises(ValueError, match="at least one"):
        risk_against_voters(toy_arm(10), points=0)


def halves_by_enumeration(votes: list[int]) -> float:
    """Expected divergence of two halves, over every way to choose them."""
    people = [emotion for emotion, count in enumerate(votes) for _ in range(count)]
    half = len(people) // 2
    values = []
    for one in combinations(range(len(people)), half):
        rest = [place for place in range(len(people)) if place not in one]
        for other in combinations(rest, half):
            shares = [np.bincount([people[place] for place in side], minlength=7) for side in (one, other)]
            values.append(jensenshannon(*shares) ** 2)
    return float(np.mean(values))


@pytest.mark.parametrize(
    "votes", [[3, 3, 0, 0, 0, 0, 0], [4, 0, 2, 1, 0, 0, 0], [0, 2, 0, 0, 1, 1, 0], [0, 0, 0, 5, 0, 0, 0]]
)
def test_divergence_of_halves_is_that_of_all_halvings(votes: list[int]) -> None:
    found = against_voters(arm_from([None], [0], votes=[votes]), splits=20_000)
    assert found["human_js"] == pytest.approx(halves_by_enumeration(votes), abs=0.005)


def test_annotators_against_the_majority_of_the_others_worked_by_hand() -> None:
    # 2:1 - each of the two has a tie of 1:1 against it (a half), the third faces 2:0 (none): (2 * 0.5 + 0) / 3.
    # The model says the first class: two panels of 1:1 (a half each) and one of 2:0 (right): (2 * 0.5 + 1) / 3.
    found = against_voters(arm_from([0], [0], votes=[[2, 1, 0, 0, 0, 0, 0]]))
    assert found["human_accuracy"] == pytest.approx(1 / 3)
    assert found["model_accuracy"] == pytest.approx(2 / 3)
    # The minority's class is in the two ties alone.
    assert against_voters(arm_from([0], [1], votes=[[2, 1, 0, 0, 0, 0, 0]]))["model_accuracy"] == pytest.approx(1 / 3)


@given(st.lists(VOTES.filter(lambda votes: sum(votes) > 1), min_size=1, max_size=5))
@settings(deadline=None, max_examples=30)
def test_leave_one_out_agrees_with_doing_so(votes: list[list[int]]) -> None:
    credits = []
    for counts in votes:
        people = [emotion for emotion, count in enumerate(counts) for _ in range(count)]
        for person in people:
            others = np.array(counts) - np.eye(7, dtype=int)[person]
            winners = np.flatnonzero(others == others.max())
            credits.append((person in winners) / len(winners) / len(people))
    found = against_voters(arm_from([None] * len(votes), [0] * len(votes), votes=votes), splits=2)
    assert found["human_accuracy"] == pytest.approx(sum(credits) / len(votes))


def test_where_all_agree_annotators_are_perfect() -> None:
    arm = arm_from([0, 1], [0, 0], votes=[[10, 0, 0, 0, 0, 0, 0], [0, 10, 0, 0, 0, 0, 0]])
    found = against_voters(arm)
    assert (found["human_js"], found["human_accuracy"], found["model_accuracy"]) == (0, 1, 0.5)
    assert found["human_exceeds_model"] == 0


def test_a_model_that_says_what_the_voters_say_disagrees_less_than_they_do() -> None:
    votes = [[5, 5, 0, 0, 0, 0, 0], [4, 3, 3, 0, 0, 0, 0]]
    found = against_voters(arm_from([None, 0], [0, 0], votes=votes, probabilities=np.array(votes) / 10))
    assert found["model_js"] == pytest.approx(0)
    assert found["human_exceeds_model"] == 1
    assert found["human_js"] > 0.05


def test_annotators_do_not_depend_on_runs_rows_or_other_clips() -> None:
    arm = toy_arm(100)
    found = against_voters(arm, splits=50)
    human = ("human_js", "human_accuracy", "clips")
    repeated = against_voters(pd.concat([arm, arm.assign(seed=1)]).sample(frac=1, random_state=0), splits=50)
    assert {name: repeated[name] for name in human} == pytest.approx({name: found[name] for name in human})
    halves = [against_voters(part, splits=50)["human_js"] for part in (arm[:50], arm[50:])]
    assert np.mean(halves) == pytest.approx(found["human_js"])


def test_a_single_vote_says_nothing_about_disagreement() -> None:
    lonely, pair = [1, 0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0]
    found = against_voters(arm_from([0, 0], [0, 0], votes=[lonely, pair]))
    assert (found["clips"], found["clips_with_one_vote"], found["human_accuracy"]) == (2, 1, 1)
    with pytest.raises(ValueError, match="single vote"):
        against_voters(arm_from([0], [0], votes=[lonely]))
