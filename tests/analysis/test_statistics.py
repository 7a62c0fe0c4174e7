from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from arm_factory import arm_from, toy_arm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, spearmanr
from scipy.stats import bootstrap as scipy_bootstrap
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from dfer import metrics
from dfer.analysis import statistics
from dfer.analysis.statistics import (
    Interval,
    bootstrap,
    compare,
    holm,
    in_words,
    metrics_of,
    rank_correlation,
    recall_intervals,
    spread,
)
from dfer.labels import EMOTIONS


def dealt_anew(arm: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The same predictions with the clips in other folds."""
    folds = np.random.default_rng(seed).permutation(arm["clip_id"].nunique()) % 3 + 1
    by_clip = dict(zip(arm["clip_id"].unique(), folds, strict=True))
    return arm.assign(fold=arm["clip_id"].map(by_clip).astype("Int64"))


def test_splits_are_compared_by_the_scores_that_tables_print_and_paired_by_clip() -> None:
    a, b = toy_arm(240, folds=3, seeds=2), dealt_anew(toy_arm(240, folds=3, seeds=2, strength=1.0))
    found = statistics.compare_splits(a, b, draws=2000)
    draws = [statistics.bootstrap(table, draws=2000, seed=seed) for seed, table in enumerate((a, b))]
    for metric in ("war", "uar"):
        assert found[metric].estimate == pytest.approx(draws[1].estimate[metric] - draws[0].estimate[metric])
        apart = draws[1].values[metric] - draws[0].values[metric]
        assert found[metric].low < found[metric].estimate < found[metric].high
        # predictions of the same clips go together, so pairing them is worth something
        assert found[metric].high - found[metric].low < 0.9 * np.subtract(*np.quantile(apart, [0.975, 0.025]))


def test_an_arm_that_is_the_same_in_both_splits_differs_by_how_clips_are_dealt_alone() -> None:
    arm = toy_arm(240, folds=3)
    same = statistics.compare_splits(arm, arm, draws=200)
    assert {(one.estimate, one.low, one.high) for one in same.values()} == {(0.0, 0.0, 0.0)}
    held = [
        one["war"].low <= 0 <= one["war"].high
        for world in range(40)
        for table in [toy_arm(150, folds=3, world=world)]
        for one in [statistics.compare_splits(table, dealt_anew(table, world), draws=300)]
    ]
    assert np.mean(held) >= 0.9
    part = arm[arm["fold"] == 1]
    assert statistics.compare_splits(part, dealt_anew(arm), draws=50)["war"].estimate != 0  # of some folds alone


NOTHING = Interval(float("nan"), float("nan"), float("nan"))


@pytest.fixture(scope="module", autouse=True)
def little_garbage() -> Iterator[None]:
    """statsmodels collects garbage whenever it corrects p-values, which takes long where much is imported."""
    gc.freeze()
    yield
    gc.unfreeze()


def by_hand(table: pd.DataFrame) -> dict[str, float]:
    """What tables print, with the metrics of one run at a time."""
    runs = []
    for _, run in table[table["label"].notna()].groupby(["fold", "seed"], dropna=False):
        labels, predicted = run["label"].to_numpy("int64"), run["prediction"].to_numpy()
        recall = metrics.per_class_recall(labels, predicted, 7)
        runs.append({"war": metrics.war(labels, predicted), "uar": metrics.uar(labels, predicted, 7)})
        runs[-1].update(zip(EMOTIONS, recall, strict=True))
    return pd.DataFrame(runs).mean().to_dict()


@pytest.mark.parametrize(
    "arm",
    [
        toy_arm(),
        toy_arm(seeds=3),
        toy_arm(folds=None, seeds=2),
        toy_arm(120, folds=5, across=True),
        toy_arm(90, folds=2, seeds=3, across=True),
    ],
    ids=["folds", "folds and seeds", "splits and seeds", "across", "across and seeds"],
)
def test_estimates_are_the_metrics_of_the_runs_averaged(arm: pd.DataFrame) -> None:
    found = bootstrap(arm, draws=20)
    assert found.estimate == pytest.approx(by_hand(arm), nan_ok=True)
    assert set(found.values) == set(metrics_of(EMOTIONS))
    assert all(values.shape == (20,) for values in found.values.values())


def test_each_resample_is_a_score_of_clips_drawn_within_their_fold() -> None:
    # With one clip a fold, every resample is the clips as they are.
    arm = arm_from([0, 1, 2], [0, 1, 0], folds=[1, 2, 3])
    assert (bootstrap(arm, draws=50).values["war"] == pytest.approx(2 / 3)) is True
    # Two clips, one right, in one fold: 0, 1 or 2 right ones, in a quarter, a half, a quarter of the resamples.
    values = bootstrap(arm_from([0, 0], [0, 1]), draws=4000).values["war"]
    shares = [(values == score).mean() for score in (0, 0.5, 1)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_interval_of_war_agrees_with_scipy() -> None:
    arm = toy_arm(400, folds=1)
    arm = arm[arm["label"].notna()]
    right = (arm["label"] == arm["prediction"]).to_numpy(float)
    expected = scipy_bootstrap((right,), np.mean, n_resamples=10_000, method="percentile", rng=0).confidence_interval
    found = bootstrap(arm).interval("war")
    # scores are multiples of 1 / 344: the two may be a clip apart
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1.5 / len(arm))
    assert found.estimate == right.mean()


def test_standard_error_over_folds_is_that_of_independent_folds() -> None:
    arm = toy_arm(600, folds=3)
    values = bootstrap(arm, draws=4000).values["war"]
    folds = arm[arm["label"].notna()].assign(right=lambda rows: (rows["label"] == rows["prediction"]).astype(float))
    variances = folds.groupby("fold")["right"].agg(lambda right: right.mean() * (1 - right.mean()) / len(right))
    assert values.std() == pytest.approx(np.sqrt(variances.sum()) / 3, rel=0.05)


def test_uar_varies_as_in_a_bootstrap_written_as_loops() -> None:
    arm = toy_arm(300, folds=2)
    arm = arm[arm["label"].notna()]
    folds = [
        (fold["label"].to_numpy("int64"), fold["prediction"].to_numpy()) for _, fold in arm.groupby("fold", sort=True)
    ]
    generator = np.random.default_rng(0)
    expected = []
    for _ in range(1500):
        scores = []
        for labels, predicted in folds:
            chosen = generator.integers(0, len(labels), len(labels))
            scores.append(metrics.uar(labels[chosen], predicted[chosen], 7))
        expected.append(np.mean(scores))
    values = bootstrap(arm, draws=6000).values["uar"]
    assert values.mean() == pytest.approx(np.mean(expected), abs=0.003)
    assert values.std() == pytest.approx(np.std(expected), rel=0.08)


def test_how_many_resamples_fit_into_memory_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = toy_arm(100)
    whole = bootstrap(arm, draws=101).values
    monkeypatch.setattr(statistics, "_CHUNK", 333)
    parts = bootstrap(arm, draws=101).values
    for metric in metrics_of(EMOTIONS):
        assert parts[metric] == pytest.approx(whole[metric], nan_ok=True)


def test_models_of_several_folds_on_the_same_clips_do_not_count_as_more_clips() -> None:
    once = toy_arm(200, folds=None)
    five_times = pd.concat([once.assign(fold=fold) for fold in range(1, 6)]).astype({"fold": "Int64"})
    assert bootstrap(five_times, draws=200).values["war"] == pytest.approx(bootstrap(once, draws=200).values["war"])


def test_seeds_that_say_the_same_do_not_count_as_more_clips() -> None:
    once = toy_arm(200)
    twice = pd.concat([once, once.assign(seed=1)])
    assert bootstrap(twice, draws=200).values["uar"] == pytest.approx(bootstrap(once, draws=200).values["uar"])


def test_two_arms_over_the_same_clips_are_paired_and_the_order_of_rows_does_not_matter() -> None:
    arm, other = toy_arm(), toy_arm(model=1, strength=2)
    one, two = bootstrap(arm, draws=300), bootstrap(other.sample(frac=1, random_state=0), draws=300)
    comparison = compare(arm, other, draws=300)
    for metric in metrics_of(EMOTIONS):
        change = two.values[metric] - one.values[metric]
        low, high = np.nanquantile(change, [0.025, 0.975])
        found = comparison.differences[metric]
        assert (found.low, found.high) == pytest.approx((low, high))
        assert found.estimate == pytest.approx(two.estimate[metric] - one.estimate[metric])


def test_the_seed_is_what_makes_resamples_differ() -> None:
    arm = toy_arm(60)
    assert (bootstrap(arm, draws=50).values["war"] == bootstrap(arm, draws=50).values["war"]).all()
    assert (bootstrap(arm, draws=50).values["war"] != bootstrap(arm, draws=50, seed=1).values["war"]).any()


def test_a_class_without_clips_in_a_resample_is_left_out_of_uar() -> None:
    arm = arm_from([0] * 9 + [1], [0] * 9 + [1])
    found = bootstrap(arm, draws=500)
    # everything is right, so no resample can have less than 1
    assert (found.values["uar"] == 1).all()
    missing = np.isnan(found.values["sad"])
    assert missing.mean() == pytest.approx(0.9**10, abs=0.07)
    assert found.interval("sad") == Interval(1, 1, 1)
    assert np.isnan(found.estimate["fear"])
    assert np.isnan(found.interval("fear").low)


def test_an_arm_does_not_differ_from_itself() -> None:
    arm = toy_arm(200)
    comparison = compare(arm, arm, draws=200)
    assert comparison.differences["uar"] == Interval(0, 0, 0)
    assert comparison.p_values["war"] == 1
    assert (comparison.mcnemar.only_a, comparison.mcnemar.only_b, comparison.mcnemar.p_value) == (0, 0, 1)


def test_a_large_difference_is_found_and_its_sign_is_b_minus_a() -> None:
    comparison = compare(toy_arm(600, strength=0.5), toy_arm(600, strength=3, model=1), draws=999)
    assert comparison.differences["war"].low > 0.1
    assert comparison.p_values["war"] == pytest.approx(2 / 1000)
    assert comparison.mcnemar.only_b > comparison.mcnemar.only_a


def test_swapping_the_arms_turns_the_differences_round() -> None:
    a, b = toy_arm(), toy_arm(model=1)
    forth, back = compare(a, b, draws=500), compare(b, a, draws=500)
    assert forth.differences["uar"].low == pytest.approx(-back.differences["uar"].high)
    assert forth.p_values == pytest.approx(back.p_values, nan_ok=True)
    assert forth.mcnemar.p_value == back.mcnemar.p_value


def test_only_clips_that_both_have_are_compared() -> None:
    a, b = toy_arm(300), toy_arm(300, model=1)
    fewer_a, fewer_b = a[a["clip_id"] >= "toy/00050"], b[b["clip_id"] < "toy/00250"]
    comparison = compare(fewer_a, fewer_b, draws=100)
    shared = [rows[rows["clip_id"].between("toy/00050", "toy/00249")] for rows in (a, b)]
    assert comparison.differences == compare(*shared, draws=100).differences
    scored = a[a["label"].notna()]
    assert comparison.clips == scored["clip_id"].between("toy/00050", "toy/00249").sum()


def test_arms_that_cannot_be_compared_are_refused() -> None:
    arm = arm_from([0, 1, 2], [0, 1, 0])
    with pytest.raises(ValueError, match="share no clip"):
        compare(arm, arm.assign(clip_id=["toy/a", "toy/b", "toy/c"]))
    with pytest.raises(ValueError, match=r"1 clips have different labels.*'toy/00001' \(sad and angry\)"):
        compare(arm, arm_from([0, 3, 2], [0, 1, 0]))


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        (arm_from([None, None], [0, 1]), "single label"),
        (arm_from([0, 1], [0, 1], clip_ids=["toy/a", "toy/a"]), "'toy/a' is listed twice in fold 1, seed 0"),
        (
            pd.concat([arm_from([0, 1], [0, 1]), arm_from([0], [0], seed=1)]),
            "1 clips lack some seed of their fold, first 'toy/00001'",
        ),
        (pd.concat([arm_from([0, 1], [0, 1]), arm_from([0], [0], folds=2)]), "2 clips in 2 folds"),
        (pd.concat([arm_from([0], [0]), arm_from([1], [0], seed=1)]), "several labels"),
    ],
)
def test_tables_that_are_not_of_one_arm_are_refused(arm: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap(arm, draws=10)


@pytest.mark.parametrize(("only_a", "only_b"), [(3, 9), (12, 12), (10, 40), (200, 230)])
def test_mcnemar_agrees_with_statsmodels_and_scipy(only_a: int, only_b: int) -> None:
    both, none = 50, 20
    labels = [0] * (both + none + only_a + only_b)
    a = arm_from(labels, [0] * both + [1] * none + [0] * only_a + [1] * only_b)
    b = arm_from(labels, [0] * both + [1] * none + [1] * only_a + [0] * only_b)
    found = compare(a, b, draws=10).mcnemar
    assert (found.only_a, found.only_b) == (only_a, only_b)
    table = [[both, only_a], [only_b, none]]
    if only_a + only_b < 25:
        assert found.p_value == pytest.approx(mcnemar(table, exact=True).pvalue)
        assert found.p_value == pytest.approx(binomtest(only_a, only_a + only_b).pvalue)
    else:
        assert found.p_value == pytest.approx(mcnemar(table, exact=False, correction=True).pvalue)


def test_with_several_seeds_a_clip_is_for_the_arm_that_is_right_more_often() -> None:
    seeds_a = [arm_from([0, 0, 0], predictions, seed=seed) for seed, predictions in enumerate([[0, 0, 1], [0, 1, 1]])]
    a, b = pd.concat(seeds_a), arm_from([0, 0, 0], [0, 0, 0])
    found = compare(a, b, draws=10).mcnemar
    assert (found.only_a, found.only_b) == (0, 2)


def test_the_recall_of_a_class_that_is_all_wrong_has_an_interval_all_the_same() -> None:
    arm = arm_from([0] * 10 + [1] * 40, [3] * 10 + [1] * 40)
    found = recall_intervals(arm)
    nothing, all_right = proportion_confint(0, 10, method="wilson"), proportion_confint(40, 40, method="wilson")
    assert (found["happy"].estimate, found["sad"].estimate) == (0, 1)
    assert (found["happy"].low, found["happy"].high) == pytest.approx(nothing, abs=1e-12)
    assert (found["sad"].low, found["sad"].high) == pytest.approx(all_right)
    assert np.isnan(found["fear"].estimate)
    # of which the bootstrap knows nothing
    assert bootstrap(arm, draws=100).interval("happy").high == 0 < 0.25 < found["happy"].high


def test_recalls_are_those_that_the_bootstrap_estimates_and_seeds_are_no_more_clips() -> None:
    arm = toy_arm(seeds=3)
    found, estimate = recall_intervals(arm), bootstrap(arm, draws=10).estimate
    assert {name: interval.estimate for name, interval in found.items()} == pytest.approx(
        {name: estimate[name] for name in EMOTIONS}
    )
    again = recall_intervals(pd.concat([arm, arm.assign(seed=arm["seed"] + 10)]))
    assert again["happy"] == found["happy"]


def test_the_interval_of_a_recall_is_around_the_mean_of_folds_of_any_size() -> None:
    # one of 2 clips right, and 90 of 90: the mean is 75 %, of all clips taken together 98.9 %
    arm = arm_from([0] * 92, [0, 1] + [0] * 90, folds=[1, 1] + [2] * 90)
    found = recall_intervals(arm)["happy"]
    assert found.estimate == 0.75
    assert found.low < 0.75 < found.high
    clips = 4 / (1 / 2 + 1 / 90)
    assert (found.low, found.high) == pytest.approx(proportion_confint(0.75 * clips, clips, method="wilson"))


def test_folds_of_one_size_have_the_interval_of_all_clips_together() -> None:
    arm = arm_from([0] * 60, [0] * 20 + [1] * 5 + [0] * 35, folds=[1] * 20 + [2] * 20 + [3] * 20)
    found = recall_intervals(arm)["happy"]
    assert (found.low, found.high) == pytest.approx(proportion_confint(55, 60, method="wilson"))


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=30), min_size=1, max_size=5))
@settings(deadline=None, max_examples=30)
def test_the_interval_of_a_recall_contains_it_whatever_the_folds(folds: list[list[bool]]) -> None:
    fold_of_clip = [place for place, clips in enumerate(folds, 1) for _ in clips]
    predictions = [0 if right else 1 for clips in folds for right in clips]
    found = recall_intervals(arm_from([0] * len(predictions), predictions, folds=fold_of_clip))["happy"]
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert found.estimate == pytest.approx(np.mean([np.mean(clips) for clips in folds]))


def test_a_p_value_at_its_floor_is_known_to_be_one() -> None:
    labels = [0, 1] * 60
    right, wrong = arm_from(labels, labels), arm_from(labels, [2] * 120)
    assert compare(wrong, right, draws=100).at_floor("war")
    assert not compare(right, right, draws=100).at_floor("war")


def test_holm_agrees_with_statsmodels_and_leaves_nan_out() -> None:
    p_values = [0.01, 0.04, 0.03, 0.5]
    assert holm(p_values) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([0.02, float("nan")]) == pytest.approx([0.02, float("nan")], nan_ok=True)
    assert holm([]) == []
    given_as_array = np.array([0.03, 0.04])
    holm(given_as_array)
    assert given_as_array.tolist() == [0.03, 0.04]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(deadline=None)
def test_holm_never_makes_a_p_value_smaller_and_keeps_their_order(p_values: list[float]) -> None:
    corrected = np.array(holm(p_values))
    assert (corrected >= np.array(p_values) - 1e-12).all()
    assert (np.diff(corrected[np.argsort(p_values)]) >= -1e-12).all()
    assert corrected.max() <= 1


@pytest.mark.parametrize(
    ("interval", "corrected_p", "sentence"),
    [
        (Interval(0.019, 0.007, 0.031), None, "+1.9 WAR [0.7, 3.1]: real at 95 %"),
        (Interval(0.019, 0.007, 0.031), 0.03, "+1.9 WAR [0.7, 3.1]: real at 95 %"),
        (Interval(0.004, -0.009, 0.016), None, "+0.4 WAR [-0.9, 1.6]: could be chance"),
        (Interval(-0.02, -0.031, -0.009), None, "-2.0 WAR [-3.1, -0.9]: real at 95 %"),
        (Interval(-0.0001, -0.0002, 0.0), None, "+0.0 WAR [0.0, 0.0]: could be chance"),
        (
            Interval(0.019, 0.007, 0.031),
            0.12,
            "+1.9 WAR [0.7, 3.1]: could be chance after correction (corrected p = 0.12)",
        ),
        (NOTHING, None, "WAR: no clips to compare"),
    ],
)
def test_differences_in_words(interval: Interval, corrected_p: float | None, sentence: str) -> None:
    assert in_words(interval, "WAR", corrected_p=corrected_p) == sentence


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=20))
@settings(deadline=None)
def test_rank_correlation_agrees_with_scipy_whatever_is_tied(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs).T
    found = rank_correlation(x / 3, y, draws=3)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert np.isnan(found.estimate)
    else:
        assert found.estimate == pytest.approx(spearmanr(x, y).statistic)


def test_each_resample_of_a_rank_correlation_is_that_of_the_clips_drawn() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 6, 40), generator.normal(size=40)
    times = next(statistics.resamples(40, 25, 7))
    drawn = [np.repeat(np.arange(40), row.astype(int)) for row in times]
    expected = [spearmanr(x[clips], y[clips]).statistic for clips in drawn]
    low, high = np.quantile(expected, [0.025, 0.975])
    found = rank_correlation(x, y, draws=25, seed=7)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_spread_over_folds_and_seeds() -> None:
    runs = pd.DataFrame(
        {
            "fold": pd.array([1, 1, 2, 2], dtype="Int64"),
            "seed": [0, 1, 0, 1],
            "war": [0.5, 0.7, 0.6, 1.0],
            "uar": [0.5, 0.5, 0.5, 0.5],
        }
    )
    found = spread(runs)
    assert found.loc["war"].to_dict() == pytest.approx(
        {"mean": 0.7, "sd_folds": 0.2 / np.sqrt(2), "sd_seeds": 0.3 / np.sqrt(2), "folds": 2, "seeds": 2}
    )
    assert found.loc["uar", ["sd_folds", "sd_seeds"]].tolist() == [0, 0]


def test_spread_of_one_run_is_not_known() -> None:
    runs = pd.DataFrame({"fold": pd.array([pd.NA], dtype="Int64"), "seed": [0], "war": [0.5], "uar": [0.4]})
    found = spread(runs)
    assert found["mean"].to_dict() == {"war": 0.5, "uar": 0.4}
    assert found[["sd_folds", "sd_seeds"]].isna().all(axis=None)
    assert (found[["folds", "seeds"]] == 1).all(axis=None)


def test_without_a_true_difference_the_intervals_cover_zero_as_often_as_they_say() -> None:
    """Two models that are right about a clip with the same probability; what differs is chance alone."""
    worlds, clips = 400, 420
    generator = np.random.default_rng(20)
    labels = np.sort(generator.integers(0, 7, clips))
    folds = np.arange(clips) % 2 + 1
    covered = {"war": 0, "uar": 0}
    small_p = 0
    for _ in range(worlds):
        # clips differ in difficulty and classes in recall, and the same clips are hard for both models
        ease = generator.beta(2, 1 + labels / 3)
        right = (generator.random((clips, 2)) < ease[:, None]).astype(float)
        # what `compare` makes of two tables, without the tables: 800 of them would take most of the time
        samples = [statistics._Sample(labels[folds == fold], right[folds == fold]) for fold in (1, 2)]
        differences, p_values = statistics._differences(samples, EMOTIONS, 400, int(generator.integers(2**31)))
        for metric in covered:
            covered[metric] += differences[metric].low <= 0 <= differences[metric].high
        small_p += p_values["war"] < 0.05
    for metric, count in covered.items():
        # a test at 0.1 %: what is really 95 % is refused once in a thousand such simulations
        assert binomtest(count, worlds, 0.95).pvalue > 0.001, f"{metric}: {count} of {worlds}"
    assert binomtest(small_p, worlds, 0.05).pvalue > 0.001
