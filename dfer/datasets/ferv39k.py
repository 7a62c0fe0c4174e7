"""FERV39k (Wang et al., 2022): clips from many kinds of films in 22 scenes, one emotion each, one train and test list.

Expected in the root: `2_ClipsforFaceCrop/<Scene>/<Emotion>/<NNNN>/*.jpg`, the clips' face crops, and
`4_setups/All_scenes/train_All.csv` and `test_All.csv` with lines such as `Action/Sad/0010 Sad`.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pandas as pd

from dfer.datasets.report import Counts, IngestReport, Problems, Rules, SourceError, findings
from dfer.datasets.scan import OUTSIDE_ROOT, Source, is_inside, root_finding, scan_frame_folders, subfolders
from dfer.datasets.table import ClipRow, count_labels, from_rows
from dfer.labels import EMOTIONS, emotion_index
from dfer.storage.files import sha256
from dfer.system.natural_order import natural_key

SOURCES = ("faces",)
"""The face crops as numbered pictures, one folder per clip."""

CLIPS_FOLDER = "2_ClipsforFaceCrop"
SETUPS_FOLDER = "4_setups"
LISTS = {"train": "All_scenes/train_All.csv", "test": "All_scenes/test_All.csv"}

OFFICIAL_SIZES = {"train": 31088, "test": 7847}
OFFICIAL_TRAIN_LABELS = {
    "happy": 5854,
    "sad": 5523,
    "neutral": 7790,
    "angry": 5906,
    "surprise": 2502,
    "disgust": 1833,
    "fear": 1680,
}
# A smaller set is a sample, which need not have the official numbers.
_SAMPLE = 1000

RULES: Rules = {
    "outside_root": OUTSIDE_ROOT,
    "folder_twice": ("error", "folders for the same part of the download side by side; move what they hold into one"),
    "clips_missing": ("error", f"there is no folder of clips; unpack {CLIPS_FOLDER} of the download into the root"),
    "list_missing": (
        "error",
        f"lists that are not there, so that the clips have no split; unpack {SETUPS_FOLDER} of the download into the "
        "root",
    ),
    "list_unreadable": ("error", "lists that are no text; take the file from the original download"),
    "bad_line": ("error", "lines that are not a clip, one blank and an emotion, as in 'Action/Sad/0010 Sad'"),
    "bad_path": ("error", "clips that are not named Scene/Emotion/Number; such a name is never used as a path"),
    "unknown_emotion": ("error", f"emotions that are none of: {', '.join(EMOTIONS)}"),
    "label_contradicts_folder": (
        "error",
        "clips whose label in the list is not the emotion of their folder; take the list from the original download",
    ),
    "in_both_lists": ("error", "clips in the train and in the test list: they would be tested on what was learnt"),
    "listed_twice": ("warning", "clips that a list gives twice, used once"),
    "missing_clips": ("warning", "clips that are listed but not there; alignment will report them as missing_file"),
    "clips_without_frames": ("warning", "listed clips whose folder holds no picture; unpack the download again"),
    "unlisted_clips": ("note", "clips that are there but in no list; they are left out"),
    "other_files": ("note", "files and folders among the clips that are no clip"),
    "official_counts": ("note", "numbers of clips that differ from the official ones"),
}


def inspect(root: Path, *, dataset: str = "ferv39k", source: str = "faces") -> tuple[pd.DataFrame, IngestReport]:
    """The clip table of FERV39k in `root`, and the report on it.

    One row for every clip of a list, even without a file; `split` is "train" or "test", `label` the listed emotion, and
    no clip has votes. The two parts of the download may be one folder deeper.
    Raises SourceError for a `source` that is not one of `SOURCES`. Problems of the data are in the report.
    """
    if source not in SOURCES:
        raise SourceError(f"FERV39k has no clips of the kind {source!r}; choose one of {', '.join(SOURCES)}")
    base = _base(root)
    wrong = root_finding(base, f"FERV39k's folders {CLIPS_FOLDER} and {SETUPS_FOLDER}", _is_root)
    if wrong:
        return from_rows([]), IngestReport(dataset, str(root), (wrong,))
    problems = Problems()
    folder = _part(base, CLIPS_FOLDER, problems)
    setups = _part(base, SETUPS_FOLDER, problems)
    labels, hashes = _read_lists(setups, root, problems)
    clips = _clips(folder, root, problems)
    prefix = folder.relative_to(root).as_posix()
    rows = [
        _row(name, label, split, dataset, clips.get(name, Source(name, f"{prefix}/{name}", -1, -1)))
        for split, listed in labels.items()
        for name, label in listed.items()
        if split == "train" or name not in labels.get("train", {})
    ]
    _check(rows, labels, clips, problems)
    counts: Counts = {
        "clips": len(rows),
        "clips_found": len(clips),
        "missing": sum(row.source_size < 0 for row in rows),
        "clips_per_split": {split: size for split in LISTS if (size := sum(row.split == split for row in rows))},
        "labels": count_labels(rows),
    }
    return from_rows(rows), IngestReport(dataset, str(root), tuple(findings(problems, RULES)), counts, hashes)


def _base(root: Path) -> Path:
    """The folder that holds the two parts: the root, or a `FERV39k` in it that the download was unpacked into."""
    nested = [root / name for name in subfolders(root) if name.lower().startswith("ferv39k")]
    fitting = [folder for folder in nested if _is_root(folder)]
    return fitting[0] if len(fitting) == 1 and not _is_root(root) else root


def _is_root(folder: Path) -> bool:
    return bool(_named(folder, CLIPS_FOLDER) or _named(folder, SETUPS_FOLDER))


def _named(folder: Path, name: str) -> list[Path]:
    """Folders of that name in `folder`, also with a suffix of an archive in parts (`<name>-002`)."""
    pattern = re.compile(rf"{re.escape(name)}(-[0-9TZ]+)*", re.IGNORECASE)
    return [folder / child for child in subfolders(folder) if pattern.fullmatch(child)]


def _part(base: Path, name: str, problems: Problems) -> Path:
    """The path of one part of the download, which may be in a folder of the same name, or missing."""
    part = base / name
    while folders := _named(base, name):
        if len(folders) > 1:
            problems["folder_twice"].append(" and ".join(path.name for path in folders))
        part = base = folders[0]
    return part


def _read_lists(setups: Path, root: Path, problems: Problems) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Split -> clip as `Scene/Emotion/Number` -> label 0..6; and the SHA-256 of the lists by their path."""
    labels: dict[str, dict[str, int]] = {}
    hashes: dict[str, str] = {}
    for split, name in LISTS.items():
        path = setups / name
        shown = path.relative_to(root).as_posix()
        if not path.is_file():
            problems["list_missing"].append(shown)
        elif not is_inside(path, root):
            problems["outside_root"].append(shown)
        else:
            hashes[shown] = sha256(path)
            labels[split] = _read_list(path, shown, problems)
    return labels, hashes


def _read_list(path: Path, shown: str, problems: Problems) -> dict[str, int]:
    """Clip as `Scene/Emotion/Number` -> label 0..6; lines that cannot be used are added to `problems`."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        problems["list_unreadable"].append(f"{shown}: {error}")
        return {}
    labels: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{shown} line {number}"
        # Split at the last blank, as a scene's name may hold one.
        name, _, emotion = line.strip().rpartition(" ")
        name = name.rstrip()
        if not name or "/" not in name:
            problems["bad_line"].append(f"{where}: {_short(line)}")
        elif not _is_clip_name(name):
            problems["bad_path"].append(f"{where}: {_short(name)}")
        else:
            label = _label(name, emotion, where, problems)
            if name in labels:
                problems["listed_twice"].append(f"{where}: {name}")
            elif label is not None:
                labels[name] = label
    return labels


def _is_clip_name(name: str) -> bool:
    """Whether it is Scene/Emotion/Number, and a path that does not leave the clips' folder."""
    parts = name.split("/")
    return len(parts) == 3 and name.isprintable() and "\\" not in name and not any(p.strip(" .") == "" for p in parts)


def _label(name: str, emotion: str, where: str, problems: Problems) -> int | None:
    folder = name.split("/")[1]
    try:
        label, in_folder = emotion_index(emotion), emotion_index(folder)
    except ValueError:
        problems["unknown_emotion"].append(f"{where}: {_short(name)} {_short(emotion)}")
        return None
    if label != in_folder:
        problems["label_contradicts_folder"].append(f"{where}: {name} is listed as {emotion}")
        return None
    return label


def _clips(folder: Path, root: Path, problems: Problems) -> dict[str, Source]:
    """The clips on disk by `Scene/Emotion/Number`.

    Reads the size of every frame, about four seconds for the whole set's million, so as to notice replaced frames.
    """
    clips: dict[str, Source] = {}
    if not folder.is_dir():
        problems["clips_missing"].append(f"{folder} does not exist")
    for scene in subfolders(folder):
        for emotion in subfolders(folder / scene):
            scan = scan_frame_folders(folder / scene / emotion, root)
            problems["outside_root"] += scan.outside
            problems["other_files"] += scan.others
            clips |= {f"{scene}/{emotion}/{source.name}": source for source in scan.sources}
    return clips


def _row(name: str, label: int, split: str, dataset: str, clip: Source) -> ClipRow:
    return ClipRow(
        clip_id=f"{dataset}/{name}",
        dataset=dataset,
        source=clip.path,
        label=label,
        split=split,
        num_frames=clip.num_frames,
        source_size=clip.size,
        source_mtime_ns=clip.mtime_ns,
    )


def _check(
    rows: list[ClipRow], labels: dict[str, dict[str, int]], clips: dict[str, Source], problems: Problems
) -> None:
    train, test = (labels.get(split, {}) for split in LISTS)
    problems["in_both_lists"] += sorted(train.keys() & test.keys(), key=natural_key)
    problems["missing_clips"] += [row.source for row in rows if row.source_size < 0]
    problems["clips_without_frames"] += [row.source for row in rows if row.num_frames == 0]
    problems["unlisted_clips"] += [
        clip.path for name, clip in clips.items() if name not in train and name not in test and labels
    ]
    if len(rows) < _SAMPLE:
        return
    sizes = Counter(row.split for row in rows)
    trained = Counter(row.label for row in rows if row.split == "train")
    expected = {split: (sizes[split], size) for split, size in OFFICIAL_SIZES.items()} | {
        f"train {name}": (trained[EMOTIONS.index(name)], size) for name, size in OFFICIAL_TRAIN_LABELS.items()
    }
    problems["official_counts"] += [
        f"{name}: {actual} instead of {official}" for name, (actual, official) in expected.items() if actual != official
    ]


def _short(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:57]!r}..."
