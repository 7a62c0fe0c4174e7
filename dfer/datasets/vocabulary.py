"""From a data set's own classes to those of a pipeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from dfer.config.settings import LabelSettings
from dfer.config.suggestions import did_you_mean
from dfer.datasets.own_columns import VOTES_PREFIX
from dfer.datasets.report import EXAMPLES, Finding, IngestReport, Severity
from dfer.datasets.table import SHARES, with_classes
from dfer.labels import class_name, classes_of, majority


def known_classes(own: Sequence[str], labels: LabelSettings) -> tuple[str, ...]:
    """Those of the pipeline's classes that a data set with the classes `own` has, in the pipeline's order."""
    names = set(_targets(own, labels))
    return tuple(name for name in labels.classes if name in names)


def in_classes(
    table: pd.DataFrame, report: IngestReport, labels: LabelSettings, *, own_names: bool = False
) -> tuple[pd.DataFrame, IngestReport]:
    """A clip table in the pipeline's classes, and the report with a note of what that has cost; a data set that cannot
    be used as it was.

    Classes are matched by name, after `merge`. A clip whose label is a class that the pipeline does not have is left
    out; so is one without a label of which no vote is left. Votes for such classes are left out, and of published
    shares the rest is scaled to sum to 1. A label that was the winner of its votes is the winner of the merged votes:
    with another class ahead it changes, with several level it is lost; the report counts both. It is an error of the
    data set if no label is left.

    Args:
        own_names: the user has named the data set's classes, so that other names than the pipeline's may be mistakes:
            they are warnings then.
    """
    if report.fatal:
        return table, report
    own = classes_of(table) if len(table) else report.classes
    if own == labels.classes:
        return table, report
    names = _targets(own, labels)
    target = np.array([labels.classes.index(name) if name in labels.classes else -1 for name in names])
    matrix = (target[:, None] == np.arange(len(labels.classes))).astype(np.int64)  # own class -> pipeline's
    votes = [None if row is None else _nonzero(tuple((np.array(row) @ matrix).tolist())) for row in table["votes"]]
    shares = [_scaled(row, matrix) for row in table.get(SHARES.name, [None] * len(table))]
    label: list[int | None] = []
    lost: list[bool] = []
    for old, counts, left, share in zip(table["label"], table["votes"], votes, shares, strict=True):
        if pd.isna(old):
            label.append(None)
            lost.append(counts is not None and left is None and share is None)
        else:
            won = counts is not None and left is not None and majority(counts) == old
            label.append(majority(left) if won and left is not None and target[old] >= 0 else int(target[old]))
            lost.append(bool(target[old] < 0))
    kept = ~np.array(lost, dtype=bool)
    result = table.assign(votes=pd.Series(votes, index=table.index, dtype=object))
    result["label"] = pd.Series(label, index=table.index, dtype="Int64")
    if SHARES.name in table:
        result[SHARES.name] = pd.Series(shares, index=table.index, dtype=object)
    result = with_classes(result[kept].reset_index(drop=True), labels.classes)
    clips = Counter(own[int(old)] for old in table.loc[~kept, "label"].dropna())
    known = known_classes(own, labels)
    return result, replace(
        report,
        classes=labels.classes,
        known=known if len(known) < len(labels.classes) else (),
        findings=(
            *report.findings,
            *([_no_label_left(own, labels)] if result["label"].isna().all() and table["label"].notna().any() else []),
            *_notes(report, own, names, labels, clips, table[~kept], own_names=own_names),
            *_other_labels(table[kept], target, result),
        ),
    )


def in_order(table: pd.DataFrame, candidates: Iterable[LabelSettings]) -> pd.DataFrame:
    """A clip table with its classes in the order of the first candidate that has the same ones, if one has."""
    own = classes_of(table)
    report = IngestReport("", "", (), classes=own)
    same = (labels for labels in candidates if sorted(labels.classes) == sorted(own) and not labels.merge)
    return next((in_classes(table, report, labels)[0] for labels in same), table)


def unknown_merges(data_sets: Iterable[Sequence[str]], labels: LabelSettings) -> list[Finding]:
    """A warning of classes that `labels.merge` names and no data set has; `data_sets` are the classes of each."""
    known = {class_name(name) for own in data_sets for name in own}
    unknown = [f"{name}{did_you_mean(name, known)}" for name, _ in labels.merge if name not in known]
    message = "classes that labels.merge names and no data set has"
    return [Finding("unknown_merges", "warning", message, len(unknown), tuple(unknown[:EXAMPLES]))] if unknown else []


def _targets(own: Iterable[str], labels: LabelSettings) -> list[str]:
    merge = dict(labels.merge)
    return [merge.get(class_name(name), class_name(name)) for name in own]


def _nonzero(votes: tuple[int, ...]) -> tuple[int, ...] | None:
    return votes if any(votes) else None


def _scaled(shares: tuple[float, ...] | None, matrix: np.ndarray) -> tuple[float, ...] | None:
    if shares is None:
        return None
    rest = np.array(shares) @ matrix
    return tuple((rest / rest.sum()).tolist()) if rest.sum() > 0 else None


def _no_label_left(own: Sequence[str], labels: LabelSettings) -> Finding:
    message = (
        f"no clip has a label of this pipeline's classes ({', '.join(labels.classes)}); the data set has those below: "
        "name them in labels.classes"
    )
    return Finding("no_label_left", "error", message, len(own), tuple(own[:EXAMPLES]))


def _other_labels(table: pd.DataFrame, target: np.ndarray, result: pd.DataFrame) -> Iterable[Finding]:
    """Labels that merged votes take away or change; `target`: own class -> the pipeline's, `result`: the same clips."""
    classes = classes_of(result)
    lost, changed = [], []
    for clip, old, new in zip(table["clip_id"], table["label"], result["label"], strict=True):
        if pd.isna(old):
            continue
        by_name = classes[target[old]]
        if pd.isna(new):
            lost.append(f"{clip}: {by_name}")
        elif classes[new] != by_name:
            changed.append(f"{clip}: {by_name} to {classes[new]}")
    if lost:
        message = (
            "clips that lose their label, since several classes have most of the merged votes (labels.merge): no arm "
            "is tested on them"
        )
        yield Finding("lost_labels", "warning", message, len(lost), tuple(lost[:EXAMPLES]))
    if changed:
        message = "clips whose label changes, since another class has most of the merged votes (labels.merge)"
        yield Finding("changed_labels", "warning", message, len(changed), tuple(changed[:EXAMPLES]))


def _notes(
    report: IngestReport,
    own: Sequence[str],
    names: Sequence[str],
    labels: LabelSettings,
    clips: Counter[str],
    lost: pd.DataFrame,
    *,
    own_names: bool,
) -> Iterable[Finding]:
    severity: Severity = "warning" if own_names else "note"
    merged = [f"{name} counts as {other}" for name, other in zip(own, names, strict=True) if class_name(name) != other]
    if merged:
        yield Finding(
            "merged_classes", "note", "classes that count as others (labels.merge)", len(merged), tuple(merged)
        )
    if missing := [name for name, other in zip(own, names, strict=True) if other not in labels.classes]:
        shown = [f"{name}: {clips[name]} clips" for name in missing]
        message = (
            "classes that this pipeline does not have: their clips and votes are left out. To keep them, add them to "
            "labels.classes, or let them count as another (labels.merge)"
        )
        if own_names:
            first = lost.drop_duplicates("label").dropna(subset="label")
            pairs = zip(first["label"], first["clip_id"], strict=True)
            example = {own[int(label)]: f", such as {clip}" for label, clip in pairs}
            shown = [text + example.get(name, "") for name, text in zip(missing, shown, strict=True)]
        if report.classes_are_columns:
            message += (
                ". Every column of numbers was taken for votes: if these hold none, call those with votes "
                f"{VOTES_PREFIX} and the class"
            )
        yield Finding("left_out_classes", severity, message, len(missing), tuple(shown[:EXAMPLES]))
    if unlabelled := int(lost["label"].isna().sum()):
        message = "clips without a label whose votes are all for such classes; they are left out"
        yield Finding(
            "left_out_votes", "note", message, unlabelled, tuple(lost["clip_id"][lost["label"].isna()][:EXAMPLES])
        )
    absent = [name for name in labels.classes if name not in names]
    if absent:
        message = "classes of this pipeline that the data set does not have"
        if own_names:
            unused = [name for name, other in zip(own, names, strict=True) if other not in labels.classes]
            absent = [name + did_you_mean(name, unused) for name in absent]
        yield Finding("absent_classes", severity, message, len(absent), tuple(absent))
