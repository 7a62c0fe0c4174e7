"""Writers of small data sets in the real layouts. No file holds a video: ingest looks at names, sizes and times."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
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


FERV39K_CLIPS = "2_ClipsforFaceCrop"
FERV39K_LISTS = "4_setups/All_scenes"
FERV39K_SCENES = ("Action", "School")


def ferv39k_lines(train: int = 2, test: int = 1) -> dict[str, list[str]]:
    """Lines of both lists: `train` and `test` clips for each of seven emotions in each of two scenes."""
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for scene in FERV39K_SCENES:
        for emotion in AFEW_EMOTIONS:
            for number in range(1, train + test + 1):
                lines["train" if number <= train else "test"].append(f"{scene}/{emotion}/{number:04d} {emotion}")
    return lines


def write_ferv39k(
    root: Path, lines: dict[str, list[str]] | None = None, *, clips: str = FERV39K_CLIPS, lists: str = FERV39K_LISTS
) -> Path:
    """A FERV39k folder of the clips in `lines`, two frames each, and the lists."""
    lines = ferv39k_lines() if lines is None else lines
    for line in (line for listed in lines.values() for line in listed):
        fill(root / clips / line.split()[0], ["1.jpg", "2.jpg"])
    for split, listed in lines.items():
        write_ferv39k_list(root, split, listed, lists=lists)
    return root


def write_ferv39k_list(
    root: Path, split: str, lines: Iterable[str], *, lists: str = FERV39K_LISTS, end: str = "\n"
) -> None:
    fill(root / lists, [f"{split}_All.csv"], "".join(f"{line}{end}" for line in lines).encode())


CREMA_D_COLUMNS = ("", "A", "D", "F", "H", "N", "S", "fileName", "numResponses", "agreement", "emoVote", "meanEmoResp")
CREMA_D_TABLE = "processedResults/tabulatedVotes.csv"


def crema_d_names(actors: Iterable[int] = range(1001, 1011)) -> list[str]:
    """Seven clips an actor: one for each acted emotion, and one more."""
    takes = ("DFA_ANG_XX", "DFA_DIS_XX", "DFA_FEA_XX", "DFA_HAP_XX", "DFA_NEU_XX", "DFA_SAD_XX", "IEO_SAD_HI")
    return [f"{actor}_{take}" for actor in actors for take in takes]


def crema_d_row(query_type: int, number: int, name: str, votes: Sequence[int]) -> list[object]:
    """A row of the table of votes; `votes` for anger, disgust, fear, happy, neutral, sad."""
    first = ":".join(letter for letter, count in zip("ADFHNS", votes, strict=True) if count == max(votes))
    total = sum(votes)
    return [f"{query_type}{number:05d}", *votes, name, total, max(votes) / max(total, 1), first, 61.5]


def crema_d_rows(names: Iterable[str]) -> list[list[object]]:
    """Rows as in the real table: by voice, by face, by both. Faces are seen as acted, but for the seventh clip (a tie).

    With the sound everybody hears what is acted; by voice, all is neutral.
    """
    rows = []
    listed = list(enumerate(names, start=1))
    for query_type in (1, 2, 3):
        for number, name in listed:
            _, sentence, emotion, _ = name.split("_")
            acted = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD").index(emotion)
            votes = [0] * 6
            if query_type == 1:
                votes[4] = 8
            elif query_type == 2 and sentence == "IEO":
                votes[4] = votes[5] = 5
            else:
                votes[acted] = 6 + query_type
                votes[(acted + 1) % 6] = 1
            rows.append(crema_d_row(query_type, number, name, votes))
    return rows


def write_crema_d(
    root: Path, rows: Iterable[Sequence[object]] | None = None, *, header: Sequence[str] = CREMA_D_COLUMNS
) -> Path:
    """A CREMA-D folder: ten actors with seven clips each, the videos and the table of votes."""
    names = crema_d_names()
    fill(root / "VideoFlash", [f"{name}.flv" for name in names])
    write_list(root / CREMA_D_TABLE, [header, *(crema_d_rows(names) if rows is None else rows)])
    return root


RAVDESS_TAKES = ("01-01", *(f"{emotion:02d}-{intensity:02d}" for emotion in range(2, 9) for intensity in (1, 2)))


def ravdess_names(actor: int, modality: str = "02") -> list[str]:
    """The 60 spoken clips of an actor: emotion and intensity, two sentences, two repetitions."""
    endings = ("01-01", "01-02", "02-01", "02-02")
    return [f"{modality}-01-{take}-{ending}-{actor:02d}" for take in RAVDESS_TAKES for ending in endings]


def write_ravdess(root: Path, *, modality: str = "02", folder: str = "Actor_{:02d}", content: bytes = b"x") -> Path:
    """All 1,440 spoken clips of RAVDESS of a modality."""
    for actor in range(1, 25):
        fill(root / folder.format(actor), [f"{name}.mp4" for name in ravdess_names(actor, modality)], content)
    return root


MAFW_CLASSES = (
    *("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    *("contempt", "anxiety", "helplessness", "disappointment"),
)
MAFW_HEADER = ("clip", "invalid", *MAFW_CLASSES)
MAFW_LISTS = "Train & Test Set/{}/no_caption"
MAFW_ANNOTATION = "Labels/annotation.xlsx"


@dataclass
class Mafw:
    """A MAFW folder to be written: 55 clips in five folds of eleven classes, and three clips without a single label.

    The first of the three has two classes with the same confidence, the last has none.
    """

    kind: str = "single"
    labels: dict[int, str] = field(default_factory=lambda: {n + 19: MAFW_CLASSES[n % 11] for n in range(55)})
    tests: dict[int, list[int]] = field(default_factory=dict)
    trains: dict[int, list[int]] = field(default_factory=dict)
    header: Sequence[object] = MAFW_HEADER
    rows: list[list[object]] = field(default_factory=list)
    unlabelled: tuple[int, ...] = (20096, 20097, 20098)

    def __post_init__(self) -> None:
        self.tests = self.tests or {fold: list(self.labels)[11 * fold - 11 : 11 * fold] for fold in range(1, 6)}
        self.trains = {
            fold: [n for other, numbers in self.tests.items() if other != fold for n in numbers] for fold in self.tests
        }
        for number, label in self.labels.items():
            row: list[object] = [0.0] * 11
            row[MAFW_CLASSES.index(label.split("_")[0])] = 0.9
            # a second class in every other clip
            row[(MAFW_CLASSES.index(label.split("_")[0]) + 1) % 11] = 0.6 * (number % 2)
            self.rows.append([f"{number:05d}.mp4", 0, *row])
        for place, number in enumerate(self.unlabelled):
            confidence = 0.6 if place < len(self.unlabelled) - 1 else 0
            self.rows.append([f"{number:05d}.mp4", 0, confidence, confidence, *[0] * 9])

    def write(self, root: Path, *, content: bytes = b"x") -> Path:
        """Write the clips, the lists, and with single labels the annotation."""
        numbers = [*self.labels, *self.unlabelled]
        fill(root / "data" / "clips", [f"{number:05d}.mp4" for number in numbers], content)
        for part, lists in (("train", self.trains), ("test", self.tests)):
            for fold, listed in lists.items():
                write_mafw_list(
                    root, part, fold, [f"{n:05d}.mp4 {self.labels.get(n, 'anger')}" for n in listed], kind=self.kind
                )
        if self.kind == "single":
            self.write_annotation(root)
        return root

    def write_annotation(self, root: Path) -> None:
        book = openpyxl.Workbook(write_only=True)
        sheet = book.create_sheet()
        for row in [self.header, *self.rows]:
            sheet.append(row)
        (root / MAFW_ANNOTATION).parent.mkdir(parents=True, exist_ok=True)
        book.save(root / MAFW_ANNOTATION)


def mafw_list(root: Path, part: str, fold: int, *, kind: str = "single") -> Path:
    return root / MAFW_LISTS.format(kind) / f"set_{fold}" / f"{part}.txt"


def write_mafw_list(root: Path, part: str, fold: int, lines: Iterable[str], *, kind: str = "single") -> None:
    path = mafw_list(root, part, fold, kind=kind)
    fill(path.parent, [path.name], "".join(f"{line}\r\n" for line in lines).encode())


FERPLUS_PARTS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}
FERPLUS_USAGES = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}
FERPLUS_COLUMNS = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)


def ferplus_rows(train: int = 16, val: int = 8, test: int = 8) -> dict[str, list[list[object]]]:
    """Rows of the three lists, with eight votes for one emotion after the other and two for the next."""
    rows: dict[str, list[list[object]]] = {}
    number = 0
    for split, size in (("train", train), ("val", val), ("test", test)):
        rows[split] = []
        for emotion in range(size):
            votes = [0] * 10
            votes[emotion % 8], votes[(emotion + 1) % 8] = 8, 2
            rows[split].append([f"fer{number:07d}.png", *votes])
            number += 1
    return rows


def ferplus_picture(number: int) -> np.ndarray:
    """A grey picture, 48x48, another one for each number."""
    return np.random.default_rng(number).integers(0, 256, (48, 48), np.uint8)


def write_ferplus(root: Path, rows: dict[str, list[list[object]]] | None = None) -> Path:
    """An FER+ folder of the pictures in `rows`, each that of the digits in its name."""
    for split, listed in (ferplus_rows() if rows is None else rows).items():
        folder = root / FERPLUS_PARTS[split]
        write_list(folder / "label.csv", listed)
        for name, *_ in listed:
            cv2.imwrite(str(folder / str(name)), ferplus_picture(int(str(name)[3:10])))
    return root


def write_ferplus_text(root: Path, rows: dict[str, list[list[object]]]) -> Path:
    """FER2013's and FER+'s tables for the pictures in `rows`; a row without a name is left out by FER+."""
    listed = [(FERPLUS_USAGES[split], *row) for split, of_split in rows.items() for row in of_split]
    write_list(root / "fer2013new.csv", [("Usage", "Image name", *FERPLUS_COLUMNS), *listed])
    pixels = [" ".join(map(str, ferplus_picture(place).ravel())) for place in range(len(listed))]
    pictures = [(0, text, row[0]) for text, row in zip(pixels, listed, strict=True)]
    write_list(root / "fer2013.csv", [("emotion", "pixels", "Usage"), *pictures])
    return root
