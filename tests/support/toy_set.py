"""Small aligned sets whose classes can be learnt in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dfer.config.settings import ShardSettings
from dfer.shards import Clip, write_shard

FRAMES = {"frames_seen": 12, "frames_kept": 12}
COLOURS = np.array([[60, -60, -60], [-60, 60, -60], [-60, -60, 60], [60, 60, -60], [-60, 60, 60]])


@dataclass(frozen=True)
class ToySet:
    """Aligned clips whose class can be seen: five colours, and grey that gets brighter or darker (classes 5 and 6)."""

    clips: pd.DataFrame
    index: pd.DataFrame
    root: Path


def toy_frames(label: int, num_frames: int, side: int, generator: np.random.Generator) -> np.ndarray:
    frames = generator.normal(128, 15, (num_frames, side, side, 3))
    if label < len(COLOURS):
        frames += COLOURS[label]
    else:
        ramp = np.linspace(-80, 80, num_frames) * (1 if label == 5 else -1)
        frames += ramp[:, None, None, None]
    return frames.clip(0, 255).astype(np.uint8)


def toy_clip(clip_id: str, frames: np.ndarray) -> Clip:
    count = len(frames)
    return Clip(
        clip_id=clip_id,
        frames=frames,
        frame_indices=np.arange(count),
        keypoints=np.zeros((count, 5, 2), np.float32),
        scores=np.ones(count, np.float32),
        interpolated=np.zeros(count, bool),
        matrices=np.zeros((count, 2, 3), np.float32),
        close_up=np.zeros(count, bool),
    )


def make_toy_set(root: Path, *, clips_per_class: int = 10, side: int = 32) -> ToySet:
    """7 x clips_per_class aligned clips in two shards, and one more clip (the last) that has no face."""
    generator = np.random.default_rng(0)
    count = 7 * clips_per_class
    labels = np.arange(count + 1) % 7
    ids = [f"toy/{number:03d}" for number in range(count + 1)]
    shards = {"shard-0": range(0, count, 2), "shard-1": range(1, count, 2)}
    index_rows = [{"clip_id": ids[count], "status": "failed", "reason": "no_face", "shard": "", "row": -1, **FRAMES}]
    for name, numbers in shards.items():
        clips = [
            toy_clip(ids[number], toy_frames(labels[number], 9 + number % 5, side, generator)) for number in numbers
        ]
        write_shard(root / name, clips, settings=ShardSettings())
        index_rows += [
            {"clip_id": ids[number], "status": "ok", "reason": "", "shard": name, "row": row, **FRAMES}
            for row, number in enumerate(numbers)
        ]
    votes = [[8 if k == label else 2 if k == (label + 1) % 7 else 0 for k in range(7)] for label in labels]
    table = pd.DataFrame(
        {
            "clip_id": ids,
            "dataset": "toy",
            "votes": votes,
            "label": pd.array(labels, "Int64"),
            "subject": [f"person {number % 6}" for number in range(count + 1)],
        }
    )
    return ToySet(table, pd.DataFrame(index_rows), root)
