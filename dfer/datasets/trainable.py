"""What the trainings of a pipeline would stop at, or should be known of them, told by clip tables alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

import pandas as pd

from dfer.config.catalogue import loss
from dfer.config.experiments import Experiment, Training, evaluations_of, trainings_of
from dfer.config.settings import ArmSettings
from dfer.datasets import protocol
from dfer.datasets.groups import without_clear_clips
from dfer.datasets.inner_part import validation_rows
from dfer.datasets.report import Finding, Problems, Rules, findings
from dfer.datasets.table import SHARES
from dfer.labels import classes_of

TRAINING_RULES: Rules = {
    "no_votes_for_arm": ("error", "arms that need votes which the data set does not have"),
    "no_part": (
        "error",
        "nothing to train or test on: set pipelines.NAME.folds to folds that the data set has, or mend its splits",
    ),
    "no_clear_clips": (
        "error",
        "classes without a clear clip, so that the groups of clear and of mixed clips cannot have the classes of all "
        "clips: lower groups.clear_above, add clips, or leave out the arms with clips: clear or mixed",
    ),
    "too_few_clips": ("error", "fewer than two clips to train on, and a clip is never mixed with itself: add clips"),
    "never_trained": (
        "warning",
        "classes that are tested on, but of which no clip is trained on: none can be recognised. Add clips, of other "
        "people where folds are made by person, or leave the class out",
    ),
    "without_votes": (
        "warning",
        "training clips without votes, or without shares where these are published instead: arms with soft labels "
        "leave them out, those with hard labels train on them",
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
    """Raise ValueError if an arm needs votes that the data set does not have; shares will do for a soft label, but not
    for a loss of the counts of votes."""
    votes = clips["votes"].dropna()
    has_shares = SHARES.name in clips and bool(clips[SHARES.name].notna().any())
    fewest = min((sum(counts) for counts in votes), default=0)
    for name, arm in experiment.arms.items():
        shares_do = has_shares and not loss(arm.loss).counts
        if votes.empty and ((arm.labels != "hard" and not shares_do) or arm.clips != "all"):
            raise ValueError(
                f"{experiment.name}: {experiment.dataset} has no votes, which {name} needs; choose arms with "
                "labels: hard for it"
            )
        if arm.votes is not None and arm.votes > fewest:
            raise ValueError(
                f"{experiment.name}: {name} takes {arm.votes} votes of each clip, but {experiment.dataset} has clips "
                f"with {fewest}; set arms.{name}.votes to at most that"
            )


def can_be_trained_on(clips: pd.DataFrame, arm: ArmSettings) -> pd.Series:
    """Which clips an arm is trained on, bool[N]; it leaves out the others.

    Hard labels need a single label, soft ones votes or published shares of the classes, a loss of the counts of votes
    those. Where no clip has what soft labels need, that is an error (`check_votes`), and all of them are.
    """
    if arm.labels == "hard":
        return clips["label"].notna()
    has = clips["votes"].notna()
    if SHARES.name in clips and not loss(arm.loss).counts:
        has |= clips[SHARES.name].notna()
    return has | (not has.any())


def check_group(training: Training, clips: pd.DataFrame, aligned: Collection[str] | None = None) -> None:
    """Raise ValueError, in one sentence, if an arm is to be trained on a group of clear or mixed clips, and some class
    of its training clips has no clear one.

    Args:
        clips: the data set's table.
        aligned: ids of the clips with aligned faces, which alone are trained on; None: not known yet.
    """
    if lacking := _without_clear_clips(training, clips, aligned):
        groups, where = training.settings.groups, _where(training.dataset, training.fold)
        among = "" if aligned is None else " with an aligned face"
        raise ValueError(
            f"{where}: no training clip{among} of {', '.join(lacking)} has a share of its votes above "
            f"groups.clear_above, {groups.clear_above:g}, so that the arm {training.arm_name} cannot be trained on a "
            f"group of {training.arm.clips} clips of all classes: lower groups.clear_above, add clips, or leave the "
            "arm out"
        )


def _without_clear_clips(training: Training, clips: pd.DataFrame, aligned: Collection[str] | None) -> list[str]:
    """The classes of a training's clips that have no clear one; [] for an arm that is trained on all clips."""
    train, groups = training.settings.train, training.settings.groups
    if training.arm.clips == "all":
        return []
    trained = protocol.part(clips, fold=training.fold, part="train", ambiguous=train.ambiguous)
    trained = trained[can_be_trained_on(trained, training.arm)]
    if aligned is not None:
        trained = trained[trained["clip_id"].isin(aligned)]
        if train.selection == "validation":  # these are drawn from the aligned ones
            trained = trained[~validation_rows(trained, train.validation_share, train.seed)]
    return without_clear_clips(trained, groups.clear_above)


def _left_out(experiment: Experiment, trained: pd.DataFrame) -> int:
    """The most training clips that one of the arms with soft labels leaves out."""
    soft = [arm for arm in experiment.arms.values() if arm.labels != "hard"]
    return max((int((~can_be_trained_on(trained, arm)).sum()) for arm in soft), default=0)


def _where(dataset: str, fold: int | None) -> str:
    return dataset if fold is None else f"{dataset}, fold {fold}"


def _check(experiment: Experiment, tables: Mapping[str, pd.DataFrame], problems: Problems) -> None:
    dataset, across = experiment.dataset, experiment.evaluate_on
    clips = tables[dataset]
    try:
        check_votes(experiment, clips)
    except ValueError as error:
        problems["no_votes_for_arm"].append(str(error).partition(": ")[2])
    has_folds = bool(clips["fold"].notna().any())
    for training in trainings_of(evaluations_of(experiment.rows(has_folds=has_folds))):
        with suppress(ValueError):  # there is no such part, which is said below
            if lacking := _without_clear_clips(training, clips, None):
                clear_above = f"{training.settings.groups.clear_above:g}"
                where = _where(dataset, training.fold)
                problems["no_clear_clips"].append(f"{where}: {', '.join(lacking)} (none above {clear_above})")
    for fold in experiment.folds if has_folds else (None,):
        try:
            trained = protocol.part(clips, fold=fold, part="train")
            tested = protocol.part(clips, fold=fold, part="test")
        except ValueError as error:
            problems["no_part"].append(str(error))
            continue
        where = _where(dataset, fold)
        if len(trained) < 2:
            problems["too_few_clips"].append(f"{where}: {len(trained)}")
        if left_out := _left_out(experiment, trained):
            problems["without_votes"].append(f"{where}: {left_out} of {len(trained)}")
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
