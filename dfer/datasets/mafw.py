"""MAFW (Liu et al., 2022): clips from films and short videos, eleven classes, alone and in groups, five official folds.

Expected in the root, as the downloads unpack: `data/clips/NNNNN.mp4` (or the authors' face crops,
`data/frames/NNNNN/`), `Train & Test Set/` and `Labels/annotation.xlsx`. Its eleven annotators said how sure they were;
what is published is the mean for each class. There are no counts of votes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dfer.datasets.dfew_lists import clip_number
from dfer.datasets.folds import Folds
from dfer.datasets.mafw_lists import (
    ANNOTATION,
    CLASSES,
    LIST_CLASSES,
    LIST_RULES,
    LISTS_FOLDER,
    place_of,
    read_annotation,
    read_folds,
)
from dfer.datasets.report import Counts, IngestReport, Problems, Rules, SourceError, findings
from dfer.datasets.scan import (
    OUTSIDE_ROOT,
    Scan,
    Source,
    by_key,
    root_finding,
    scan_frame_folders,
    scan_videos,
)
from dfer.datasets.table import ClipRow, count_labels, from_rows


@dataclass(frozen=True)
class _Kind:
    """A kind of clips, and the lists with its labels."""

    folder: str
    scan: Callable[[Path, Path], Scan]
    suffix: str
    labels: str


SOURCES = {
    "clips": _Kind("clips", scan_videos, ".mp4", "single"),
    "frames": _Kind("frames", scan_frame_folders, "", "single"),
    "compound-clips": _Kind("clips", scan_videos, ".mp4", "compound"),
    "compound-frames": _Kind("frames", scan_frame_folders, "", "compound"),
}
"""The videos or the authors' aligned faces, with one of eleven labels or one of 43 of one to three classes."""

OFFICIAL_CLIPS = 10045
OFFICIAL_TEST_SIZES = {"single": (1839, 1837, 1833, 1832, 1831), "compound": (1818, 1809, 1798, 1788, 1783)}
OFFICIAL_LABELS = dict(zip(CLASSES, (1390, 639, 625, 1242, 1138, 1470, 1072, 236, 916, 262, 182), strict=True))
# A smaller set is a sample, which need not have the official numbers.
_SAMPLE = 1000

RULES: Rules = {
    "outside_root": OUTSIDE_ROOT,
    "clips_missing": ("error", "there is no folder of the chosen kind of clips; unpack it into the root"),
    "duplicate_source": ("error", "clips that are there twice under names for the same number; remove one"),
    **LIST_RULES,
    "labels_contradict_confidences": (
        "error",
        "clips whose label is not the class of the highest confidence, more than half of all: the annotation's columns "
        "or the lists are not what they seem",
    ),
    "label_not_top_confidence": ("warning", "clips whose label is not the class of the highest confidence"),
    "class_without_clips": ("warning", "classes that no clip of the lists has: they cannot be learnt"),
    "not_in_annotation": ("warning", "clips of the folds without a row in the annotation: they have no soft label"),
    "without_confidence": ("warning", "clips of the folds whose confidences are all 0: they have no soft label"),
    "missing_clips": ("warning", "clips that are listed but not there; alignment will report them as missing_file"),
    "clips_without_frames": ("warning", "listed clips whose folder holds no picture; unpack the download again"),
    "unlisted_clips": ("note", "clips that are there but in no list; they are left out"),
    "other_files": ("note", "files and folders among the clips that are no clip"),
    "official_counts": ("note", "numbers of clips that differ from the official ones"),
}


def inspect(root: Path, *, dataset: str = "mafw", source: str = "clips") -> tuple[pd.DataFrame, IngestReport]:
    """The clip table of MAFW in `root`, and the report on it; no clip has votes.

    With single labels, one row for every clip in the annotation or a fold list, even without a file: `label` is the
    lists' (None in no list), `shares` are the confidences over their sum (None if all are 0), in the order of
    `CLASSES`. With compound labels, one row for every clip of their lists, without `shares`, in the order of
    `COMPOUND_CLASSES`. `fold` is the fold that tests on the clip; the folds of the two kinds of lists differ.
    Raises SourceError for a `source` that is not one of `SOURCES`. Problems of the data are in the report.
    """
    if source not in SOURCES:
        raise SourceError(f"MAFW has no clips of the kind {source!r}; choose one of {', '.join(SOURCES)}")
    kind = SOURCES[source]
    classes = LIST_CLASSES[kind.labels]
    wrong = root_finding(root, f"MAFW's folders data, {LISTS_FOLDER} and Labels", _is_root)
    if wrong:
        return from_rows([]), IngestReport(dataset, str(root), (wrong,), classes=classes)
    problems = Problems()
    clips, prefix = _clips(root, kind, problems)
    folds = read_folds(root, kind.labels, problems)
    confidences, hashes = read_annotation(root, problems) if kind.labels == "single" else ({}, {})
    listed = sorted(confidences.keys() | folds.labels.keys())
    rows = [
        _row(
            number,
            dataset,
            clips.get(number, Source("", f"{prefix}/{number:05d}{kind.suffix}", -1, -1)),
            folds,
            confidences.get(number),
        )
        for number in listed
    ]
    unlisted = sorted(clips.keys() - set(listed)) if listed else []
    if "clips_missing" not in problems:
        problems["missing_clips"] += [row.source for row in rows if row.source_size < 0]
    problems["clips_without_frames"] += [row.source for row in rows if row.num_frames == 0]
    problems["unlisted_clips"] += [clips[number].path for number in unlisted]
    _compare(confidences, folds, classes, problems)
    tested = Counter(row.fold for row in rows if row.fold is not None)
    labels = count_labels(rows, classes)
    if len(rows) >= _SAMPLE:
        _check_counts(kind.labels, tested, labels, confidences, problems)
    counts: Counts = {
        "clips": len(rows),
        "clips_found": len(clips),
        "missing": sum(row.source_size < 0 for row in rows),
        "unlisted": len(unlisted),
        "with_soft_label": sum(row.shares is not None for row in rows),
        "without_single_label": sum(row.label is None for row in rows),
        "test_clips_per_fold": {str(fold): tested[fold] for fold in sorted(tested)},
        "labels": labels,
    }
    found = tuple(findings(problems, RULES))
    report = IngestReport(dataset, str(root), found, counts, hashes | folds.hashes, classes)
    return from_rows(rows, classes), report


def _is_root(folder: Path) -> bool:
    if any((folder / name).exists() for name in ("data/clips", "data/frames", LISTS_FOLDER, ANNOTATION)):
        return True
    # without the folders around them, but beside each other: folders of one part alone are no root
    return any((folder / name).is_dir() for name in LIST_CLASSES) and any(
        (folder / kind.folder).is_dir() for kind in SOURCES.values()
    )


def _clips(root: Path, kind: _Kind, problems: Problems) -> tuple[dict[int, Source], str]:
    """The clips by their number, and the path of their folder relative to the root."""
    places = (f"data/{kind.folder}", kind.folder)
    folder = place_of(root, places, problems)
    if folder is None or not folder.is_dir():
        problems["clips_missing"].append(places[0])
        return {}, places[0]
    return by_key(kind.scan(folder, root), clip_number, problems), folder.relative_to(root).as_posix()


def _row(number: int, dataset: str, clip: Source, folds: Folds, confidences: tuple[float, ...] | None) -> ClipRow:
    total = sum(confidences or ())
    return ClipRow(
        clip_id=f"{dataset}/{number:05d}",
        dataset=dataset,
        source=clip.path,
        label=folds.labels.get(number),
        fold=folds.test.get(number),
        num_frames=clip.num_frames,
        source_size=clip.size,
        source_mtime_ns=clip.mtime_ns,
        shares=tuple(value / total for value in confidences) if confidences and total > 0 else None,
    )


def _compare(
    confidences: dict[int, tuple[float, ...]], folds: Folds, classes: tuple[str, ...], problems: Problems
) -> None:
    """Compare the annotation with the labels of the lists."""
    used = set(folds.labels.values())
    problems["class_without_clips"] += [name for label, name in enumerate(classes) if used and label not in used]
    if not confidences:
        return
    contradicted = []
    for number, label in sorted(folds.labels.items()):
        row = confidences.get(number)
        if row is None:
            problems["not_in_annotation"].append(f"clip {number}")
        elif not any(row):
            problems["without_confidence"].append(f"clip {number}")
        elif row[label] < max(row):
            highest = classes[row.index(max(row))]
            contradicted.append(f"clip {number}: {classes[label]} {row[label]:g}, but {highest} {max(row):g}")
    most = 2 * len(contradicted) > len(folds.labels)
    problems["labels_contradict_confidences" if most else "label_not_top_confidence"] += contradicted


def _check_counts(
    labels: str,
    tested: Counter[int],
    of_class: dict[str, int],
    confidences: dict[int, tuple[float, ...]],
    problems: Problems,
) -> None:
    expected = {f"fold {fold}": (tested[fold], size) for fold, size in enumerate(OFFICIAL_TEST_SIZES[labels], start=1)}
    if labels == "single":
        expected |= {name: (of_class[name], size) for name, size in OFFICIAL_LABELS.items()}
        expected |= {ANNOTATION: (len(confidences), OFFICIAL_CLIPS)} if confidences else {}
    problems["official_counts"] += [
        f"{name}: {actual} instead of {official}" for name, (actual, official) in expected.items() if actual != official
    ]
