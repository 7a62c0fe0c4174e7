"""Reads DFEW's lists: the annotators' votes (`annotation.xlsx`) and the five folds (`set_1.csv` to `set_5.csv`).

Both become dicts keyed by clip number. Errors in them are reported, never corrected.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from dfer.datasets import workbook
from dfer.datasets.folds import FOLD_RULES, Folds, combine
from dfer.datasets.report import Problems, Rules
from dfer.datasets.scan import is_inside, subfolders
from dfer.datasets.table import NUM_FOLDS
from dfer.labels import EMOTIONS, emotion_index
from dfer.storage.files import sha256

ANNOTATION = "Annotation/annotation.xlsx"
SPLIT_FOLDER = "EmoLabel_DataSplit"
VOTES_PER_CLIP = 10

NO_LABEL = 0
LABELS = {
    number: emotion_index(name)
    for number, name in enumerate(("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear"), start=1)
}
"""DFEW's label number, from 1 -> index of its emotion in `EMOTIONS`."""

_CLIP_COLUMNS = frozenset({"order", "clip", "clipname", "name", "video", "videoname"})
_LABEL_COLUMNS = frozenset({"label", "annotation"})
_MAY_BE_FORMULAS = frozenset({"list_columns", "bad_votes", "bad_label", "bad_clip_name"})

LIST_RULES: Rules = {
    "folds_missing": (
        "error",
        f"fold lists that are not there; each of the {NUM_FOLDS} folds needs a train and a test list. Unpack "
        f"{SPLIT_FOLDER} of the download into the root",
    ),
    "fold_folder_twice": ("error", "folders for the same lists under two spellings; keep the right one"),
    "list_unreadable": ("error", "lists that cannot be read; take the file from the original download"),
    "list_columns": ("error", "lists without the expected columns; take the file from the original download"),
    "bad_clip_name": ("error", "clip names that are not a plain number; they are never used as a path"),
    "bad_label": ("error", "labels that are no number from 1 (happy) to 7 (fear), or 0 for none in the annotation"),
    "label_base": (
        "error",
        "lists whose labels may count from 0, not from 1 as DFEW's own do: reading them could shift every class "
        "by one; take the list from the original download",
    ),
    "labels_are_words": (
        "error",
        "lists whose labels are words, where DFEW's own have numbers: "
        + ", ".join(f"{number} {EMOTIONS[index]}" for number, index in LABELS.items())
        + ", and 0 for none in the annotation. Write these in their place, or take the list from the original download",
    ),
    "formulas_without_value": (
        "error",
        "formulas with whose cells the workbook stores no value, as of a program that does not compute: open it in a "
        "spreadsheet program and save it there, or replace the formulas by their values",
    ),
    "bad_votes": ("error", "votes that are no whole number from 0 up"),
    "votes_all_zero": ("error", "clips in the annotation without a single vote"),
    "listed_twice_differently": (
        "error",
        "clips that a list gives twice with different content; remove one of the rows",
    ),
    **FOLD_RULES,
    "annotation_missing": (
        "warning",
        f"no {ANNOTATION}: there are no votes, so only hard labels can be used. Unpack Annotation of the download into "
        "the root for soft labels",
    ),
    "more_votes": (
        "warning",
        "columns of the annotation beside the seven emotions that hold numbers as votes do: they are left out, and "
        "soft labels are shares of the votes for the seven",
    ),
    "listed_twice": ("warning", "clips that a list gives twice with the same content, used once"),
    "votes_total": (
        "warning",
        f"clips whose votes do not add up to {VOTES_PER_CLIP}; soft labels divide by the real sum",
    ),
}


@dataclass(frozen=True)
class Annotated:
    """One row of the annotation: seven votes in the order of `EMOTIONS` (None if unusable), label 0..6 or None."""

    votes: tuple[int, ...] | None
    label: int | None


def clip_number(name: object) -> int | None:
    """`name` as a number, with or without leading zeros; None for anything else."""
    if isinstance(name, float) and name.is_integer():
        name = int(name)
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text := str(name).strip()) else None


def read_annotation(root: Path, problems: Problems) -> dict[int, Annotated]:
    """Read `Annotation/annotation.xlsx`: clip number -> votes and label; {} if unusable. Adds to `problems`.

    Column names are matched loosely (`1happy`, `Happy`, `happiness`), since descriptions of the file differ; each must
    occur exactly once.
    """
    path = root / ANNOTATION
    if not path.is_file():
        problems["annotation_missing"].append(ANNOTATION)
        return {}
    if not is_inside(path, root):
        problems["outside_root"].append(ANNOTATION)
        return {}
    content = BytesIO(path.read_bytes())
    try:
        rows = workbook.rows(content)
    except Exception as error:  # the zip and XML parsers raise many kinds on damaged or encrypted files
        problems["list_unreadable"].append(f"{ANNOTATION}: {error}")
        return {}
    columns = _annotation_columns(rows[0] if rows else (), problems)
    annotated: dict[int, Annotated] = {}
    labels: list[object] = []
    for line, row in enumerate(rows[1:], start=2):
        if columns is not None and any(value is not None for value in row):
            cells = [row[column] if column < len(row) else None for column in columns]
            _add_annotated(annotated, cells, f"{ANNOTATION} row {line}", problems)
            labels.append(cells[-1])
    # before it is asked whether labels count from 0: where none is a number, the reason is another one
    if _MAY_BE_FORMULAS & problems.keys() and (formulas := workbook.formulas_without_value(content)):
        problems["formulas_without_value"] += [f"{ANNOTATION} {formula}" for formula in formulas]
    elif words := _only_words(labels):
        problems["labels_are_words"].append(f"{ANNOTATION}: {words}")
    elif _counts_from_zero(annotated):
        problems["label_base"].append(ANNOTATION)
        annotated = {number: Annotated(row.votes, None) for number, row in annotated.items()}
    if columns is not None:
        problems["more_votes"] += [f"{ANNOTATION}: {_shown(title)}" for title in _more_votes(rows, columns)]
    return annotated


def read_folds(root: Path, problems: Problems) -> Folds:
    """Read the five folds of `EmoLabel_DataSplit/{train,test}(single-labeled)/set_{1..5}.csv`; adds to `problems`.

    Checks that every list exists, labels count from 1, no clip is tested twice, and each train list is the union of the
    other folds' test lists.
    """
    tests: dict[int, dict[int, int]] = {}
    trains: dict[int, dict[int, int]] = {}
    hashes: dict[str, str] = {}
    for part, lists in (("train", trains), ("test", tests)):
        folder = _fold_folder(root, part, problems)
        for fold in range(1, NUM_FOLDS + 1):
            path = folder / f"set_{fold}.csv"
            name = path.relative_to(root).as_posix()
            if not path.is_file():
                problems["folds_missing"].append(name)
            elif not is_inside(path, root):
                problems["outside_root"].append(name)
            else:
                hashes[name] = sha256(path)
                rows = _read_fold_list(path, name, problems)
                if rows is not None:
                    lists[fold] = rows
    return combine(trains, tests, hashes, EMOTIONS, problems)


def _annotation_columns(header: tuple[object, ...], problems: Problems) -> list[int] | None:
    """Indices of the seven vote columns in the order of `EMOTIONS`, of the clip's name and of the label."""
    columns: dict[str, list[int]] = {}
    for column, title in enumerate(header):
        word = re.sub(r"[^a-z]", "", str(title).lower()) if title is not None else ""
        try:
            key = EMOTIONS[emotion_index(word)]
        except ValueError:
            key = "clip" if word in _CLIP_COLUMNS else "label" if word in _LABEL_COLUMNS else ""
        columns.setdefault(key, []).append(column)
    needed = (*EMOTIONS, "clip", "label")
    wrong = {key: len(columns.get(key, [])) for key in needed if len(columns.get(key, [])) != 1}
    if wrong:
        problems["list_columns"].append(
            f"{ANNOTATION}: needs one column each for {', '.join(needed)}; "
            + ", ".join(f"{count} for {key}" for key, count in wrong.items())
            + f" among {[title for title in header if title is not None]}"
        )
        return None
    return [columns[key][0] for key in needed]


def _add_annotated(annotated: dict[int, Annotated], cells: list[object], where: str, problems: Problems) -> None:
    *vote_cells, name, label_cell = cells
    number = clip_number(name)
    if number is None:
        problems["bad_clip_name"].append(f"{where}: {_shown(name)}")
        return
    votes: tuple[int, ...] | None = None
    counts = [count for cell in vote_cells if (count := clip_number(cell)) is not None]
    if len(counts) != len(EMOTIONS):
        problems["bad_votes"].append(f"{where}: {', '.join(map(_shown, vote_cells))}")
    elif not any(counts):
        problems["votes_all_zero"].append(f"{where}: clip {number}")
    else:
        votes = tuple(counts)
        if sum(votes) != VOTES_PER_CLIP:
            problems["votes_total"].append(f"clip {number}: {sum(votes)}")
    label_number = clip_number(label_cell)
    if label_number not in {NO_LABEL, *LABELS}:
        problems["bad_label"].append(f"{where}: {_shown(label_cell)}")
        label_number = None
    row = Annotated(votes, LABELS.get(label_number) if label_number is not None else None)
    if number in annotated:
        problems["listed_twice" if annotated[number] == row else "listed_twice_differently"].append(
            f"{where}: clip {number}"
        )
        return
    annotated[number] = row


def _only_words(labels: Sequence[object]) -> str:
    """The labels, each once, if all of them are names of emotions; empty otherwise."""
    words = list(dict.fromkeys(str(label) for label in labels))
    try:
        return ", ".join(word for word in words if emotion_index(word) in range(len(EMOTIONS)))
    except ValueError:
        return ""


def _more_votes(rows: Sequence[workbook.Row], columns: Sequence[int]) -> list[object]:
    """Titles of further columns that may be votes: whole numbers as small as votes, and not the seven votes' sum."""
    filled = [row for row in rows[1:] if any(value is not None for value in row)]

    def counts(column: int) -> list[int | None]:
        return [clip_number(row[column]) if column < len(row) else None for row in filled]

    sums = [sum(votes) for votes in zip(*([vote or 0 for vote in counts(one)] for one in columns[:7]), strict=True)]
    titles = []
    for column, title in enumerate(rows[0]):
        if title is not None and column not in columns:
            numbers = counts(column)
            if numbers != sums and numbers and all(n is not None and n <= VOTES_PER_CLIP for n in numbers):
                titles.append(title)
    return titles


def _counts_from_zero(annotated: dict[int, Annotated]) -> bool:
    """Whether the annotation's labels may count from 0.

    A file that counts from 0 has labels with a 0 and without a 7, and so has one without a fear clip. The votes tell
    which it is, since the label should be the emotion with the most votes.
    """
    labels = {row.label for row in annotated.values()}
    if None not in labels or LABELS[max(LABELS)] in labels:
        return False
    from_one = from_zero = 0
    for row in annotated.values():
        if row.votes is not None and row.label is not None:
            from_one += row.votes[row.label] == max(row.votes)
            from_zero += row.votes[row.label + 1] == max(row.votes)
    return from_zero >= from_one


def _fold_folder(root: Path, part: str, problems: Problems) -> Path:
    """The folder of the train or test lists, whose name has a hyphen, an underscore or a blank."""
    parent = root / SPLIT_FOLDER
    letters = f"{part}singlelabeled"
    names = [name for name in subfolders(parent) if re.sub(r"[^a-z]", "", name.lower()) == letters]
    if len(names) > 1:
        problems["fold_folder_twice"].append(f"{SPLIT_FOLDER}: {' and '.join(names)}")
    return parent / (names[0] if names else f"{part}(single-labeled)")


def _read_fold_list(path: Path, name: str, problems: Problems) -> dict[int, int] | None:
    """Clip number -> label 0..6; None for a list that cannot be used."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        problems["list_unreadable"].append(f"{name}: {error}")
        return None
    header = [title.strip().lower() for title in rows[0]] if rows else []
    if not {"video_name", "label"} <= set(header):
        problems["list_columns"].append(
            f"{name}: expected the header video_name,label, found {','.join(header)[:80]!r}"
        )
        return None
    columns = header.index("video_name"), header.index("label")
    numbers: dict[int, int] = {}
    labels = []
    for line, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        cells = [row[column] if column < len(row) else "" for column in columns]
        labels.append(cells[1])
        number, label = (clip_number(cell) for cell in cells)
        if number is None:
            problems["bad_clip_name"].append(f"{name} line {line}: {_shown(cells[0])}")
        elif label is None or label > max(LABELS):
            problems["bad_label"].append(f"{name} line {line}: {_shown(cells[1])}")
        elif number in numbers:
            same = numbers[number] == label
            problems["listed_twice" if same else "listed_twice_differently"].append(
                f"{name} line {line}: clip {number}"
            )
        else:
            numbers[number] = label
    if words := _only_words(labels):
        problems["labels_are_words"].append(f"{name}: {words}")
    if NO_LABEL in numbers.values():
        problems["label_base"].append(f"{name}: {Counter(numbers.values())[NO_LABEL]} clips with label 0")
        return None
    return {number: LABELS[label] for number, label in numbers.items()}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
