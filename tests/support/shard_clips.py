"""Clips for shards, and what it means that they come back."""

from __future__ import annotations

from dataclasses import fields
from typing import Literal

import numpy as np

from dfer.shards import Clip

FORMATS: tuple[Literal["parquet", "npz"], ...] = ("parquet", "npz")


def make_clip(number: int, length: int, size: int = 24) -> Clip:
    """A clip of smooth coloured frames, each of another brightness, with random values beside them."""
    generator = np.random.default_rng(number)
    ramp = np.linspace(0, 60, size)
    picture = np.stack([*np.meshgrid(ramp, ramp), np.full((size, size), 90)], axis=2)
    brightness = np.arange(length).reshape(-1, 1, 1, 1) * (150 / max(length, 1))
    return Clip(
        clip_id=f"set/{number:05d}",
        frames=(picture + brightness).astype(np.uint8),
        frame_indices=np.cumsum(generator.integers(1, 9, length)),
        keypoints=generator.normal(0, 99, (length, 5, 2)).astype(np.float32),
        scores=generator.random(length).astype(np.float32),
        interpolated=generator.random(length) < 0.5,
        matrices=generator.normal(0, 99, (length, 2, 3)).astype(np.float32),
        close_up=generator.random(length) < 0.5,
    )


def assert_same(clip: Clip, expected: Clip, *, exact: bool) -> None:
    assert clip.clip_id == expected.clip_id
    for name in (field.name for field in fields(Clip) if field.name not in ("clip_id", "frames")):
        found, wanted = getattr(clip, name), getattr(expected, name)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted, err_msg=name)
    assert clip.frames.shape == expected.frames.shape
    tolerance = 0 if exact else 12  # what JPEG at quality 95 does to smooth colours
    np.testing.assert_allclose(clip.frames.astype(int), expected.frames.astype(int), atol=tolerance)
