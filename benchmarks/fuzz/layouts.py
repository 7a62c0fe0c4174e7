"""Small data sets in the layouts that the project reads, and what reading one of them gives."""

from __future__ import annotations

import csv
import functools
import io
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd

from benchmarks.fuzz.outcomes import Outcome
from dfer import datasets
from dfer.datasets import table as clip_table
from dfer.datasets.report import IngestReport
from dfer.labels import emotion_index

FERV39K_CLIPS = "2_ClipsforFaceCrop"
_HEADER = ("1happy", "2sad", "3neutral", "4angry", "5surprise", "6disgust", "7fear", "order", "label")
_FOLDERS = ("Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear")
_TAKES = ("DFA_ANG_XX", "DFA_DIS_XX", "DFA_FEA_XX", "DFA_HAP_XX", "DFA_NEU_XX", "DFA_SAD_XX")
_COMPARED = ["clip_id", "source", "votes", "label", "split", "fold", "subject"]

ANNOTATION = "Annotation/annotation.xlsx"


def write_dfew(root: Path) -> None:
    """35 clips in five folds, and one without a single label. The clips are empty files."""
    labels = {number: (number - 1) % 7 + 1 for number in range(1, 36)}
    _fill(root / "Clip" / "original", [f"{number}.mp4" for number in (*labels, 36)])
    for fold in range(1, 6):
        for part, is_test in (("train", False), ("test", True)):
            rows = [(n, label) for n, label in labels.items() if ((n - fold) % 5 == 0) == is_test]
            _write_list(
                root / "EmoLabel_DataSplit" / f"{part}(single-labeled)" / f"set_{fold}.csv",
                [("video_name", "label"), *rows],
            )
    book = openpyxl.Workbook()
    sheet: Any = book.active
    for row in (_HEADER, *([*_votes(label), number, label] for number, label in (*labels.items(), (36, 0)))):
        sheet.append(row)
    (root / ANNOTATION).parent.mkdir(parents=True)
    (root / ANNOTATION).write_bytes(packed(saved(book)))


def saved(book: openpyxl.Workbook) -> dict[str, bytes]:
    """The parts of a workbook by their name, without the time at which it was made."""
    written = io.BytesIO()
    book.save(written)
    with zipfile.ZipFile(written) as archive:
        return {
            name: re.sub(rb"20[0-9T:-]+Z", b"2020-01-01T00:00:00Z", archive.read(name)) for name in archive.namelist()
        }


def packed(parts: Mapping[str, bytes]) -> bytes:
    """Parts as a file; equal parts give equal bytes."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return written.getvalue()


def write_ferv39k(root: Path, clips: int = 3) -> Path:
    """So many clips of each emotion (of one emotion if it is one); returns the path of the first one's folder."""
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for folder in _FOLDERS if clips > 1 else _FOLDERS[:1]:
        for number in range(1, clips + 1):
            name = f"Action/{folder}/{number:04d}"
            _fill(root / FERV39K_CLIPS / name, ["1.jpg"])
            lines["test" if number == clips > 1 else "train"].append(f"{name} {folder}\n")
    for split, listed in lines.items():
        path = root / "4_setups" / "All_scenes" / f"{split}_All.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(listed))
    return Path(FERV39K_CLIPS, "Action", _FOLDERS[0], "0001")


def write_afew(root: Path) -> None:
    """Two training clips and one validation clip of each emotion."""
    for split, clips in (("Train_AFEW", 2), ("Val_AFEW", 1)):
        for at, folder in enumerate(_FOLDERS):
            _fill(root / split / folder, [f"{split[0]}{10 * at + clip:09d}.avi" for clip in range(clips)])


def write_crema_d(root: Path) -> None:
    """Five actors, six clips each, with the votes of those who saw the face."""
    columns = ("", "A", "D", "F", "H", "N", "S", "fileName", "numResponses", "agreement", "emoVote", "meanEmoResp")
    names = [f"{actor}_{take}" for actor in range(1001, 1006) for take in _TAKES]
    _fill(root / "VideoFlash", [f"{name}.flv" for name in names])
    rows: list[Sequence[object]] = [columns]
    for number, name in enumerate(names, 1):
        votes = [1] * 6
        votes[(number - 1) % 6] = 7
        rows.append((200_000 + number, *votes, name, sum(votes), 0.6, "ADFHNS"[(number - 1) % 6], 61.5))
    _write_list(root / "processedResults" / "tabulatedVotes.csv", rows)


WRITERS: dict[str, Callable[[Path], object]] = {
    "dfew": write_dfew,
    "ferv39k": write_ferv39k,
    "afew": write_afew,
    "crema-d": write_crema_d,
}


def read(layout: str, root: Path) -> tuple[pd.DataFrame, IngestReport, Outcome]:
    """Read a data set as `dfer config check` and the ingest stage do: its report must be text, its table valid."""
    table, report = datasets.inspect(layout, root)
    for text in (report.as_text(), report.to_json()):
        text.encode("utf-8")
    with tempfile.TemporaryDirectory() as scratch:
        clip_table.write(table, Path(scratch) / "clips.parquet")
        clip_table.read(Path(scratch) / "clips.parquet")
    if report.fatal:
        codes = sorted(finding.code for finding in report.findings if finding.severity == "error")
        return table, report, Outcome("refused", codes[0])
    return table, report, Outcome("kept")


def compare(layout: str, root: Path) -> Outcome:
    """Read a damaged data set: a table that differs from the good one's must not come without a finding."""
    table, report, outcome = read(layout, root)
    if outcome.result == "refused":
        return outcome
    good_rows, good_findings = _good(layout)
    rows = _plain(table)
    if layout == "afew":  # its clips are what is in its folders: another name is another clip
        wrong = [row for row in rows if emotion_index(Path(row["source"]).parent.name) != row["label"]]
        return Outcome("kept", problem=f"a label that is not the folder's: {wrong[0]}" if wrong else "")
    if {finding.code: finding.count for finding in report.findings} == good_findings and rows != good_rows:
        different = [row for row in rows if row not in good_rows] or "a row less"
        return Outcome("kept", problem=f"another table without a finding: {str(different)[:300]}")
    noticed = sorted({finding.code for finding in report.findings} - good_findings.keys())
    return Outcome("kept", noticed[0] if noticed else "")


@functools.cache
def _good(layout: str) -> tuple[list[dict[str, Any]], dict[str, int]]:
    with tempfile.TemporaryDirectory() as folder:
        WRITERS[layout](Path(folder))
        table, report = datasets.inspect(layout, folder)
    return _plain(table), {finding.code: finding.count for finding in report.findings}


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    columns = table[_COMPARED].astype(object)
    return list(columns.where(columns.notna(), None).to_dict("records"))


def _votes(label: int) -> list[int]:
    votes = [0] * 7
    if label:
        votes[label - 1], votes[label % 7] = 7, 3
    else:
        votes[1] = votes[3] = 5
    return votes


def _fill(folder: Path, names: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")


def _write_list(path: Path, rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
