"""The table and the pictures of `show: disagreement`: does a model know where people disagree?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from matplotlib.figure import Figure

from dfer.analysis.disagreement import MISCOVERAGE, Disagreement
from dfer.analysis.statistics import Interval
from dfer.config.published import PublishedRow
from dfer.plots import INK, QUIET
from dfer.report import figures, table
from dfer.report.names import file_name, full_name, missing_note, protocol_notes, short_names, where
from dfer.report.numbers import ArmNumbers, ExperimentNumbers
from dfer.report.results import SYNTHETIC
from dfer.report.table import DASH, MINUS, Cell, Column, Table, percent
from dfer.report.tables import SYNTHETIC_PUBLISHED

Row = tuple[ArmNumbers, Disagreement | None]


def rows(experiment: ExperimentNumbers) -> list[Row]:
    """Each arm with its numbers; None for an arm whose clips have no several votes."""
    return list(zip(experiment.arms, experiment.disagreement, strict=True))


def as_table(experiment: ExperimentNumbers) -> Table:
    """A row an arm: entropy, calibration of the distribution, prediction sets, and how many votes it is worth."""
    result = experiment.result

    def of(cell: Callable[[Disagreement], Cell]) -> Callable[[Row], Cell]:
        return lambda row: DASH if row[1] is None else cell(row[1])

    def name(row: Row) -> Cell:
        return Cell(full_name(row[0]), small=(where(row[0].result),), url=row[0].url)

    return table.build(
        file_name(result.name),
        result.title,
        [
            Column("arm", name, lambda row: Cell(row.method, small=(row.citation,)), text=True),
            Column("entropy, rank corr.", of(_correlation), _published("entropy"), mark_best=True),
            Column("entropy, too much by", of(lambda one: _interval(one.entropy.excess))),
            Column("distance to the votes", of(_distance)),
            Column("classwise ECE", of(_classwise)),
            Column("ECE", lambda row: table.number(row[0].calibration["ece"]), _published("ece")),
            Column("AURC", lambda row: table.number(row[0].aurc), _published("aurc")),
            Column("votes in sets, %", of(_coverage)),
            Column("classes in a set", of(_sizes)),
            Column("worth in votes", of(lambda one: _interval(one.worth, digits=1)), mark_best=True),
            Column("clips", of(lambda one: table.count(one.entropy.clips))),
        ],
        rows(experiment),
        published=result.published,
        warnings=[
            *([SYNTHETIC] if experiment.synthetic and experiment.arms else []),
            *([SYNTHETIC_PUBLISHED] if experiment.synthetic and result.published else []),
        ],
        notes=(
            "Of clips with several votes, from the probabilities as read out; 95 % intervals of a bootstrap over "
            "clips. Entropy: rank correlation (Spearman) of the entropy that a model predicts for as many votes as the "
            "clip has with that of its votes, below it about the most that anything could reach with these votes; and "
            "by how many nats it expects more disagreement than there is.",
            "Distance: total variation between prediction and votes, from 0 to 1. Classwise ECE: the mean over "
            "classes. Few votes scatter, so both are above 0 for a model that is right, too: by chance.",
            f"Sets: of classes, made to hold what a voter says in {100 * (1 - MISCOVERAGE):.0f} % of cases, class by "
            "class (conformal, calibrated on other clips). Of two arms that keep this, the one with smaller sets knows "
            "more; its sets should grow with the classes that a clip's voters named.",
            "Worth: how many of a clip's votes tell as much about another voter as the model does. ECE and AURC are of "
            "the single label, as elsewhere.",
            *([f"Published: {result.published.note}"] if result.published and result.published.note else []),
            *protocol_notes(experiment.arms),
            *filter(None, [missing_note(result.rows)]),
        ),
        page=lambda row: row[0].url,
    )


def charts(experiment: ExperimentNumbers) -> Iterator[tuple[str, str, str, Figure]]:
    """File name, caption, words for those who cannot see it, and figure; none without clips with several votes."""
    shown = [(name, one) for name, (_, one) in zip(short_names(experiment.arms), rows(experiment), strict=True) if one]
    if not shown:
        return
    sizes = "; ".join(f"{name}: {one.mean_size:.2f} classes" for name, one in shown)
    yield "sets", "Classes in a prediction set, by how many the voters named", f"Means: {sizes}", set_sizes(shown)
    worth = "; ".join(f"{name}: {one.worth.estimate:.1f} votes" for name, one in shown)
    yield "votes", "What a further vote tells, and what a model is worth", worth, votes_needed(shown)


def set_sizes(arms: list[tuple[str, Disagreement]]) -> Figure:
    """Mean size of the sets over how many classes the clip's voters named, a line an arm; dotted: as many as named."""
    figure = Figure(figsize=(figures.WIDTH, 2.9), layout="constrained")
    axes = figure.subplots()
    most = max(int(one.sizes.index.max()) for _, one in arms)
    axes.plot([1, most], [1, most], color=QUIET, linewidth=0.8, linestyle=":")
    for place, (name, one) in enumerate(arms):
        colour = figures.arm_colour(place)
        axes.plot(one.sizes.index, one.sizes["size"], "o-", color=colour, markersize=4, label=name)
    axes.set_xticks(range(1, most + 1))
    axes.set_ylim(0, None)
    figures.finish(figure, axes, "classes that the clip's voters named", "classes in the set")
    return figure


def votes_needed(arms: list[tuple[str, Disagreement]]) -> Figure:
    """Cross-entropy to a vote that is left out, given n others, with its interval; a line down where an arm is."""
    figure = Figure(figsize=(figures.WIDTH, 2.9), layout="constrained")
    axes = figure.subplots()
    _, first = max(arms, key=lambda arm: arm[1].information.clips)
    votes = first.information.curve
    axes.fill_between(votes["votes"], votes["low"], votes["high"], color=QUIET, alpha=0.25, linewidth=0)
    axes.plot(votes["votes"], votes["cross_entropy"], "o-", color=INK, markersize=3, linewidth=1)
    for place, (name, one) in enumerate(arms):
        at = one.worth.estimate
        own = one.information.curve  # another where it was tested on another data set
        level = float(np.interp(at, own["votes"], own["cross_entropy"]))
        axes.plot([at], [level], "D", color=figures.arm_colour(place), markersize=6, label=f"{name} ({at:.1f})")
    figures.finish(figure, axes, "votes that are known", "cross-entropy to another, nats")
    return figure


def _published(column: str) -> Callable[[PublishedRow], Cell]:
    return lambda row: Cell(f"{row.values[column]:.3f}", value=row.values[column]) if column in row.values else DASH


def _correlation(one: Disagreement) -> Cell:
    cell, ceiling = _interval(one.entropy.correlation), one.entropy.ceiling
    return Cell(cell.text, (*cell.small, *([] if np.isnan(ceiling) else [f"of about {ceiling:.2f}"])), value=cell.value)


def _distance(one: Disagreement) -> Cell:
    cell = _interval(one.distance["total_variation"])
    return Cell(cell.text, (*cell.small, f"{one.distance['by_chance'].estimate:.2f} by chance"), value=cell.value)


def _classwise(one: Disagreement) -> Cell:
    mean, chance = one.by_class["ece"].mean(), one.by_class["ece_by_chance"].mean()
    return Cell(f"{mean:.3f}", (f"{chance:.3f} by chance",), value=float(mean))


def _coverage(one: Disagreement) -> Cell:
    covered = one.coverage["covered"]
    classes = covered.drop("all").dropna()
    return Cell(percent(covered["all"]), (f"{classes.idxmin()} {percent(classes.min())}",), value=float(covered["all"]))


def _sizes(one: Disagreement) -> Cell:
    few = [f"{named} named: {size:.1f}" for named, size in one.sizes["size"].items()][:3]
    return Cell(f"{one.mean_size:.2f}", tuple(few), value=one.mean_size)


def _interval(interval: Interval, digits: int = 2) -> Cell:
    if np.isnan(interval.estimate):
        return DASH
    text, low, high = (
        f"{value:.{digits}f}".replace("-", MINUS) for value in (interval.estimate, interval.low, interval.high)
    )
    return Cell(text, (f"[{low}, {high}]",), value=interval.estimate, low=interval.low, high=interval.high)
