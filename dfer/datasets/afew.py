"""AFEW (EmotiW challenge): clips from films, one emotion each, a train and a validation part.

Expected in the root: `Train_AFEW/<Emotion>/<id>.avi` and `Val_AFEW/<Emotion>/<id>.avi`; the label is the folder. The
labels of the test part were never published.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pandas as pd

from dfer.datasets.report import Counts, IngestReport, Problems, Rules, SourceError, findings
from dfer.datasets.scan import OUTSIDE_ROOT, Scan, Source, root_finding, scan_frame_folders, scan_videos, subfolders
from dfer.datasets.table import SPLITS, ClipRow, count_labels, from_rows
from dfer.labels import EMOTIONS, emotion_index
from dfer.system.natural_order import natural_key

SOURCES = ("videos", "faces")
"""The clips as cut from the films, or the aligned faces that come with the set."""

OFFICIAL_SIZES = {"train": 773, "val": 383}
# A smaller set is a sample, which need not have the official numbers.
_SAMPLE = 100

FACE_FOLDERS = ("AlignedFaces_LBPTOP_Points", "AlignedFaces_LBPTOP_Points_Val")

RULES: Rules = {
    "outside_root": OUTSIDE_ROOT,
    "split_twice": ("error", "folders for the same split under two names; keep the right one"),
    "unknown_folder": (
        "error",
        f"folders with videos whose name is no emotion; rename or remove them. Known emotions: {', '.join(EMOTIONS)}",
    ),
    "duplicate_name": ("error", "clips of the same name in one split, so that their label is not certain; remove one"),
    "unusable_name": ("error", "clips whose name has characters that cannot be stored; rename them"),
    "unlabelled_videos": ("warning", "videos outside the folders of emotions, so without a label; they are left out"),
    "split_missing": (
        "warning",
        "splits that are not there: nothing can be trained (train) or evaluated (val) on them",
    ),
    "train_val_overlap": ("warning", "clips of the same name in the train and the validation part"),
    "missing_clips": ("warning", "clips without a folder of faces; alignment will report them as missing_file"),
    "faces_without_video": ("note", "folders of faces without a video, so without a label; they are left out"),
    "test_ignored": ("note", "a test part without folders of emotions: its labels are not public, so it is left out"),
    "other_files": ("note", "files among the videos that are no video"),
    "official_counts": ("note", "numbers of clips that differ from the official ones"),
}


def inspect(root: Path, *, dataset: str = "afew", source: str = "videos") -> tuple[pd.DataFrame, IngestReport]:
    """The clip table of AFEW in `root`, and the report on it.

    One row for every video in a folder of an emotion. With `source="faces"` the row's source is the folder of faces
    with the clip's name.
    Raises SourceError for a `source` that is not one of `SOURCES`. Problems of the data are in the report.
    """
    if source not in SOURCES:
        raise SourceError(f"AFEW has no clips of the kind {source!r}; choose one of {', '.join(SOURCES)}")
    wrong = root_finding(root, "AFEW's folders Train_AFEW and Val_AFEW", lambda folder: bool(_split_folders(folder)))
    if wrong:
        return from_rows([]), IngestReport(dataset, str(root), (wrong,))
    problems = Problems()
    rows: list[ClipRow] = []
    for split, names in _split_folders(root).items():
        if len(names) > 1:
            problems["split_twice"].append(" and ".join(names))
        folder = root / names[0]
        if split == "test" and not any(_is_emotion(name) for name in subfolders(folder)):
            problems["test_ignored"].append(names[0])
            continue
        labels, videos = _labelled_videos(folder, root, problems)
        sources = _faces(folder, root, videos, problems) if source == "faces" else videos
        rows += [
            ClipRow(
                clip_id=f"{dataset}/{split}/{name}",
                dataset=dataset,
                source=sources[name].path,
                label=labels[name],
                split=split,
                num_frames=sources[name].num_frames,
                source_size=sources[name].size,
                source_mtime_ns=sources[name].mtime_ns,
            )
            for name in videos
        ]
    _check_splits(rows, problems)
    return from_rows(rows), IngestReport(dataset, str(root), tuple(findings(problems, RULES)), _counts(rows))


def _split_folders(root: Path) -> dict[str, list[str]]:
    """Split -> names of its folders in the root; `Train_AFEW` may be named `Train`."""
    folders: dict[str, list[str]] = {}
    for name in subfolders(root):
        split = re.sub(r"[^a-z]", "", name.lower()).removesuffix("afew")
        if split in SPLITS:
            folders.setdefault(split, []).append(name)
    return {split: folders[split] for split in SPLITS if split in folders}


def _is_emotion(name: str) -> bool:
    try:
        emotion_index(name)
    except ValueError:
        return False
    return True


def _labelled_videos(folder: Path, root: Path, problems: Problems) -> tuple[dict[str, int], dict[str, Source]]:
    """Label and video of every clip of one split, by the clip's name."""
    labels: dict[str, int] = {}
    videos: dict[str, Source] = {}
    stray = scan_videos(folder, root)
    problems["outside_root"] += stray.outside
    problems["unlabelled_videos"] += [video.path for video in stray.sources]
    for name in subfolders(folder):
        scan = scan_videos(folder / name, root)
        if not _is_emotion(name):
            if scan.sources:
                problems["unknown_folder"].append(f"{folder.name}/{name}: {len(scan.sources)} videos")
            continue
        problems["outside_root"] += scan.outside
        problems["other_files"] += scan.others
        for video in scan.sources:
            if not video.name.isprintable() or "\\" in video.name:
                problems["unusable_name"].append(video.path)
            elif video.name in videos:
                problems["duplicate_name"].append(f"{videos[video.name].path} and {video.path}")
            else:
                videos[video.name] = video
                labels[video.name] = emotion_index(name)
    return labels, videos


def _faces(folder: Path, root: Path, videos: dict[str, Source], problems: Problems) -> dict[str, Source]:
    """The folder of faces of every video, by the clip's name; a missing one has size and time -1."""
    faces = next((folder / name / "Faces" for name in FACE_FOLDERS if (folder / name / "Faces").is_dir()), None)
    scan = scan_frame_folders(faces, root) if faces else Scan()
    problems["outside_root"] += scan.outside
    existing = {source.name: source for source in scan.sources}
    problems["faces_without_video"] += [source.path for name, source in existing.items() if name not in videos]
    expected = (faces or folder / FACE_FOLDERS[0] / "Faces").relative_to(root).as_posix()
    missing = {name: Source(name, f"{expected}/{name}", -1, -1) for name in videos if name not in existing}
    problems["missing_clips"] += [source.path for source in missing.values()]
    return existing | missing


def _check_splits(rows: list[ClipRow], problems: Problems) -> None:
    sizes = Counter(row.split for row in rows)
    problems["split_missing"] += [split for split in OFFICIAL_SIZES if not sizes[split]]
    names = {split: {row.clip_id.rsplit("/", 1)[1] for row in rows if row.split == split} for split in OFFICIAL_SIZES}
    problems["train_val_overlap"] += sorted(names["train"] & names["val"], key=natural_key)
    if len(rows) >= _SAMPLE:
        problems["official_counts"] += [
            f"{split}: {sizes[split]} instead of {official}"
            for split, official in OFFICIAL_SIZES.items()
            if sizes[split] != official
        ]


def _counts(rows: list[ClipRow]) -> Counts:
    splits = Counter(row.split for row in rows if row.split is not None)
    return {
        "clips": len(rows),
        "missing": sum(row.source_size < 0 for row in rows),
        "clips_per_split": {split: splits[split] for split in SPLITS if splits[split]},
        "labels": count_labels(rows),
    }
