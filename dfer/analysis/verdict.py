"""One verdict from the differences between two arms on several data sets: a random-effects meta-analysis.

Each set has a difference that is true for it; these scatter around a mean with the variance tau^2, and the clips of
each set tell its own only so far. tau^2 is Paule and Mandel's; the interval of the mean is the modified one of Knapp
and Hartung, advised for few sets of unequal size, where the usual ones are too short (Röver, Knapp and Friede, BMC
Medical Research Methodology 2015). With this tau^2 it is that of Student's t. Both are statsmodels'. It errs to the
safe side: where sets do not differ, a few of them call chance real far more rarely than in 5 % of cases. The prediction
interval, in which a further set's true difference lies, is that of Higgins, Thompson and Spiegelhalter (JRSS A 2009);
where six sets of unequal size do differ, it held 90 % of them in simulations instead of 95 %.

The sets' intervals are over clips, with the trained models as they are. What other trainings would change is in tau^2
as far as it differs from set to set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm, t
from statsmodels.stats.meta_analysis import CombineResults, combine_effects

from dfer.analysis.statistics import LEVEL, Interval

Array = npt.NDArray[np.float64]

_TAIL = (1 - LEVEL) / 2
MOST_SETS, MOST_TIMES = 100, 1000  # more sets, or times as many clips, than that nobody will collect


@dataclass(frozen=True)
class Verdict:
    """The mean difference over data sets, as shares like the sets' own; intervals are at 95 %."""

    differences: Mapping[str, Interval]  # data set -> its own difference
    weights: Mapping[str, float]  # data set -> its share in the mean; they add up to 1
    overall: Interval
    p_value: float  # two-sided, of no mean difference
    fixed: Interval  # what it would be if all sets had the same true difference: weights and interval of clips alone
    tau2: float  # variance of the true differences between sets
    i2: float  # share of the differences' scatter that is more than chance, in [0, 1) (Higgins and Thompson 2002)
    homogeneity_p: float  # p-value of all sets having the same true difference (Cochran's Q)
    prediction: Interval  # where a further set's true difference lies; nan with two sets


def combine(differences: Mapping[str, Interval]) -> Verdict:
    """Combine the differences of one metric, data set -> as `statistics.compare` gives it.

    Their standard errors are taken from the widths of their intervals. Raises ValueError for fewer than two sets, or
    one without an interval or with one that has no width.
    """
    if len(differences) < 2:
        raise ValueError(
            f"expected differences of two data sets or more, found {len(differences)} ({', '.join(differences)}): the "
            "difference on a single set stands for itself"
        )
    for name, difference in differences.items():
        if not difference.high > difference.low:  # nan too
            raise ValueError(
                f"{name}: expected an interval around its difference, found {difference.low} to {difference.high}: "
                "leave the set out, it has no clips on which the arms differ"
            )
    effects, variances = _effects(differences)
    found = _fit(effects, variances)
    sets = len(effects)
    wide = Interval(float("nan"), float("nan"), float("nan"))
    if sets > 2:
        reach = t.isf(_TAIL, sets - 2) * np.sqrt(found.tau2 + found.sd_eff_w_re**2)
        wide = _around(found.mean_effect_re, reach)
    return Verdict(
        differences=dict(differences),
        weights=dict(zip(differences, found.weights_rel_re.tolist(), strict=True)),
        overall=_overall(found),
        p_value=float(2 * t.sf(abs(found.mean_effect_re) / found.sd_eff_w_re, sets - 1)),
        fixed=_around(found.mean_effect_fe, norm.isf(_TAIL) * found.sd_eff_w_fe),
        tau2=float(found.tau2),
        i2=float(1 - (sets - 1) / found.q) if found.q > sets - 1 else 0.0,
        homogeneity_p=float(found.test_homogeneity().pvalue),
        prediction=wide,
    )


def without_each(differences: Mapping[str, Interval]) -> dict[str, Verdict]:
    """The verdict without each of three or more sets, by the name of the one that is left out."""
    return {
        left_out: combine({name: difference for name, difference in differences.items() if name != left_out})
        for left_out in differences
    }


def more_clips(verdict: Verdict) -> float:
    """How many times the clips every set needs until the interval excludes 0; inf if clips cannot do it.

    If the mean and tau^2 stay as they are, and a set's variance falls as 1 / clips. 1 where 0 is excluded already.
    """
    if _excludes_0(verdict.overall):
        return 1.0
    _, variances = _effects(verdict.differences)
    quantile = t.isf(_TAIL, len(variances) - 1)

    def beyond(log_times: float) -> float:
        error = (1 / (variances / np.exp(log_times) + verdict.tau2)).sum() ** -0.5
        return float(abs(verdict.overall.estimate) - quantile * error)

    far = np.log(1e6)
    return float(np.exp(brentq(beyond, 0, far))) if beyond(far) > 0 else float("inf")


def more_sets(verdict: Verdict) -> int | None:
    """How many sets like these are needed in all until the interval excludes 0; None for above 100.

    If the mean and tau^2 stay as they are. The number that is there where 0 is excluded already.
    """
    _, variances = _effects(verdict.differences)
    sets = len(variances)
    if _excludes_0(verdict.overall):
        return sets
    of_one = np.sqrt(sets / (1 / (variances + verdict.tau2)).sum())
    for number in range(sets + 1, MOST_SETS + 1):
        if abs(verdict.overall.estimate) > t.isf(_TAIL, number - 1) * of_one / np.sqrt(number):
            return number
    return None


def turning_point(verdict: Verdict) -> float:
    """The difference, on a further set with the median variance of these, with which the interval would reach 0.

    A difference on the other side of it, seen from the mean, would too. nan where 0 is not excluded.
    """
    if not _excludes_0(verdict.overall):
        return float("nan")
    effects, variances = _effects(verdict.differences)
    sign = np.sign(verdict.overall.estimate)

    def nearer_end(further: float) -> float:
        found = _overall(_fit(np.append(sign * effects, further), np.append(variances, np.median(variances))))
        return found.low

    mean = abs(verdict.overall.estimate)
    if nearer_end(mean) <= 0:  # even a set that agrees; not seen
        return float(sign * mean)
    step = mean
    while nearer_end(mean - step) > 0:
        step *= 2
    return float(sign * brentq(nearer_end, mean - step, mean))


def in_words(verdict: Verdict, name: str, arms: tuple[str, str], clips: Mapping[str, int]) -> str:
    """The verdict as one paragraph, in points, that also says what would change it.

    `name`: the metric's, for people; `arms`: the first and the second, whose difference is second minus first; `clips`:
    data set -> how many both have.
    """
    first, second = arms
    sets = len(verdict.differences)
    total = sum(clips[data_set] for data_set in verdict.differences)
    real = _excludes_0(verdict.overall)
    said = [
        f"{second} minus {first}, the mean over {sets} data sets ({total:,} clips): {_points(verdict.overall, name)}, "
        + (f"real at {100 * LEVEL:.0f} %." if real else "could be chance.")
    ]
    said.append(_between(verdict))
    said.append(f"If all sets had the same true difference, it would be {_points(verdict.fixed)}.")
    said.append(_what_makes_it_chance(verdict) if real else _what_makes_it_real(verdict, total))
    said.append("The intervals are over clips and sets; other trainings of the same arms may differ too.")
    return " ".join(said)


def _between(verdict: Verdict) -> str:
    tau = f"tau {100 * np.sqrt(verdict.tau2):.1f} points, I2 {100 * verdict.i2:.0f} %"
    if verdict.tau2 == 0:
        start = f"The sets do not differ by more than chance explains ({tau})"
    elif verdict.homogeneity_p < 1 - LEVEL:
        start = f"The sets differ by more than chance ({tau})"
    else:
        start = f"The sets seem to differ ({tau}), but that could be chance"
    if np.isnan(verdict.prediction.low):
        return f"{start}; two sets say little about that."
    low, high = (100 * end for end in (verdict.prediction.low, verdict.prediction.high))
    where = f"the true difference would probably lie between {low:+.1f} and {high:+.1f}"
    return f"{start}; on a further set like these {where}."


def _what_makes_it_real(verdict: Verdict, total: int) -> str:
    times, number = more_clips(verdict), more_sets(verdict)
    said = "What would change that, if the mean stays what it is:"
    in_reach = times <= MOST_TIMES
    if in_reach:
        more = float(f"{(times - 1) * total:.2g}")
        said += f" about {times:.1f} times as many clips in every set ({more:,.0f} more in all)"
    else:
        said += " no number of clips in these sets"
    if number is None:
        return f"{said}, and not {MOST_SETS} sets like these."
    further = number - len(verdict.differences)
    return f"{said}, {'or' if in_reach else 'but'} {further} more set{'s' * (further > 1)} like these."


def _what_makes_it_chance(verdict: Verdict) -> str:
    turn = 100 * turning_point(verdict)
    side = "or less" if verdict.overall.estimate > 0 else "or more"
    said = f"What would change that: a further set like these with a difference of {turn:+.1f} {side}"
    if len(verdict.differences) < 3:
        return said + "."
    chance = [name for name, other in without_each(verdict.differences).items() if not _excludes_0(other.overall)]
    if len(chance) == len(verdict.differences):
        return f"{said}; and whichever single set is left out, it could be chance."
    if chance:
        return f"{said}; and it could be chance already without {' or without '.join(chance)}."
    return f"{said}; it stays real without any one of the sets."


def _points(interval: Interval, name: str = "") -> str:
    estimate, low, high = (round(100 * value, 1) + 0.0 for value in (interval.estimate, interval.low, interval.high))
    return f"{estimate:+.1f} {name} [{low:.1f}, {high:.1f}]".replace("  ", " ")


def _effects(differences: Mapping[str, Interval]) -> tuple[Array, Array]:
    """The differences and their variances, float64[sets] both."""
    effects = np.array([difference.estimate for difference in differences.values()])
    widths = np.array([difference.high - difference.low for difference in differences.values()])
    return effects, (widths / (2 * norm.isf(_TAIL))) ** 2


def _fit(effects: Array, variances: Array) -> CombineResults:
    with np.errstate(divide="ignore", over="ignore"):  # its I2 of sets that all have the same difference
        return combine_effects(effects, variances, method_re="pm", use_t=True, alpha=1 - LEVEL)


def _overall(found: CombineResults) -> Interval:
    low, high = found.conf_int(alpha=1 - LEVEL, use_t=True)[1]
    return Interval(float(found.mean_effect_re), float(low), float(high))


def _around(estimate: float, reach: float) -> Interval:
    return Interval(float(estimate), float(estimate - reach), float(estimate + reach))


def _excludes_0(interval: Interval) -> bool:
    return not interval.low <= 0 <= interval.high
