"""Clips that give one another away across the folds of a data set, and what folds without them cost in points."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import matplotlib.image
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dfer.analysis import statistics
from dfer.analysis.leakage import KINDS
from dfer.analysis.statistics import Interval
from dfer.report import figures, table
from dfer.report.content import DatasetFacts, Leakage
from dfer.report.names import file_name, full_name, where
from dfer.report.numbers import HEADLINES, ArmNumbers, ReportNumbers
from dfer.report.results import SYNTHETIC
from dfer.report.table import Cell, Column, Table, difference

TEXT = (
    "A model that was trained on a copy of a test clip, or on another take of its scene, can recognise that instead of "
    "the expression. Disjoint folds are dealt anew, so that no such pair lies in two of them."
)

_SHOWN = 8  # pairs of a data set
_FRAMES = 4  # of each clip
_GAP = 24  # pixels between the two
_LONGEST = 16  # letters of a clip's name


@dataclass(frozen=True)
class Cost:
    """An arm on a data set's own folds and on disjoint ones; `differences`: metric -> disjoint minus official."""

    official: ArmNumbers
    disjoint: ArmNumbers
    differences: dict[str, Interval]


def costs(numbers: ReportNumbers) -> list[Cost]:
    """Every arm that was trained on both, and tested on the folds that its training left out."""
    own = [arm for arm in numbers.arms if arm.result.trained_on == arm.result.evaluated_on and not arm.is_audit]
    pairs = [(one, other) for one in own for other in own if _differ_in_split(one, other)]
    return [
        Cost(one, other, statistics.compare_splits(one.result.predictions, other.result.predictions))
        for one, other in pairs
    ]


def as_tables(numbers: ReportNumbers) -> tuple[Table, ...]:
    """The pairs of each data set, and what folds without them cost; nothing where no folds were made anew."""
    warnings = (SYNTHETIC,) if numbers.synthetic else ()
    found = [dataset.facts for dataset in numbers.datasets if dataset.facts.leakage is not None]
    if not found:
        return ()
    both = costs(numbers)
    leaky = {facts.name: int(facts.leakage.pairs["across"].sum()) for facts in found if facts.leakage is not None}
    return (_of_pairs(found, warnings), *((_of_costs(both, leaky, warnings),) if both else ()))


def charts(numbers: ReportNumbers) -> Iterator[tuple[str, str, str, Figure]]:
    """File name, caption, words for those who cannot see it, and figure: the surest pairs of each data set."""
    for dataset in numbers.datasets:
        facts = dataset.facts
        if facts.leakage is None or facts.index is None:
            continue
        surest = _surest(facts.leakage.pairs)
        if not len(surest):
            continue
        caption = f"{facts.name}: the surest pairs across official folds; each line is two clips of different folds"
        alt = f"{caption}: " + "; ".join(
            f"{kind}: {one} and {other}"
            for kind, one, other in surest[["kind", "first", "second"]].itertuples(index=False)
        )
        yield f"leakage-{file_name(facts.name)}", caption, alt, strips(surest, facts.index, facts.leakage)


def strips(pairs: pd.DataFrame, index: pd.DataFrame, leakage: Leakage) -> Figure:
    """A line a pair: frames of both clips side by side, below their names and what they have in common."""
    figure = Figure(figsize=(figures.WIDTH, 0.2 + 0.78 * len(pairs)), layout="constrained")
    place = index.set_index("clip_id")[["shard", "row"]]

    def strip(clip: str) -> np.ndarray:
        shard, row = str(place["shard"][clip]), int(place["row"][clip])
        jpeg = figures.frames_of_clip(leakage.stages, shard, row, _FRAMES)
        return np.asarray(matplotlib.image.imread(io.BytesIO(jpeg), format="jpeg"))

    for axes, pair in zip(figure.subplots(len(pairs), squeeze=False)[:, 0], pairs.itertuples(), strict=True):
        how = f"{pair.bits} of 256 bits" if pair.kind == "near-duplicate" else f"likeness {pair.likeness:.2f}"
        what = f"{pair.kind}{', mirrored' if pair.mirrored else ''}, {how}"
        first, second = strip(str(pair.first)), strip(str(pair.second))
        gap = np.full((first.shape[0], _GAP, 3), 255, np.uint8)
        axes.imshow(np.hstack([first, gap, second]))
        axes.set_title(f"{what}: {_end(str(pair.first))} and {_end(str(pair.second))}", fontsize=7, loc="left", pad=2)
        axes.axis("off")
    return figure


def _end(clip: str) -> str:
    """The end of a clip's name, which tells it from others; the whole name is in the picture's description."""
    name = clip.rsplit("/", 1)[-1]
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"


def _differ_in_split(one: ArmNumbers, other: ArmNumbers) -> bool:
    same = [
        (arm.result.name, arm.result.trained_on, arm.result.epochs, arm.result.protocol, len(arm.result.runs))
        for arm in (one, other)
    ]
    return same[0] == same[1] and (one.result.split, other.result.split) == ("official", "disjoint")


def _of_pairs(found: Sequence[DatasetFacts], warnings: Sequence[str]) -> Table:
    def across(kind: str) -> Column[DatasetFacts]:
        def cell(facts: DatasetFacts) -> Cell:
            assert facts.leakage is not None
            of_kind = facts.leakage.pairs[facts.leakage.pairs["kind"] == kind]
            inside = int((~of_kind["across"]).sum())
            return Cell(f"{int(of_kind['across'].sum()):,}", small=(f"{inside:,} more within a fold, or in none",))

        return Column(kind, cell)

    def of_disjoint(facts: DatasetFacts) -> Cell:
        assert facts.leakage is not None
        left = int(facts.leakage.pairs["across_disjoint"].sum())
        return Cell(f"{left:,}", small=(f"{facts.leakage.folds} folds",))

    by = dict.fromkeys(
        f"{facts.name}: clips are compared by {facts.leakage.by}; of the same scene are faces whose likeness is at "
        f"least {facts.leakage.likeness:.2f}, as much as that of the halves of one clip."
        for facts in found
        if facts.leakage is not None
    )
    return table.build(
        "leakage",
        "Pairs of clips across the borders of folds",
        [
            Column("data set", lambda facts: Cell(facts.name), text=True),
            *map(across, KINDS),
            Column("across disjoint folds", of_disjoint),
        ],
        found,
        warnings=warnings,
        notes=(*by, "Likeness is no proof: look at the pairs. dfer analyse leakage writes pictures of all of them."),
    )


def _of_costs(both: Sequence[Cost], leaky: Mapping[str, int], warnings: Sequence[str]) -> Table:
    def score(heading: str, metric: str, disjoint: bool) -> Column[Cost]:
        def cell(cost: Cost) -> Cell:
            arm = cost.disjoint if disjoint else cost.official
            interval = arm.intervals[metric]
            ends = f"[{table.percent(interval.low)}, {table.percent(interval.high)}]"
            return Cell(table.percent(interval.estimate), small=(ends,), url=arm.url, value=interval.estimate)

        return Column(heading, cell)

    def columns(metric: str) -> list[Column[Cost]]:
        name = metric.upper()
        return [
            score(f"{name}, official folds", metric, False),
            score(f"{name}, disjoint folds", metric, True),
            Column(f"{name}: difference", lambda cost: difference(cost.differences[metric])),
        ]

    return table.build(
        "leakage-cost",
        "What folds without such pairs cost",
        [
            Column("arm", lambda cost: Cell(full_name(cost.official), small=(where(cost.official.result),)), text=True),
            *(column for metric in HEADLINES for column in columns(metric)),
        ],
        both,
        warnings=warnings,
        notes=(
            "In percent, and in points of difference, with 95 % intervals of the bootstrap over clips, which are "
            "paired where both test them. What another seed or another way to deal the folds would give is not in the "
            "intervals.",
            *_nothing_to_remove(both, leaky),
        ),
        page=lambda cost: cost.disjoint.url,
    )


def _nothing_to_remove(both: Sequence[Cost], leaky: Mapping[str, int]) -> list[str]:
    """Sets whose own folds have no such pair: what differs there is no leak."""
    names = dict.fromkeys(cost.official.result.trained_on for cost in both)
    return [
        f"No pair lies across the official folds of {name}: its differences are of chance and of other folds."
        for name in names
        if leaky.get(name) == 0
    ]


def _surest(pairs: pd.DataFrame) -> pd.DataFrame:
    """As many pairs of each kind as there is room for."""
    across = pairs[pairs["across"]]
    of_kind = [across[across["kind"] == kind] for kind in KINDS]
    each = max(1, _SHOWN // max(1, sum(bool(len(some)) for some in of_kind)))
    return pd.concat([some.head(each) for some in of_kind])
