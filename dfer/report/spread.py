"""Where the spread of the scores comes from, of arms with several folds or seeds: a table, a picture and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dfer.analysis import variance
from dfer.analysis.variance import COMPONENTS
from dfer.plots import ACCENT, AMBER, GREEN, QUIET
from dfer.report import figures, table
from dfer.report.names import full_name, short_names, where
from dfer.report.numbers import HEADLINES, ArmNumbers, ReportNumbers
from dfer.report.results import SYNTHETIC
from dfer.report.table import DASH, Cell, Column, Table

_PER_CHART = 12
_COLOURS = dict(zip(COMPONENTS, (ACCENT, GREEN, QUIET, AMBER), strict=True))


@dataclass(frozen=True)
class Spread:
    """An arm and `dfer.analysis.variance.decompose` of its WAR."""

    arm: ArmNumbers
    components: pd.DataFrame


def spreads(numbers: ReportNumbers) -> list[Spread]:
    """Of each arm with several runs on its own test parts and none missing, each training once."""
    chosen = []
    for arm in numbers.trained_arms:
        result = arm.result
        own_part = result.trained_on == result.evaluated_on
        if own_part and not arm.is_audit and len(result.runs) > 1 and not result.missing_runs:
            chosen.append(Spread(arm, variance.decompose(result.predictions, HEADLINES[0])))
    return chosen


def as_table(every: Sequence[Spread], numbers: ReportNumbers) -> Table:
    """A row an arm: standard deviations of one run's WAR in points, by where they come from."""

    def of(component: str) -> Column[Spread]:
        def cell(one: Spread) -> Cell:
            row = one.components.loc[component]
            if np.isnan(row["variance"]):
                return Cell("–", small=(row["note"],))
            ends = [100 * np.sqrt(row[end]) for end in ("low", "high")]
            small = [] if np.isnan(row["low"]) else [f"[{ends[0]:.1f}, {ends[1]:.1f}]"]
            return Cell(
                f"{_points(row['variance']):.1f}",
                small=(*small, *filter(None, [row["note"]])),
                value=_points(row["variance"]),
            )

        return Column(component, cell)

    def of_mean(one: Spread) -> Cell:
        known = one.components["of_mean"].clip(lower=0).dropna().sum()
        return Cell(f"{_points(known):.1f}", value=_points(known)) if known > 0 else DASH

    return table.build(
        "spread",
        "Where the spread of WAR comes from",
        [
            Column(
                "arm",
                lambda one: Cell(full_name(one.arm), small=(where(one.arm.result),), url=one.arm.url),
                text=True,
            ),
            *map(of, COMPONENTS),
            Column("of the mean", of_mean),
        ],
        every,
        warnings=(SYNTHETIC,) if numbers.synthetic else (),
        in_words=" ".join(
            f"{full_name(one.arm)}: {variance.in_words(one.components, HEADLINES[0].upper())}" for one in every[:2]
        ),
        notes=(
            "Standard deviations of one run's WAR in points, with 95 % intervals: another seed; another fold; other "
            "clips of the same number, for all seeds alike; and other clips for one seed alone, that is which clips a "
            "training happens to get right. Of the mean: what they add up to for the number that the tables print, the "
            "mean over folds and seeds, as far as they are known. Method of moments (Searle et al. 1992, chapter 4).",
        ),
        page=lambda one: one.arm.url,
    )


def charts(every: Sequence[Spread]) -> Iterator[tuple[str, str, str, Figure]]:
    """File name, caption, words for those who cannot see it, and figure."""
    size = _PER_CHART
    for number, start in enumerate(range(0, len(every), size), 1):
        some = every[start : start + size]
        names = short_names([one.arm for one in some])
        alt = "; ".join(
            f"{name}: {', '.join(f'{part} {share:.0%}' for part, share in _shares(one).items())}"
            for name, one in zip(names, some, strict=True)
        )
        yield f"spread-{number}", "Shares of the variance of the mean WAR", alt, shares(some, names)


def shares(every: Sequence[Spread], names: Sequence[str]) -> Figure:
    """The known parts of the variance of each arm's mean, as shares."""
    figure = Figure(figsize=(figures.WIDTH, 1.1 + 0.3 * len(every)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(every))
    for component in COMPONENTS:
        values = np.array([100 * _shares(one).get(component, 0.0) for one in every])
        if values.any():
            axes.barh(range(len(every)), values, 0.7, left=left, color=_COLOURS[component], label=component)
            left += values
    axes.set_yticks(range(len(every)), names)
    axes.set(xlim=(0, 100), ylim=(len(every) - 0.5, -0.5))
    figures.finish(figure, axes, "% of the known variance", "")
    axes.tick_params(axis="y", length=0)
    return figure


def _shares(one: Spread) -> dict[str, float]:
    """Component -> its share of the known variance of the mean."""
    known = one.components["of_mean"].clip(lower=0).dropna()
    return {str(name): float(value / known.sum()) for name, value in known.items()} if known.sum() > 0 else {}


def _points(squared: float) -> float:
    """The root of a variance of shares, in points; 0 for an estimate below 0."""
    return float(100 * np.sqrt(max(squared, 0.0)))
