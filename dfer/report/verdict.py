"""What several data sets say together about two arms: a table, a forest plot and a paragraph."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from dfer.analysis import verdict
from dfer.analysis.statistics import Interval
from dfer.analysis.verdict_plots import forest
from dfer.report import table
from dfer.report.figures import WIDTH
from dfer.report.names import file_name, variant
from dfer.report.numbers import HEADLINES, Pair, ReportNumbers
from dfer.report.results import SYNTHETIC
from dfer.report.table import Cell, Column, Link, Table, difference

_NEGATIVE = re.compile(r"(?<![\w-])-(?=\d)")  # the hyphen before a number below 0
_ABOUT_THE_MEAN = (
    " The mean is that of a random-effects meta-analysis (Paule and Mandel; Knapp and Hartung, modified), over the "
    "sets in which the arms differ on a clip."
)
_TABLES = ("scores", "per-class", "networks", "probabilities", "disagreement")


@dataclass
class OverSets:
    """Two arms that were compared on the test parts of several data sets, each trained on its own."""

    arms: tuple[
        str, str
    ]  # names of the first and the second, which is the one that is ahead where a difference is above 0
    pairs: dict[str, Pair] = field(default_factory=dict)  # data set -> the pair

    @property
    def clips(self) -> dict[str, int]:
        return {name: pair.comparison.clips for name, pair in self.pairs.items()}

    def differences(self, metric: str) -> dict[str, Interval]:
        """Data set -> the difference; without sets on which the arms do not differ in any clip."""
        every = {name: pair.comparison.differences[metric] for name, pair in self.pairs.items()}
        return {name: one for name, one in every.items() if one.high > one.low}


def over_sets(numbers: ReportNumbers) -> list[OverSets]:
    """Every pair of a table's first arm with another that two or more data sets have."""
    found: dict[tuple[str, str], OverSets] = {}
    for experiment in numbers.experiments:
        if experiment.result.show not in _TABLES or not experiment.arms:
            continue
        place = {id(arm): number for number, arm in enumerate(experiment.arms)}
        for pair in sorted(experiment.pairs, key=lambda pair: place[id(pair.second)]):
            first, second = pair.first.result, pair.second.result
            own_part = first.trained_on == first.evaluated_on and second.trained_on == second.evaluated_on
            if pair.first is not experiment.arms[0] or not own_part or pair.first.is_audit or pair.second.is_audit:
                continue
            names = (f"{first.name}{variant(pair.first)}", f"{second.name}{variant(pair.second)}")
            of_arms = found.setdefault(names, OverSets(names))
            of_arms.pairs.setdefault(first.evaluated_on, pair)
    several = [one for one in found.values() if len(one.pairs) > 1]
    networks = {name.split("/")[0] for one in several for name in one.arms}
    if len(networks) == 1:  # then it need not be said
        for one in several:
            first_name, second_name = one.arms
            one.arms = (first_name.split("/", 1)[1], second_name.split("/", 1)[1])
    return several


def as_table(one: OverSets, numbers: ReportNumbers) -> Table:
    """A row a data set and one for the mean over those that tell the arms apart, if there is one, with the paragraphs
    of WAR and UAR below."""
    verdicts = _verdicts(one)
    first, second = one.arms
    clips = {name: one.clips[name] for name in one.pairs if any(name in of.differences for of in verdicts.values())}
    mean = Cell(f"mean over {len(clips)} sets", links=tuple(Link(name, one.pairs[name].second.url) for name in clips))
    words = [verdict.in_words(found, metric.upper(), one.arms, one.clips) for metric, found in verdicts.items()]

    def of(metric: str) -> Column[str]:
        def cell(name: str) -> Cell:
            if name in one.pairs:
                return difference(one.pairs[name].comparison.differences[metric])
            return difference(verdicts[metric].overall) if metric in verdicts else table.DASH

        return Column(metric.upper(), cell)

    return table.build(
        f"verdict-{file_name(first)}-{file_name(second)}",
        f"{second} against {first}, over data sets",
        [
            Column("data set", lambda name: Cell(name) if name else mean, text=True),
            *map(of, HEADLINES),
            Column("clips", lambda name: table.count(one.clips[name] if name else sum(clips.values()))),
        ],
        [*one.pairs, *([""] if clips else [])],
        warnings=(SYNTHETIC,) if numbers.synthetic_sets.intersection(one.pairs) else (),
        in_words=_NEGATIVE.sub(table.MINUS, " ".join(words)),
        notes=(
            "Percentage points with 95 % intervals; each arm trained and tested on every set by itself."
            + (_ABOUT_THE_MEAN if clips else ""),
        ),
        page=lambda name: one.pairs[name].second.url if name else "",
    )


def charts(one: OverSets) -> Iterator[tuple[str, str, str, Figure]]:
    """File name, caption, words for those who cannot see it, and figure: a forest plot of each score."""
    for metric, found in _verdicts(one).items():
        caption = f"{metric.upper()}: {one.arms[1]} against {one.arms[0]}, by data set"
        figure = forest(found, name=metric.upper(), arms=one.arms, clips=one.clips, width=WIDTH)
        yield (
            f"verdict-{file_name(one.arms[0])}-{file_name(one.arms[1])}-{metric}",
            caption,
            f"{caption}; the numbers are in the table",
            figure,
        )


def _verdicts(one: OverSets) -> Mapping[str, verdict.Verdict]:
    """By score; without one in which fewer than two sets tell the arms apart at all."""
    by_metric = {metric: one.differences(metric) for metric in HEADLINES}
    return {metric: verdict.combine(sets) for metric, sets in by_metric.items() if len(sets) > 1}
