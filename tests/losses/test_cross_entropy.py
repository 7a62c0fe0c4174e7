from __future__ import annotations

import pytest
import torch

from dfer.config import catalogue
from dfer.losses import LOSSES

LOGITS = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGETS = torch.rand(5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(dim=1)


def test_every_loss_of_the_catalogue_is_there_and_sums_over_clips() -> None:
    assert LOSSES.keys() == catalogue.LOSSES.keys()
    for name, loss in LOSSES.items():
        options = {"class_counts": torch.arange(1.0, 8.0)} if catalogue.LOSSES[name].weighs_classes else {}
        whole = loss(LOGITS, TARGETS, **options)
        assert whole.shape == ()
        parts = loss(LOGITS[:2], TARGETS[:2], **options) + loss(LOGITS[2:], TARGETS[2:], **options)
        torch.testing.assert_close(whole, parts)


def test_cross_entropy_is_that_of_the_target_distribution() -> None:
    expected = -(TARGETS * LOGITS.log_softmax(dim=1)).sum()
    torch.testing.assert_close(LOSSES["cross_entropy"](LOGITS, TARGETS), expected)


def test_its_least_value_is_the_entropy_of_the_targets() -> None:
    entropy = float(-(TARGETS * TARGETS.log()).sum())
    assert float(LOSSES["cross_entropy"](TARGETS.log(), TARGETS)) == pytest.approx(entropy)
    assert float(LOSSES["cross_entropy"](TARGETS.log() + LOGITS / 10, TARGETS)) > entropy
