"""One's own labelled videos: a table that names them, or folders named by class.

Expected in the root: `clips.csv`, `clips.tsv`, `clips.parquet` or `clips.xlsx` (or the table that `source` names), with
a column of paths and either a column of labels, or one of votes for each class, or a row for each annotator's label.
Without a table, `<class>/<video>`. The classes are those that occur.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from dfer.datasets import own_reading, workbook
from dfer.datasets.own_checks import CHECK_RULES, check_parts, check_votes, folds_of, place
from dfer.datasets.own_columns import COLUMN_RULES, columns_of
from dfer.datasets.own_files import MOST_BYTES, MOST_COMPARED, Names, find, plain_path, same_content
from dfer.datasets.own_reading import Sheet, TableError
from dfer.datasets.own_rows import ROW_RULES, Record, Records, differences, from_folders, from_table
from dfer.datasets.report import Counts, IngestReport, Problems, Rules, findings
from dfer.datasets.scan import OUTSIDE_ROOT, Source, is_inside, root_finding, scan_videos, subfolders
from dfer.datasets.table import SPLITS, ClipRow, count_labels, from_rows
from dfer.storage.files import sha256
from dfer.system.natural_order import natural_key

TABLES = tuple(f"clips{suffix}" for suffix in own_reading.SUFFIXES)

_UNREAD = (".xls", ".xlsm", ".xlsb", ".ods", ".numbers")

RULES: Rules = {
    "table_missing": ("error", "the table that source names is not there: name a file below the root"),
    "table_kind": (
        "error",
        f"tables of a kind that is not read; expected one of {', '.join(own_reading.SUFFIXES)}: save a workbook of "
        "another kind as .xlsx",
    ),
    "two_tables": ("error", "tables side by side: delete all but one, or name the right one as the data set's source"),
    "outside_root": (OUTSIDE_ROOT[0], f"paths that lead out of the root, or {OUTSIDE_ROOT[1]}"),
    "table_unreadable": ("error", "tables that cannot be read"),
    "formulas_without_value": (
        "error",
        "formulas with whose cells the workbook stores no value, as of a program that does not compute: open it in a "
        "spreadsheet program and save it there, or replace the formulas by their values",
    ),
    "merged_cells": (
        "error",
        "merged cells, of which only the first has a value: split them, and fill in what each row needs",
    ),
    **COLUMN_RULES,
    **ROW_RULES,
    **CHECK_RULES,
    "same_video_differently": (
        "error",
        "files with the same content that differ in the label, the votes, the split, the fold or the subject: correct "
        "or delete one",
    ),
    "other_tables": (
        "warning",
        f"tables that are not read, since they are not called {' or '.join(TABLES)}: rename one, or name it as "
        "the data set's source",
    ),
    "same_video": ("warning", "files with the same content and label: the first is used"),
    "missing_clips": (
        "warning",
        "clips that are not there; paths are relative to the root. Alignment will report them as missing_file",
    ),
    "clips_without_frames": ("warning", "folders that hold no picture, where one of frames is expected"),
    "unlabelled_videos": ("warning", "videos in no folder of a class, so without a label; they are left out"),
    "folders_without_videos": (
        "warning",
        "folders that hold no video, so that they are taken for no class; videos are not looked for in their folders",
    ),
    "videos_deeper": (
        "warning",
        "videos in folders of a class's folder, which are not read: move them up into the class's own folder",
    ),
    "unused_columns": ("note", "columns that are not used"),
    "other_sheets": ("note", "sheets of the workbook that are not read: only the first one that is not hidden is"),
    "not_compared": (
        "note",
        f"the same video twice was looked for by path alone: contents are compared in sets of up to {MOST_COMPARED:,} "
        f"clips, and up to {MOST_BYTES / 2**30:.0f} GiB of files of equal length and beginning",
    ),
    "other_files": ("note", "files among the videos that are no clip"),
}

# what may be empty in a workbook because its cells are merged, or because nobody computed them
_MAY_BE_EMPTY = ("empty_path", "empty_label", "bad_votes", "bad_split", "bad_fold", "empty_annotator", "empty_group",
                 "rows_disagree", "no_rows", *COLUMN_RULES)  # fmt: skip


def inspect(root: Path, *, dataset: str = "table", source: str | None = None) -> tuple[pd.DataFrame, IngestReport]:
    """The clip table of the videos in `root`, and the report on it.

    One row for every path of the table, even without a file, or for every video in a folder of a class. `label` is the
    class with the most votes where there are votes, None for a tie. Where the table has neither splits nor folds, folds
    are made (`own_folds.made_folds`): by subject, else by source, else by clip.
    Problems of the data are in the report.

    Args:
        source: the path of the table in the root; by default one of `TABLES`, or none.
    """
    expected = f"a table ({', '.join(TABLES)}) or a folder of videos for each class"
    wrong = root_finding(root, expected, _is_root, partial(_hint, dataset=dataset))
    if wrong and (source is None or not root.is_dir()):
        return from_rows([]), IngestReport(dataset, str(root), (wrong,))
    problems = Problems()
    table = _table(root, source, problems)
    hashes: dict[str, str] = {}
    records: Records | None = None
    sheet: Sheet | None = None
    classes_are_columns = False
    if table is not None:
        hashes[table] = sha256(root / table)
        try:
            sheet = own_reading.read(root / table)
            columns = columns_of(sheet.header, table, root, problems)
            problems["other_sheets"] += sheet.others
            if columns:
                problems["unused_columns"] += columns.unused
                classes_are_columns = bool(columns.votes) and not columns.prefixed
                records = from_table(sheet, columns, table, root, problems)
        except TableError as error:
            problems["table_unreadable"].append(f"{table}: {error}")
    elif not problems:
        records = from_folders(root, problems)
        suffixes = own_reading.SUFFIXES
        problems["other_tables"] += sorted(path.name for path in root.iterdir() if path.suffix.lower() in suffixes)
        problems["other_tables"] += [f"{name} (save it as .xlsx)" for name in _unread_tables(root)]
    rows: list[ClipRow] = []
    classes: tuple[str, ...] = ()
    if records is not None and "too_many_classes" not in problems:
        classes = records.classes
        rows = _rows(records, root, dataset, problems)
    if table is not None and sheet is not None and sheet.content is not None:
        _look_into_workbook(sheet, table, problems)
    clips = from_rows(rows, classes) if rows and len(classes) > 1 else from_rows([])
    found = tuple(findings(problems, RULES))
    report = IngestReport(
        dataset, str(root), found, _counts(rows, classes), hashes, classes_are_columns=classes_are_columns
    )
    return clips, replace(report, classes=classes) if len(classes) > 1 else report


def _is_root(folder: Path) -> bool:
    try:
        if any((folder / name).is_file() for name in TABLES):
            return True
        return any(scan_videos(folder / name, folder).sources for name in subfolders(folder))
    except OSError:
        return False  # of a folder beside the root, which may be nobody's business


def _hint(root: Path, *, dataset: str) -> str:
    """What to do with a folder that holds a table of another name, or class folders below other ones; empty if it
    holds neither."""
    tables = sorted(path for path in root.iterdir() if path.is_file() and path.suffix.lower() in own_reading.SUFFIXES)
    if tables:
        which = tables[0].name
        more = f" (or of {', '.join(path.name for path in tables[1:5])})" if len(tables) > 1 else ""
        renamed = f"clips{tables[0].suffix.lower()}"
        return f"Rename the table {which} to {renamed}, or set datasets.{dataset}.source={which}{more}."
    if unread := _unread_tables(root):
        return f"Save {unread[0]} as .xlsx, under the name clips.xlsx."
    deeper = [
        f"{name}/{one}"
        for name in subfolders(root)
        for one in subfolders(root / name)
        if scan_videos(root / name / one, root).sources
    ]
    if len({path.partition("/")[0] for path in deeper}) > 1:
        found = ", ".join(deeper[:4])
        return f"The folders of the classes are expected directly in the root; found one level deeper: {found}."
    return ""


def _unread_tables(root: Path) -> list[str]:
    """Tables of kinds that spreadsheet programs write and that are not read."""
    return sorted(path.name for path in root.iterdir() if path.suffix.lower() in _UNREAD)


def _table(root: Path, source: str | None, problems: Problems) -> str | None:
    """The table's path in the root; None if there is none, or if `problems` says why it cannot be used."""
    if source is None:
        tables = [name for name in TABLES if (root / name).is_file()]
        if len(tables) > 1:
            problems["two_tables"].append(" and ".join(tables))
    else:
        try:
            tables = [plain_path(source, root)]
        except ValueError as error:
            problems[str(error)].append(f"source: {source}")
            return None
        if not tables[0].lower().endswith(own_reading.SUFFIXES):
            problems["table_kind"].append(tables[0])
        elif not (root / tables[0]).is_file():
            problems["table_missing"].append(tables[0])
    if problems or not tables:
        return None
    if not is_inside(root / tables[0], root):
        problems["outside_root"].append(tables[0])
        return None
    return tables[0]


def _rows(records: Records, root: Path, dataset: str, problems: Problems) -> list[ClipRow]:
    clips = sorted(records.clips, key=lambda record: natural_key(record.path))
    files, outside = find([record.path for record in clips], root)
    problems["outside_root"] += [place(record) for record in clips if record.path in outside]
    names = Names(root)
    for record in clips:
        if files[record.path].size < 0 and record.path not in outside:
            other = names.proposed(record.path)
            problems["missing_clips"].append(place(record) + (f" (there is {other})" if other else ""))
    problems["clips_without_frames"] += [place(record) for record in clips if files[record.path].num_frames == 0]
    clips = _without_copies(clips, files, root, problems)
    folds: list[int | None] = [None] * len(clips)
    if not any(problems.get(code) and severity == "error" for code, (severity, _) in RULES.items()):
        # what is missing because of an error is no problem of its own
        check_votes(clips, records.classes, problems)
        folds = folds_of(clips, problems)
        check_parts(clips, folds, problems)
    number = {name: position for position, name in enumerate(records.classes)}
    return [
        ClipRow(
            clip_id=f"{dataset}/{record.path}",
            dataset=dataset,
            source=record.path,
            votes=record.facts.votes,
            label=None if record.facts.label is None else number[record.facts.label],
            split=record.facts.split,
            fold=fold,
            subject=record.facts.subject,
            num_frames=files[record.path].num_frames,
            source_size=files[record.path].size,
            source_mtime_ns=files[record.path].mtime_ns,
        )
        for record, fold in zip(clips, folds, strict=True)
    ]


def _without_copies(clips: list[Record], files: dict[str, Source], root: Path, problems: Problems) -> list[Record]:
    """The clips without those whose file has the same content as an earlier one's."""
    twice, all_compared = same_content([files[record.path] for record in clips], root)
    if not all_compared:
        problems["not_compared"].append(f"{len(clips)} clips")
    by_path = {record.path: record for record in clips}
    copies: set[str] = set()
    for paths in twice:
        first, *others = (by_path[path] for path in paths)
        for other in others:
            differ = differences(first.facts, replace(other.facts, source=first.facts.source))
            code = "same_video_differently" if differ else "same_video"
            problems[code].append(f"{place(first)}, and {place(other)}{f', {differ}' if differ else ''}")
            copies.add(other.path)
    return [record for record in clips if record.path not in copies]


def _look_into_workbook(sheet: Sheet, table: str, problems: Problems) -> None:
    """Say of empty cells why they are empty, unless that would take long."""
    assert sheet.content is not None
    if any(problems.get(code) for code in _MAY_BE_EMPTY) and workbook.is_small(sheet.content):
        looks: dict[str, Callable[..., list[str]]] = {
            "formulas_without_value": workbook.formulas_without_value,
            "merged_cells": workbook.merged_cells,
        }
        for code, look in looks.items():
            problems[code] += [f"{table} {place}" for place in look(sheet.content)]


def _counts(rows: Sequence[ClipRow], classes: Sequence[str]) -> Counts:
    splits, folds = Counter(row.split for row in rows if row.split), Counter(row.fold for row in rows if row.fold)
    counts: Counts = {
        "clips": len(rows),
        "clips_found": sum(row.source_size >= 0 for row in rows),
        "missing": sum(row.source_size < 0 for row in rows),
    }
    if subjects := {row.subject for row in rows if row.subject}:
        counts["subjects"] = len(subjects)
    if any(row.votes for row in rows):
        counts["without_single_label"] = sum(row.label is None for row in rows)
    if splits:
        counts["clips_per_split"] = {split: splits[split] for split in SPLITS if splits[split]}
    if folds:
        counts["clips_per_fold"] = {str(fold): folds[fold] for fold in sorted(folds)}
    # without classes, labels were not read, and zeros would be wrong
    return counts | ({"labels": count_labels(rows, classes)} if classes else {})
