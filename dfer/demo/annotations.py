"""Writes the tables and lists of dfew and ferv39k in the layouts of the real data sets."""

from __future__ import annotations

import datetime
import io
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import openpyxl
import pandas as pd

from dfer.demo.casting import FERV39K_SHARES, FOLDS, ClipPlan
from dfer.labels import EMOTIONS

_COLUMNS: Final = (*(f"{number}{emotion}" for number, emotion in enumerate(EMOTIONS, start=1)), "order", "label")
_ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


def write_annotations(plans: Iterable[ClipPlan], folder: Path) -> None:
    """Write `EmoLabel_DataSplit/` and `Annotation/annotation.xlsx` below `folder` for the clips of dfew in `plans`.

    The fold files list a clip's integer name and its label 1..7; the workbook lists the ten votes of every annotated
    clip, with label 0 for those without a single label.
    """
    listed = sorted((plan for plan in plans if plan.votes is not None), key=lambda plan: plan.number)
    for fold in FOLDS:
        test = [plan for plan in listed if plan.fold == fold]
        train = [plan for plan in listed if plan.fold not in (fold, None)]
        for part, members in (("train", train), ("test", test)):
            path = folder / "EmoLabel_DataSplit" / f"{part}(single-labeled)" / f"set_{fold}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            table = pd.DataFrame(
                {"video_name": [plan.number for plan in members], "label": [_label_in_file(plan) for plan in members]}
            )
            table.to_csv(path, index=False, lineterminator="\n")
    rows = [(*(plan.votes or ()), plan.number, _label_in_file(plan)) for plan in listed]
    path = folder / "Annotation" / "annotation.xlsx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_workbook(rows))


def write_lists(plans: Iterable[ClipPlan], folder: Path) -> None:
    """Write `4_setups/All_scenes/train_All.csv` and `test_All.csv` below `folder` for the clips of ferv39k in `plans`.

    Each line has the clip's folder, a blank and its emotion; no header.
    """
    members = sorted(plans, key=lambda plan: plan.path)
    for split in FERV39K_SHARES:
        path = folder / "4_setups" / "All_scenes" / f"{split}_All.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            f"{'/'.join(Path(plan.path).parts[-3:])} {plan.emotion.capitalize()}\n"
            for plan in members
            if plan.split == split
        ]
        path.write_text("".join(lines), encoding="utf-8")


def _label_in_file(plan: ClipPlan) -> int:
    return 0 if plan.label is None else plan.label + 1


def _workbook(rows: Iterable[tuple[int, ...]]) -> bytes:
    """A workbook of one sheet, without the times that openpyxl writes, so that its bytes are always the same."""
    book = openpyxl.Workbook()
    book.properties.created = datetime.datetime(*_ZIP_EPOCH)
    sheet = book.active
    for row in (_COLUMNS, *rows):
        sheet.append(row)
    written = io.BytesIO()
    book.save(written)

    fixed = io.BytesIO()
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(fixed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>1980-01-01T00:00:00Z", content)
            member = zipfile.ZipInfo(name, _ZIP_EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(member, content)
    return fixed.getvalue()
