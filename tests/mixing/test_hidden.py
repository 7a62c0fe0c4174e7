"""Mixing of hidden states: where, how much, and what the labels say of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dfer.mixing.hidden import HiddenMixing, manifold_mixup, mixing_inside, patchup

B, T = 5, 3
DRAWS = {"manifold_mixup": manifold_mixup, "patchup": patchup}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def own_states(*shape: int) -> Tensor:
    """States of clips that hold their own number everywhere, float[B * T, *shape]."""
    return torch.arange(float(B)).repeat_interleave(T).view(-1, *[1] * len(shape)).expand(-1, *shape).clone()


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("shape", [(8, 12, 12), (16, 2, 9, 9), (4, 2, 2)])
def test_labels_have_the_shares_that_states_have(name: str, shape: tuple[int, ...]) -> None:
    for seed in range(5):
        mixing = DRAWS[name](B, 3, generator=seeded(seed))
        for clip in range(B):
            states = (own_states(*shape) == clip).float()
            mixed = mixing(states)
            assert mixing.shares is not None
            seen = mixed.unflatten(0, (B, -1)).flatten(1).mean(dim=1)
            torch.testing.assert_close(mixing.shares[:, clip], seen, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(mixing.shares.sum(dim=1), torch.ones(B))
        assert (mixing.partner != torch.arange(B)).all()


@pytest.mark.parametrize("name", DRAWS)
def test_two_seeds_differ_and_one_repeats(name: str) -> None:
    states = torch.randn(B * T, 6, 8, 8, generator=seeded())
    first, again, other = (DRAWS[name](B, 3, generator=seeded(seed))(states) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_stage_is_drawn_and_blocks_are_never_in_the_input() -> None:
    generator = seeded()
    assert {manifold_mixup(B, 3, generator=generator).stage for _ in range(60)} == {0, 1, 2, 3}
    assert {patchup(B, 3, generator=generator).stage for _ in range(60)} == {1, 2, 3}


def test_one_lambda_a_batch() -> None:
    assert len(manifold_mixup(B, 3, ratio="batch", generator=seeded()).weight.unique()) == 1
    assert len(manifold_mixup(B, 3, generator=seeded()).weight.unique()) == B


def test_blocks_are_the_same_in_all_frames_and_clips_and_differ_by_channel() -> None:
    mixing = patchup(B, 3, generator=seeded(3))
    states = torch.randn(B * T, 6, 14, 14, generator=seeded())
    changed = (mixing(states) != states).unflatten(0, (B, T))
    assert (changed == changed[:1, :1]).all()
    assert not (changed[0, 0, 0] == changed[0, 0, 1]).all()
    assert 0.1 < changed.float().mean() < 0.95


def test_the_network_mixes_after_the_drawn_stage_and_only_inside_of_the_context() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1), nn.Flatten(), nn.LazyLinear(2))
    frames = torch.randn(B * T, 3, 4, 4, generator=seeded())
    network(frames)
    mixing = manifold_mixup(B, 2, generator=seeded())
    mixing.stage = 2
    expected = network[2:](mixing(network[:2](frames)))
    with mixing_inside(network, ("0", "1"), mixing):
        torch.testing.assert_close(network(frames), expected)
    torch.testing.assert_close(network(frames), network[2:](network[:2](frames)))


def test_gradients_reach_both_clips() -> None:
    states = torch.randn(B * T, 4, 6, 6, generator=seeded()).requires_grad_()
    mixing = HiddenMixing(1, torch.tensor([1, 2, 3, 4, 0]), torch.full((B,), 0.25))
    mixing(states)[:T].sum().backward()
    assert states.grad is not None
    by_clip = states.grad.unflatten(0, (B, T)).flatten(1).mean(dim=1)
    torch.testing.assert_close(by_clip, torch.tensor([0.25, 0.75, 0.0, 0.0, 0.0]))
