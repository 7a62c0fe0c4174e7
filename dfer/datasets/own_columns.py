"""What the columns of a table of one's own hold, told by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dfer.datasets.report import Problems, Rules
from dfer.labels import class_name
from dfer.system.file_types import FRAME_SUFFIXES, VIDEO_SUFFIXES

NAMES = {
    "path": ("path", "file", "filename", "file_name", "file_path", "video", "video_path", "clip", "clip_path"),
    "label": ("label", "emotion", "class", "expression"),
    "annotator": ("annotator", "rater", "coder"),
    "split": ("split", "subset"),
    "fold": ("fold",),
    "subject": ("subject", "person", "participant", "speaker", "actor"),
    "source": ("source", "film", "movie", "session"),
}
"""What a column may hold -> its accepted names; case, and blanks or hyphens in place of `_`, do not matter."""

VOTES_PREFIX = "votes_"
"""Where a column's name begins so, only such columns are votes, each for the class that is the rest of its name."""

_MEANING = {name: meaning for meaning, names in NAMES.items() for name in names}
_PATH = ", ".join(NAMES["path"])
_LABEL = ", ".join(NAMES["label"])

COLUMN_RULES: Rules = {
    "wrong_delimiter": (
        "error",
        "tables whose cells are not divided as their name says, .csv by commas, .tsv by tabs: save the table so, or as "
        "a workbook",
    ),
    "no_header": (
        "error",
        f"tables whose first row is data: write the names of the columns above it, one of {_PATH} and one of {_LABEL}",
    ),
    "no_path_column": ("error", f"tables without a column of paths: call it by one of {_PATH}"),
    "no_label_column": (
        "error",
        f"tables without labels: expected a column with one of the names {_LABEL}, or one column for each class with "
        "the number of votes for it",
    ),
    "labels_and_votes": (
        "error",
        "tables with a column of labels and columns of votes: keep the one or the others, as they may contradict each "
        "other",
    ),
    "duplicate_columns": ("error", "columns that mean the same: rename or delete all but one"),
}


@dataclass(frozen=True)
class Columns:
    """Places of the columns that are used.

    Attributes:
        places: what a column holds, a key of `NAMES` -> its place.
        votes: class -> place of its column; empty where there is a column of labels.
        prefixed: whether the names of columns with votes begin with `VOTES_PREFIX`.
        unused: the names of all others.
    """

    places: dict[str, int]
    votes: dict[str, int]
    unused: tuple[str, ...]
    prefixed: bool


def columns_of(header: Sequence[str], table: str, root: Path, problems: Problems) -> Columns | None:
    """The columns of a table by its header; None, and an addition to `problems`, where that cannot be told."""
    meanings = [_MEANING.get(re.sub(r"[\s-]+", "_", name.casefold()), "") for name in header]
    counts = {meaning: meanings.count(meaning) for meaning in NAMES}
    shown = f"{table}: found {', '.join(map(short, header[:12]))}{' and more' if len(header) > 12 else ''}"
    if not counts["path"]:
        problems[_without_path(header, table, root)].append(shown)
        return None
    for meaning, count in counts.items():
        if count > 1:
            names = [name for name, its in zip(header, meanings, strict=True) if its == meaning]
            problems["duplicate_columns"].append(f"{table}: {' and '.join(map(short, names))}")
    prefixed = [place for place, name in enumerate(header) if name.casefold().startswith(VOTES_PREFIX)]
    others = [place for place, name in enumerate(header) if name and not meanings[place]]
    votes: dict[str, int] = {}
    for place in prefixed if prefixed else others if not counts["label"] else ():
        name = class_name(header[place][len(VOTES_PREFIX) :] if prefixed else header[place])
        if name in votes:
            problems["duplicate_columns"].append(f"{table}: {short(header[votes[name]])} and {short(header[place])}")
        votes.setdefault(name, place)
    if counts["label"] and votes:
        problems["labels_and_votes"].append(shown)
    if not counts["label"] and (counts["annotator"] or len(votes) < 2):
        problems["no_label_column"].append(shown)
    if problems:
        return None
    places = {meaning: meanings.index(meaning) for meaning, count in counts.items() if count}
    unused = [header[place] for place in others if place not in votes.values()]
    return Columns(places, votes, (*unused, *([] if all(header) else ["a column without a name"])), bool(prefixed))


def _without_path(header: Sequence[str], table: str, root: Path) -> str:
    delimiter = "\t" if table.lower().endswith(".tsv") else ","
    if len(header) == 1 and any(other in header[0] for other in ",;\t|" if other != delimiter):
        return "wrong_delimiter"
    suffixes = {PurePosixPath(cell).suffix.lower() for cell in header}
    return "no_header" if suffixes & (VIDEO_SUFFIXES | FRAME_SUFFIXES) else "no_path_column"


def short(text: str) -> str:
    """A cell for a message."""
    return repr(text) if len(text) <= 60 else f"{text[:57]!r}..."
