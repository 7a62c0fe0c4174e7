from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

from dfer.mixing.resizemix import resizemix


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def box_of(mixed: Tensor, clip: Tensor) -> tuple[slice, slice]:
    """Rows and columns in which [T, C, H, W] differ: all of random pixels do."""
    rows, columns = torch.nonzero((mixed != clip).any(dim=0).any(dim=0)).T
    return slice(int(rows.min()), int(rows.max()) + 1), slice(int(columns.min()), int(columns.max()) + 1)


@pytest.mark.parametrize("seed", range(8))
def test_torch_shrinks_the_other_clip_to_the_same_pixels(seed: int) -> None:
    clips = torch.from_numpy(np.random.default_rng(seed).random((2, 2, 3, 23, 30)))
    mixed, shares = resizemix(clips, torch.eye(2).double(), generator=seeded(seed))
    for own, other, after, share in zip(clips, clips.flip(0), mixed, shares.diagonal(), strict=True):
        rows, columns = box_of(after, own)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        expected = own.clone()
        expected[..., rows, columns] = functional.interpolate(other, (height, width), mode="nearest-exact")
        assert torch.equal(after, expected)
        assert share.item() == pytest.approx(1 - height * width / (23 * 30))


def test_scale_and_place_are_uniform_and_the_box_lies_inside() -> None:
    clips, generator = torch.rand(2, 1, 1, 100, 100, dtype=torch.float64), seeded(1)
    clips[1] += 2
    scales, places = [], []
    for _ in range(400):
        mixed, _ = resizemix(clips, torch.eye(2), generator=generator)
        rows, columns = box_of(mixed[0], clips[0])
        assert rows.stop - rows.start == columns.stop - columns.start
        scales.append((rows.stop - rows.start) / 100)
        places.append(rows.start / (100 - (rows.stop - rows.start)))
    assert 0.1 <= min(scales) <= max(scales) <= 0.8
    # both are whole pixels of a hundred
    assert stats.kstest(scales, stats.uniform(0.1, 0.7).cdf).pvalue > 1e-3
    assert np.mean(places) == pytest.approx(0.5, abs=0.05)
    assert (min(places), max(places)) == pytest.approx((0, 1), abs=0.05)


@pytest.mark.parametrize("scope", [(0.0, 0.5), (0.5, 0.4), (0.5, 1.1), (float("nan"), 0.5)])
def test_a_bad_scope_is_refused(scope: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="scope"):
        resizemix(torch.rand(2, 1, 3, 4, 4), torch.eye(2), scope=scope)
