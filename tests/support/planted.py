"""Aligned demo clips in folds that share nobody, and clips planted in other folds that give these away."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dfer.config.settings import StageSettings
from dfer.datasets.table import ClipRow, from_rows
from dfer.demo.acting import perform
from dfer.demo.camera import CAMERAS, draw_look
from dfer.demo.casting import ClipPlan, plan_clips
from dfer.demo.clips import _generator as generator_of
from dfer.demo.encoding import write_h264
from dfer.demo.people import person
from dfer.demo.render import film
from dfer.faces.clips import align_clips

SEED = 3
SHARD = "shard-0"


@dataclass(frozen=True)
class Planted:
    """`pairs`: kind -> the two clips of each pair that is planted."""

    clips: pd.DataFrame
    index: pd.DataFrame
    root: Path
    pairs: dict[str, set[tuple[str, str]]]


def make(root: Path, *, most: int = 10, each: int = 2, transform: str = "clip-affine") -> Planted:
    """So many clips of demo data, each of another person, and `each` copies, mirrored copies and takes of theirs."""
    plans = [plan for plan in plan_clips(70, SEED) if plan.dataset == "dfew" and not plan.oddity and plan.fold]
    chosen = [plan for _, plan in sorted(zip(_turns(plans), plans, strict=True), key=lambda one: one[0])][:most]
    folder, rows, pairs = root / "videos", [], {"copy": set(), "mirrored copy": set(), "same scene": set()}
    folder.mkdir(parents=True)

    def add(name: str, plan: ClipPlan, frames: list[np.ndarray], quality: int, fold: int) -> str:
        path = folder / f"{name}.mp4"
        write_h264(path, frames, crf=quality)
        rows.append(ClipRow(f"demo/{name}", "demo", path.name, label=plan.label, fold=fold, source_size=1))
        return f"demo/{name}"

    for place, plan in enumerate(chosen):
        frames = _film(plan, acting=0)
        name = add(f"clip-{place:03d}", plan, frames, 23, plan.fold)
        elsewhere = plan.fold % 5 + 1
        kind = place // each
        if kind == 0:
            pairs["copy"].add((name, add(f"copy-{place:03d}", plan, frames, 33, elsewhere)))
        elif kind == 1:
            mirrored = [_mirrored(planes, CAMERAS["dfew"].size[1]) for planes in frames]
            pairs["mirrored copy"].add((name, add(f"mirror-{place:03d}", plan, mirrored, 30, elsewhere)))
        elif kind == 2:
            pairs["same scene"].add((name, add(f"take-{place:03d}", plan, _film(plan, acting=7), 23, elsewhere)))
    defaults = StageSettings()
    index = align_clips(
        [(row.clip_id, folder / row.source) for row in rows],
        root / SHARD,
        detection=defaults.detection,
        tracking=defaults.tracking,
        alignment=defaults.alignment.model_copy(update={"size": 112, "transform": transform}),
        shards=defaults.shards,
        num_segments=8,
    )
    return Planted(from_rows(rows), index.assign(shard=SHARD), root, pairs)


def _turns(plans: list[ClipPlan]) -> list[int]:
    """How many clips of the same person come before each."""
    seen: Counter[str] = Counter()
    turns = []
    for plan in plans:
        turns.append(seen[plan.people[0]])
        seen[plan.people[0]] += 1
    return turns


def _film(plan: ClipPlan, acting: int) -> list[np.ndarray]:
    """The frames of a plan; with another `acting`, of another moment before the same camera."""
    performance = perform(plan.intensities, plan.frames, generator_of(plan, SEED, acting))
    look = draw_look(CAMERAS["dfew"], plan.frames, generator_of(plan, SEED, 1))
    return list(film(person(plan.people[0]), performance, look))


def _mirrored(planes: np.ndarray, height: int) -> np.ndarray:
    """YUV 4:2:0 planes uint8[1.5 * H, W] from right to left."""
    luma = planes[:height, ::-1]
    width = planes.shape[1]
    chroma = planes[height:].reshape(2, height // 2, width // 2)[:, :, ::-1].reshape(-1, width)
    return np.ascontiguousarray(np.concatenate([luma, chroma]))
