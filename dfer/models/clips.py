"""The checks of their input that networks make."""

from __future__ import annotations

from torch import Tensor


def check_clips(clips: Tensor, num_segments: int) -> None:
    """Raises ValueError unless `clips` is [B, num_segments, 3, H, W]."""
    if clips.ndim != 5 or clips.shape[1] != num_segments or clips.shape[2] != 3:
        raise ValueError(f"expected clips [B, {num_segments}, 3, H, W], found {list(clips.shape)}")


def check_side(clips: Tensor, side: int) -> None:
    """Raises ValueError unless the frames are `side` x `side`: for networks whose weights know a frame's places."""
    height, width = clips.shape[-2:]
    if (height, width) != (side, side):
        raise ValueError(
            f"expected frames of {side} x {side} pixels, found {height} x {width}: set model.input_size to {side}, or "
            "to 0 for the network's own"
        )
