"""The rows of a table of one's own, or of folders named by class: one record a clip. Errors are reported, never
corrected."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from dfer.datasets.own_columns import NAMES, Columns, short
from dfer.datasets.own_files import Names, plain_path
from dfer.datasets.own_reading import Sheet
from dfer.datasets.report import Problems, Rules
from dfer.datasets.scan import scan_videos, subfolders
from dfer.datasets.table import SPLITS
from dfer.labels import EMOTIONS, class_name, majority
from dfer.system.file_types import DATASET_SUFFIXES

NAMED = ("annotator", "subject", "source")
"""What columns hold names of; an annotator, a person or a film may be written in two ways."""

MOST_CLASSES = 100
_LONGEST_CLASS = 60
_ALIKE = 0.75  # of two words, from 0 to 1: "hapy" and "happy" have 0.89, "sad" and "mad" 0.67
_ENOUGH_ROWS = 5

# what people and programs write where there is no value; "none" is not among them, since it may be a class
_NO_VALUE = frozenset(("nan", "null", "n/a", "na", "<na>", "-", "--", "?"))
_ERROR_VALUE = re.compile(r"#(N/A|REF!|VALUE!|DIV/0!|NAME\?|NUM!|NULL!|SPILL!|CALC!)", re.IGNORECASE)
_SPLITS = {**{name: name for name in SPLITS}, "training": "train", "validation": "val", "testing": "test"}

ROW_RULES: Rules = {
    "no_rows": ("error", "tables without a row below the header"),
    "empty_path": ("error", "rows without a path: write one, or delete the row"),
    "bad_path": (
        "error",
        "paths that cannot be used: expected a file or folder below the root, with / between folders, no address, and "
        "without characters that cannot be seen",
    ),
    "empty_label": (
        "error",
        "rows without a label (empty, or 'nan', 'n/a', '?', '#REF!' and the like): write one, or delete the row",
    ),
    "bad_label": (
        "error",
        f"labels that are no name of a class: expected up to {_LONGEST_CLASS} characters that can be seen",
    ),
    "too_many_classes": (
        "error",
        f"more than {MOST_CLASSES} different labels: the column seems to hold something else; name the classes in it",
    ),
    "bad_votes": (
        "error",
        "votes that are no whole number from 0 up; an empty cell is not taken for a 0. A column that holds no votes is "
        "left out if the columns with votes are called votes_ and the class",
    ),
    "votes_all_zero": ("error", "rows without a single vote: delete the row"),
    "sum_column": (
        "error",
        "columns that are the sum of all others, and would be taken for a class: delete them, or call the columns with "
        "votes votes_ and the class",
    ),
    "empty_annotator": ("error", "rows without an annotator: write one, or delete the row"),
    "rated_twice_differently": (
        "error",
        "annotators who gave a clip two labels: delete all rows but one, or give different people different names",
    ),
    "rated_twice": ("warning", "annotators who gave a clip the same label twice, counted once"),
    "rows_disagree": ("error", "rows of the same clip that differ in split, fold, subject or source"),
    "listed_twice_differently": (
        "error",
        "videos in two rows that differ in the label, the votes, the split, the fold, the subject or the source: "
        "correct or delete one",
    ),
    "listed_twice": ("warning", "videos in two rows that say the same, used once"),
    "bad_split": ("error", f"splits that are none of {', '.join(SPLITS)}; every row needs one if one row has one"),
    "bad_fold": ("error", "folds that are no whole number from 1 up; every row needs one if one row has one"),
    "misspelt": (
        "warning",
        "labels that occur once and look like another one misspelt: correct them, or leave them if they are meant",
    ),
    "spellings": ("note", "labels that are written in several ways and count as one class"),
    "names_differ_in_case": (
        "warning",
        "people or sources whose names differ in capital letters alone, and that count apart: write one as the other "
        "if they are the same",
    ),
    "labels_are_numbers": ("note", "labels that are numbers, which are then the classes' names in every table"),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is said of a clip.

    Attributes:
        label: a class, None if several have the most votes.
        votes: the number of votes for each of the classes of `Records`; None where there are labels alone.
        source: what the clip was taken from, such as a film.
    """

    label: str | None
    votes: tuple[int, ...] | None = None
    split: str | None = None
    fold: int | None = None
    subject: str | None = None
    source: str | None = None


def differences(one: Facts, other: Facts) -> str:
    """What two rows of the same clip say differently, for messages."""
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in Facts.__slots__}
    return "; ".join(f"{name} {_shown(a)} and {_shown(b)}" for name, (a, b) in pairs.items() if a != b)


def _shown(value: object) -> str:
    return "empty" if value is None else short(str(value))


@dataclass(frozen=True, slots=True)
class Record:
    """A clip: the row that names it, for messages, and its path below the root."""

    where: str
    path: str
    facts: Facts


@dataclass(frozen=True)
class Records:
    """The clips, and their classes in the order of votes: the seven emotions first, the others by the alphabet; none
    where labels cannot be used."""

    clips: list[Record]
    classes: tuple[str, ...]


def from_folders(root: Path, problems: Problems) -> Records:
    """One record for every video in a folder of the root, whose name is the class."""
    problems["unlabelled_videos"] += [video.path for video in scan_videos(root, root).sources]
    clips: list[Record] = []
    labels = _Labels()
    for name in subfolders(root):
        scan = scan_videos(root / name, root)
        problems["outside_root"] += scan.outside
        for other in scan.others:
            below = _videos_below(root / other)
            code, text = ("videos_deeper", f"{other}: {below} videos") if below else ("other_files", other)
            problems[code].append(text)
        if not scan.sources:
            problems["folders_without_videos"].append(name)
        elif (label := labels.read(name, f"folder {short(name)}", problems)) is not None:
            for video in scan.sources:
                if video.path.isprintable() and "\\" not in video.path:
                    clips.append(Record(video.path, video.path, Facts(label)))
                else:
                    problems["bad_path"].append(video.path)
    return Records(clips, labels.classes(problems))


def _videos_below(folder: Path) -> int:
    """Videos in a folder and those below it, without hidden ones; 0 of what is no folder, or is reached by a link."""
    if folder.is_symlink() or not folder.is_dir():
        return 0
    names = (name for _, _, names in os.walk(folder) for name in names if not name.startswith("."))
    return sum(PurePath(name).suffix.lower() in DATASET_SUFFIXES for name in names)


def from_table(sheet: Sheet, columns: Columns, table: str, root: Path, problems: Problems) -> Records:
    """One record for every path of a table; rows that cannot be used are added to `problems`. Raises TableError."""
    labels = _Labels()
    rows = list(_read(sheet, columns, table, root, labels, problems))
    if not rows and not problems.keys() & ROW_RULES.keys():
        problems["no_rows"].append(table)
    facts = _facts(rows, problems)
    _check_names(rows, problems)
    if columns.votes:
        for name in columns.votes:
            labels.read(name, f"{table} column {short(name)}", problems)
    classes = labels.classes(problems)
    if problems.keys() & {"bad_label", "too_many_classes"}:
        return Records([], ())
    if columns.votes:
        _check_sums(rows, list(columns.votes), table, problems)
        places = [list(columns.votes).index(name) for name in classes]
        votes = [tuple(row.votes[place] for place in places) for row in rows]
        facts = [replace(one, label=_winner(v, classes), votes=v) for one, v in zip(facts, votes, strict=True)]
    if "annotator" in columns.places:
        return Records(_by_annotator(rows, facts, classes, problems), classes)
    return Records(_once(rows, facts, problems), classes)


@dataclass(frozen=True, slots=True)
class _Row:
    where: str
    path: str
    label: str
    annotator: str
    votes: tuple[int, ...]
    split: str
    fold: str
    subject: str
    source: str


def _read(
    sheet: Sheet, columns: Columns, table: str, root: Path, labels: _Labels, problems: Problems
) -> Iterator[_Row]:
    """The rows that can be used."""
    single = [name for name in NAMES if name in columns.places]
    names = Names(root)
    texts: dict[str, str] = {}  # equal texts share their memory
    for number, cells in sheet.rows([*(columns.places[name] for name in single), *columns.votes.values()]):
        where = f"{table} row {number}"
        cell = dict.fromkeys(NAMES, "") | {
            name: texts.setdefault(text, text) for name, text in zip(single, cells, strict=False)
        }
        path = _path(cell["path"], where, root, names, problems)
        label = labels.read(cell["label"], where, problems) if "label" in columns.places else ""
        votes = _votes(cells[len(single) :], list(columns.votes), where, problems) if columns.votes else ()
        if "annotator" in columns.places and not cell["annotator"]:
            problems["empty_annotator"].append(where)
        elif path is not None and label is not None and votes is not None:
            annotator, subject, source = (_name(cell[name]) for name in NAMED)
            yield _Row(where, path, label, annotator, votes, cell["split"], cell["fold"], subject, source)


def _name(text: str) -> str:
    """The name of somebody or something in one form: an accented letter can be one character or two."""
    return unicodedata.normalize("NFC", text).strip()


def _check_names(rows: Sequence[_Row], problems: Problems) -> None:
    """Whether names differ in nothing but capital letters."""
    for kind in NAMED:
        spellings: dict[str, list[str]] = defaultdict(list)
        for name in dict.fromkeys(getattr(row, kind) for row in rows):
            spellings[name.casefold()].append(name)
        problems["names_differ_in_case"] += [
            f"{kind} {', '.join(map(short, names))}" for names in spellings.values() if len(names) > 1
        ]


def _path(text: str, where: str, root: Path, names: Names, problems: Problems) -> str | None:
    if not text:
        problems["empty_path"].append(where)
        return None
    try:
        return names.on_disk(plain_path(text, root))
    except ValueError as error:
        problems[str(error)].append(f"{where}: {short(text)}")
        return None


def _votes(cells: Sequence[str], names: Sequence[str], where: str, problems: Problems) -> tuple[int, ...] | None:
    """Whole numbers, also those that a program writes with a point and zeros."""
    wrong = [
        f"{short(cell)} for {short(name)}"
        for name, cell in zip(names, cells, strict=True)
        if not re.fullmatch(r"[0-9]{1,9}(\.0{1,9})?", cell)
    ]
    if wrong:
        problems["bad_votes"].append(f"{where}: {', '.join(wrong[:4])}")
        return None
    votes = tuple(int(cell.partition(".")[0]) for cell in cells)
    if not any(votes):
        problems["votes_all_zero"].append(where)
        return None
    return votes


def _winner(votes: tuple[int, ...], classes: Sequence[str]) -> str | None:
    place = majority(votes)
    return None if place is None else classes[place]


def _check_sums(rows: Sequence[_Row], names: Sequence[str], table: str, problems: Problems) -> None:
    """A column that is the sum of all others is no class, or would be by an unlikely chance."""
    if len(rows) >= _ENOUGH_ROWS and len(names) > 2:
        sums = [all(2 * row.votes[place] == sum(row.votes) for row in rows) for place in range(len(names))]
        problems["sum_column"] += [
            f"{table}: column {short(name)}" for name, is_sum in zip(names, sums, strict=True) if is_sum
        ]


def _facts(rows: Sequence[_Row], problems: Problems) -> list[Facts]:
    """What the rows say; of a column that is empty in all rows, nothing."""
    has_split, has_fold = any(row.split for row in rows), any(row.fold for row in rows)
    facts = []
    for row in rows:
        split = _SPLITS.get(row.split.casefold())
        fold = int(row.fold.partition(".")[0]) if re.fullmatch(r"0*[1-9][0-9]{0,5}(\.0{1,9})?", row.fold) else None
        if has_split and split is None:
            problems["bad_split"].append(f"{row.where}: {short(row.split)}")
        if has_fold and fold is None:
            problems["bad_fold"].append(f"{row.where}: {short(row.fold)}")
        facts.append(Facts(row.label or None, None, split, fold, row.subject or None, row.source or None))
    return facts


def _once(rows: Sequence[_Row], facts: Sequence[Facts], problems: Problems) -> list[Record]:
    """One record a path, of its first row."""
    records: dict[str, Record] = {}
    for row, its in zip(rows, facts, strict=True):
        first = records.setdefault(row.path, Record(row.where, row.path, its))
        if first.where != row.where:
            code, differ = "listed_twice", differences(first.facts, its)
            if differ:
                code, differ = "listed_twice_differently", f", {differ}"
            problems[code].append(f"{_rows(first.where, row.where)}: {row.path}{differ}")
    return list(records.values())


def _by_annotator(
    rows: Sequence[_Row], facts: Sequence[Facts], classes: Sequence[str], problems: Problems
) -> list[Record]:
    """One record a path, whose votes are the labels of its rows."""
    of_path: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        of_path[row.path].append(place)
    records = []
    for path, places in of_path.items():
        first, its = rows[places[0]], replace(facts[places[0]], label=None)
        given: dict[str, _Row] = {}
        for place in places:
            row = rows[place]
            earlier = given.setdefault(row.annotator, row)
            if earlier is not row:
                code = "rated_twice" if earlier.label == row.label else "rated_twice_differently"
                problems[code].append(f"{_rows(earlier.where, row.where)}: {path}, {short(row.annotator)}")
            if differ := differences(its, replace(facts[place], label=None)):
                problems["rows_disagree"].append(f"{_rows(first.where, row.where)}: {path}, {differ}")
        counts = Counter(row.label for row in given.values())
        votes = tuple(counts[name] for name in classes)
        records.append(Record(first.where, path, replace(its, label=_winner(votes, classes), votes=votes)))
    return records


def _rows(first: str, second: str) -> str:
    table, _, number = first.rpartition(" row ")
    return f"{table} rows {number} and {second.rpartition(' row ')[2]}"


class _Labels:
    """Labels as they are written, on their way to names of classes."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._first: dict[str, str] = {}  # class -> the row where it occurs first
        self._written: dict[str, set[str]] = defaultdict(set)

    def read(self, text: str, where: str, problems: Problems) -> str | None:
        """The class that a label names; None, and an addition to `problems`, if it names none."""
        plain = unicodedata.normalize("NFC", text).strip().casefold()
        if not plain or plain in _NO_VALUE or _ERROR_VALUE.fullmatch(plain):
            problems["empty_label"].append(f"{where}: {short(text)}" if text else where)
            return None
        if not plain.isprintable() or len(plain) > _LONGEST_CLASS:
            problems["bad_label"].append(f"{where}: {short(text)}")
            return None
        name = class_name(plain)
        self._rows[name] += 1
        self._first.setdefault(name, where)
        self._written[name].add(plain)
        return name

    def classes(self, problems: Problems) -> tuple[str, ...]:
        """All that were read, in order; remarks on them are added to `problems`."""
        names = (*(name for name in EMOTIONS if name in self._rows), *sorted(self._rows.keys() - set(EMOTIONS)))
        if len(names) > MOST_CLASSES:
            problems["too_many_classes"].append(f"{len(names)}, such as {', '.join(map(short, names[:5]))}")
            return EMOTIONS
        often = [name for name in names if self._rows[name] > 1]
        for name in names:
            if self._rows[name] == 1 and (close := difflib.get_close_matches(name, often, n=1, cutoff=_ALIKE)):
                rows = f"{self._rows[close[0]]} rows"
                problems["misspelt"].append(f"{self._first[name]}: {short(name)}, like {short(close[0])} in {rows}")
        problems["spellings"] += [
            f"{name}: {', '.join(sorted(self._written[name]))}" for name in names if len(self._written[name]) > 1
        ]
        if names and all(re.fullmatch(r"[0-9.+-]+", name) for name in names):
            problems["labels_are_numbers"].append(", ".join(names[:10]))
        return names
