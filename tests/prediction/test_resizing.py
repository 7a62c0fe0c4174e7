"""Frames are resized to the pixels that torch makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfer.prediction.resizing import resized
from dfer.training.transforms import full_view


@pytest.mark.parametrize(
    ("shape", "size"),
    [((48, 48), 32), ((224, 224), 112), ((64, 64), 64), ((31, 70), 50), ((20, 20), 64), ((150, 9), 16)],
)
def test_the_pixels_are_torch_s(shape: tuple[int, int], size: int) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, *shape, 3), dtype=np.uint8)
    expected = full_view(torch.from_numpy(frames).flatten(0, 1).permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)
    found = resized(frames, size)
    assert found.shape == (2, 3, size, size, 3) and found.dtype == np.uint8
    difference = np.abs(found.reshape(expected.shape).astype(int) - expected.numpy())
    # processors without AVX2 compute in floating point, and may round to a neighbouring value
    assert difference.max() <= (0 if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512") else 1)
