"""RAVDESS (Livingstone and Russo, 2018): 24 actors say two sentences with eight expressions, one of them calm.

Expected in the root: `Actor_NN/MM-VV-EE-II-SS-RR-AA.mp4`, where the numbers stand for modality, voice (speech or song),
emotion, intensity, sentence, repetition and actor. The label is the emotion that the actor was asked to show; no votes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

import pandas as pd

from dfer.datasets.report import Counts, IngestReport, Problems, Rules, SourceError, findings
from dfer.datasets.scan import OUTSIDE_ROOT, Source, root_finding, scan_videos, subfolders
from dfer.datasets.table import ClipRow, count_labels, from_rows

SOURCES = {"video-only": "02", "audio-video": "01"}
"""The same performances without or with sound -> the modality in a file's name."""

CLASSES = ("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise")
"""In the order of their numbers in the names, from 01."""

ACTORS = range(1, 25)
ACTORS_PER_FOLD = 4

_FOLDER = r"Actor_([0-9]{2})"
# The download has an archive for each actor and voice, which some programs unpack into a folder of the archive's name.
_ARCHIVE = r"Video_(?:Speech|Song)_Actor_([0-9]{2})"
_NAME = r"0[12]-0[12]-0[1-8]-0[12]-0[12]-0[12]-[0-9]{2}"
_NUMBERS = r"[0-9]+(-[0-9]+){6}"
_SPEECH = "01"

RULES: Rules = {
    "outside_root": OUTSIDE_ROOT,
    "duplicate_source": ("error", "clips that are there twice, in two folders or in different formats; remove one"),
    "bad_name": (
        "error",
        "names with numbers that RAVDESS does not have, such as emotion 09, actor 25 or a strong neutral; take the "
        "files from the original download",
    ),
    "actor_contradicts_folder": ("error", "clips whose name is of another actor than their folder; move them"),
    "source_missing": (
        "error",
        "there is no speech of the chosen kind, only of the other one; set the data set's source to it, or unpack "
        "the other archives",
    ),
    "actors_missing": ("warning", "actors without a clip: the folds that test on them are smaller than the official"),
    "missing_clips": (
        "warning",
        "clips that every actor has, but these actors lack; unpack the actor's archive again. They are left out",
    ),
    "other_source": ("note", "clips of the kind that is not chosen: the same performances, so they are left out"),
    "song": ("note", "sung clips; they are left out: the eight expressions are of the spoken ones"),
    "other_files": ("note", "files and folders among the clips that are no clip"),
}


def inspect(root: Path, *, dataset: str = "ravdess", source: str = "video-only") -> tuple[pd.DataFrame, IngestReport]:
    """The clip table of RAVDESS in `root`, and the report on it; classes in the order of `CLASSES`.

    One row for every spoken clip of the chosen kind. `subject` is the actor and `fold` the actor's (`actor_fold`).
    Raises SourceError for a `source` that is not one of `SOURCES`. Problems of the data are in the report.
    """
    if source not in SOURCES:
        raise SourceError(f"RAVDESS has no clips of the kind {source!r}; choose one of {', '.join(SOURCES)}")
    wrong = root_finding(root, "RAVDESS's folders Actor_01 to Actor_24", lambda folder: any(_actor_folders(folder)))
    if wrong:
        return from_rows([]), IngestReport(dataset, str(root), (wrong,), classes=CLASSES)
    problems = Problems()
    videos = _videos(root, SOURCES[source], problems)
    rows = [_row(name, video, dataset) for name, video in videos.items()]
    if rows:
        _check_completeness(videos.keys(), SOURCES[source], problems)
    elif others := problems["other_source"]:
        problems["source_missing"].append(f"{len(others)} clips of {', '.join(SOURCES.keys() - {source})}")
    tested = Counter(row.fold for row in rows)
    counts: Counts = {
        "clips": len(rows),
        "missing": len(problems["missing_clips"]),
        "actors": len({row.subject for row in rows}),
        "other_source": len(problems["other_source"]),
        "song": len(problems["song"]),
        "test_clips_per_fold": {str(fold): tested[fold] for fold in sorted(tested, key=str)},
        "labels": count_labels(rows, CLASSES),
    }
    report = IngestReport(dataset, str(root), tuple(findings(problems, RULES)), counts, classes=CLASSES)
    return from_rows(rows, CLASSES), report


def actor_fold(actor: int) -> int:
    """The fold 1..6 that tests on an actor: four consecutive actors each, as Sun et al. (MAE-DFER, 2023) do."""
    return (actor - ACTORS.start) // ACTORS_PER_FOLD + 1


def _actor_folders(folder: Path) -> Iterator[tuple[str, Path]]:
    """Actor and path of every folder of an actor, also of those in folders of an archive's name."""
    for name in subfolders(folder):
        if match := re.fullmatch(f"{_FOLDER}|{_ARCHIVE}", name):
            yield match[1] or match[2], folder / name
        if re.fullmatch(_ARCHIVE, name):
            for child in subfolders(folder / name):
                if match := re.fullmatch(_FOLDER, child):
                    yield match[1], folder / name / child


def _videos(root: Path, modality: str, problems: Problems) -> dict[str, Source]:
    """The spoken videos of a modality by their name."""
    videos: dict[str, Source] = {}
    for actor, folder in _actor_folders(root):
        scan = scan_videos(folder, root)
        problems["outside_root"] += scan.outside
        problems["other_files"] += [path for path in scan.others if not re.fullmatch(_FOLDER, Path(path).name)]
        for video in scan.sources:
            code = video.name.split("-")
            if not re.fullmatch(_NUMBERS, video.name):
                problems["other_files"].append(video.path)
            elif not _is_known(video.name):
                problems["bad_name"].append(video.path)
            elif code[6] != actor:
                problems["actor_contradicts_folder"].append(video.path)
            elif code[1] != _SPEECH:
                problems["song"].append(video.path)
            elif code[0] != modality:
                problems["other_source"].append(video.path)
            elif video.name in videos:
                problems["duplicate_source"].append(f"{videos[video.name].path} and {video.path}")
            else:
                videos[video.name] = video
    return videos


def _is_known(name: str) -> bool:
    code = name.split("-")
    return bool(re.fullmatch(_NAME, name)) and int(code[6]) in ACTORS and (code[2] != "01" or code[3] == "01")


def _check_completeness(names: Iterable[str], modality: str, problems: Problems) -> None:
    """Every actor speaks the same 60 clips: what an actor lacks is known without a list."""
    present = set(names)
    actors = {name[-2:] for name in present}
    problems["actors_missing"] += [f"Actor_{actor:02d}" for actor in ACTORS if f"{actor:02d}" not in actors]
    spoken = product(("01", "02", "03", "04", "05", "06", "07", "08"), ("01", "02"), ("01", "02"), ("01", "02"))
    takes = ["-".join(take) for take in spoken if take[:2] != ("01", "02")]
    for actor in sorted(actors):
        expected = [f"{modality}-{_SPEECH}-{take}-{actor}" for take in takes]
        problems["missing_clips"] += [f"Actor_{actor}/{name}.mp4" for name in expected if name not in present]


def _row(name: str, video: Source, dataset: str) -> ClipRow:
    _, _, emotion, _, _, _, actor = name.split("-")
    return ClipRow(
        clip_id=f"{dataset}/{name}",
        dataset=dataset,
        source=video.path,
        label=int(emotion) - 1,
        fold=actor_fold(int(actor)),
        subject=actor,
        source_size=video.size,
        source_mtime_ns=video.mtime_ns,
    )
