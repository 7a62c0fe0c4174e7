"""What the labels, votes, splits and folds of one's own clips mean for a training, and folds where there are none."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from dfer.datasets.own_folds import made_folds
from dfer.datasets.own_rows import Record
from dfer.datasets.report import Problems, Rules
from dfer.datasets.table import SPLITS

CHECK_RULES: Rules = {
    "one_class": ("error", "all clips have the same class: two or more are needed"),
    "fold_and_split": ("error", "a column of folds and one of splits: keep one, since they may contradict each other"),
    "split_parts": ("error", "parts without a clip: expected train, and test or val"),
    "one_fold": ("error", "all clips are in the same fold, so that nothing would be trained on: number them from 1"),
    "empty_group": (
        "error",
        "rows without a subject (or a source, where there is no subject), by which the folds are made: fill in all, or "
        "delete the column",
    ),
    "one_group": (
        "error",
        "all clips have the same subject (or source), so that no folds can be made of it: delete the column, or add a "
        "column split or fold",
    ),
    "no_votes": ("warning", "classes that nobody voted for; leave out their columns, or leave them as they are"),
    "one_clip": ("warning", "classes with one clip, which is either trained or tested on: add clips, or rename it"),
    "one_part": (
        "warning",
        "classes all of whose clips are in the same fold or part, so that they are never both trained and tested on",
    ),
    "shared_groups": (
        "warning",
        "subjects or sources that are trained and tested on at the same time: scores are too good for new people",
    ),
    "empty_subject": ("warning", "rows without a subject"),
    "votes_total": ("note", "clips with another number of votes than most; soft labels divide by their own number"),
    "never_first": ("note", "classes that some voted for, but that are no clip's label: they have no recall"),
    "folds_by_subject": ("note", "folds were made: no subject is in two of them"),
    "folds_by_source": ("note", "folds were made: no source is in two of them; the people are not known"),
    "folds_by_clip": (
        "note",
        "folds were made, clip by clip: where a person is in several clips, scores are too good. To keep people apart, "
        "add a column subject (or source)",
    ),
}


def check_votes(clips: Sequence[Record], classes: Sequence[str], problems: Problems) -> None:
    """What votes and labels do to classes."""
    votes = [record.facts.votes for record in clips if record.facts.votes is not None]
    totals = Counter(map(sum, votes))
    if len(totals) > 1:
        usual = max(totals, key=lambda total: (totals[total], total))
        problems["votes_total"] += [
            f"{place(record)}: {sum(record.facts.votes)} instead of {usual}"
            for record in clips
            if record.facts.votes is not None and sum(record.facts.votes) != usual
        ]
    labels = Counter(record.facts.label for record in clips)
    for name, number in zip(classes, map(sum, zip(*votes, strict=True)), strict=False):
        if number == 0:
            problems["no_votes"].append(name)
        elif not labels[name]:
            problems["never_first"].append(f"{name}: {number} votes")
    if clips and len([name for name in classes if labels[name]]) < 2:
        problems["one_class"].append(", ".join(name for name in classes if labels[name]) or "no clip has a label")
    problems["one_clip"] += [
        f"{name}: {place(next(record for record in clips if record.facts.label == name))}"
        for name in classes
        if labels[name] == 1
    ]


def folds_of(clips: Sequence[Record], problems: Problems) -> list[int | None]:
    """The fold of each clip: the table's, or one that is made; None where there are splits."""
    facts = [record.facts for record in clips]
    has_fold, has_split = any(one.fold is not None for one in facts), any(one.split is not None for one in facts)
    by = "subject" if any(one.subject for one in facts) else "source" if any(one.source for one in facts) else "clip"
    lacking = [place(record) for record in clips if by != "clip" and not getattr(record.facts, by)]
    if has_fold and has_split:
        problems["fold_and_split"].append("fold and split")
    if has_fold or has_split:
        problems["empty_subject"] += lacking if by == "subject" else []
        return [one.fold for one in facts]
    problems["empty_group"] += lacking
    if lacking or len(clips) < 2:
        return [None] * len(clips)
    groups = [record.path if by == "clip" else str(getattr(record.facts, by)) for record in clips]
    if len(set(groups)) < 2:
        problems["one_group"].append(f"{by} {groups[0]}")
        return [None] * len(clips)
    folds = made_folds(groups, [one.label for one in facts])
    problems[f"folds_by_{by}"].append(f"{len(set(groups))} {by}s in {len(set(folds))} folds")
    return list(folds)


def check_parts(clips: Sequence[Record], folds: Sequence[int | None], problems: Problems) -> None:
    """What a split or folds do to classes and people."""
    parts: list[int | str | None] = [record.facts.split for record in clips]
    if any(parts):
        if "train" not in parts or not {"val", "test"} & set(parts):
            problems["split_parts"].append(f"found {', '.join(s for s in SPLITS if s in parts)} alone")
    else:
        parts = list(folds)
        if clips and None not in parts and len(set(parts)) == 1:
            problems["one_fold"].append(f"fold {parts[0]}")
    # validation and test part are the same to the training
    sides = ["test" if part == "val" else part for part in parts]
    of_class = _sets((r.facts.label, side) for r, side in zip(clips, sides, strict=True) if r.facts.label)
    numbers = Counter(record.facts.label for record in clips)
    problems["one_part"] += [
        f"{name}: {', '.join(map(_part, its))}"
        for name, its in of_class.items()
        if len(its) == 1 and None not in its and numbers[name] > 1 and len(set(sides)) > 1
    ]
    if not any(problems.get(f"folds_by_{by}") for by in ("subject", "source", "clip")):
        for kind in ("subject", "source"):
            groups = [getattr(record.facts, kind) for record in clips]
            shared = _sets((name, side) for name, side in zip(groups, sides, strict=True) if name and side is not None)
            problems["shared_groups"] += [
                f"{kind} {name}: {', '.join(map(_part, sorted(its, key=str)))}"
                for name, its in shared.items()
                if len(its) > 1
            ]


def _sets(pairs: Iterable[tuple[str | None, int | str | None]]) -> dict[str, set[int | str | None]]:
    sets: dict[str, set[int | str | None]] = defaultdict(set)
    for name, part in pairs:
        sets[str(name)].add(part)
    return sets


def _part(part: int | str | None) -> str:
    return f"fold {part}" if isinstance(part, int) else str(part)


def place(record: Record) -> str:
    """Where a clip is named, for messages."""
    return record.path if record.where == record.path else f"{record.where}: {record.path}"
