from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, t

from dfer.analysis.statistics import Interval
from dfer.analysis.verdict import combine, in_words, more_clips, more_sets, turning_point, without_each
from dfer.analysis.verdict_plots import forest
from dfer.plots import save

ARMS = ("soft", "midas")


@pytest.fixture(scope="module", autouse=True)
def little_garbage() -> Iterator[None]:
    gc.freeze()
    yield
    gc.unfreeze()


def around(estimate: float, error: float) -> Interval:
    """A difference with this standard error."""
    return Interval(estimate, estimate - norm.isf(0.025) * error, estimate + norm.isf(0.025) * error)


def sets_of(estimates: list[float], errors: list[float]) -> dict[str, Interval]:
    names = ("dfew", "ferplus", "crema-d", "mafw", "ravdess", "afew")
    return {name: around(*pair) for name, *pair in zip(names, estimates, errors, strict=False)}


ALIKE = sets_of([0.012, 0.020, 0.008, 0.016], [0.005, 0.006, 0.008, 0.010])
APART = sets_of([0.05, -0.03, 0.02], [0.010, 0.010, 0.015])
EFFECTS = st.lists(st.tuples(st.floats(-0.1, 0.1), st.floats(0.002, 0.05)), min_size=2, max_size=6).map(
    lambda pairs: sets_of(*map(list, zip(*pairs, strict=True)))
)


def paule_mandel(effects: np.ndarray, variances: np.ndarray) -> float:
    """tau^2 with which the scatter of the sets is what it is expected to be."""

    def excess(tau2: float) -> float:
        weights = 1 / (variances + tau2)
        mean = (weights * effects).sum() / weights.sum()
        return float((weights * (effects - mean) ** 2).sum() - (len(effects) - 1))

    return 0.0 if excess(0) <= 0 else float(brentq(excess, 0, 10))


@given(EFFECTS)
@settings(deadline=None, max_examples=40)
def test_the_mean_is_that_of_the_formulas(differences: dict[str, Interval]) -> None:
    found = combine(differences)
    effects = np.array([each.estimate for each in differences.values()])
    variances = np.array([((each.high - each.low) / 2 / 1.959964) ** 2 for each in differences.values()])
    tau2 = paule_mandel(effects, variances)
    assert found.tau2 == pytest.approx(tau2, rel=1e-3, abs=1e-7)
    weights = 1 / (variances + tau2)
    mean, error = (weights * effects).sum() / weights.sum(), weights.sum() ** -0.5
    assert found.overall.estimate == pytest.approx(mean, abs=1e-5)
    reach = t.isf(0.025, len(effects) - 1) * error
    assert (found.overall.low, found.overall.high) == pytest.approx((mean - reach, mean + reach), rel=1e-3, abs=1e-5)
    assert list(found.weights.values()) == pytest.approx(weights / weights.sum(), rel=1e-3)
    assert (found.p_value < 0.05) == (not found.overall.low <= 0 <= found.overall.high)
    # never more certain than if all sets had the same difference
    assert found.overall.high - found.overall.low >= found.fixed.high - found.fixed.low
    if len(effects) > 2:
        wide = t.isf(0.025, len(effects) - 2) * np.sqrt(tau2 + error**2)
        assert found.prediction.high == pytest.approx(mean + wide, rel=1e-3, abs=1e-5)
    else:
        assert np.isnan(found.prediction.low)


def test_two_sets_by_hand() -> None:
    found = combine(sets_of([0.01, 0.03], [0.005, 0.005]))
    # their variance, 0.0002, less that of their clips
    assert found.tau2 == pytest.approx(0.0002 - 0.000025)
    assert found.overall.estimate == pytest.approx(0.02)
    assert found.overall.high == pytest.approx(0.02 + 12.7062 * 0.01, rel=1e-4)
    # Q = 2 * (0.01 / 0.005)^2 = 8
    assert found.i2 == pytest.approx(1 - 1 / 8)
    assert found.homogeneity_p == pytest.approx(0.0047, abs=1e-4)
    assert found.fixed.low == pytest.approx(0.02 - 1.959964 * 0.005 / np.sqrt(2))


@given(EFFECTS, st.floats(0.1, 5))
@settings(deadline=None, max_examples=20)
def test_turning_or_scaling_all_differences_does_the_same_to_the_mean(
    differences: dict[str, Interval], scale: float
) -> None:
    found = combine(differences)
    turned = combine({name: Interval(-d.estimate, -d.high, -d.low) for name, d in reversed(differences.items())})
    assert turned.overall.high == pytest.approx(-found.overall.low, abs=1e-9)
    larger = combine(
        {name: Interval(scale * d.estimate, scale * d.low, scale * d.high) for name, d in differences.items()}
    )
    assert larger.overall.high == pytest.approx(scale * found.overall.high, rel=1e-3, abs=1e-6)
    assert larger.i2 == pytest.approx(found.i2, abs=1e-6)


@pytest.mark.parametrize(("sets", "tau"), [(3, 0.0), (3, 0.02), (6, 0.0), (6, 0.02)])
def test_chance_is_called_real_no_more_often_than_it_may(sets: int, tau: float) -> None:
    """No mean difference, sets of unequal size."""
    generator = np.random.default_rng(sets)
    worlds, called, held = 150, 0, 0
    for _ in range(worlds):
        errors = generator.uniform(0.004, 0.02, sets)
        found = combine(
            sets_of(
                (tau * generator.normal(size=sets) + errors * generator.normal(size=sets)).tolist(), errors.tolist()
            )
        )
        called += found.p_value < 0.05
        held += found.prediction.low <= tau * generator.normal() <= found.prediction.high
    assert binomtest(called, worlds, 0.05, alternative="greater").pvalue > 0.001
    assert binomtest(held, worlds, 0.9, alternative="less").pvalue > 0.001


def test_over_many_sets_that_differ_chance_is_called_real_as_often_as_it_may() -> None:
    """Over few sets the modified interval is careful and calls next to nothing real; here it has its nominal rate."""
    generator = np.random.default_rng(1)
    worlds, called = 500, 0
    for _ in range(worlds):
        errors = generator.uniform(0.008, 0.02, 10)
        differences = 0.02 * generator.normal(size=10) + errors * generator.normal(size=10)
        called += combine(sets_of(differences.tolist(), errors.tolist())).p_value < 0.05
    assert binomtest(called, worlds, 0.05).pvalue > 0.001


def test_so_many_times_the_clips_make_it_real() -> None:
    chance = sets_of([0.02, -0.002, 0.010], [0.015, 0.014, 0.015])
    times = more_clips(combine(chance))
    assert 10 < times < 30
    for factor, real in ((0.99, False), (1.01, True)):
        errors = np.array([0.015, 0.014, 0.015]) / np.sqrt(factor * times)
        # tau^2 of these three differences is 0, and stays so if they are drawn together
        mean = combine(chance).overall.estimate
        found = combine(sets_of([mean] * 3, errors.tolist())).overall
        assert (found.low > 0) == real
    assert more_clips(combine(APART)) == float("inf")
    assert more_clips(combine(ALIKE)) == 1


def test_so_many_sets_make_it_real() -> None:
    two = sets_of([0.015, 0.015], [0.01, 0.01])
    needed = more_sets(combine(two))
    assert needed is not None and needed > 2
    for number, real in ((needed - 1, False), (needed, True)):
        many = combine({f"set-{place}": around(0.015, 0.01) for place in range(number)}).overall
        assert (many.low > 0) == real
    assert more_sets(combine(sets_of([0.0001, -0.0001], [0.01, 0.01]))) is None
    assert more_sets(combine(ALIKE)) == 4


@pytest.mark.parametrize("sign", [1, -1])
def test_one_further_set_turns_it(sign: int) -> None:
    differences = sets_of([sign * each for each in (0.012, 0.020, 0.008, 0.016)], [0.005, 0.006, 0.008, 0.010])
    turn = turning_point(combine(differences))
    error = np.sqrt(np.median(np.square([0.005, 0.006, 0.008, 0.010])))
    for further, real in ((turn - sign * 0.001, False), (turn + sign * 0.001, True)):
        found = combine({**differences, "further": around(further, error)}).overall
        assert (not found.low <= 0 <= found.high) == real
    assert np.isnan(turning_point(combine(APART)))


def test_each_set_is_left_out_once() -> None:
    found = without_each(ALIKE)
    assert list(found) == list(ALIKE)
    kept = {name: each for name, each in ALIKE.items() if name != "mafw"}
    assert found["mafw"].overall == combine(kept).overall


def test_a_real_difference_in_words() -> None:
    clips = dict.fromkeys(ALIKE, 2500)
    assert in_words(combine(ALIKE), "WAR", ARMS, clips) == (
        "midas minus soft, the mean over 4 data sets (10,000 clips): +1.4 WAR [0.4, 2.5], real at 95 %. "
        "The sets do not differ by more than chance explains (tau 0.0 points, I2 0 %); on a further set like these the "
        "true difference would probably lie between +0.0 and +2.8. If all sets had the same true difference, it would "
        "be +1.4 [0.8, 2.1]. What would change that: a further set like these with a difference of -0.3 or less; and "
        "whichever single set is left out, it could be chance. The intervals are over clips and sets; other "
        "trainings of the same arms may differ too."
    )


def test_chance_in_words() -> None:
    clips = {"dfew": 1000, "ferplus": 500, "crema-d": 200}
    text = in_words(combine(APART), "UAR", ARMS, clips)
    assert "+1.3 UAR [-8.8, 11.5], could be chance." in text
    assert "The sets differ by more than chance (tau 3.9 points, I2 94 %)" in text
    assert "if the mean stays what it is: no number of clips in these sets, but 37 more sets like these." in text
    one_of_three = in_words(combine(sets_of([0.05, 0.05, 0.05], [0.002, 0.03, 0.03])), "WAR", ARMS, clips)
    assert "and it could be chance already without dfew." in one_of_three
    three = in_words(combine(sets_of([0.05, 0.05, 0.05], [0.001, 0.001, 0.001])), "WAR", ARMS, clips)
    assert "it stays real without any one of the sets." in three
    two = in_words(combine(sets_of([0.02, 0.01], [0.01, 0.01])), "WAR", ARMS, clips)
    assert "two sets say little about that." in two
    assert "about 35.9 times as many clips in every set (52,000 more in all), or 3 more sets like these." in two
    almost = in_words(combine(sets_of([-0.17, -0.11], [0.043, 0.071])), "WAR", ARMS, clips)
    assert "or 1 more set like these." in almost


@pytest.mark.parametrize(
    ("differences", "message"),
    [
        ({"dfew": around(0.01, 0.01)}, r"found 1 \(dfew\)"),
        ({"dfew": around(0.01, 0.01), "afew": Interval(0, 0, 0)}, "afew: expected an interval"),
        ({"dfew": around(0.01, 0.01), "afew": Interval(*[float("nan")] * 3)}, "afew: expected an interval"),
    ],
)
def test_what_cannot_be_combined_is_refused(differences: dict[str, Interval], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        combine(differences)


@pytest.mark.parametrize("differences", [ALIKE, APART, sets_of([0.02, 0.01], [0.01, 0.01])], ids=["4", "3", "2"])
def test_a_forest_is_drawn(differences: dict[str, Interval], tmp_path: Path) -> None:
    path = tmp_path / "forest.png"
    verdict = combine(differences)
    save(forest(verdict, name="WAR", arms=ARMS, clips=dict.fromkeys(differences, 1000)), path)
    picture = cv2.imread(str(path))
    assert picture.shape[1] == pytest.approx(6.8 * 140, abs=2)
    assert picture.std() > 10
