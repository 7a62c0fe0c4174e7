"""DFEW (Jiang et al., 2020): clips from films, ten votes each, five official folds.

Expected in the root: `Clip/original/N.mp4` (or one of the sets of ready-aligned clips beside it),
`EmoLabel_DataSplit/` and `Annotation/annotation.xlsx`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from dfer.datasets.dfew_lists import (
    ANNOTATION,
    LIST_RULES,
    SPLIT_FOLDER,
    Annotated,
    clip_number,
    read_annotation,
    read_folds,
)
from dfer.datasets.folds import Folds
from dfer.datasets.report import Counts, Finding, IngestReport, Problems, Rules, SourceError, findings
from dfer.datasets.scan import (
    OUTSIDE_ROOT,
    Source,
    by_key,
    listing,
    root_finding,
    scan_frame_folders,
    scan_videos,
    subfolders,
)
from dfer.datasets.table import ClipRow, count_labels, from_rows
from dfer.labels import EMOTIONS
from dfer.storage.files import sha256

SOURCES = {
    "original": (scan_videos, ".mp4"),
    "clip_224x224": (scan_frame_folders, ""),
    "clip_224x224_16f": (scan_frame_folders, ""),
    "clip_224x224_avi": (scan_videos, ".avi"),
}
"""Folders of `Clip/` with the clips: as cut from the films, aligned frames, 16 aligned frames, aligned videos."""

OFFICIAL_TEST_SIZES = (2341, 2341, 2340, 2339, 2336)
# A smaller set is a sample, which need not have the official numbers.
_SAMPLE = 1000

RULES: Rules = {
    "outside_root": OUTSIDE_ROOT,
    "duplicate_source": ("error", "clips that are there twice under names for the same number; remove one"),
    **LIST_RULES,
    "fold_label_differs": ("error", "clips whose label in the fold lists is not the one in the annotation"),
    "labels_contradict_votes": (
        "error",
        "clips whose label is not the emotion with the most votes, more than half of all: the annotation's columns or "
        "its label numbers are not what they seem",
    ),
    "label_not_top_vote": ("warning", "clips whose label is not the emotion with the most votes"),
    "not_in_annotation": ("warning", "clips of the folds without a row in the annotation: they have no soft label"),
    "missing_clips": ("warning", "clips that are listed but not there; alignment will report them as missing_file"),
    "unlisted_clips": ("note", "clips that are there but in no list; they are left out"),
    "other_files": ("note", "files and folders among the clips that are no clip"),
    "official_counts": ("note", "numbers of test clips that differ from the official folds'"),
}


def inspect(root: Path, *, dataset: str = "dfew", source: str = "original") -> tuple[pd.DataFrame, IngestReport]:
    """The clip table of DFEW in `root`, and the report on it.

    One row for every clip in the annotation or a fold list, even without a file. `label` is the annotation's single
    label (the fold lists' without an annotation), `fold` the fold that tests on the clip.
    Raises SourceError for a `source` that is not one of `SOURCES`. Problems of the data are in the report.
    """
    if source not in SOURCES:
        raise SourceError(f"DFEW has no clips of the kind {source!r}; choose one of {', '.join(SOURCES)}")
    expected = f"DFEW's folders Clip, {SPLIT_FOLDER} and Annotation"
    wrong = root_finding(root, expected, _is_root) or _source_finding(root, source)
    if wrong:
        return from_rows([]), IngestReport(dataset, str(root), (wrong,))
    problems = Problems()
    scan, suffix = SOURCES[source]
    sources = by_key(scan(root / "Clip" / source, root), clip_number, problems)
    annotated = read_annotation(root, problems)
    folds = read_folds(root, problems)
    _compare(annotated, folds, problems)
    listed = sorted(annotated.keys() | folds.labels.keys())
    padding = max((len(clip.name) for clip in sources.values() if clip.name.startswith("0")), default=0)
    missing = {
        number: Source("", f"Clip/{source}/{number:0{padding}d}{suffix}", -1, -1)
        for number in listed
        if number not in sources
    }
    unlisted = sources.keys() - set(listed)
    problems["missing_clips"] += [clip.path for clip in missing.values()]
    problems["unlisted_clips"] += [sources[number].path for number in sorted(unlisted)]
    clips = sources | missing
    rows = [_row(number, dataset, clips[number], annotated, folds) for number in listed]
    tested = Counter(row.fold for row in rows if row.fold is not None)
    if len(rows) >= _SAMPLE:
        problems["official_counts"] += [
            f"fold {fold}: {tested[fold]} instead of {official}"
            for fold, official in enumerate(OFFICIAL_TEST_SIZES, start=1)
            if tested[fold] != official
        ]
    counts: Counts = {
        "clips": len(rows),
        "clips_found": len(sources),
        "missing": len(missing),
        "unlisted": len(unlisted),
        "with_votes": sum(row.votes is not None for row in rows),
        "without_single_label": sum(row.label is None for row in rows),
        "single_label_but_no_fold": sum(row.label is not None and row.fold is None for row in rows),
        "test_clips_per_fold": {str(fold): tested[fold] for fold in sorted(tested)},
        "labels": count_labels(rows),
    }
    hashes = {ANNOTATION: sha256(root / ANNOTATION)} | folds.hashes if annotated else folds.hashes
    return from_rows(rows), IngestReport(dataset, str(root), tuple(findings(problems, RULES)), counts, hashes)


def _is_root(folder: Path) -> bool:
    return (folder / SPLIT_FOLDER).is_dir() or (folder / "Annotation").is_dir() or (folder / "Clip").is_dir()


def _source_finding(root: Path, source: str) -> Finding | None:
    if (root / "Clip" / source).is_dir():
        return None
    clip = root / "Clip"
    content = f"Clip holds {listing(clip)}" if clip.is_dir() else f"there is no Clip; {root} holds {listing(root)}"
    usable = [name for name in subfolders(clip) if name in SOURCES]
    hint = f" Usable as source: {', '.join(usable)}." if usable else " Unpack the clips of the download there."
    return Finding("clips_missing", "error", f"expected the clips in {clip / source}, but {content}.{hint}")


def _row(number: int, dataset: str, clip: Source, annotated: dict[int, Annotated], folds: Folds) -> ClipRow:
    row = annotated.get(number, Annotated(None, None))
    return ClipRow(
        clip_id=f"{dataset}/{number:05d}",
        dataset=dataset,
        source=clip.path,
        votes=row.votes,
        label=folds.labels.get(number) if row.label is None else row.label,
        fold=folds.test.get(number),
        num_frames=clip.num_frames,
        source_size=clip.size,
        source_mtime_ns=clip.mtime_ns,
    )


def _compare(annotated: dict[int, Annotated], folds: Folds, problems: Problems) -> None:
    contradicted = [
        f"clip {number}: labelled {EMOTIONS[row.label]}, votes {list(row.votes)}"
        for number, row in annotated.items()
        if row.label is not None and row.votes is not None and row.votes[row.label] < max(row.votes)
    ]
    labelled = sum(row.label is not None for row in annotated.values())
    problems["labels_contradict_votes" if 2 * len(contradicted) > labelled else "label_not_top_vote"] += contradicted
    if not annotated or "label_base" in problems:
        return
    for number, label in sorted(folds.labels.items()):
        if number not in annotated:
            problems["not_in_annotation"].append(f"clip {number}")
        elif annotated[number].label != label:
            other = annotated[number].label
            other_name = "none" if other is None else EMOTIONS[other]
            problems["fold_label_differs"].append(
                f"clip {number}: {EMOTIONS[label]} in the folds, {other_name} in the annotation"
            )
