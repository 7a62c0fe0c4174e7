"""Power: what is predicted from one experiment against experiments that are made and judged by the project's test."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from arm_factory import toy_arm
from scipy.stats import binomtest

from dfer.analysis.power import (
    MOST_CLIPS,
    POWER,
    Pilot,
    clips_needed,
    in_words,
    pilot,
    points,
    power,
    rounded,
    smallest_seen,
)
from dfer.analysis.statistics import compare, percentile_interval, resamples
from dfer.analysis.variance import Metric

Arms = tuple[pd.DataFrame, pd.DataFrame]


def experiment(
    generator: np.random.Generator,
    clips: int,
    difference: float,
    *,
    folds: int = 1,
    seeds: int = 1,
    trainings: float = 0,
) -> Arms:
    """Two arms over clips of three classes, one half as frequent as the others, of which some are easier for the first
    and some for the second; `difference` and `trainings` (the standard deviation between them) are of the second."""
    labels = generator.choice(3, clips, p=[0.4, 0.4, 0.2])
    first = generator.uniform(0.25, 0.65, clips)
    second = first + difference + generator.choice([-0.2, 0.2], clips)
    fold = np.arange(clips) % folds
    ids = [f"toy/{place}" for place in range(clips)]

    def arm(chance: np.ndarray, sd: float) -> pd.DataFrame:
        tables = []
        for seed in range(seeds):
            right = generator.random(clips) < chance + generator.normal(0, sd, folds)[fold]
            columns = {"clip_id": ids, "label": labels, "prediction": np.where(right, labels, 6), "seed": seed}
            tables.append(pd.DataFrame(columns | {"fold": fold + 1}))
        return pd.concat(tables).astype({"label": "Int64", "fold": "Int64"})

    return arm(first, 0.0), arm(second, trainings)


def pilot_of(metric: Metric, **options: float) -> Pilot:
    """What is known from many clips and trainings of the same kind."""
    many = {**options, "folds": max(20, options.get("folds", 1))}
    return pilot(*experiment(np.random.default_rng(1), 6000, 0.0, **many), metric)


def test_power_is_the_share_of_experiments_that_see_the_difference() -> None:
    predicted, number, clips, seen = power(pilot_of("war"), 0.1, clips=220, folds=1), 250, 220, 0
    generator = np.random.default_rng(8)
    for place in range(number):
        one, other = experiment(generator, clips, 0.1)
        change = (other["prediction"] == other["label"]).to_numpy(float) - (one["prediction"] == one["label"])
        values = np.concatenate([times @ change / clips for times in resamples(clips, 300, place)])
        seen += percentile_interval(change.mean(), values).low > 0
    assert 0.3 < predicted < 0.95
    assert binomtest(seen, number, predicted).pvalue > 0.01, (seen / number, predicted)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("metric", "options"),
    [
        ("war", {}),
        ("war", {"folds": 2, "seeds": 3, "trainings": 0.05}),
        ("uar", {"seeds": 2}),
        ("uar", {"folds": 3}),
    ],
)
def test_power_is_the_share_of_comparisons_that_see_the_difference(metric, options) -> None:
    """By `statistics.compare` itself, with folds, seeds, trainings that differ, and UAR."""
    predicted = power(pilot_of(metric, **options), 0.1, clips=220, folds=options.get("folds", 1))
    number, seen, generator = 600, 0, np.random.default_rng(7)
    for place in range(number):
        comparison = compare(*experiment(generator, 220, 0.1, **options), draws=400, seed=place)
        seen += comparison.differences[metric].low > 0
    assert binomtest(seen, number, predicted).pvalue > 0.01, (seen / number, predicted)


def test_without_a_difference_one_side_is_seen_in_2_5_percent() -> None:
    found = pilot(*experiment(np.random.default_rng(2), 3000, 0.0))
    seen = power(found, 1e-9, clips=500, experiments=20000)
    assert abs(seen - 0.025) < 0.005


@pytest.mark.parametrize("metric", ["war", "uar"])
@pytest.mark.parametrize("seeds", [1, 3])
def test_so_many_clips_as_are_needed_have_the_power(metric, seeds) -> None:
    found = pilot(*experiment(np.random.default_rng(3), 900, 0.03, folds=5, seeds=3, trainings=0.02), metric)
    assert found.between_trainings > 0
    needed = clips_needed(found, 0.05, seeds=seeds)
    assert needed is not None and needed > 200
    assert abs(power(found, 0.05, clips=needed, seeds=seeds, experiments=20000) - POWER) < 0.015
    assert smallest_seen(found, clips=needed, seeds=seeds) == pytest.approx(0.05, rel=0.01)
    corrected = clips_needed(found, 0.05, seeds=seeds, comparisons=6)
    assert corrected is not None and corrected > 1.3 * needed
    assert abs(power(found, 0.05, clips=corrected, seeds=seeds, comparisons=6, experiments=20000) - POWER) < 0.015


def test_one_seed_and_one_fold_is_the_classical_formula() -> None:
    """Of clips that only one arm is right about: (1.96 + 0.84)^2 (their share - difference^2) / difference^2."""
    a, b = experiment(np.random.default_rng(4), 2000, 0.02)
    change = (b["prediction"] == b["label"]).to_numpy(float) - (a["prediction"] == a["label"]).to_numpy(float)
    expected = (1.959964 + 0.841621) ** 2 * change.var(ddof=1) / 0.02**2
    assert clips_needed(pilot(a, b), 0.02) == pytest.approx(expected, rel=1e-3)


def test_more_seeds_need_fewer_clips_but_never_fewer_than_the_clips_themselves_ask_for() -> None:
    found = pilot(*experiment(np.random.default_rng(5), 3000, 0.0, seeds=3))
    one, three, hundred = (clips_needed(found, 0.03, seeds=seeds) for seeds in (1, 3, 100))
    assert one is not None and three is not None and hundred is not None
    assert one > 2 * three > 2 * hundred
    # the second arm's chance is 0.2 above or below the first one's, whatever the seed
    assert hundred == pytest.approx(7.849 * 0.2**2 / 0.03**2, rel=0.25)


def test_trainings_that_differ_by_more_than_the_difference_cannot_be_outdone_by_clips() -> None:
    found = pilot(*experiment(np.random.default_rng(6), 4000, 0.0, folds=10, seeds=3, trainings=0.1))
    assert clips_needed(found, 0.02, folds=1, seeds=1) is None
    assert clips_needed(found, 0.02, folds=10, seeds=30) is not None
    assert power(found, 0.02, clips=2_000_000, folds=1, seeds=1) < POWER
    assert clips_needed(found, 1e-6, seeds=3) is None


def test_with_one_seed_clips_are_enough_for_the_smallest_difference() -> None:
    found = pilot(*experiment(np.random.default_rng(6), 4000, 0.0))
    fewer, needed = (clips_needed(found, difference) for difference in (1e-3, 1e-4))
    assert fewer is not None and needed is not None
    assert needed == pytest.approx(100 * fewer, rel=1e-3)
    assert needed > MOST_CLIPS


def test_models_of_several_folds_on_the_same_clips_count_as_seeds() -> None:
    found = pilot(toy_arm(200, folds=3, across=True), toy_arm(200, folds=3, across=True, model=1))
    assert (found.folds, found.seeds) == (1, 3)
    arms = toy_arm(200, folds=3), toy_arm(200, folds=3, model=1, seeds=2)
    assert (pilot(*arms).folds, pilot(*arms).seeds) == (3, 1)
    difference = compare(*(toy_arm(200, folds=3, seeds=2, model=model) for model in (0, 1))).differences["uar"]
    arms = toy_arm(200, folds=3, seeds=2), toy_arm(200, folds=3, seeds=2, model=1)
    assert pilot(*arms, "uar").difference == pytest.approx(difference.estimate)


def test_what_cannot_be_known_is_refused() -> None:
    arm = toy_arm(200, folds=3)
    with pytest.raises(ValueError, match="nothing is known about where they differ"):
        pilot(arm, arm)
    with pytest.raises(ValueError, match="the arms share no clip"):
        pilot(arm, arm.assign(clip_id=arm["clip_id"] + "x"))
    found = pilot(arm, toy_arm(200, folds=3, model=1))
    with pytest.raises(ValueError, match="run the arms with two seeds or more"):
        power(found, 0.02, clips=200, seeds=3)
    for wrong in (0, -0.1, 1, float("nan")):
        with pytest.raises(ValueError, match="expected a difference above 0 and below 100 points"):
            clips_needed(found, wrong)
    with pytest.raises(ValueError, match="a class has a single clip"):
        rare = toy_arm(60, folds=3)
        rare.loc[rare["label"] == 4, "label"] = 3
        rare.loc[rare.index[rare["label"].notna()][0], "label"] = 4
        pilot(rare, rare.assign(prediction=0), "uar")


def test_in_words() -> None:
    assert in_words(0.021, 1874) == (
        "a difference of 2.1 points would need about 1,900 clips to be seen with 80 % power"
    )
    assert in_words(0.001, None) == (
        "a difference of 0.1 points would need other trainings than these, with more seeds, to be seen with 80 % "
        "power: no number of clips is enough"
    )
    assert in_words(0.0001, 10_000_001) == (
        "a difference of 0.01 points would need more than 10,000,000 clips to be seen with 80 % power"
    )
    assert [points(one) for one in (0.02, 0.029, 0.0025, 0.12, 1e-6)] == ["2.0", "2.9", "0.25", "12.0", "0.0001"]
    assert rounded(94) == 94
    assert rounded(123456) == 120000
