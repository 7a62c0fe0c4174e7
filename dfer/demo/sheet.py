"""Writes a contact sheet of the demo clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.demo.casting import ClipPlan
from dfer.labels import EMOTIONS
from dfer.storage.jpeg import write_jpeg

_PEOPLE: Final = 3
_MOMENTS: Final = (0.03, 0.2, 0.4, 0.6)
_THUMB: Final = 150
_CLOSE: Final = 0.64
_CAPTION: Final = 20
_GAP: Final = 6


def write_contact_sheet(plans: Sequence[ClipPlan], out: Path, path: Path) -> None:
    """Write a JPEG with a row for each emotion: three people of dfew, four frames each, from onset to apex.

    The votes are below each. `out` is the folder that the plans' paths are relative to.
    """
    rows = []
    for emotion in range(len(EMOTIONS)):
        chosen = _choose([plan for plan in plans if plan.votes and not plan.oddity and plan.label == emotion])
        cells = [_cell(plan, out) for plan in chosen]
        blank = np.full((_THUMB + _CAPTION, _THUMB * len(_MOMENTS) + _GAP, 3), 255, np.uint8)
        rows.append(np.hstack([*cells, *[blank] * (_PEOPLE - len(cells))]))
    write_jpeg(path, np.vstack(rows), quality=88)


def _choose(plans: Sequence[ClipPlan]) -> list[ClipPlan]:
    """One clip each of several people: two clear ones and the most mixed one."""
    by_clarity = sorted(plans, key=lambda plan: (-max(plan.votes or (0,)), plan.number))
    chosen: list[ClipPlan] = []
    for plan in (*by_clarity[:1], *by_clarity[::-1][:1], *by_clarity[1:]):
        if len(chosen) < _PEOPLE and not any(plan.people == other.people for other in chosen):
            chosen.append(plan)
    return sorted(chosen, key=by_clarity.index)


def _cell(plan: ClipPlan, out: Path) -> NDArray[np.uint8]:
    video = cv2.VideoCapture(str(out / plan.path))
    frames: list[NDArray[np.uint8]] = []
    while len(frames) < plan.frames:
        readable, frame = video.read()
        if not readable:
            raise OSError(f"{out / plan.path}: expected {plan.frames} frames, could read {len(frames)}")
        frames.append(np.asarray(frame, np.uint8))
    video.release()
    shown = [frames[int(moment * plan.frames)] for moment in _MOMENTS]
    strip = np.hstack([_thumb(frame) for frame in shown])
    caption = np.full((_CAPTION, strip.shape[1], 3), 255, np.uint8)
    counts = sorted(((count, label) for label, count in enumerate(plan.votes or ()) if count), reverse=True)
    text = f"{plan.number}: " + ", ".join(f"{EMOTIONS[label]} {count}" for count, label in counts)
    cv2.putText(caption, text, (3, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.pad(np.vstack([strip, caption]), ((0, 0), (0, _GAP), (0, 0)), constant_values=255)


def _thumb(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle of a frame, where the face is."""
    height, width = frame.shape[:2]
    side = round(_CLOSE * min(height, width))
    top, left = (height - side) // 2, (width - side) // 2
    middle = frame[top : top + side, left : left + side]
    return np.asarray(cv2.resize(middle, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA), np.uint8)
