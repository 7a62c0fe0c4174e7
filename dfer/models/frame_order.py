"""The temporal audit: how much of a score needs the order of the frames, or more than one of them.

A network is shown the frames of a clip in order, shuffled, reversed, or one of them all the time. What it still gets
right without their order it did not learn from motion.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor, nn

from dfer.config.experiments import Frames
from dfer.system.randomness import torch_seed


def logits_of(model: nn.Module, clips: Tensor, rows: Tensor, frames: Frames) -> Tensor:
    """Logits float[B, K] of clips float[B, T, C, H, W] whose frames are shown in a certain order.

    `frames` is "in order"; "shuffled": a random order for each clip, by its number in its table, in `rows` int64[B],
    so the same for every model; "reversed"; or "peak": each frame in turn is shown T times, and the logits with the
    highest probability of any class count. Raises ValueError for anything else.
    """
    match frames:
        case "in order":
            shown = clips
        case "reversed":
            shown = clips.flip(1)
        case "shuffled":
            shown = torch.stack([clip[_order(int(row), len(clip))] for clip, row in zip(clips, rows, strict=True)])
        case "peak":
            return _peak(model, clips)
        case _:
            raise ValueError(f"frames {frames!r}: expected one of {', '.join(get_args(Frames))}")
    logits: Tensor = model(shown)
    return logits


def _order(row: int, num_frames: int) -> Tensor:
    """A random order of a clip's frames, another than theirs if they are two or more."""
    generator = torch.Generator().manual_seed(torch_seed(0, "shuffle", row))
    while True:
        order = torch.randperm(num_frames, generator=generator)
        if num_frames < 2 or not torch.equal(order, torch.arange(num_frames)):
            return order


def _peak(model: nn.Module, clips: Tensor) -> Tensor:
    still = torch.stack([model(clips[:, [frame] * clips.shape[1]]) for frame in range(clips.shape[1])], dim=1)
    surest = still.softmax(dim=-1).amax(dim=-1).argmax(dim=1)
    return still[torch.arange(len(clips)), surest.cpu()]
