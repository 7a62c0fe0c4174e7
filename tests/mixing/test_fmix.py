from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from dfer.mixing.fmix import fmix


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def masks(batches: int, size: int = 24, **options: float) -> np.ndarray:
    """What is left of a white clip, bool[N, size, size]."""
    clips = torch.zeros(2, 1, 1, size, size)
    clips[0] = 1.0
    generator = seeded(1)
    drawn = [fmix(clips, torch.eye(2), generator=generator, **options)[0][0, 0, 0] for _ in range(batches)]
    return torch.stack(drawn).numpy() == 1


@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_the_share_follows_the_beta_distribution(alpha: float) -> None:
    shares = masks(300, alpha=alpha).mean(axis=(1, 2))
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_a_larger_decay_makes_fewer_and_smoother_blots() -> None:
    """Edges between neighbours, at a share near a half."""
    edges = [np.diff(masks(20, alpha=1e3, decay=decay), axis=2).mean() for decay in (0.0, 1.5, 3.0)]
    assert edges[0] == pytest.approx(0.5, abs=0.05)  # of white noise, every second pixel
    assert edges[0] > 2 * edges[1] > 4 * edges[2]
    assert np.mean([ndimage.label(mask)[1] for mask in masks(20, alpha=1e3)]) < 5


@pytest.mark.parametrize("decay", [-1.0, float("nan"), float("inf")])
def test_a_bad_decay_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=f"decay {decay}"):
        fmix(torch.rand(2, 1, 3, 4, 4), torch.eye(2), decay=decay)
