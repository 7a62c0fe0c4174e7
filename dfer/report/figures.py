"""The report's charts, narrow enough for a phone, and strips of frames; for the page and as files for papers."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from dfer.plots import (
    ACCENT,
    AMBER,
    ARM_COLOURS,
    INK,
    QUIET,
    RED,
    TILE,
    bare,
    curve,
    heat_map,
    row_shares,
    shown_losses,
)
from dfer.report.numbers import HEADLINES, ArmNumbers, DatasetNumbers
from dfer.sampling import segment_indices
from dfer.shards import open_shard
from dfer.storage.jpeg import encode_jpeg
from dfer.storage.remote import Location, below

WIDTH = 3.7  # inches; at the page's scale as wide as a phone
SYSTEM_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
DPI = 200
CURVE_POINTS = 300  # more do not show


def as_svg(figure: Figure) -> str:
    """The figure as SVG whose words are words, in the reader's system font."""
    text = io.StringIO()
    # the same numbers give the same file, so names inside it must not be random
    with rc_context({"svg.hashsalt": "dfer", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"'DejaVu Sans'[^;\"]*", SYSTEM_FONTS, text.getvalue())


def as_png(figure: Figure, path: Path) -> None:
    """The figure as a PNG file."""
    figure.savefig(path, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    figure.set_layout_engine("none")  # it has been laid out, which takes longer than to draw it


def data_uri(content: bytes | str, kind: str) -> str:
    """`content` as a URL that holds it; `kind` is a media type such as image/jpeg."""
    raw = content.encode() if isinstance(content, str) else content
    return f"data:{kind};base64,{base64.b64encode(raw).decode('ascii')}"


def intervals(arms: Sequence[ArmNumbers], names: Sequence[str]) -> Figure:
    """WAR and UAR of every arm with their 95 % intervals, the first arm on top.

    Dotted: what always answering the most frequent class would give, which for UAR is also chance.
    """
    figure = Figure(figsize=(WIDTH, 1.0 + 0.26 * len(arms) * 2), layout="constrained")
    for axes, metric in zip(figure.subplots(2, 1, sharex=True), HEADLINES, strict=True):
        for place, arm in enumerate(arms):
            interval = arm.intervals[metric]
            colour = arm_colour(place)
            axes.plot([100 * interval.low, 100 * interval.high], [place, place], color=colour, linewidth=2.2)
            axes.plot(100 * interval.estimate, place, "o", color=colour, markersize=5)
        axes.set_yticks(range(len(arms)), names)
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.axvline(100 * _one_answer(arms[0], metric), color=QUIET, linewidth=0.8, linestyle=":")
        axes.set_title(f"{metric.upper()}, % (dotted: one class for all)", fontsize=8.5, loc="left")
        _bare(axes)
        axes.tick_params(axis="y", length=0)
    return figure


def by_length(arms: Sequence[ArmNumbers], metric: str) -> Figure:
    """WAR or UAR over the number of epochs, with 95 % intervals: a line for each network and arm."""
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplots()
    several = len({arm.result.model for arm in arms}) > 1
    lines: dict[str, list[ArmNumbers]] = {}
    for arm in arms:
        lines.setdefault(arm.result.name if several else arm.result.arm, []).append(arm)
    for place, (name, some) in enumerate(lines.items()):
        some = sorted(some, key=lambda arm: arm.result.epochs or 0)
        scores = [arm.intervals[metric] for arm in some]
        # beside one another, where arms of the same length would hide each other
        at = [(arm.result.epochs or 0) * 1.03 ** (place - (len(lines) - 1) / 2) for arm in some]
        lows, highs = [100 * score.low for score in scores], [100 * score.high for score in scores]
        axes.vlines(at, lows, highs, color=arm_colour(place), linewidth=1, alpha=0.6)
        estimates = [100 * score.estimate for score in scores]
        axes.plot(at, estimates, "o-", color=arm_colour(place), markersize=4, label=name)
    axes.set_xscale("log")
    epochs = sorted({arm.result.epochs or 0 for arm in arms})
    axes.set_xticks(epochs, [str(number) for number in epochs])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    finish(figure, axes, "epochs of the training", f"{metric.upper()}, %")
    return figure


def _one_answer(arm: ArmNumbers, metric: str) -> float:
    """WAR or UAR of always answering the most frequent class."""
    clips = arm.confusion.sum(axis=1)
    return float(clips.max() / clips.sum()) if metric == "war" else 1 / int((clips > 0).sum())


def gflops(arm: ArmNumbers) -> float | None:
    """GFLOPs of one clip's forward pass, as the arm's training counted them; None of trainings that did not."""
    return next((run.training["network"]["gflops"] for run in arm.result.runs if "network" in run.training), None)


def work(arms: Sequence[ArmNumbers]) -> Figure:
    """UAR with its 95 % interval against GFLOPs, a colour for each way to train and the name of each network once."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    kinds = list(dict.fromkeys(arm.result.arm for arm in arms))
    for place, kind in enumerate(kinds):
        # beside one another, where arms of the same network would hide each other
        shown = [(gflops(arm) * 1.06 ** (place - (len(kinds) - 1) / 2), arm) for arm in arms if arm.result.arm == kind]
        for at, arm in shown:
            interval = arm.intervals["uar"]
            axes.plot(
                [at, at], [100 * interval.low, 100 * interval.high], color=arm_colour(place), linewidth=1, alpha=0.5
            )
        scores = [100 * arm.intervals["uar"].estimate for _, arm in shown]
        axes.plot([at for at, _ in shown], scores, "o", color=arm_colour(place), markersize=4.5, label=kind)
    tops: dict[str, float] = {}
    for arm in arms:
        tops[arm.result.model] = max(tops.get(arm.result.model, 0.0), 100 * arm.intervals["uar"].high)
    for at, networks in _side_by_side({arm.result.model: gflops(arm) or 0.0 for arm in arms}):
        axes.annotate(
            "\n".join(networks),  # beside one another, since they are turned
            (at, max(tops[network] for network in networks)),
            (0, 3),
            textcoords="offset points",
            rotation=90,
            fontsize=6,
            linespacing=0.95,
            ha="center",
            va="bottom",
            color=INK,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylim(0, 1.4 * max(tops.values()))
    finish(figure, axes, "GFLOPs of one clip", "UAR, %")
    return figure


def _side_by_side(gflops: Mapping[str, float]) -> list[tuple[float, list[str]]]:
    """Networks whose names would lie on one another, together, and where: those within a sixth of the first."""
    groups: list[tuple[float, list[str]]] = []
    for network, work in sorted(gflops.items(), key=lambda item: item[1]):
        if groups and work < 1.17 * groups[-1][0]:
            groups[-1][1].append(network)
        else:
            groups.append((work, [network]))
    return groups


def per_class(arms: Sequence[ArmNumbers], names: Sequence[str]) -> Figure:
    """Recall of each class with 95 % intervals, a bar an arm; a class without clips has none."""
    classes = arms[0].classes
    figure = Figure(figsize=(WIDTH, 0.9 + len(classes) * (0.14 + 0.1 * len(arms))), layout="constrained")
    axes = figure.subplots()
    height = 0.84 / len(arms)
    for place, (arm, name) in enumerate(zip(arms, names, strict=True)):
        at = np.arange(len(classes)) + (place - (len(arms) - 1) / 2) * height
        scores = [arm.intervals[name] for name in classes]
        estimates = 100 * np.array([score.estimate for score in scores])
        ends = 100 * np.array([[score.low for score in scores], [score.high for score in scores]])
        errors = np.abs(ends - estimates)
        axes.barh(
            at,
            estimates,
            height * 0.9,
            color=arm_colour(place),
            label=name,
            xerr=errors,
            error_kw={"elinewidth": 0.7, "ecolor": INK, "alpha": 0.65},
        )
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlim=(0, 100), ylim=(len(classes) - 0.5, -0.5))
    finish(figure, axes, "recall, %", "")
    axes.tick_params(axis="y", length=0)
    return figure


def reliability(arm: ArmNumbers) -> Figure:
    """Accuracy by confidence; the diagonal is a model that knows how often it is right, bars below show the clips."""
    figure = Figure(figsize=(2.6, 2.9))
    margins = {"left": 0.23, "right": 0.96, "bottom": 0.14, "top": 0.97, "hspace": 0.12}
    axes, clips = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1), gridspec_kw=margins)
    bins = arm.reliability
    used = bins[bins["clips"] > 0]
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=":")
    axes.vlines(used["confidence"], used["confidence"], used["accuracy"], color=RED, alpha=0.5, linewidth=2)
    axes.plot(used["confidence"], used["accuracy"], "o-", color=ACCENT, markersize=3.5, linewidth=1.2)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_ylabel("accuracy", fontsize=8)
    clips.bar(bins["low"], bins["clips"], bins["high"] - bins["low"], align="edge", color=QUIET)
    clips.set_xlabel("confidence", fontsize=8)
    clips.set_ylabel("clips", fontsize=8)
    for panel in (axes, clips):
        _bare(panel)
    return figure


def risk_coverage(arms: Sequence[ArmNumbers], names: Sequence[str]) -> Figure:
    """Share wrong among the clips that are most certain, over the share of clips that are answered at all."""
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplots()
    for place, (arm, name) in enumerate(zip(arms, names, strict=True)):
        risks = arm.risk_coverage
        risks = risks.iloc[np.unique(np.linspace(0, len(risks) - 1, CURVE_POINTS).round().astype(int))]
        label = f"{name} ({arm.aurc:.2f})"
        axes.plot(100 * risks["coverage"], 100 * risks["risk"], color=arm_colour(place), label=label)
    axes.set(xlim=(0, 100), ylim=(0, None))
    finish(figure, axes, "answered, % of the clips", "wrong, % of those")
    return figure


def by_ambiguity(arms: Sequence[ArmNumbers], names: Sequence[str]) -> Figure:
    """WAR by the entropy of the votes, of arms that have votes."""
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    axes = figure.subplots()
    for place, (arm, name) in enumerate(zip(arms, names, strict=True)):
        assert arm.voters is not None
        bins = arm.voters.bins
        axes.plot(bins["entropy"], 100 * bins["war"], "o-", color=arm_colour(place), markersize=4, label=name)
    axes.set_ylim(0, 100)
    finish(figure, axes, "mean entropy of the votes, nats", "WAR, %")
    return figure


def histories(arm: ArmNumbers) -> list[pd.DataFrame]:
    """The histories of the arm's runs that have one, indexed by epoch."""
    return [pd.DataFrame(run.history).set_index("epoch") for run in arm.result.runs if run.history]


def learning_curves(arm: ArmNumbers) -> Figure:
    """Loss (see `shown_losses`), and the shares right where they were computed, over the epochs; a thin line a run."""
    figure = Figure(figsize=(WIDTH, 2.2), layout="constrained")
    loss, right = figure.subplots(1, 2)
    curves = (
        ("training", "train_accuracy", QUIET),
        ("inner validation, UAR", "validation_uar", AMBER),
        ("test fold, UAR", "monitor_uar", ACCENT),
    )
    losses, what = shown_losses(histories(arm))
    for history, values in zip(histories(arm), losses, strict=True):
        loss.plot(values.index, values, color=INK, linewidth=1, alpha=0.7)
        for name, column, colour in curves:
            curve(right, history, column, scale=100, color=colour, linewidth=1.1, label=name)
    loss.set_title("\n".join(wrap(what, 20)), fontsize=8.5, loc="left")
    right.set_title("right, %", fontsize=8.5, loc="left")
    right.set_ylim(0, 100)
    right.axhline(100 * _one_answer(arm, "uar"), color=QUIET, linewidth=0.8, linestyle=":")
    lines, labels = right.get_legend_handles_labels()
    unique = dict(zip(labels, lines, strict=True))
    if unique:
        figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=2, frameon=False, fontsize=7.5)
    for axes in (loss, right):
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch", fontsize=8)
        _bare(axes)
    return figure


def class_distribution(dataset: DatasetNumbers) -> Figure:
    """Clips of each class by their single label (Fig. 4)."""
    figure = Figure(figsize=(WIDTH, 0.3 * len(dataset.distribution)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(dataset.distribution), list(dataset.distribution.values()), color=ACCENT, height=0.7)
    axes.bar_label(bars, padding=3, color=INK, fontsize=8, fmt="{:,.0f}")
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.set_xticks([])
    _bare(axes)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def coexistence(matrix: pd.DataFrame) -> Figure:
    """Mean soft label of the clips of each class (Fig. 5), rows = class of the single label."""
    shares = matrix.to_numpy("float64")
    return _heat_map(shares, [str(name) for name in matrix.columns], "mean share of the votes, %", "single label")


def confusion(counts: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Confusion matrix int64[K, K], rows = true class, as shares of the row (Fig. 6)."""
    return _heat_map(row_shares(counts), classes, "predicted, % of the row", "true")


def frames_of_clip(root: Location, shard: str, row: int, num_segments: int) -> bytes:
    """The frames that the network sees, side by side, as JPEG; OSError or ShardError if they cannot be read."""
    clips = open_shard(below(root, shard))
    frames = clips.read(row, segment_indices(clips.num_frames(row), num_segments, train=False)).frames
    tiles = [cv2.resize(frame, (TILE, TILE), interpolation=cv2.INTER_AREA) for frame in frames]
    return encode_jpeg(np.asarray(cv2.cvtColor(np.hstack(tiles), cv2.COLOR_RGB2BGR), np.uint8), quality=85)


def _heat_map(shares: npt.NDArray[np.float64], classes: Sequence[str], across: str, down: str) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.subplots(gridspec_kw={"left": 0.2, "right": 0.99, "bottom": 0.2, "top": 0.99})
    heat_map(axes, shares, lambda share: f"{100 * share:.0f}", classes, text_size=min(10, 70 / len(classes)))
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(down, fontsize=8)
    return figure


def finish(figure: Figure, axes: Axes, across: str, down: str) -> None:
    """Name the axes, and put the legend on top."""
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(down, fontsize=8)
    handles, labels = axes.get_legend_handles_labels()
    long = max(map(len, labels), default=0) > 22
    figure.legend(
        handles, labels, loc="outside upper left", ncols=1 if long else 2, frameon=False, fontsize=7.5, handlelength=1.6
    )
    _bare(axes)


def arm_colour(place: int) -> str:
    """Of the arm with this place in a chart."""
    return ARM_COLOURS[place % len(ARM_COLOURS)]


def _bare(axes: Axes) -> None:
    bare(axes)
    axes.spines[["bottom", "left"]].set_color(QUIET)
    axes.tick_params(color=QUIET)
