"""What the trainings of a pipeline would stop at, or should be known of them, told by clip tables alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from dfer.config.experiments import Experiment
from dfer.datasets import protocol
from dfer.datasets.report import Finding, Problems, Rules, findings
from dfer.datasets.table import SHARES
from dfer.labels import classes_of

TRAINING_RULES: Rules = {
    "no_votes_for_arm": ("error", "arms that need votes which the data set does not have"),
    "no_part": (
        "error",
        "nothing to train or test on: set pipelines.NAME.folds to folds that the data set has, or mend its splits",
    ),
    "too_few_clips": ("error", "fewer than two clips to train on, and a clip is never mixed with itself: add clips"),
    "never_trained": (
        "warning",
        "classes that are tested on, but of which no clip is trained on: none can be recognised. Add clips, of other "
        "people where folds are made by person, or leave the class out",
    ),
    "one_tested": ("warning", "a single clip to test on, so that scores are 0 % or 100 %: add clips"),
}


def findings_on_trainings(experiments: Iterable[Experiment], tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Findings on every part that is trained or tested on, of the data sets whose clip tables are known."""
    problems = Problems()
    for experiment in experiments:
        if experiment.trains and experiment.dataset in tables:
            _check(experiment, tables, problems)
    unique = {code: list(dict.fromkeys(places)) for code, places in problems.items()}
    return findings(unique, TRAINING_RULES)


def check_votes(experiment: Experiment, clips: pd.DataFrame) -> None:
    """Raise ValueError if an arm needs votes that the data set does not have; shares will do for a soft label."""
    votes = clips["votes"].dropna()
    has_shares = SHARES.name in clips and bool(clips[SHARES.name].notna().any())
    fewest = min((sum(counts) for counts in votes), default=0)
    for name, arm in experiment.arms.items():
        if votes.empty and ((arm.labels == "soft" and not has_shares) or arm.clips != "all"):
            raise ValueError(
                f"{experiment.name}: {experiment.dataset} has no votes, which {name} needs; choose arms with "
                "labels: hard for it"
            )
        if arm.votes is not None and arm.votes > fewest:
            raise ValueError(
                f"{experiment.name}: {name} takes {arm.votes} votes of each clip, but {experiment.dataset} has clips "
                f"with {fewest}; set arms.{name}.votes to at most that"
            )


def _check(experiment: Experiment, tables: Mapping[str, pd.DataFrame], problems: Problems) -> None:
    dataset, across = experiment.dataset, experiment.evaluate_on
    clips = tables[dataset]
    try:
        check_votes(experiment, clips)
    except ValueError as error:
        problems["no_votes_for_arm"].append(str(error).partition(": ")[2])
    for fold in experiment.folds if clips["fold"].notna().any() else (None,):
        try:
            trained = protocol.part(clips, fold=fold, part="train")
            tested = protocol.part(clips, fold=fold, part="test")
        except ValueError as error:
            problems["no_part"].append(str(error))
            continue
        where = dataset if fold is None else f"{dataset}, fold {fold}"
        if len(trained) < 2:
            problems["too_few_clips"].append(f"{where}: {len(trained)}")
        if across != dataset:
            continue
        if len(tested) == 1:
            problems["one_tested"].append(f"{where}: {tested['clip_id'][0]}")
        numbers = tested["label"].value_counts()
        unknown = [int(label) for label in sorted(numbers.index.difference(trained["label"].unique()))]
        problems["never_trained"] += [
            f"{where}: {classes_of(clips)[label]}, {numbers[label]} clip{'s' if numbers[label] > 1 else ''}"
            for label in unknown
        ]
    if across != dataset and across in tables:
        try:
            protocol.across(tables[across])
        except ValueError as error:
            problems["no_part"].append(str(error))
