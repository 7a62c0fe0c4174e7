"""What about a clip that was kept makes a person want to look at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# Good clips of real and of drawn faces stay within these, but for the score of one in a hundred.
LEAST_KEPT = 0.8  # of the frames that were searched
MOST_INTERPOLATED = 0.25  # of the frames that were kept
MOST_OUTSIDE = 0.3  # of the area of the crops
LOW_SCORE = 0.6  # mean score of the detections
LARGE_STRETCH = 1.75  # how much longer one axis becomes than the other
LARGE_ZOOM = 1.5  # largest scale over the smallest
LARGE_TURN = 60  # degrees from upright
LARGE_JUMP = 1.0  # between two kept frames, in distances between the eyes

KINDS = (
    "few frames kept",
    "many frames interpolated",
    "low score",
    "turned far from upright",
    "jumps",
    "stretched",
    "size changes",
    "beyond the picture",
    "remarked when it was aligned",
)
"""Kinds of oddities, the most telling first."""


def noted(row: Mapping[str, Any]) -> dict[str, str]:
    """Kind of oddity -> words, as far as a row of the align index says; columns that it does not have say nothing."""
    seen, kept, between = (count(row, name) for name in ("frames_seen", "frames_kept", "interpolated_frames"))
    words = {}
    if kept == 1 < seen:  # a picture has one frame and is whole
        words["few frames kept"] = "a single frame"
    elif kept < LEAST_KEPT * seen:
        words["few frames kept"] = f"{kept} of {seen} frames kept"
    if between > MOST_INTERPOLATED * kept:
        words["many frames interpolated"] = f"{between} interpolated"
    if turned := count(row, "turned"):
        words["turned far from upright"] = f"was turned upright, by {turned}°"
    if (outside := row.get("outside_share", 0.0)) > MOST_OUTSIDE:
        words["beyond the picture"] = f"{outside:.0%} of the crops beyond the picture"
    if remarks := text(row, "remarks"):
        words["remarked when it was aligned"] = remarks
    return words


def measured(arrays: Mapping[str, NDArray[Any]]) -> tuple[float, dict[str, str]]:
    """The mean score of a clip's detections (nan without any), and kind of oddity -> words.

    `arrays` are those of a `dfer.shards.Clip`: scores, interpolated, keypoints, matrices.
    """
    detected = arrays["scores"][~arrays["interpolated"]]
    score = float(detected.mean()) if len(detected) else float("nan")
    words = {}
    if score < LOW_SCORE:
        words["low score"] = "low score"
    matrices = arrays["matrices"].astype(np.float64)
    linear = matrices[:, :, :2]
    largest, smallest = np.linalg.svd(linear, compute_uv=False).T
    if not (smallest > 0).all():
        return score, words  # no picture of a plane, so there is no geometry to measure
    turn = np.degrees(np.arctan2(linear[:, 1, 0] - linear[:, 0, 1], linear[:, 0, 0] + linear[:, 1, 1]))
    scale = np.sqrt(largest * smallest)
    if (farthest := np.abs(turn).max()) > LARGE_TURN:
        words["turned far from upright"] = f"turned by {farthest:.0f}°"
    if (jump := _jump(arrays["keypoints"].astype(np.float64), matrices)) > LARGE_JUMP:
        words["jumps"] = f"jumps by {jump:.1f} eye distances"
    if (stretch := (largest / smallest).max()) > LARGE_STRETCH:
        words["stretched"] = f"stretched by {stretch:.1f}"
    if (zoom := scale.max() / scale.min()) > LARGE_ZOOM:
        words["size changes"] = f"size changes by {zoom:.1f}"
    return score, words


def _jump(keypoints: NDArray[np.float64], matrices: NDArray[np.float64]) -> float:
    """The farthest way of the face between two kept frames, in the source, in distances between its eyes."""
    if len(keypoints) < 2:
        return 0.0
    shifted = np.swapaxes(keypoints - matrices[:, None, :, 2], 1, 2)
    points = np.swapaxes(np.linalg.solve(matrices[:, :, :2], shifted), 1, 2)  # of the source
    eyes = np.linalg.norm(points[:, 0] - points[:, 1], axis=1)
    ways = np.linalg.norm(np.diff(points.mean(axis=1), axis=0), axis=1)
    return float(np.max(ways / np.maximum(np.maximum(eyes[:-1], eyes[1:]), 1e-6)))


def text(row: Mapping[str, Any], name: str) -> str:
    """A text of a row of the align index; empty where it has none."""
    value = row.get(name)
    return value if isinstance(value, str) else ""


def count(row: Mapping[str, Any], name: str) -> int:
    """A number of a row of the align index; 0 where it has none."""
    number = row.get(name, 0)
    return 0 if pd.isna(number) else int(number)
