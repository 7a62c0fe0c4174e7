from __future__ import annotations

import equations
import pytest
import torch

from dfer.models.transformer import TransformerBlock


@pytest.fixture
def block() -> TransformerBlock:
    torch.manual_seed(0)
    return equations.shaken(TransformerBlock(12, heads=3, head_dim=5, feed_forward=7))


def test_it_is_the_published_block(block: TransformerBlock) -> None:
    tokens = torch.randn(2, 6, 12, dtype=torch.float64)
    expected = equations.transformer_block(tokens, block.state_dict(), heads=3)
    torch.testing.assert_close(block(tokens), expected, rtol=0, atol=1e-10)


def test_it_has_no_order_of_its_own_and_every_token_sees_all(block: TransformerBlock) -> None:
    tokens = torch.randn(2, 6, 12, dtype=torch.float64)
    order = [3, 1, 5, 0, 4, 2]
    torch.testing.assert_close(block(tokens[:, order]), block(tokens)[:, order])
    changed = tokens.clone()
    changed[:, 5] = tokens[:, 5].flip(-1)
    assert ((block(changed) - block(tokens)).abs().amax(dim=2) > 1e-6).all()


def test_the_sums_stay_in_float32_under_autocast() -> None:
    block = TransformerBlock(16, heads=2, head_dim=8, feed_forward=32)
    with torch.autocast("cpu", torch.bfloat16):
        assert block(torch.randn(2, 3, 16)).dtype == torch.float32
