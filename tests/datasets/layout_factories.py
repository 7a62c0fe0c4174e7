"""Writers of small data sets in the real layouts. No file holds a video: ingest looks at names, sizes and times."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import openpyxl

HEADER = ("1happy", "2sad", "3neutral", "4angry", "5surprise", "6disgust", "7fear", "order", "label")


def votes_for(label: int) -> list[int]:
    """Ten votes with the plain majority for DFEW's label 1..7, or a tie for label 0."""
    votes = [0] * 7
    if label == 0:
        votes[1] = votes[3] = 5
    else:
        votes[label - 1] = 7
        votes[label % 7] = 3
    return votes


def _labels() -> dict[int, int]:
    return {number: (number - 1) % 7 + 1 for number in range(1, 36)} | {36: 0, 37: 0, 38: 0}


@dataclass
class Dfew:
    """A DFEW folder to be written: 35 clips in five folds of seven emotions, and three clips without a single label."""

    labels: dict[int, int] = field(default_factory=_labels)
    header: Sequence[object] = HEADER
    tests: dict[int, list[int]] = field(default_factory=dict)
    trains: dict[int, list[int]] = field(default_factory=dict)
    rows: list[list[object]] = field(default_factory=list)
    clips: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        labelled = [number for number, label in self.labels.items() if label]
        self.tests = self.tests or {fold: labelled[fold - 1 :: 5] for fold in range(1, 6)}
        self.trains = {
            fold: [n for other, numbers in self.tests.items() if other != fold for n in numbers] for fold in self.tests
        }
        self.rows = [[*votes_for(label), number, label] for number, label in self.labels.items()]
        self.clips = [f"{number}.mp4" for number in self.labels]

    def write(self, root: Path, *, fold_folder: str = "{}(single-labeled)", base: int = 1) -> Path:
        """Write everything under `root`; `base` is the number of the first emotion in the fold lists."""
        fill(root / "Clip" / "original", self.clips)
        for part, lists in (("train", self.trains), ("test", self.tests)):
            for fold, numbers in lists.items():
                rows = [(number, self.labels.get(number, 1) - 1 + base) for number in numbers]
                write_list(fold_list(root, part, fold, fold_folder), [("video_name", "label"), *rows])
        write_annotation(root, [self.header, *self.rows])
        return root


def fold_list(root: Path, part: str, fold: int, fold_folder: str = "{}(single-labeled)") -> Path:
    return root / "EmoLabel_DataSplit" / fold_folder.format(part) / f"set_{fold}.csv"


def write_list(path: Path, rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def write_annotation(root: Path, rows: Iterable[Sequence[object]]) -> None:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    for row in rows:
        sheet.append(row)
    (root / "Annotation").mkdir(parents=True, exist_ok=True)
    book.save(root / "Annotation" / "annotation.xlsx")


def fill(folder: Path, names: Iterable[str], content: bytes = b"x") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(content)


AFEW_EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")


def write_afew(root: Path, *, train: int = 2, val: int = 1) -> Path:
    """An AFEW folder with `train` and `val` clips for each of the seven emotions, names counting up from 000120000."""
    number = 120000
    for split, clips in (("Train_AFEW", train), ("Val_AFEW", val)):
        for emotion in AFEW_EMOTIONS:
            fill(root / split / emotion, [f"{number + i:09d}.avi" for i in range(clips)])
            number += clips
    return root
