"""Reads FER+'s votes, and makes labels of them. Errors in the lists are reported, never corrected."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dfer.datasets.report import Problems, Rules
from dfer.labels import class_name, majority

COLUMNS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
"""What each of ten people could choose, in the order of the lists. NF: not a face."""

CLASSES = tuple(class_name(name) for name in COLUMNS[:8])
"""The emotions among them."""

PICTURE_NAME = r"fer[0-9]{7}"
VOTERS = 10

_BOX = re.compile(r"\([0-9, ]+\)")  # a face's place in its picture, as in "(0, 0, 48, 48)"

VOTES_RULES: Rules = {
    "list_unreadable": ("error", "lists that are no CSV; take them from FER+'s repository"),
    "bad_row": ("error", f"rows that are not a picture's name, perhaps a face box, and {len(COLUMNS)} votes"),
    "bad_name": ("error", "pictures that are not named fer and seven digits .png; such a name is never used as a path"),
    "bad_votes": ("error", "votes that are no whole number from 0 up"),
    "votes_all_zero": ("error", "pictures without a single vote"),
    "listed_twice": ("warning", "pictures that a list gives twice with the same votes, used once"),
    "listed_twice_differently": (
        "warning",
        "pictures that a list gives twice with different votes, so that nobody knows which are theirs: they have "
        "neither votes nor label",
    ),
    "votes_total": ("note", f"pictures that have not {VOTERS} votes; soft labels divide by the votes for emotions"),
    "older_votes": (
        "note",
        "lists with a face box in the second column: FER+'s first ones. Its fer2013new.csv has other votes for 1,602 "
        "pictures, and dfer ferplus-pictures writes lists of those",
    ),
}


@dataclass(frozen=True)
class Votes:
    """The votes of a picture, in the order of `COLUMNS`."""

    counts: tuple[int, ...]

    @property
    def emotions(self) -> tuple[int, ...]:
        """Of those for emotions, in the order of `CLASSES`."""
        return self.counts[: len(CLASSES)]

    @property
    def unknown(self) -> int:
        """For unknown."""
        return self.counts[len(CLASSES)]

    @property
    def no_face(self) -> int:
        """For not a face."""
        return self.counts[len(CLASSES) + 1]

    @property
    def show_an_emotion(self) -> bool:
        """Whether an emotion has at least as many votes as unknown and as not a face."""
        return max(self.emotions) >= max(self.unknown, self.no_face)

    @property
    def most(self) -> int | None:
        """The emotion with more votes than any other and than unknown or not a face; None if there is none."""
        return _emotion(majority(self.counts))

    @property
    def more_than_half(self) -> int | None:
        """The emotion with more than half of the votes, without choices of only one person; None if there is none.

        So do FER+'s authors count a majority.
        """
        several = [count if count > 1 else 0 for count in self.counts]
        top = max(several)
        return _emotion(several.index(top)) if 2 * top > sum(several) else None


def read_list(path: Path, shown: str, problems: Problems) -> dict[str, Votes | None]:
    """The votes by the picture's name without its suffix; adds to `problems`, in which the file is called `shown`.

    A picture that is listed with different votes has None.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        problems["list_unreadable"].append(f"{shown}: {error}")
        return {}
    votes: dict[str, Votes | None] = {}
    has_boxes = False
    for number, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) == len(COLUMNS) + 2 and _BOX.fullmatch(cells[1]):
            has_boxes = True
            del cells[1]
        _add(votes, cells, f"{shown} row {number}", problems)
    if has_boxes:
        problems["older_votes"].append(shown)
    return votes


def _add(votes: dict[str, Votes | None], cells: Sequence[str], where: str, problems: Problems) -> None:
    if len(cells) != len(COLUMNS) + 1:
        problems["bad_row"].append(f"{where}: {','.join(cells)[:60]!r}")
        return
    name, suffix = cells[0][:-4], cells[0][-4:]
    if suffix.lower() != ".png" or not re.fullmatch(PICTURE_NAME, name, re.ASCII):
        problems["bad_name"].append(f"{where}: {cells[0][:60]!r}")
        return
    counts = counts_of(cells[1:])
    if counts is None:
        problems["bad_votes"].append(f"{where}: {name}: {', '.join(cells[1:])}")
        return
    if not any(counts):
        problems["votes_all_zero"].append(f"{where}: {name}")
        return
    if name in votes:
        same = votes[name] == Votes(counts)
        problems["listed_twice" if same else "listed_twice_differently"].append(f"{where}: {name}")
        votes[name] = votes[name] if same else None
        return
    votes[name] = Votes(counts)
    if sum(counts) != VOTERS:
        problems["votes_total"].append(f"{name}: {sum(counts)}")


def counts_of(cells: Sequence[str]) -> tuple[int, ...] | None:
    """Cells as whole numbers from 0 up; None if one is anything else."""
    if not all(re.fullmatch(r"[0-9]{1,9}", cell) for cell in cells):
        return None
    return tuple(map(int, cells))


def _emotion(column: int | None) -> int | None:
    return column if column is not None and column < len(CLASSES) else None
