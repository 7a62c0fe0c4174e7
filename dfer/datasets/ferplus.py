"""FER+ (Barsoum et al., 2016): pictures of faces, 48 pixels wide, in each of which ten people name one emotion.

Expected in the root: `FER2013Train`, `FER2013Valid` and `FER2013Test` with `ferNNNNNNN.png`, each a clip of one frame,
and `label.csv`. Where there is only `fer2013.csv`, which holds the pictures as text, `dfer ferplus-pictures` writes
them.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from pathlib import Path

import pandas as pd

from dfer.datasets.ferplus_votes import CLASSES, VOTES_RULES, Votes, read_list
from dfer.datasets.pixels import digest
from dfer.datasets.report import Counts, IngestReport, Problems, Rules, SourceError, findings
from dfer.datasets.scan import OUTSIDE_ROOT, Scan, Source, by_key, is_inside, root_finding, scan_pictures
from dfer.datasets.table import ClipRow, count_labels, from_rows
from dfer.storage.files import sha256

SOURCES = ("most-votes", "majority")
"""The label is the emotion with the most of a picture's votes, or as FER+'s authors do, with more than half of those
that are not a single person's."""

PARTS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}
LIST = "label.csv"
PICTURES_AS_TEXT = "fer2013.csv"

OFFICIAL_SIZES = {"train": 28558, "val": 3579, "test": 3573}
# A smaller set is a sample, which need not have the official numbers.
_SAMPLE = 1000

RULES: Rules = {
    "outside_root": OUTSIDE_ROOT,
    "pictures_as_text": (
        "error",
        f"the pictures are only there as text, in {PICTURES_AS_TEXT}: they have to be written as files once",
    ),
    "part_missing": (
        "error",
        f"folders that are not there; {PARTS['train']}, {PARTS['val']} and {PARTS['test']} are one set",
    ),
    "list_missing": (
        "error",
        "lists that are not there, so that the pictures have no votes; copy them from FER+'s repository, or run dfer "
        f"ferplus-pictures (again) where {PICTURES_AS_TEXT} is",
    ),
    **VOTES_RULES,
    "in_two_lists": ("error", "pictures that two parts list; take the lists from FER+'s repository"),
    "duplicate_source": ("error", "pictures that are there twice in different formats; remove one"),
    "missing_pictures": (
        "warning",
        "pictures that are listed but not there; the votes can be analysed, alignment will report the pictures as "
        "missing_file",
    ),
    "undecodable_pictures": (
        "warning",
        "empty or damaged files, which alignment will report; write them again. They are not compared with others",
    ),
    "in_two_parts": (
        "warning",
        "pictures whose pixels are also in the test part (or of train, in val): they are left out of train (or val), "
        "or they would be tested on what was learnt",
    ),
    "pixels_twice": ("note", "pictures with the pixels of another one in the same part; they are used like any other"),
    "no_emotion": (
        "note",
        "pictures for which more people chose unknown or not a face than any emotion: they have neither votes nor "
        "label",
    ),
    "unknown_votes": ("note", "pictures with votes for unknown or not a face, which are in no soft label"),
    "unlisted_pictures": ("note", "pictures that are there but not listed, so without votes; they are left out"),
    "other_files": ("note", "files among the pictures that are no picture of the set"),
    "official_counts": ("note", "numbers of listed pictures that differ from the official ones"),
}


def inspect(root: Path, *, dataset: str = "ferplus", source: str = "most-votes") -> tuple[pd.DataFrame, IngestReport]:
    """The clip table of FER+ in `root`, and the report on it.

    One row for every listed picture, even without a file, but none for a picture of the training part whose pixels are
    in the validation or test part, nor for one of the validation part whose pixels are in the test part. Classes are
    the eight emotions, contempt among them; `votes` are those for emotions. Unknown and not a face count when it is
    decided which choice has the most votes, so a picture where they win or share the first place has no label; where
    they win, it has no votes either.
    Every picture is read, some seconds for the whole set.
    Raises SourceError for a `source` that is not one of `SOURCES`. Problems of the data are in the report.
    """
    if source not in SOURCES:
        raise SourceError(f"FER+ has no labels of the kind {source!r}; choose one of {', '.join(SOURCES)}")
    expected = f"FER+'s folders {', '.join(PARTS.values())}, or {PICTURES_AS_TEXT}"
    wrong = root_finding(root, expected, _is_root)
    if wrong:
        return from_rows([], CLASSES), IngestReport(dataset, str(root), (wrong,), classes=CLASSES)
    problems = Problems()
    hashes: dict[str, str] = {}
    rows: dict[str, ClipRow] = {}
    has_files = _has_part(root)
    if not has_files:
        problems["pictures_as_text"].append(f"run: dfer ferplus-pictures {shlex.quote(str(root))}")
    for split, folder in PARTS.items() if has_files else ():
        votes, pictures = _read_part(root, folder, hashes, problems)
        for name, of_picture in votes.items():
            picture = pictures.get(name, Source(name, f"{folder}/{name}.png", -1, -1, 1))
            if name in rows:
                problems["in_two_lists"].append(f"{rows[name].source} and {picture.path}")
            else:
                rows[name] = _row(name, of_picture, split, dataset, source, picture)
                _note_votes(name, of_picture, problems)
    kept = _without_leaks(root, rows, problems)
    listed = {split: sum(row.split == split for row in rows.values()) for split in PARTS}
    if len(rows) >= _SAMPLE:
        problems["official_counts"] += [
            f"{split}: {listed[split]} instead of {size}"
            for split, size in OFFICIAL_SIZES.items()
            if listed[split] != size
        ]
    counts: Counts = {
        "listed": len(rows),
        "missing": len(problems["missing_pictures"]),
        "left_out": len(rows) - len(kept),
        "clips": len(kept),
        "without_single_label": sum(row.label is None for row in kept),
        "clips_per_split": {split: sum(row.split == split for row in kept) for split in PARTS},
        "labels": count_labels(kept, CLASSES),
    }
    report = IngestReport(dataset, str(root), tuple(findings(problems, RULES)), counts, hashes, CLASSES)
    return from_rows(kept, CLASSES), report


def _is_root(folder: Path) -> bool:
    return (folder / PICTURES_AS_TEXT).is_file() or _has_part(folder)


def _has_part(folder: Path) -> bool:
    return any((folder / part).is_dir() for part in PARTS.values())


def _read_part(
    root: Path, folder: str, hashes: dict[str, str], problems: Problems
) -> tuple[dict[str, Votes | None], dict[str, Source]]:
    """The votes and the pictures of one part, by the picture's name."""
    if not (root / folder).is_dir():
        problems["part_missing"].append(folder)
        return {}, {}
    scan = scan_pictures(root / folder, root)
    shown = f"{folder}/{LIST}"
    others = tuple(path for path in scan.others if path != shown)
    pictures = by_key(Scan(scan.sources, others, scan.outside), str, problems)
    path = root / shown
    if not path.is_file():
        problems["list_missing"].append(shown)
        return {}, {}
    if not is_inside(path, root):
        problems["outside_root"].append(shown)
        return {}, {}
    hashes[shown] = sha256(path)
    votes = read_list(path, shown, problems)
    problems["missing_pictures"] += [f"{folder}/{name}.png" for name in votes if name not in pictures]
    problems["unlisted_pictures"] += [picture.path for name, picture in pictures.items() if name not in votes]
    return votes, pictures


def _row(name: str, votes: Votes | None, split: str, dataset: str, source: str, picture: Source) -> ClipRow:
    emotions = label = None
    if votes is not None and votes.show_an_emotion:
        emotions, label = votes.emotions, votes.most if source == "most-votes" else votes.more_than_half
    return ClipRow(
        clip_id=f"{dataset}/{name}",
        dataset=dataset,
        source=picture.path,
        votes=emotions,
        label=label,
        split=split,
        num_frames=1,
        source_size=picture.size,
        source_mtime_ns=picture.mtime_ns,
    )


def _note_votes(name: str, votes: Votes | None, problems: Problems) -> None:
    if votes is None:
        return
    if votes.unknown or votes.no_face:
        problems["unknown_votes"].append(f"{name}: {votes.unknown} unknown, {votes.no_face} not a face")
    if not votes.show_an_emotion:
        problems["no_emotion"].append(f"{name}: {votes.unknown} unknown, {votes.no_face} not a face")


def _without_leaks(root: Path, rows: dict[str, ClipRow], problems: Problems) -> list[ClipRow]:
    """The rows but those whose pixels are in a later part."""
    same: defaultdict[str, list[str]] = defaultdict(list)
    for name, row in rows.items():
        if row.source_size < 0:
            continue
        pixels = digest(root / row.source)
        if pixels is None:
            problems["undecodable_pictures"].append(row.source)
        else:
            same[pixels].append(name)
    left_out: set[str] = set()
    for names in same.values():
        # rows are in the order of the parts, so the last name is in the latest one
        kept = names[-1]
        for name in names[:-1]:
            leaks = rows[name].split != rows[kept].split
            problems["in_two_parts" if leaks else "pixels_twice"].append(f"{rows[name].source} and {rows[kept].source}")
            if leaks:
                left_out.add(name)
    return [row for name, row in rows.items() if name not in left_out]
