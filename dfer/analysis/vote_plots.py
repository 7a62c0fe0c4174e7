"""Pictures of votes, drawn without pyplot like those of `dfer.plots`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from dfer.plots import ACCENT, INK, QUIET, bare, heat_map, save

_BIN = 0.2  # nats


def coexistence(shares: pd.DataFrame, clips: Mapping[str, int], path: Path, *, title: str) -> None:
    """Heat map of `dfer.analysis.votes.coexistence` with its numbers in percent; `clips`: how many a class has.

    The colour follows the square root of the share, so that what coexists a little differs from what never does.
    """
    figure = Figure(figsize=(5.4, 5), layout="constrained")
    axes = figure.subplots()
    classes = [str(name) for name in shares.columns]
    rows = [f"{name} ({clips[name]})" for name in classes]
    root = PowerNorm(0.5, vmin=0, vmax=1)
    numbers = shares.to_numpy("float64")
    heat_map(
        axes,
        numbers,
        lambda share: f"{100 * share:.1f}",
        classes,
        rows=rows,
        norm=root,
        dark=0.35,
        text_size=8.5,
        label_size=9,
    )
    for row in np.flatnonzero(np.isnan(numbers).all(axis=1)):
        middle = (len(classes) - 1) / 2
        axes.text(middle, int(row), "no clip has this label", ha="center", va="center", color=QUIET, fontsize=8.5)
    axes.set_xlabel("mean share of the votes, %", fontsize=9)
    axes.set_ylabel("single label (clips)", fontsize=9)
    axes.set_title(f"{title}: emotions seen together", fontsize=10, loc="left")
    save(figure, path)


def entropy(values: npt.ArrayLike, path: Path, *, title: str) -> None:
    """Histogram of vote entropies (nats); the clips that all annotators agree on are a separate bar at 0."""
    entropies = np.asarray(values, dtype=np.float64)
    figure = Figure(figsize=(6.4, 3), layout="constrained")
    axes = figure.subplots()
    unanimous = entropies == 0
    edges = np.arange(0, max(float(entropies.max()), _BIN) + _BIN, _BIN)
    clips, _ = np.histogram(entropies[~unanimous], edges)
    bar = axes.bar([-_BIN / 2], [unanimous.sum()], _BIN * 0.9, color=QUIET)
    axes.bar_label(bar, [f"all agree\n{100 * unanimous.mean():.0f} %"], fontsize=8, color=INK)
    axes.bar(edges[:-1] + _BIN / 2, clips, _BIN * 0.9, color=ACCENT)
    median = float(np.median(entropies))
    axes.axvline(median, color=INK, linewidth=0.9, linestyle=":")
    axes.annotate(
        f"median {median:.2f}",
        (median, 0.98),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        va="top",
        fontsize=8,
    )
    axes.margins(y=0.2)
    axes.set_xticks(np.arange(0, edges[-1] + _BIN / 2, 2 * _BIN))
    axes.set_xlabel("entropy of a clip's votes, nats", fontsize=9)
    axes.set_ylabel("clips", fontsize=9)
    axes.set_title(f"{title}: how much the annotators disagree ({len(entropies)} clips)", fontsize=10, loc="left")
    bare(axes)
    save(figure, path)


def groups(counts: pd.DataFrame, path: Path, *, title: str, threshold: float) -> None:
    """Clear and other clips of each class, of `dfer.analysis.votes.groups`; classes without clips are left out."""
    shown = counts[counts.sum(axis=1) > 0].iloc[::-1]
    figure = Figure(figsize=(6.4, 0.42 * len(shown) + 1), layout="constrained")
    axes = figure.subplots()
    axes.barh(shown.index, shown["clear"], color=ACCENT, label=f"clear: more than {100 * threshold:.0f} % of the votes")
    bars = axes.barh(shown.index, shown["other"], left=shown["clear"], color="#c3d5ea", label="other")
    totals = shown.sum(axis=1)
    texts = [
        f"{clear} of {total} clear ({100 * clear / total:.0f} %)"
        for clear, total in zip(shown["clear"], totals, strict=True)
    ]
    axes.bar_label(bars, texts, padding=4, fontsize=8, color=INK)
    axes.set_xlim(0, 1.45 * totals.max())
    axes.set_xticks([])
    axes.set_title(f"{title}: clear and other clips", fontsize=10, loc="left")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    bare(axes)
    axes.spines["bottom"].set_visible(False)
    save(figure, path)
