"""A table of arms in one sentence: who is ahead of the first, who behind, and who cannot be told apart from it."""

from __future__ import annotations

from collections.abc import Sequence

from dfer.analysis import power
from dfer.analysis.statistics import LEVEL, Interval
from dfer.analysis.variance import Metric
from dfer.report.names import short_names
from dfer.report.numbers import HEADLINES, ArmNumbers, ExperimentNumbers, Pair
from dfer.report.table import p_value, points

SHOWN = ("scores", "per-class")
"""The kinds of tables that have a sentence: those of arms to be compared with the first."""

NOTE = (
    "In words: each arm against the first one. Ahead and behind are differences whose 95 % interval excludes 0 and "
    "that pass Holm's correction over all comparisons of the table."
)

NEEDED_NOTE = (
    "Clips that would be needed: of all folds together, for a 95 % interval without 0 that passes the same correction, "
    "with as many seeds as here; by simulation from these predictions (dfer power)."
)

_UNIT = "\0"  # where the first number says of what it is


def sentence(experiment: ExperimentNumbers) -> str:
    """'midas is ahead of hard by 3.1 points of WAR [0.4, 5.8]; soft (+0.5 [-1.9, 2.8]) cannot be told apart from hard.'

    The table's first arm is the reference. The numbers are differences of WAR with the 95 % intervals of the paired
    bootstrap. An arm is ahead or behind if its interval excludes 0 and its p-value after Holm's correction over all
    comparisons of the table is at most 0.05. Empty for a table of another kind, for a single arm, and where the first
    arm is missing. Where lengths of training or splits are compared, a sentence for each.
    """
    arms, rows = experiment.arms, experiment.result.rows
    if experiment.result.show not in SHOWN or not arms or not rows[0].runs:
        return ""
    groups: dict[tuple[object, ...], list[ArmNumbers]] = {}
    for arm in arms:
        groups.setdefault((arm.result.split, arm.result.epochs), []).append(arm)
    return " ".join(filter(None, (_of_one_group(experiment, group) for group in groups.values())))


def _of_one_group(experiment: ExperimentNumbers, arms: Sequence[ArmNumbers]) -> str:
    names_of = {id(arm): name for arm, name in zip(experiment.arms, short_names(experiment.arms), strict=True)}
    reference = names_of[id(arms[0])]
    pairs = {id(pair.second): pair for pair in experiment.pairs if pair.first is arms[0]}
    compared = [(names_of[id(arm)], pairs[id(arm)]) for arm in arms[1:] if id(arm) in pairs]
    real = sorted((one for one in compared if _is_real(one[1])), key=lambda one: -abs(_war(one[1]).estimate))
    level = [f"{name} ({_difference(pair)})" for name, pair in compared if not _is_real(pair)]
    clauses = [
        _apart("ahead of", reference, [(name, pair) for name, pair in real if _war(pair).estimate > 0]),
        _apart("behind", reference, [(name, pair) for name, pair in real if _war(pair).estimate < 0]),
        f"{_listed(level)} cannot be told apart from {reference}" if level else "",
    ]
    text = "; ".join(filter(None, clauses)).replace(_UNIT, " points of WAR", 1).replace(_UNIT, "")
    return f"{text}." if text else ""


def needed(experiment: ExperimentNumbers) -> str:
    """How many clips would show what `sentence` calls level: of the arm that is furthest from the first one.

    Empty where there is none.
    """
    pairs = [pair for pair in experiment.pairs if experiment.arms and pair.first is experiment.arms[0]]
    level = [pair for pair in pairs if not _is_real(pair)]
    if not sentence(experiment) or not level:
        return ""
    furthest = max(level, key=lambda pair: abs(_war(pair).estimate))
    names = dict(zip(map(id, experiment.arms), short_names(experiment.arms), strict=True))
    which = f" ({names[id(furthest.second)]}, the furthest away)" if len(level) > 1 else ""
    return (
        f"Cannot be told apart{which}: {would_need(furthest, 'war', experiment)}; here are "
        f"{furthest.comparison.clips:,}. {NEEDED_NOTE}"
    )


def would_need(pair: Pair, metric: Metric, experiment: ExperimentNumbers) -> str:
    """`dfer.analysis.power.would_need` for the difference of a pair, of all those that its table compares."""
    return power.would_need(
        pair.first.result.predictions,
        pair.second.result.predictions,
        metric,
        pair.comparison.differences[metric].estimate,
        comparisons=len(HEADLINES) * len(experiment.pairs),
    )


def _apart(where: str, reference: str, arms: Sequence[tuple[str, Pair]]) -> str:
    """'midas is ahead of hard by 3.1 [0.4, 5.8]', or 'ahead of hard are midas by 3.1 [0.4, 5.8] and ...'."""
    if len(arms) == 1:
        ((name, pair),) = arms
        return f"{name} is {where} {reference} by {_size(pair)}"
    return f"{where} {reference} are {_listed([f'{name} by {_size(pair)}' for name, pair in arms])}" if arms else ""


def _war(pair: Pair) -> Interval:
    return pair.comparison.differences["war"]


def _is_real(pair: Pair) -> bool:
    return not _includes_zero(pair) and pair.corrected["war"] <= 1 - LEVEL


def _includes_zero(pair: Pair) -> bool:
    return _war(pair).low <= 0 <= _war(pair).high


def _size(pair: Pair) -> str:
    """How far ahead, or how far behind: a number above 0 with its interval."""
    ends = sorted(abs(end) for end in (_war(pair).low, _war(pair).high))
    return f"{100 * abs(_war(pair).estimate):.1f}{_UNIT} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def _difference(pair: Pair) -> str:
    interval = _war(pair)
    number = f"{points(interval.estimate)}{_UNIT} [{points(interval.low)}, {points(interval.high)}]"
    corrected = p_value(pair.corrected["war"], at_most=pair.comparison.at_floor("war"))
    return number if _includes_zero(pair) else f"{number}, but after correction p is {corrected}"


def _listed(words: Sequence[str]) -> str:
    """'a, b and c'."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
