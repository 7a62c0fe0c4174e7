"""The forest plot of a verdict over data sets, drawn without pyplot like the pictures of `dfer.plots`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from dfer.analysis.statistics import Interval
from dfer.analysis.verdict import Verdict
from dfer.plots import ACCENT, INK, QUIET, bare


def forest(
    verdict: Verdict, *, name: str, arms: tuple[str, str], clips: Mapping[str, int], width: float = 6.8
) -> Figure:
    """A row a data set, its difference and interval in points, then the mean over sets as a diamond.

    The squares' areas are the sets' weights. The thin line through the diamond is where a further set's true difference
    would lie, with an arrow where it goes on. `name`: the metric's, for people; `arms`: right of 0 the second is ahead;
    `clips`: data set -> its number; `width`: in inches.
    """
    sets = list(verdict.differences)
    figure = Figure(figsize=(width, 0.42 * len(sets) + 1.6), layout="constrained")
    axes = figure.subplots()
    for row, data_set in enumerate(sets):
        difference = verdict.differences[data_set]
        axes.plot([100 * difference.low, 100 * difference.high], [row, row], color=QUIET, linewidth=1.6, zorder=1)
        size = 20 + 260 * verdict.weights[data_set]
        axes.scatter([100 * difference.estimate], [row], s=size, marker="s", color=ACCENT, zorder=2, linewidths=0)
    bottom = len(sets) + 0.3
    ends = [100 * end for each in (*verdict.differences.values(), verdict.overall) for end in (each.low, each.high)]
    margin = 0.1 * (max(*ends, 0) - min(*ends, 0))
    left, right = min(*ends, 0) - margin, max(*ends, 0) + margin
    if np.isfinite(verdict.prediction.low):
        start, end = max(left, 100 * verdict.prediction.low), min(right, 100 * verdict.prediction.high)
        axes.plot([start, end], [bottom, bottom], color=INK, linewidth=0.9)
        # it goes on beyond the picture
        for at, marker in ((start, "<"), (end, ">")):
            if at in (left, right):
                axes.plot([at], [bottom], marker=marker, color=INK, markersize=5, clip_on=False)
    low, middle, high = (100 * value for value in (verdict.overall.low, verdict.overall.estimate, verdict.overall.high))
    corners = [(low, bottom), (middle, bottom - 0.26), (high, bottom), (middle, bottom + 0.26)]
    axes.add_patch(Polygon(corners, closed=True, color=INK, zorder=3, linewidth=0))
    axes.set_xlim(left, right)
    axes.axvline(0, color=INK, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_yticks(
        [*range(len(sets)), bottom],
        [*(f"{data_set}\n{clips[data_set]:,} clips" for data_set in sets), f"mean over\n{len(sets)} sets"],
    )
    axes.set_ylim(bottom + 0.7, -0.7)
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(
        [*range(len(sets)), bottom],
        [_in_points(interval) for interval in (*verdict.differences.values(), verdict.overall)],
    )
    for side in (axes, beside):
        side.tick_params(axis="y", length=0, labelsize=8, pad=9)
    axes.set_xlabel(f"points of {name}: left of 0 {arms[0]}\nis ahead, right of it {arms[1]}", fontsize=8)
    bare(axes)
    axes.spines["left"].set_visible(False)
    beside.spines["right"].set_visible(False)
    return figure


def _in_points(interval: Interval) -> str:
    estimate, low, high = (round(100 * value, 1) + 0.0 for value in (interval.estimate, interval.low, interval.high))
    return f"{estimate:+.1f} [{low:.1f}, {high:.1f}]"
