"""Damaged tables of one's own clips, in every form and format that layout `table` reads, and folders with odd names."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd

from benchmarks.fuzz import layouts, lists, tables, values
from benchmarks.fuzz.mutations import MUTATIONS
from benchmarks.fuzz.outcomes import Outcome, Plan
from dfer import datasets

_LABELS = ("bored", "engaged", "Confused", "Happiness")
_FORMS = ("labels", "votes", "annotators", "folders")
_FORMATS = (".csv", ".tsv", ".parquet", ".xlsx")
_CLIPS = 12


def make(folder: Path, chance: random.Random, seed: int, number: int) -> Plan:
    """Write an input: videos with a damaged table or odd names, or now and then good ones."""
    root, form, suffix = folder / "set", chance.choice(_FORMS), chance.choice(_FORMATS)
    good = chance.random() < 0.05
    if form == "folders":
        for clip in range(_CLIPS):
            path = root / _LABELS[clip % 4] / f"{clip}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(clip))
        for _ in range(0 if good else chance.randint(1, 3)):
            lists.odd_name(chance, root)
        return Plan("own", f"{form}, {'unchanged' if good else 'odd names'}", good=good)
    (root / "videos").mkdir(parents=True)
    for clip in range(_CLIPS):
        (root / "videos" / f"{clip}.mp4").write_text(str(clip))
    data = _written(_rows(form), suffix)
    what = "unchanged"
    if not good:
        what, data = _damaged(chance, form, suffix, data)
    (root / f"clips{suffix}").write_bytes(data)
    return Plan("own", f"{form} in {suffix}, {what}", good=good)


def check(folder: Path, plan: Plan, others: frozenset[int]) -> Outcome:
    """Read the data set: nothing is asked of a damaged one but that, if it is kept, it is the same when read again."""
    table, report, outcome = layouts.read("table", folder / "set")
    if outcome.result == "kept":
        again, its_report = datasets.inspect("table", folder / "set")
        if not table.equals(again) or report.to_json() != its_report.to_json():
            return Outcome(outcome.result, outcome.reason, "another table when it is read again")
    codes = {finding.code for finding in report.findings}
    if plan.good and (len(table) != _CLIPS or report.fatal or codes - {"folds_by_clip", "spellings"}):
        return Outcome(outcome.result, outcome.reason, f"a good set is not kept as it is: {sorted(codes)}")
    return outcome


def _rows(form: str) -> list[list[Any]]:
    paths = [f"videos/{clip}.mp4" for clip in range(_CLIPS)]
    if form == "votes":
        votes = [[7 * (at % 4 == k) + k % 2 for k in range(4)] for at in range(_CLIPS)]
        return [["path", *_LABELS], *([path, *its] for path, its in zip(paths, votes, strict=True))]
    if form == "annotators":
        rated = [[path, rater, _LABELS[at % 4]] for at, path in enumerate(paths) for rater in "abc"]
        return [["path", "annotator", "label"], *rated]
    return [["path", "label"], *([path, _LABELS[at % 4]] for at, path in enumerate(paths))]


def _written(rows: Sequence[Sequence[Any]], suffix: str) -> bytes:
    if suffix == ".parquet":
        frame = pd.DataFrame(rows[1:], columns=list(rows[0]))
        if any(frame[name].map(type).nunique() > 1 for name in frame.columns):
            frame = frame.map(str)  # a column of Parquet has one type
        return bytes(frame.to_parquet(index=False))
    if suffix == ".xlsx":
        book = openpyxl.Workbook()
        sheet: Any = book.active
        for row in rows:
            sheet.append(list(row))
        return layouts.packed(layouts.saved(book))
    text = io.StringIO(newline="")
    csv.writer(text, delimiter="," if suffix == ".csv" else "\t").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def _damaged(chance: random.Random, form: str, suffix: str, data: bytes) -> tuple[str, bytes]:
    if suffix == ".xlsx":
        what, damage = chance.choice(tables.WAYS)
        return what, damage(chance, data)
    ways = ["bytes", "cells", "cells"] + ([] if suffix == ".parquet" else ["lines", "encoding"])
    match chance.choice(ways):
        case "lines":
            return "lines", lists.other_lines(chance, data)
        case "encoding":
            return "encoding", lists.other_encoding(chance, data)
        case "cells":
            rows = _rows(form)
            for _ in range(chance.choice((1, 1, 3, 10))):
                row = chance.choice((rows[0], *rows))
                row[chance.randrange(len(row))] = values.scalar(chance)
            try:
                return "cells", _written(rows, suffix)
            except Exception:  # a value that this format cannot have
                return "bytes", data[: chance.randrange(len(data))]
    return "bytes", MUTATIONS[chance.choice(list(MUTATIONS))](chance, data, data)
