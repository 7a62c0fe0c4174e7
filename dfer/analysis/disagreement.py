"""Everything that an arm's predictions say about where people disagree, in one place for a table and its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from dfer.analysis import annotators, arm_table, prediction_sets, vote_calibration, vote_entropy
from dfer.analysis.statistics import Interval
from dfer.labels import classes_of

MISCOVERAGE = 0.1
"""The share of the votes that the prediction sets may miss."""


@dataclass(frozen=True)
class Disagreement:
    """An arm against its voters, over the clips with several votes."""

    entropy: vote_entropy.Agreement
    distance: Mapping[str, Interval]  # see `vote_calibration.distance`
    by_class: pd.DataFrame  # see `vote_calibration.by_class`
    coverage: pd.DataFrame  # of sets that promise to hold a voter's class in 90 of 100 cases, class by class
    sizes: pd.DataFrame  # of these sets, by how many classes the clip's voters named
    mean_size: float  # classes in a set, the mean over predictions
    worth: Interval  # how many votes of a clip tell as much about another voter as the arm does
    information: annotators.Information  # what each further vote tells, of the same clips


def measure(table: pd.DataFrame) -> Disagreement | None:
    """The numbers of an arm table; None if no clip has several votes."""
    if not table["votes"].notna().any():
        return None
    voted = arm_table.voted(table)
    voted = voted[arm_table.vote_counts(voted).sum(axis=1) > 1]
    if voted["clip_id"].nunique() < 2:
        return None
    sets = prediction_sets.predict_sets(voted, miscoverage=MISCOVERAGE)
    return Disagreement(
        entropy=vote_entropy.agreement(voted),
        distance=vote_calibration.distance(voted),
        by_class=vote_calibration.by_class(voted),
        coverage=prediction_sets.coverage(sets, classes_of(voted)),
        sizes=prediction_sets.sizes(sets),
        mean_size=float(sets["size"].mean()),
        worth=annotators.worth(voted),
        information=annotators.information(voted),
    )
