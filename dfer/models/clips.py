"""Clips as networks see them: the checks of their input, and networks that look at each frame alone first."""

from __future__ import annotations

from typing import Protocol, TypeGuard

from torch import Tensor, nn


class FrameByFrame(Protocol):
    """A network whose logits are `clip_logits` of the `frame_features` of its frames, each computed from it alone."""

    frame_by_frame: bool

    def frame_features(self, frames: Tensor, /) -> Tensor:
        """float[N, 3, H, W] -> float[N, D]."""

    def clip_logits(self, features: Tensor, /) -> Tensor:
        """float[B, T, D] -> float32[B, K]."""


def is_frame_by_frame(network: nn.Module) -> TypeGuard[FrameByFrame]:
    """Whether frames that several clips share need be looked at only once. Networks say so themselves."""
    return bool(getattr(network, "frame_by_frame", False))


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
