from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.tv_tensors import Video

from dfer.mixing import midas
from dfer.mixing.mixup import mixup


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(5))
def test_torchvision_mixes_two_clips_alike(seed: int) -> None:
    """Its partner is the clip before, and lambda one for all; of two clips, there is no other partner."""
    generator = np.random.default_rng(seed)
    clips = torch.from_numpy(generator.random((2, 3, 3, 6, 5)))
    labels = torch.from_numpy(generator.dirichlet(np.ones(7), size=2))
    mixed, targets = mixup(clips, labels, ratio="batch", generator=seeded(seed))
    _, shares = mixup(clips, torch.eye(2).double(), ratio="batch", generator=seeded(seed))
    oracle = v2.MixUp()
    oracle._dist = SimpleNamespace(sample=lambda shape: shares[0, 0])
    expected, expected_targets = oracle(Video(clips), labels)
    torch.testing.assert_close(mixed, expected.as_subclass(torch.Tensor))
    torch.testing.assert_close(targets, expected_targets)


def test_it_is_midas_without_the_softmax() -> None:
    clips, labels = torch.rand(4, 2, 3, 4, 4), torch.eye(4)
    expected = midas(clips, labels, alpha=0.7, normalize="none", generator=seeded(1))
    assert all(map(torch.equal, mixup(clips, labels, alpha=0.7, generator=seeded(1)), expected))
