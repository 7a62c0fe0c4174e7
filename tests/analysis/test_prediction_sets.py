from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from arm_factory import arm_from, toy_arm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from dfer.analysis.prediction_sets import coverage, predict_sets, sizes, threshold
from dfer.labels import EMOTIONS

FEW_DRAWS = 50


def world(clips: int, seed: int, folds: int | None = 5) -> pd.DataFrame:
    """Ten voters a clip, rare classes, and a model that is too sure of itself and hardly ever says disgust."""
    generator = np.random.default_rng(seed)
    truth = generator.dirichlet([0.4, 0.4, 0.4, 0.3, 0.2, 0.05, 0.1], size=clips)
    votes = generator.multinomial(10, truth)
    probabilities = softmax(6 * truth + generator.normal(size=truth.shape) - 3 * np.eye(7)[5], axis=1)
    return arm_from(
        votes.argmax(axis=1).tolist(),
        probabilities.argmax(axis=1).tolist(),
        folds=None if folds is None else (np.arange(clips) % folds + 1).tolist(),
        votes=votes.tolist(),
        probabilities=probabilities,
    )


def covered(sets: pd.DataFrame) -> np.ndarray:
    """Share of what is true that is held: of all, then of each class."""
    true, held = np.stack(sets["truth"].to_list()), np.stack(sets["set"].to_list())
    return np.append((true * held).sum() / true.sum(), (true * held).sum(axis=0) / true.sum(axis=0))


@pytest.mark.parametrize("score", ["lac", "aps"])
@pytest.mark.parametrize("truth", ["label", "vote"])
def test_sets_hold_the_truth_as_often_as_promised(truth, score) -> None:
    """2,000 clips a world; what chance leaves is averaged over worlds, so that a point would be seen."""
    shares = [covered(predict_sets(world(2000, seed), truth=truth, score=score, seed=seed))[0] for seed in range(12)]
    assert np.mean(shares) == pytest.approx(0.9, abs=0.01)


def test_class_by_class_the_promise_holds_for_rare_classes_too() -> None:
    by_class = np.mean([covered(predict_sets(world(2000, seed), truth="label")) for seed in range(12)], axis=0)
    # few clips of a class are held a little more often than promised: by at most 1 / (n + 1)
    assert by_class[1:] == pytest.approx(0.9, abs=0.03)
    for_all = [covered(predict_sets(world(2000, seed), truth="label", class_conditional=False)) for seed in range(12)]
    assert np.mean(for_all, axis=0)[0] == pytest.approx(0.9, abs=0.01)
    assert np.mean(for_all, axis=0)[6] < 0.75  # disgust pays for the others


def test_sets_for_labels_hold_fewer_votes_than_they_promise() -> None:
    of_labels, of_votes = (predict_sets(world(2000, 3), truth=truth) for truth in ("label", "vote"))
    votes, held = np.stack(of_votes["truth"].to_list()), np.stack(of_labels["set"].to_list())
    assert (votes * held).sum() / votes.sum() < 0.85
    assert covered(of_votes)[0] == pytest.approx(0.9, abs=0.03)


def test_without_folds_each_models_clips_are_divided_and_the_promise_holds() -> None:
    for table in (
        world(2000, 1, folds=None),
        pd.concat([world(2000, 1).assign(fold=1), world(2000, 1).assign(fold=2)]),
    ):
        sets = predict_sets(table, truth="label", class_conditional=False)
        assert covered(sets)[0] == pytest.approx(0.9, abs=0.025)
        assert sets["part"].nunique() == 5
        # a clip is in the same part for all models
        assert (sets.groupby("clip_id")["part"].nunique() == 1).all()


def test_folds_are_calibrated_on_the_other_folds() -> None:
    table = world(300, 0, folds=3)
    sets = predict_sets(table)
    assert (sets["part"] == sets["fold"]).all()
    # another label in a fold changes the sets of the others alone
    other = table.copy()
    other["label"] = other["label"].where(other["fold"] != 2, (other["label"] + 1) % 7)
    one, two = (predict_sets(each, truth="label", class_conditional=False) for each in (table, other))
    same = np.array([(a == b).all() for a, b in zip(one["set"], two["set"], strict=True)])
    assert same[one["fold"] == 2].all()
    assert not same[one["fold"] != 2].all()


def test_the_finite_sample_quantile_by_hand() -> None:
    scores = [0.9, 0.1, 0.4, 0.3, 0.2, 0.5, 0.8, 0.7, 0.6]
    assert threshold(scores, 0.1) == 0.9  # the 9th of 9: (9 + 1) * 0.9
    assert threshold(scores, 0.5) == 0.5
    assert threshold(scores, 0.05) == threshold([], 0.1) == float("inf")
    assert threshold(np.arange(99), 0.07) == 92  # 100 * (1 - 0.07) is a little below 93


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 0.99))
@settings(deadline=None)
def test_one_of_n_and_one_scores_is_as_often_covered_as_promised(scores: list[float], miscoverage: float) -> None:
    """Exact for exchangeable scores: leave each out in turn; the others' threshold holds enough of them."""
    held = [score <= threshold(scores[:place] + scores[place + 1 :], miscoverage) for place, score in enumerate(scores)]
    assert np.mean(held) >= 1 - miscoverage - 1e-9


def test_scores_by_hand() -> None:
    # calibrated on one clip each, the other's score is the threshold for half of the coverage
    probabilities = np.array([[0.5, 0.3, 0.2, 0, 0, 0, 0], [0.6, 0.25, 0.15, 0, 0, 0, 0]])
    table = arm_from([1, 2], [0, 0], folds=[1, 2], probabilities=probabilities)
    sets = predict_sets(table, truth="label", miscoverage=0.5, class_conditional=False)
    # the other's truth has 0.15: every class with as much; the other's has 0.3
    assert [np.flatnonzero(each).tolist() for each in sets["set"]] == [[0, 1, 2], [0]]
    assert sets["size"].tolist() == [3, 1]
    assert sets["truth"][0].tolist() == [0, 1, 0, 0, 0, 0, 0]


def test_aps_sets_are_of_the_largest_probabilities_and_randomly_one_less() -> None:
    sets = predict_sets(world(400, 2), score="aps", class_conditional=False)
    table = world(400, 2).sort_values(["fold", "clip_id"])
    for probabilities, held in zip(table["probabilities"], sets["set"], strict=True):
        order = np.argsort(-probabilities)
        assert not np.diff(held[order].astype(int)).max() > 0


@given(st.floats(0.02, 0.5), st.floats(0.02, 0.5), st.sampled_from(["lac", "aps"]), st.booleans())
@settings(deadline=None, max_examples=15)
def test_a_greater_promise_makes_no_set_smaller(one: float, other: float, score, class_conditional: bool) -> None:
    table = toy_arm(90)
    strict, loose = (
        np.stack(predict_sets(table, miscoverage=m, score=score, class_conditional=class_conditional)["set"].to_list())
        for m in sorted([one, other])
    )
    assert (strict >= loose).all()


def test_the_order_of_rows_and_equal_seeds_change_nothing() -> None:
    table = toy_arm(120, seeds=2)
    for score in ("lac", "aps"):
        one = predict_sets(table, score=score)
        other = predict_sets(table.sample(frac=1, random_state=0), score=score)
        assert one["clip_id"].tolist() == other["clip_id"].tolist()
        assert np.array_equal(np.stack(one["set"].to_list()), np.stack(other["set"].to_list()))
    once, twice = toy_arm(120), pd.concat([toy_arm(120), toy_arm(120).assign(seed=1)])
    found, again = (coverage(predict_sets(each), EMOTIONS, draws=FEW_DRAWS) for each in (once, twice))
    pd.testing.assert_frame_equal(found, again)


def test_a_class_with_too_few_calibration_clips_is_in_every_set() -> None:
    labels = [0] * 40 + [1] * 4
    table = arm_from(labels, [0] * 44, folds=(np.arange(44) % 2 + 1).tolist())
    held = np.stack(predict_sets(table, truth="label")["set"].to_list())
    assert held[:, 1].all()
    assert not held[:, 2:].any()  # nothing has them


def test_coverage_by_hand() -> None:
    sets = pd.DataFrame(
        {
            "clip_id": ["a", "b", "c", "c"],
            "set": [np.array([True, False]), np.array([True, True]), np.array([False, True]), np.array([False, True])],
            "truth": [np.array([0.5, 0.5]), np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.array([1.0, 0.0])],
        }
    )
    found = coverage(sets, ("sad", "happy"), draws=400)
    assert found["covered"].tolist() == pytest.approx([(0.5 + 1) / 4, 0.5 / 2.5, 1 / 1.5])
    assert found["clips"].tolist() == [3, 2, 2]
    assert (found["low"] <= found["covered"]).all() and (found["covered"] <= found["high"]).all()
    assert found.loc["all", "low"] == 0


def test_the_interval_of_the_coverage_is_that_of_a_share() -> None:
    found = coverage(predict_sets(world(1000, 0), truth="label"), EMOTIONS, draws=1000).loc["all"]
    error = np.sqrt(found["covered"] * (1 - found["covered"]) / 1000)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * error, rel=0.12)


def test_sizes_grow_with_what_people_name() -> None:
    found = sizes(predict_sets(world(2000, 0)))
    assert found["predictions"].sum() == 2000
    named = np.array((np.stack(world(2000, 0)["votes"].to_list()) > 0).sum(axis=1))
    assert found["predictions"].to_dict() == pd.Series(named).value_counts().to_dict()
    assert found.loc[4, "size"] > found.loc[1, "size"] + 0.5
    assert found.loc[1, "all_named"] > found.loc[4, "all_named"]
    votes = [[3, 2, 0, 0, 0, 0, 0], None]
    sets = predict_sets(arm_from([0, 0], [0, 0], votes=votes), truth="label")
    assert sizes(sets)["predictions"].to_dict() == {2: 1}
    with pytest.raises(ValueError, match="has votes"):
        sizes(predict_sets(arm_from([0, 0], [0, 0]), truth="label"))


def test_what_cannot_be_calibrated_is_refused() -> None:
    with pytest.raises(ValueError, match="found 1 clip"):
        predict_sets(arm_from([0], [0]), truth="label")
    with pytest.raises(ValueError, match="between 0 and 1"):
        predict_sets(toy_arm(10), miscoverage=1)
    with pytest.raises(ValueError, match="has votes"):
        predict_sets(arm_from([0, 0], [0, 0]))
    with pytest.raises(ValueError, match="single label"):
        predict_sets(arm_from([None], [0], votes=[[1, 1, 0, 0, 0, 0, 0]]), truth="label")
