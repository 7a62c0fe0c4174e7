"""What the report calls arms and pairs, and what it says about how their numbers came about."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dfer.config.published import PublishedRow
from dfer.report.content import ArmResult
from dfer.report.numbers import ArmNumbers, ExperimentNumbers, Pair

CHOSEN_ON_TEST = "†"
CHOSEN_ON_TEST_NOTE = f"{CHOSEN_ON_TEST} best epoch chosen on the test fold: too good."
CHOSEN_BY_VALIDATION_NOTE = "Epoch by validation: the best UAR on an inner part of the training folds."
VALIDATION_PART_NOTE = "(val): validation part; the labels of the test part are not public."

_TELLING = {
    "model": "{}",
    "arm": "{}",
    "split": "({} folds)",
    "epochs": "after {} epochs",
    "frames": "{}",
    "trained_on": "from {}",
    "evaluated_on": "on {}",
    "part": "({})",
}


def file_name(text: str) -> str:
    """`text` as part of a file name or an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")


def flag(result: ArmNumbers | PublishedRow) -> str:
    """† for a result whose epoch was chosen on the test fold."""
    return CHOSEN_ON_TEST if result.chosen_on_test else ""


def other_frames(arm: ArmNumbers) -> str:
    """', frames shuffled'; empty for frames in order."""
    return "" if arm.result.in_order else f", frames {arm.result.frames}"


def full_name(arm: ArmNumbers) -> str:
    """The arm with its network, its training and its order of frames where they matter, and its flag."""
    return f"{arm.result.name}{variant(arm)}{other_frames(arm)}{flag(arm)}"


def variant(arm: ArmNumbers) -> str:
    """', 60 epochs' where the experiment compares lengths of training, ', disjoint folds' where they are not the data
    set's own."""
    folds = "" if arm.result.split == "official" else f", {arm.result.split} folds"
    return folds + ("" if arm.result.epochs is None else f", {arm.result.epochs} epochs")


def short_names(arms: Sequence[ArmNumbers]) -> list[str]:
    """Each arm by what tells it apart from the others, "midas" where all have the same network; and its flag."""
    telling = [name for name in _TELLING if len({getattr(arm.result, name) for arm in arms}) > 1] or ["model", "arm"]
    return [" ".join(_TELLING[name].format(getattr(arm.result, name)) for name in telling) + flag(arm) for arm in arms]


def versus(pair: Pair, experiment: ExperimentNumbers) -> str:
    """'midas against hard'."""
    names = {id(arm): name for arm, name in zip(experiment.arms, short_names(experiment.arms), strict=True)}
    return f"{names[id(pair.second)]} against {names[id(pair.first)]}"


def where(result: ArmResult) -> str:
    """'dfew → afew (val)': trained on, tested on, which part, how the epoch was chosen if it is not the last, and how
    many of its runs are missing."""
    epoch = ", epoch by validation" if result.protocol == "validation" else ""
    missing, all_runs = result.missing_runs, len(result.runs) + result.missing_runs
    without = f", {missing} of {all_runs} runs missing" if missing else ""
    return f"{result.trained_on} → {result.evaluated_on} ({result.part}{epoch}{without})"


def missing_note(rows: Sequence[ArmResult]) -> str:
    """Which arms a table lacks altogether; empty if none."""
    names = dict.fromkeys(row.name for row in rows if row.missing_runs and not row.runs)
    return f"Missing, since no run of them was finished: {', '.join(names)}." if names else ""


def flag_note(arms: Sequence[ArmNumbers | PublishedRow]) -> str:
    """What † means; empty where nothing has it."""
    return CHOSEN_ON_TEST_NOTE if any(arm.chosen_on_test for arm in arms) else ""


def protocol_notes(arms: Sequence[ArmNumbers]) -> list[str]:
    """What a reader must know about how the epochs and the clips of some of the arms were chosen."""
    by_validation = any(arm.result.protocol == "validation" for arm in arms)
    on_validation_part = any(arm.result.part == "val" for arm in arms)
    notes = (flag_note(arms), by_validation and CHOSEN_BY_VALIDATION_NOTE, on_validation_part and VALIDATION_PART_NOTE)
    return [note for note in notes if note]
