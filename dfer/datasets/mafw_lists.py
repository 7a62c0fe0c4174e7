"""Reads MAFW's lists: the mean confidences (`annotation.xlsx`), and the five folds of single or compound labels.

Both become dicts keyed by clip number. Errors in them are reported, never corrected.
"""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

from dfer.datasets import workbook
from dfer.datasets.dfew_lists import clip_number
from dfer.datasets.folds import FOLD_RULES, Folds, combine
from dfer.datasets.report import Problems, Rules
from dfer.datasets.scan import is_inside
from dfer.datasets.table import NUM_FOLDS
from dfer.labels import class_name
from dfer.storage.files import sha256

CLASSES = tuple(
    class_name(name)
    for name in (
        *("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
        *("contempt", "anxiety", "helplessness", "disappointment"),
    )
)
"""The single labels, in the order of the columns of the annotation."""

COMPOUND_CLASSES = (
    *CLASSES,
    *("angry_disgust", "angry_disgust_anxiety", "angry_disgust_contempt", "angry_sad", "angry_surprise"),
    *("angry_anxiety", "angry_helplessness", "disgust_sad", "disgust_surprise", "disgust_contempt", "disgust_anxiety"),
    *("disgust_anxiety_helplessness", "disgust_helplessness", "disgust_helplessness_disappointment"),
    *("disgust_disappointment", "fear_sad", "fear_sad_anxiety", "fear_surprise", "fear_surprise_anxiety"),
    *("fear_anxiety", "happy_surprise", "happy_contempt", "sad_surprise", "sad_anxiety", "sad_anxiety_helplessness"),
    *("sad_helplessness", "sad_helplessness_disappointment", "sad_disappointment", "surprise_anxiety"),
    *("anxiety_helplessness", "anxiety_helplessness_disappointment", "helplessness_disappointment"),
)
"""The labels of the compound lists: the single ones, and 32 of two or three at a time."""

LIST_CLASSES = {"single": CLASSES, "compound": COMPOUND_CLASSES}

ANNOTATION = "Labels/annotation.xlsx"
LISTS_FOLDER = "Train & Test Set"
LISTS = "no_caption"

NOT_VALID = -1
"""In place of the confidence of a class that too few annotators saw."""

_CLIP_COLUMNS = frozenset({"clip", "clipname", "name", "video", "videoname"})
_INVALID_COLUMN = "invalid"
# a mean that is written with two digits is wrong by half a hundredth at most
_ROUNDING = 0.005 + 1e-9

LIST_RULES: Rules = {
    "part_twice": ("error", "the same part of the download in two places; remove one of them"),
    "lists_missing": (
        "error",
        f"fold lists that are not there; each of the {NUM_FOLDS} folds needs a train and a test list. Unpack "
        f"{LISTS_FOLDER} of the download into the root. The lists in with_caption are no replacement: they leave out "
        "all neutral clips",
    ),
    "list_unreadable": ("error", "lists that cannot be read; take the file from the original download"),
    "bad_line": ("error", "lines that are not a clip, one blank and a label, as in '00025.mp4 anger'"),
    "bad_clip_name": ("error", "clip names that are not a plain number; they are never used as a path"),
    "labels_are_numbers": (
        "error",
        "lists whose labels are numbers: copies of the lists count the classes in different orders, so they cannot be "
        "read; take the lists with names from the original download",
    ),
    "unknown_class": (
        "error",
        "labels that none of the lists of this kind has, such as a compound one among single ones; take the list from "
        "the original download",
    ),
    "listed_twice_differently": (
        "error",
        "clips that a list or the annotation gives twice with different content; remove one of the rows",
    ),
    **FOLD_RULES,
    "annotation_columns": (
        "error",
        "the annotation does not have one column for the clip and one for each class; take the file from the original "
        "download",
    ),
    "bad_confidence": (
        "error",
        f"confidences that are no number from 0 to 1, or {NOT_VALID} for a class that too few annotators saw",
    ),
    "formulas_without_value": (
        "error",
        "formulas with whose cells the workbook stores no value, as of a program that does not compute: open it in a "
        "spreadsheet program and save it there, or replace the formulas by their values",
    ),
    "annotation_missing": (
        "warning",
        f"no {ANNOTATION}: there are no confidences, so only hard labels can be used. Unpack Labels of the download "
        "into the root for soft labels",
    ),
    "listed_twice": ("warning", "clips that a list or the annotation gives twice with the same content, used once"),
    "only_flags": (
        "warning",
        "an annotation without any number between 0 and 1: it says which classes were seen, not how sure the "
        "annotators were, so that soft labels are equal shares of these classes",
    ),
    "sum_is_not_one": (
        "warning",
        "clips whose confidences do not add up to 1 within rounding, where those of most others do: the annotation is "
        "not the original one, whose rows have any sum. Soft labels divide by the sum",
    ),
    "not_valid": (
        "note",
        f"clips with {NOT_VALID} in place of a confidence, for a class that too few annotators saw; used as 0",
    ),
    "invalid_clips": ("note", "clips that the annotation calls invalid with some confidence; used like any other"),
    "other_columns": ("note", "columns of the annotation beside the clip, the classes and 'invalid'; not used"),
}


def place_of(root: Path, names: tuple[str, ...], problems: Problems) -> Path | None:
    """The first of several places of the same part in `root` that exists; `part_twice` if others do, too."""
    existing = [name for name in names if (root / name).exists()]
    if len(existing) > 1:
        problems["part_twice"].append(" and ".join(existing))
    return root / existing[0] if existing else None


def list_folders(kind: str) -> tuple[str, ...]:
    """Where the lists of "single" or "compound" labels may lie in the root."""
    return f"{LISTS_FOLDER}/{kind}/{LISTS}", f"{kind}/{LISTS}"


ANNOTATIONS = (ANNOTATION, Path(ANNOTATION).name)
"""Where the annotation may lie in the root."""


def read_folds(root: Path, kind: str, problems: Problems) -> Folds:
    """Read the five folds of `kind`, "single" or "compound"; adds to `problems`. Labels are places in `LIST_CLASSES`.

    Checks what `combine` does, and that every list exists.
    """
    folder = place_of(root, list_folders(kind), problems) or root / list_folders(kind)[0]
    lists: dict[str, dict[int, dict[int, int]]] = {"train": {}, "test": {}}
    hashes: dict[str, str] = {}
    for split, folds in lists.items():
        for fold in range(1, NUM_FOLDS + 1):
            path = folder / f"set_{fold}" / f"{split}.txt"
            name = path.relative_to(root).as_posix()
            if not path.is_file():
                problems["lists_missing"].append(name)
            elif not is_inside(path, root):
                problems["outside_root"].append(name)
            else:
                hashes[name] = sha256(path)
                listed = _read_list(path, name, LIST_CLASSES[kind], problems)
                if listed is not None:
                    folds[fold] = listed
    return combine(lists["train"], lists["test"], hashes, LIST_CLASSES[kind], problems)


def read_annotation(root: Path, problems: Problems) -> tuple[dict[int, tuple[float, ...]], dict[str, str]]:
    """Clip number -> mean confidences in the order of `CLASSES`, of clips that have any; and the file's SHA-256 by its
    path. Adds to `problems`.

    The confidences of a clip do not add up to 1: each is the mean of those annotators who saw the class. All are 0 for
    a clip in which too few saw the same.
    """
    path = place_of(root, ANNOTATIONS, problems)
    if path is None:
        problems["annotation_missing"].append(ANNOTATION)
        return {}, {}
    name = path.relative_to(root).as_posix()
    if not is_inside(path, root):
        problems["outside_root"].append(name)
        return {}, {}
    content = BytesIO(path.read_bytes())
    try:
        rows = workbook.rows(content)
    except Exception as error:  # the zip and XML parsers raise many kinds on damaged or encrypted files
        problems["list_unreadable"].append(f"{name}: {error}")
        return {}, {}
    hashes = {name: sha256(path)}
    columns = _columns(rows[0] if rows else (), name, problems)
    if columns is None:
        return {}, hashes
    annotated: dict[int, tuple[float, ...]] = {}
    for line, row in enumerate(rows[1:], start=2):
        if any(value is not None for value in row):
            cells = {key: row[column] if column < len(row) else None for key, column in columns.items()}
            _add(annotated, cells, f"{name} row {line}", problems)
    if "bad_confidence" in problems:
        problems["formulas_without_value"] += [f"{name} {place}" for place in workbook.formulas_without_value(content)]
    if annotated and all(value in (0, 1) for row in annotated.values() for value in row):
        problems["only_flags"].append(name)
    else:
        _check_sums(annotated, problems)
    return annotated, hashes


def _read_list(path: Path, name: str, classes: tuple[str, ...], problems: Problems) -> dict[int, int] | None:
    """Clip number -> label; None for a list that cannot be used."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        problems["list_unreadable"].append(f"{name}: {error}")
        return None
    listed: dict[int, int] = {}
    numbers: list[str] = []
    for line, text in enumerate(lines, start=1):
        where = f"{name} line {line}"
        if not text.strip():
            continue
        fields = text.split()
        if len(fields) != 2:
            problems["bad_line"].append(f"{where}: {_short(text)}")
            continue
        number = clip_number(fields[0].removesuffix(".mp4"))
        if number is None:
            problems["bad_clip_name"].append(f"{where}: {_short(fields[0])}")
        elif fields[1].isdecimal():
            numbers.append(fields[1])
        elif (label := _label(fields[1], classes)) is None:
            problems["unknown_class"].append(f"{where}: {_short(fields[1])}")
        elif number in listed:
            same = listed[number] == label
            problems["listed_twice" if same else "listed_twice_differently"].append(f"{where}: clip {number}")
        else:
            listed[number] = label
    if numbers:
        problems["labels_are_numbers"].append(f"{name}: {len(numbers)} clips, the first with {numbers[0]}")
    return listed


def _label(text: str, classes: tuple[str, ...]) -> int | None:
    """The place of a label, such as `anger` or `sadness_surprise`, in `classes`; None for another one."""
    names = {class_name(name) for name in text.split("_")}
    name = "_".join(sorted(names, key=CLASSES.index)) if names <= set(CLASSES) else ""
    return classes.index(name) if name in classes else None


def _columns(header: workbook.Row, name: str, problems: Problems) -> dict[str, int] | None:
    """Column of the clip (as `clip`), of every class, and of `invalid` if there is one; None if one is not clear."""
    columns: dict[str, list[int]] = {}
    for column, title in enumerate(header):
        if title is None:
            continue
        word = class_name(str(title))
        if re.sub(r"[^a-z]", "", word) in _CLIP_COLUMNS:
            word = "clip"
        elif word not in (*CLASSES, _INVALID_COLUMN):
            problems["other_columns"].append(f"{name}: {_short(title)}")
        columns.setdefault(word, []).append(column)
    wrong = [key for key in ("clip", *CLASSES) if len(columns.get(key, [])) != 1]
    if wrong:
        problems["annotation_columns"].append(
            f"{name}: {', '.join(f'{len(columns.get(key, []))} for {key}' for key in wrong)}; "
            f"found {', '.join(_short(title) for title in header if title is not None)[:300]}"
        )
        return None
    return {key: columns[key][0] for key in ("clip", *CLASSES, _INVALID_COLUMN) if key in columns}


def _add(annotated: dict[int, tuple[float, ...]], cells: dict[str, object], where: str, problems: Problems) -> None:
    number = clip_number(str(cells["clip"]).strip().removesuffix(".mp4"))
    if number is None:
        problems["bad_clip_name"].append(f"{where}: {_short(cells['clip'])}")
        return
    numbers = {name: _number(cells[name]) for name in CLASSES}
    bad = [name for name, value in numbers.items() if value is None or not (value == NOT_VALID or 0 <= value <= 1)]
    if bad:
        shown = ", ".join(f"{name} {_short(cells[name])}" for name in bad[:3])
        problems["bad_confidence"].append(f"{where}: {shown}")
        return
    # -1 is not a small confidence but none
    row = tuple(max(value, 0.0) for value in numbers.values() if value is not None)
    if number in annotated:
        same = annotated[number] == row
        problems["listed_twice" if same else "listed_twice_differently"].append(f"{where}: clip {number}")
        return
    annotated[number] = row
    if NOT_VALID in numbers.values():
        problems["not_valid"].append(f"clip {number}")
    if (_number(cells.get(_INVALID_COLUMN)) or 0) > 0:
        problems["invalid_clips"].append(f"clip {number}: {cells[_INVALID_COLUMN]}")


def _check_sums(annotated: dict[int, tuple[float, ...]], problems: Problems) -> None:
    """If most clips of several classes have confidences that add up to 1, all others should."""
    others, several = [], 0
    for number, row in annotated.items():
        seen = sum(value > 0 for value in row)
        several += seen > 1
        if seen and abs(sum(row) - 1) > seen * _ROUNDING:
            others.append((seen, f"clip {number}: {sum(row):.2f}"))
    if 2 * sum(seen > 1 for seen, _ in others) < several:
        problems["sum_is_not_one"] += [text for _, text in others]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
