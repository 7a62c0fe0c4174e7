from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from arm_factory import arm_from, toy_arm
from scipy.stats import binomtest

from dfer.analysis import variance
from dfer.analysis.variance import COMPONENTS, decompose, in_words


def arm_of(
    right: np.ndarray, *, fold: int | None = 1, labels: np.ndarray | None = None, first: int = 0
) -> pd.DataFrame:
    """One fold's arm from what each seed is right about, [clips, seeds]."""
    clips, seeds = right.shape
    true = np.zeros(clips, dtype=int) if labels is None else labels
    return pd.concat(
        [
            arm_from(
                true.tolist(),
                np.where(right[:, seed], true, 6).tolist(),
                folds=fold,
                seed=seed,
                clip_ids=[f"toy/{first + place}" for place in range(clips)],
            )
            for seed in range(seeds)
        ]
    )


def planted(
    generator: np.random.Generator, folds: int, seeds: int, clips: int, sd: dict[str, float]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds, seeds and clips that are easier or harder by so much; right or wrong is then drawn for each run.

    As `decompose` reads them from a table: hundreds of tables would take most of the time.
    """
    found = []
    for _ in range(folds):
        ease = 0.6 + sd["fold"] * generator.normal() + sd["clips"] * generator.choice([-1, 1], size=(clips, 1))
        ease = ease + sd["seed"] * generator.normal(size=seeds)
        found.append((np.zeros(clips, dtype=int), (generator.random((clips, seeds)) < ease).astype(float)))
    return found


def test_two_seeds_and_two_clips_by_hand() -> None:
    # seeds score 1 and 1/2; clips 1 and 1/2: grand mean 3/4, the residuals are all 1/4
    found = decompose(arm_of(np.array([[1, 1], [1, 0]])))
    # residual mean square 4 * (1/16) / 1 = 1/4; between clips 2 * 1/8 = 1/4
    assert found.loc["clips by seed", "variance"] == pytest.approx(1 / 4 / 2)
    assert found.loc["clips", "variance"] == pytest.approx(0)
    # between seeds 1/8, of which clips by seed are 1/8
    assert found.loc["seed", "variance"] == pytest.approx(0)
    assert found.loc["fold", "note"] == "one fold"
    assert np.isnan(found.loc["fold", "variance"])


def test_two_folds_of_one_seed_by_hand() -> None:
    one, other = np.array([[1], [1], [1], [0]]), np.array([[1], [0], [0], [0]])
    found = decompose(pd.concat([arm_of(one), arm_of(other, fold=2, first=4)]))
    # each fold: 3/16 * 4/3 / 4; the folds' scores 3/4 and 1/4 have the variance 1/8
    assert found.loc["clips", "variance"] == pytest.approx(1 / 16)
    assert found.loc["fold", "variance"] == pytest.approx(1 / 8 - 1 / 16)
    assert found.loc["fold", "df"] == 1
    assert found["note"].to_dict() == {
        "seed": "one seed",
        "fold": "with seed",
        "clips": "with clips by seed",
        "clips by seed": "one seed",
    }
    assert found.loc[["seed", "clips by seed"], "variance"].isna().all()


def test_the_mean_squares_are_those_of_an_analysis_of_variance() -> None:
    ols = pytest.importorskip("statsmodels.formula.api").ols
    anova_lm = pytest.importorskip("statsmodels.stats.anova").anova_lm
    right = np.random.default_rng(0).random((30, 4)) < np.linspace(0.3, 0.9, 30)[:, None]
    long = pd.DataFrame(
        {"right": right.ravel().astype(float), "clip": np.repeat(range(30), 4), "seed": np.tile(range(4), 30)}
    )
    squares = anova_lm(ols("right ~ C(clip) + C(seed)", long).fit())["mean_sq"]
    found = decompose(arm_of(right))["variance"]
    assert found["clips by seed"] == pytest.approx(squares["Residual"] / 30)
    assert found["clips"] == pytest.approx((squares["C(clip)"] - squares["Residual"]) / 4 / 30)
    assert found["seed"] == pytest.approx((squares["C(seed)"] - squares["Residual"]) / 30)


def test_planted_variances_come_back_on_average() -> None:
    generator = np.random.default_rng(1)
    sd = {"fold": 0.06, "seed": 0.04, "clips": 0.2}
    clips, worlds = 150, 300
    worlds_parts = [variance.decompose_folds(planted(generator, 4, 3, clips, sd), "war") for _ in range(worlds)]
    found = pd.DataFrame([parts["variance"] for parts in worlds_parts])
    of_one_draw = 0.6 * 0.4 - sd["clips"] ** 2 - sd["fold"] ** 2 - sd["seed"] ** 2
    expected = {
        "seed": sd["seed"] ** 2,
        "fold": sd["fold"] ** 2,
        "clips": sd["clips"] ** 2 / clips,
        "clips by seed": of_one_draw / clips,
    }
    for component in COMPONENTS:
        error = found[component].std(ddof=1) / np.sqrt(worlds)
        assert abs(found[component].mean() - expected[component]) < 3.3 * error, component
        assert error < 0.1 * expected[component], component
    for component in ("seed", "fold"):
        holds = sum(
            parts.loc[component, "low"] <= expected[component] <= parts.loc[component, "high"] for parts in worlds_parts
        )
        assert binomtest(holds, worlds, 0.95).pvalue > 0.001, f"{component}: {holds} of {worlds}"


def test_nothing_planted_is_nothing_on_average_and_intervals_hold_0() -> None:
    generator = np.random.default_rng(2)
    nothing = {"fold": 0.0, "seed": 0.0, "clips": 0.2}
    found = [variance.decompose_folds(planted(generator, 4, 3, 100, nothing), "war") for _ in range(300)]
    for component in ("seed", "fold"):
        values = np.array([each.loc[component, "variance"] for each in found])
        assert abs(values.mean()) < 3.3 * values.std() / np.sqrt(len(values))
        assert (values < 0).mean() > 0.3  # free of bias, so often below 0
        holds = sum(each.loc[component, "low"] == 0 for each in found)
        assert binomtest(holds, len(found), 0.975).pvalue > 0.001


def test_what_the_mean_over_runs_varies_by_is_the_sum_of_the_parts() -> None:
    generator = np.random.default_rng(3)
    sd = {"fold": 0.05, "seed": 0.05, "clips": 0.2}
    worlds = [planted(generator, 3, 2, 80, sd) for _ in range(400)]
    means = [np.mean([right for _, right in folds]) for folds in worlds]
    said = np.mean([variance.decompose_folds(folds, "war")["of_mean"].sum() for folds in worlds])
    assert said == pytest.approx(np.var(means, ddof=1), rel=0.2)


def test_uar_is_decomposed_class_by_class() -> None:
    generator = np.random.default_rng(4)
    labels = np.repeat([0, 1], [90, 10])
    right = generator.random((100, 3)) < np.where(labels == 0, 0.9, 0.4)[:, None]
    table = arm_of(right, labels=labels)
    war, uar = decompose(table), decompose(table, "uar")
    # half of UAR hangs on ten clips
    assert uar.loc["clips by seed", "variance"] > 2 * war.loc["clips by seed", "variance"]
    one, two = (decompose(arm_of(right[labels == k])) for k in (0, 1))
    for component in ("clips", "clips by seed"):
        parts = one.loc[component, "variance"] + two.loc[component, "variance"]
        assert uar.loc[component, "variance"] == pytest.approx(parts / 4)


def test_a_class_with_a_single_clip_leaves_uar_unknown() -> None:
    table = arm_of(np.array([[1, 1], [1, 0], [0, 1]]), labels=np.array([0, 0, 1]))
    found = decompose(table, "uar")
    assert found["variance"].isna().all()
    assert found.loc["clips", "note"] == "a class with a single clip in every fold"
    assert "clips unknown (a class with a single clip in every fold)" in in_words(found, "UAR")
    assert not decompose(table).loc["clips"].isna()["variance"]


def test_a_single_clip_of_a_class_varies_as_the_clips_of_its_class_in_other_folds() -> None:
    generator = np.random.default_rng(7)
    worlds = []
    for _ in range(300):
        folds = []
        for rare in (6, 5, 1):
            labels = np.repeat([0, 1], [30, rare])
            chance = np.where(labels == 0, 0.9, 0.5)[:, None] + generator.normal(0, 0.1, (len(labels), 1))
            folds.append((labels, (generator.random((len(labels), 2)) < chance).astype(float)))
        worlds.append(folds)
    found = [variance.decompose_folds(folds, "uar")["variance"] for folds in worlds]
    means = pd.DataFrame(found).mean()
    # a clip of the rare class is right or wrong at even odds: a fold's UAR has the mean of 0.25 / clips / 4
    expected = np.mean([0.25 / rare / 4 + 0.09 / 30 / 4 for rare in (6, 5, 1)])
    assert means["clips"] + means["clips by seed"] == pytest.approx(expected, rel=0.1)


def test_in_words() -> None:
    found = pd.DataFrame(
        {
            "variance": [0.0001, np.nan, 0.0004, -0.00001],
            "low": [0.0, np.nan, np.nan, np.nan],
            "high": [0.0009, np.nan, np.nan, np.nan],
            "of_mean": [0.00003, np.nan, 0.00007, -0.000001],
            "note": ["", "one fold", "", ""],
        },
        index=COMPONENTS,
    )
    assert in_words(found, "WAR") == (
        "Standard deviation of one run's WAR in points, with 95 % intervals: seed 1.0 [0.0, 3.0], "
        "fold unknown (one fold), clips 2.0, clips by seed 0.0; of the known variance of the mean over runs "
        "(1.0 points): seed 30 %, clips 70 %, clips by seed 0 %."
    )


def test_seeds_that_all_say_the_same_vary_by_nothing() -> None:
    right = np.random.default_rng(5).random((50, 1)) < 0.7
    found = decompose(arm_of(np.hstack([right, right])))
    assert found.loc[["seed", "clips by seed"], "variance"].tolist() == pytest.approx([0, 0], abs=1e-15)
    assert found.loc["clips", "variance"] == pytest.approx(right.var(ddof=1) / 50)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (toy_arm(60, folds=2, across=True), "are in several folds"),
        (pd.concat([toy_arm(60, folds=2, seeds=2), toy_arm(20, folds=1).assign(fold=3, seed=5, clip_id="x")]), "twice"),
        (toy_arm(60, folds=1, seeds=2).iloc[:-5], "lack some seed"),
        (
            pd.concat([arm_of(np.eye(3)), arm_of(np.eye(2)[:, :1], fold=2, first=3)]),
            "as many seeds in every fold, found from 1 to 3",
        ),
        (arm_from([None], [0]), "single label"),
    ],
    ids=["across", "twice", "lacking", "unequal", "unlabelled"],
)
def test_tables_that_cannot_be_decomposed_are_refused(table: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decompose(table)


def test_the_order_of_rows_changes_nothing() -> None:
    table = toy_arm(90, seeds=2)
    pd.testing.assert_frame_equal(decompose(table), decompose(table.sample(frac=1, random_state=0)))
