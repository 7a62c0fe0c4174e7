"""The lists of a data set with official folds, each with a train and a test list, made into one fold for each clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dfer.datasets.report import Problems, Rules
from dfer.datasets.table import NUM_FOLDS

FOLD_RULES: Rules = {
    "fold_labels_differ": ("error", "clips with different labels in different fold lists"),
    "two_test_folds": ("error", "clips in the test lists of two folds: they would be evaluated twice"),
    "train_list_differs": (
        "error",
        "train lists that are not exactly the other folds' test lists: training on the other folds would not be "
        "training on the official list",
    ),
}
"""What `combine` finds."""

Lists = Mapping[int, Mapping[int, int]]
"""Fold -> clip number -> label."""


@dataclass(frozen=True)
class Folds:
    """The content of the fold lists."""

    test: dict[int, int] = field(default_factory=dict)  # clip number -> the fold (1..5) that tests on it
    labels: dict[int, int] = field(default_factory=dict)  # clip number -> the label's place in the classes
    hashes: dict[str, str] = field(default_factory=dict)  # path of a list -> SHA-256


def combine(trains: Lists, tests: Lists, hashes: dict[str, str], classes: Sequence[str], problems: Problems) -> Folds:
    """The folds that the lists give; adds the findings of `FOLD_RULES`.

    Checks that a clip has one label, no clip is tested twice, and, if all lists are there, each train list is the union
    of the other folds' test lists.
    """
    labels: dict[int, int] = {}
    for number, label in (pair for lists in (tests, trains) for listed in lists.values() for pair in listed.items()):
        if labels.setdefault(number, label) != label:
            problems["fold_labels_differ"].append(f"clip {number}: {classes[labels[number]]} and {classes[label]}")
    test: dict[int, int] = {}
    for fold, listed in tests.items():
        for number in listed:
            if test.setdefault(number, fold) != fold:
                problems["two_test_folds"].append(f"clip {number}: folds {test[number]} and {fold}")
    if len(tests) == len(trains) == NUM_FOLDS:
        _compare_train_lists(trains, tests, problems)
    return Folds(test, labels, hashes)


def _compare_train_lists(trains: Lists, tests: Lists, problems: Problems) -> None:
    for fold in trains:
        others = {number for other, listed in tests.items() if other != fold for number in listed}
        missing, extra = others - set(trains[fold]), set(trains[fold]) - others
        if missing or extra:
            tested = len(extra & set(tests[fold]))
            problems["train_list_differs"].append(
                f"set_{fold}: {len(missing)} clips missing, {len(extra)} too many, "
                f"{tested} of them in its own test list"
            )
