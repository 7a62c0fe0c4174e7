"""A picture of what was predicted: the probabilities of each person, stacked over time, with pictures of the face."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from dfer.plots import INK, QUIET, RED, bare, save
from dfer.prediction import table as tables
from dfer.prediction.colours import of_classes
from dfer.prediction.film import FilmResult, Person
from dfer.system.paths import printable

MOST_PEOPLE = 6
"""People who are drawn; of more, the most prominent ones."""

_WIDTH, _OF_PERSON, _REST = 12.0, 2.0, 1.1  # inches
_DPI = 140
_FACE = 0.72  # inches, side of a face


def write(result: FilmResult, path: Path, *, title: str, warning: str = "") -> None:
    """Write the timeline of a video as PNG. `title` and `warning` are lines above it."""
    save(draw(result, title=title, warning=warning), path)


def draw(result: FilmResult, *, title: str, warning: str = "") -> Figure:
    """The timeline of a video; arguments as for `write`."""
    classes = tables.classes_of(result.table)
    people = result.people[:MOST_PEOPLE]
    figure = Figure(figsize=(_WIDTH, _REST + _OF_PERSON * len(people)), layout="constrained")
    begin, end = float(result.times[0]), result.end
    every = np.atleast_1d(figure.subplots(len(people), 1, sharex=True))
    for axes, person in zip(every, people, strict=True):
        rows = result.table[result.table["person"] == person.number]
        _stack(axes, rows, of_classes(classes))
        _faces(axes, person, begin, end)
        axes.set_xlim(begin, end)
        axes.set_ylim(0, 1)
        axes.set_yticks([0, 0.5, 1])
        axes.set_ylabel(f"person {person.number}", fontsize=9, color=INK)
        bare(axes)
    every[-1].xaxis.set_major_formatter(FuncFormatter(lambda at, _: _clock(at, end - begin)))
    every[-1].set_xlabel("time in the video" + (" (seconds)" if end - begin < 120 else ""), fontsize=9)
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 8), frameon=False, fontsize=9)
    more = len(result.people) - len(people)
    hidden = f" (the {MOST_PEOPLE} most prominent of {len(result.people)} people)" if more else ""
    figure.suptitle(printable(f"{title}{hidden}"), fontsize=11, x=0.01, ha="left", color=INK)
    if warning:
        every[0].set_title(warning, fontsize=8.5, loc="right", color=RED, pad=_FACE * 72 + 10)
    return figure


def runs(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """One person's rows, in order, cut where they are away: where a window begins after the one before has ended."""
    anew = (rows["start"].to_numpy()[1:] > rows["end"].to_numpy()[:-1]).cumsum()
    for _, part in rows.groupby(np.concatenate([[0], anew])):
        yield part


def edges(run: pd.DataFrame) -> NDArray[np.float64]:
    """The times from and to which each of N rows counts, float64[N + 1]: half-way between the windows' middles."""
    middles = (run["start"].to_numpy() + run["end"].to_numpy()) / 2
    return np.concatenate([[run["start"].iloc[0]], (middles[1:] + middles[:-1]) / 2, [run["end"].iloc[-1]]])


def _stack(axes: Axes, rows: pd.DataFrame, colours: Sequence[str]) -> None:
    classes = tables.classes_of(rows)
    for number, run in enumerate(runs(rows)):
        x = np.repeat(edges(run), 2)[1:-1]
        shares = np.repeat(tables.probabilities_of(run), 2, axis=0).T
        names = classes if number == 0 else [f"_{name}" for name in classes]  # of a legend's entries one is enough
        axes.stackplot(x, shares, colors=colours, labels=names, linewidth=0)
        for _, row in run[~run["answered"]].iterrows():
            axes.axvspan(row["start"], row["end"], color="white", alpha=0.25, linewidth=0)
    axes.axhline(0.5, color=QUIET, linewidth=0.5)


def _faces(axes: Axes, person: Person, begin: float, end: float) -> None:
    """Faces above the axes, each at its time, as far as they do not cover each other."""
    free_from = -np.inf
    width = (end - begin) * 1.2 * _FACE / _WIDTH
    for at, face in sorted(person.thumbnails, key=lambda one: one[0]):
        if at >= free_from:
            picture = OffsetImage(face, zoom=_FACE * 72 / face.shape[0])
            place = AnnotationBbox(
                picture, (at, 1.0), xycoords=("data", "axes fraction"), box_alignment=(0.5, -0.05), frameon=False, pad=0
            )
            axes.add_artist(place)
            free_from = at + width


def _clock(at: float, duration: float) -> str:
    if duration < 120:
        return f"{at:g}"
    minutes, seconds = divmod(round(at), 60)
    return f"{minutes}:{seconds:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
