"""The check of its input that every network makes."""

from __future__ import annotations

from torch import Tensor


def check_clips(clips: Tensor, num_segments: int) -> None:
    """Raises ValueError unless `clips` is [B, num_segments, 3, H, W]."""
    if clips.ndim != 5 or clips.shape[1] != num_segments or clips.shape[2] != 3:
        raise ValueError(f"expected clips [B, {num_segments}, 3, H, W], found {list(clips.shape)}")
