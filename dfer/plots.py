"""Pictures of data sets, trainings and evaluations, and the colours and parts that all pictures share.

Figures are drawn without pyplot, so that stages in threads do not share a canvas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from dfer.config.settings import ArmSettings, StageSettings
from dfer.labels import classes_of
from dfer.shards import open_shard
from dfer.storage.jpeg import write_jpeg
from dfer.storage.remote import Location, below

Image = npt.NDArray[np.uint8]

INK, QUIET, ACCENT = "#1f2933", "#9aa5b1", "#2f6db3"
AMBER, PURPLE, GREEN, RED = "#e3a008", "#7c5cbf", "#3a8f6b", "#c2544d"
ARM_COLOURS = (QUIET, AMBER, ACCENT, PURPLE, GREEN, RED)
TILE = 96  # pixels, side of a frame in a strip of frames
INTERPOLATED = (240, 190, 0)  # RGB, the edge of a frame whose face was not detected but lies between two detections


def class_distribution(clips: Mapping[str, int], path: Path, *, title: str) -> None:
    """Clips of each class (for DFEW: Fig. 4)."""
    figure = Figure(figsize=(max(4.2, 0.6 * len(clips)), 2.8), layout="constrained")
    axes = figure.subplots()
    bars = axes.bar(list(clips), list(clips.values()), color=ACCENT)
    axes.bar_label(bars, color=INK, fontsize=8)
    axes.set_title(f"{title}: {sum(clips.values())} clips with a single label", fontsize=10, loc="left")
    axes.tick_params(axis="x", rotation=35, labelsize=8)
    bare(axes)
    axes.set_yticks([])
    save(figure, path)


def confusion(
    matrix: Sequence[Sequence[int]] | npt.ArrayLike, path: Path, *, title: str, classes: Sequence[str]
) -> None:
    """Confusion matrix int[K, K], rows = true class, coloured by the share of the row (the paper's Fig. 6)."""
    counts = np.asarray(matrix)
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.subplots()
    rows = [f"{emotion} ({clips})" for emotion, clips in zip(classes, counts.sum(axis=1), strict=True)]
    shares = row_shares(counts)
    heat_map(axes, shares, lambda share: f"{100 * share:.0f}" if share else "·", classes, rows=rows, text_size=8)
    axes.set_xlabel("predicted, % of the row", fontsize=9)
    axes.set_ylabel("true (clips)", fontsize=9)
    axes.set_title(title, fontsize=10, loc="left")
    save(figure, path)


def row_shares(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Each row over its sum, float64; nan for a row without clips."""
    clips = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, clips, out=np.full(counts.shape, np.nan), where=clips > 0)


def heat_map(
    axes: Axes,
    shares: npt.NDArray[np.float64],
    text: Callable[[float], str],
    classes: Sequence[str],
    *,
    rows: Sequence[str] = (),
    norm: Normalize | None = None,
    dark: float = 0.55,
    text_size: float = 10,
    label_size: float = 8,
) -> None:
    """Draw shares float64[K, K] in [0, 1] as `text` writes them, the classes as columns; nan is left blank.

    `rows` are called as the classes if nothing else is said. Shares above `dark` are written in white; `norm` makes the
    shares colours, linearly if None. Sizes are in points.
    """
    axes.imshow(shares, cmap="Blues", norm=norm or Normalize(0, 1))
    for (row, column), share in np.ndenumerate(shares):
        if np.isfinite(share):
            colour = "white" if share > dark else INK
            axes.text(column, row, text(share), ha="center", va="center", color=colour, fontsize=text_size)
    axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right", fontsize=label_size)
    axes.set_yticks(range(len(classes)), rows or classes, fontsize=label_size)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def learning_curves(history: Sequence[Mapping[str, Any]], path: Path, *, title: str, num_classes: int) -> None:
    """Loss (see `shown_losses`), and WAR and UAR on the test fold where they were computed, over the epochs."""
    frame = pd.DataFrame(list(history)).set_index("epoch")
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    loss, recall = figure.subplots(1, 2)
    (values,), what = shown_losses([frame])
    loss.plot(values.index, values, color=ACCENT)
    loss.set_title(f"{title}: {what}", fontsize=10, loc="left")
    for name, column, colour in (
        ("train accuracy", "train_accuracy", QUIET),
        ("WAR, test fold", "monitor_war", AMBER),
        ("UAR, test fold", "monitor_uar", ACCENT),
    ):
        curve(recall, frame, column, color=colour, label=name)
    recall.set_ylim(0, 1)
    recall.axhline(1 / num_classes, color=QUIET, linewidth=0.8, linestyle=":")
    recall.set_title("share of clips right (dotted: chance)", fontsize=10, loc="left")
    recall.legend(frameon=False, fontsize=8)
    for axes in (loss, recall):
        axes.set_xlabel("epoch", fontsize=9)
        bare(axes)
    save(figure, path)


LOSS, LOSS_ABOVE_ENTROPY = "training loss", "loss above the targets' entropy"


def shown_losses(histories: Sequence[pd.DataFrame]) -> tuple[list[pd.Series], str]:
    """What is drawn of the losses of trainings that share an axis, in nats, and what that is called.

    No network has a smaller loss than the mean entropy of its targets, and of mixed or softmax-normalised targets that
    is nearly all of the loss. So what is above it is drawn: `loss` minus `target_entropy`, columns of the histories
    (indexed by epoch). Where an epoch does not have the latter, as before it was noted, it is the plain loss for all.
    """
    if all("target_entropy" in history and history["target_entropy"].notna().all() for history in histories):
        return [history["loss"] - history["target_entropy"] for history in histories], LOSS_ABOVE_ENTROPY
    return [history["loss"] for history in histories], LOSS


def curve(axes: Axes, history: pd.DataFrame, column: str, *, scale: float = 1, **style: Any) -> None:
    """Draw a column of a history (indexed by epoch), if it holds numbers; epochs without one are left out."""
    if column in history and history[column].notna().any():
        values = history[column].dropna().astype(float)
        axes.plot(values.index, scale * values, **style)


def aligned_faces(index: pd.DataFrame, root: Location, path: Path, *, clips: int = 16, frames: int = 8) -> None:
    """A sheet of aligned faces: a row a clip, frames over time; interpolated frames have a yellow edge.

    The clips are taken evenly from those of the align index that are ok; its shard folders are relative to `root`.
    """
    kept = index[index["status"] == "ok"]
    chosen = kept.iloc[np.unique(np.linspace(0, len(kept) - 1, min(clips, len(kept))).round().astype(int))]
    rows = []
    for place in chosen.itertuples():
        shard = open_shard(below(root, place.shard))
        positions = np.linspace(0, shard.num_frames(place.row) - 1, frames).round().astype(int)
        clip = shard.read(place.row, positions.tolist())
        rows.append(_captioned(strip(clip.frames, clip.interpolated), [place.clip_id]))
    _write_sheet(rows or [_captioned(np.full((TILE, TILE * frames, 3), 255, np.uint8), ["no clip was kept"])], path)


def training_clips(
    clips: pd.DataFrame,
    index: pd.DataFrame,
    root: Location,
    path: Path,
    *,
    arm: ArmSettings,
    settings: StageSettings,
    number: int = 6,
) -> None:
    """What the network is shown: some training clips as augmented in the first epoch, with their targets.

    With an arm that mixes, these are mixed clips with their mixed labels, before and after the normalisation; not where
    the network is needed for the mixing, which has none of its weights yet.
    """
    import torch

    from dfer.config import catalogue
    from dfer.mixing import mixing_of, normalization_of
    from dfer.training.data import ClipSource
    from dfer.training.targets import has_target, label_distributions

    usable = clips[has_target(clips, arm)]
    some = usable.iloc[np.unique(np.linspace(0, len(usable) - 1, 4 * number).round().astype(int))]
    source = ClipSource(
        some,
        index,
        root,
        num_segments=settings.sampling.num_segments,
        consecutive=settings.sampling.consecutive,
        input_size=settings.model.input_size,
        augment=settings.train.augment,
        seed=settings.train.seed,
    )
    number = min(number, len(source))
    frames = torch.stack([source[row, 1][0] for row in range(number)])
    targets, names = label_distributions(source.clips, arm, settings.train.seed)[:number], classes_of(source.clips)
    captions = [
        [clip_id, _in_words(target, names)] for clip_id, target in zip(source.clips["clip_id"], targets, strict=False)
    ]
    if catalogue.mixing(arm.mixing).needs:
        captions = [[f"{clip_id}, before {arm.mixing}", words] for clip_id, words in captions]
    elif arm.mixing != "none" and number > 1:
        generator = torch.Generator().manual_seed(settings.train.seed)
        mixed, plain = mixing_of(arm, settings.mixing)(frames, targets, generator=generator)
        trained_on = normalization_of(arm)(plain)
        frames = mixed.float().round().to(torch.uint8)
        captions = [
            [f"{row[0]} mixed with another", _in_words(before, names), f"target: {_in_words(after, names)}"]
            for row, before, after in zip(captions, plain, trained_on, strict=True)
        ]
    rows = [
        _captioned(np.hstack([_tile(frame) for frame in clip.permute(0, 2, 3, 1).numpy()]), lines)
        for clip, lines in zip(frames, captions, strict=True)
    ]
    _write_sheet(rows, path)


def _in_words(target: Any, classes: Sequence[str]) -> str:
    """'sad .60, angry .40', the largest first; small shares are left out."""
    order = np.argsort(-np.asarray(target))
    return ", ".join(f"{classes[k]} {float(target[k]):.2f}" for k in order if float(target[k]) >= 0.05)


def strip(frames: Image, interpolated: npt.NDArray[np.bool_], side: int = TILE) -> Image:
    """Frames uint8[T, H, W, 3] beside each other, uint8[side, T * side, 3]; interpolated ones have a yellow edge."""
    tiles = [_tile(frame, side) for frame in frames]
    for tile, between in zip(tiles, interpolated, strict=True):
        if between:
            cv2.rectangle(tile, (0, 0), (side - 1, side - 1), INTERPOLATED, 3)
    return np.hstack(tiles)


def _tile(frame: Image, side: int = TILE) -> Image:
    interpolation = cv2.INTER_AREA if frame.shape[0] > side else cv2.INTER_CUBIC
    return np.ascontiguousarray(cv2.resize(frame, (side, side), interpolation=interpolation))


def _captioned(row: Image, lines: Sequence[str]) -> Image:
    """A strip of tiles with lines of text above it."""
    band = np.full((17 * len(lines) + 4, row.shape[1], 3), 255, np.uint8)
    for number, line in enumerate(lines):
        at = (4, 14 + 17 * number)
        cv2.putText(band, line, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (31, 41, 51), 1, cv2.LINE_AA)
    return np.vstack([band, row])


def _write_sheet(rows: Sequence[Image], path: Path) -> None:
    write_jpeg(path, np.asarray(cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR), np.uint8), quality=90)


def bare(axes: Axes) -> None:
    """Take away the frame's top and right, and write the numbers of the axes small."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG."""
    figure.savefig(path, dpi=140, facecolor="white")
