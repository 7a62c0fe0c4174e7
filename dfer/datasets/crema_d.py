"""CREMA-D (Cao et al., 2014): actors say sentences with an emotion, and many people vote on the emotion they see.

Expected in the root, which may be a clone of the set's repository: `processedResults/tabulatedVotes.csv` and
`VideoFlash/<Actor>_<Sentence>_<Emotion>_<Level>.flv`. The label is the emotion with the most votes, not the
acted one; surprise does not occur. With the source `acted` it is the acted one, and the folds are others.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pandas as pd

from dfer.datasets.crema_d_votes import CLIP_NAME, VOTES, VOTES_RULES, read_votes
from dfer.datasets.report import Counts, IngestReport, Problems, Rules, SourceError, findings
from dfer.datasets.scan import OUTSIDE_ROOT, Source, by_key, root_finding, scan_videos
from dfer.datasets.table import NUM_FOLDS, ClipRow, count_labels, from_rows
from dfer.labels import class_name, majority
from dfer.storage.files import sha256
from dfer.system.file_types import LFS_POINTER

SOURCES = {"face-votes": 2, "audio-visual-votes": 3}
"""Votes of people who saw the clips without or with the sound -> the query type in the table of votes."""

ACTED = "acted"
"""The source without votes: the emotion that the actor was asked to show, in folds of consecutive actors."""

ACTED_CLASSES = ("angry", "disgust", "fear", "happy", "neutral", "sad")
ACTORS_PER_FOLD = 18  # the last fold has one more

VIDEOS = "VideoFlash"
FIRST_ACTOR = 1001
OFFICIAL_CLIPS = 7442
# A smaller set is a sample, which need not have the official numbers.
_SAMPLE = 1000

FAULTY = frozenset({"1064_IEO_DIS_MD", "1064_TIE_SAD_XX", "1076_MTI_NEU_XX", "1076_MTI_SAD_XX"})

# A pointer file of Git LFS has some 130 bytes; longer files need not be opened.
_POINTER_BYTES = 1024

RULES: Rules = {
    "outside_root": OUTSIDE_ROOT,
    "duplicate_source": ("error", "clips that are there twice in different formats; remove one"),
    **VOTES_RULES,
    "lfs_pointers": (
        "warning",
        "videos that are only pointers of Git LFS, not the videos themselves: run git lfs pull in the clone",
    ),
    "missing_clips": (
        "warning",
        f"clips with votes but without a video in {VIDEOS}; the votes can be analysed, alignment will report the clips "
        "as missing_file",
    ),
    "videos_without_votes": ("warning", "videos without votes, so without a label; they are left out"),
    "faulty_recordings": ("note", "recordings that are known to be faulty; they are used like any other"),
    "other_files": ("note", "files among the videos that are no clip"),
    "official_counts": ("note", "numbers of clips that differ from the official ones"),
}


def inspect(root: Path, *, dataset: str = "crema-d", source: str = "face-votes") -> tuple[pd.DataFrame, IngestReport]:
    """The clip table of CREMA-D in `root`, and the report on it.

    One row for every clip with votes, even without a video. `label` is the single emotion with the most votes, None
    for a tie; `subject` is the actor and `fold` the actor's fold (`actor_fold`), also for clips without a label: no
    actor is both trained and tested on in the same fold.
    With the source `ACTED`, one row for every video: `label` is the acted emotion, in the order of `ACTED_CLASSES`,
    `fold` that of `acted_fold`, and the table of votes is not read.
    Raises SourceError for a `source` that is neither one of `SOURCES` nor `ACTED`. Problems of the data are in the
    report.
    """
    if source == ACTED:
        return _inspect_acted(root, dataset)
    if source not in SOURCES:
        raise SourceError(f"CREMA-D has no labels of the kind {source!r}; choose one of {', '.join((*SOURCES, ACTED))}")
    wrong = root_finding(root, f"CREMA-D's {VOTES} and {VIDEOS}", _is_root)
    if wrong:
        return from_rows([]), IngestReport(dataset, str(root), (wrong,))
    problems = Problems()
    votes = read_votes(root, SOURCES[source], problems)
    videos = _videos(root, problems)
    rows = [
        _row(name, counts, dataset, videos.get(name, Source(name, f"{VIDEOS}/{name}.flv", -1, -1)))
        for name, counts in votes.items()
    ]
    problems["missing_clips"] += [row.source for row in rows if row.source_size < 0]
    problems["videos_without_votes"] += [video.path for name, video in videos.items() if name not in votes]
    problems["faulty_recordings"] += sorted(FAULTY & votes.keys())
    if len(rows) >= _SAMPLE and len(rows) != OFFICIAL_CLIPS:
        problems["official_counts"].append(f"{len(rows)} clips instead of {OFFICIAL_CLIPS}")
    clips = Counter(row.fold for row in rows)
    tested = Counter(row.fold for row in rows if row.label is not None)
    counts: Counts = {
        "clips": len(rows),
        "clips_found": len(videos),
        "missing": len(problems["missing_clips"]),
        "actors": len({row.subject for row in rows}),
        "without_single_label": sum(row.label is None for row in rows),
        "clips_per_fold": {str(fold): clips[fold] for fold in sorted(clips, key=str)},
        "test_clips_per_fold": {str(fold): tested[fold] for fold in sorted(tested, key=str)},
        "labels": count_labels(rows),
    }
    hashes = {VOTES: sha256(root / VOTES)} if votes else {}
    return from_rows(rows), IngestReport(dataset, str(root), tuple(findings(problems, RULES)), counts, hashes)


def actor_fold(actor: int) -> int:
    """The fold 1..5 that tests on an actor, the same in a part of the set: 1001, 1002, ... are assigned in turn."""
    return (actor - FIRST_ACTOR) % NUM_FOLDS + 1


def acted_fold(actor: int) -> int:
    """The fold 1..5 that tests on an actor where labels are acted: 1001 to 1018, 1019 to 1036, ..., 1073 to 1091, as
    Sun et al. (MAE-DFER, 2023) do."""
    return min((actor - FIRST_ACTOR) // ACTORS_PER_FOLD + 1, NUM_FOLDS)


def _inspect_acted(root: Path, dataset: str) -> tuple[pd.DataFrame, IngestReport]:
    wrong = root_finding(root, f"CREMA-D's {VIDEOS}", lambda folder: (folder / VIDEOS).is_dir())
    if wrong:
        return from_rows([]), IngestReport(dataset, str(root), (wrong,), classes=ACTED_CLASSES)
    problems = Problems()
    videos = _videos(root, problems)
    rows = [_acted_row(name, dataset, video) for name, video in videos.items()]
    problems["faulty_recordings"] += sorted(FAULTY & videos.keys())
    if len(rows) >= _SAMPLE and len(rows) != OFFICIAL_CLIPS:
        problems["official_counts"].append(f"{len(rows)} clips instead of {OFFICIAL_CLIPS}")
    tested = Counter(row.fold for row in rows)
    counts: Counts = {
        "clips": len(rows),
        "actors": len({row.subject for row in rows}),
        "test_clips_per_fold": {str(fold): tested[fold] for fold in sorted(tested, key=str)},
        "labels": count_labels(rows, ACTED_CLASSES),
    }
    report = IngestReport(dataset, str(root), tuple(findings(problems, RULES)), counts, classes=ACTED_CLASSES)
    return from_rows(rows, ACTED_CLASSES), report


def _is_root(folder: Path) -> bool:
    return (folder / VOTES).is_file() or (folder / VIDEOS).is_dir()


def _videos(root: Path, problems: Problems) -> dict[str, Source]:
    """The videos by the clip's name."""
    if not (root / VIDEOS).is_dir():
        return {}
    scan = scan_videos(root / VIDEOS, root)
    videos = by_key(scan, lambda name: name if re.fullmatch(CLIP_NAME, name) else None, problems)
    for video in videos.values():
        if 0 < video.size < _POINTER_BYTES and (root / video.path).read_bytes().startswith(LFS_POINTER):
            problems["lfs_pointers"].append(video.path)
    return videos


def _row(name: str, votes: tuple[int, ...], dataset: str, video: Source) -> ClipRow:
    actor = name.partition("_")[0]
    return ClipRow(
        clip_id=f"{dataset}/{name}",
        dataset=dataset,
        source=video.path,
        votes=votes,
        label=majority(votes),
        fold=actor_fold(int(actor)),
        subject=actor,
        source_size=video.size,
        source_mtime_ns=video.mtime_ns,
    )


def _acted_row(name: str, dataset: str, video: Source) -> ClipRow:
    actor, _, emotion, _ = name.split("_")
    return ClipRow(
        clip_id=f"{dataset}/{name}",
        dataset=dataset,
        source=video.path,
        label=ACTED_CLASSES.index(class_name(emotion)),
        fold=acted_fold(int(actor)),
        subject=actor,
        source_size=video.size,
        source_mtime_ns=video.mtime_ns,
    )
