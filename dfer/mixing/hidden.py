"""Mixing of what a network has computed on the way, instead of its input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dfer.mixing.midas import draw

KEPT, BLOCKS = 0.75, (7, 5, 3)
"""PatchUp's gamma, the expected share of places in blocks, and the sides of blocks, the largest that fits is taken."""


@dataclass
class HiddenMixing:
    """One draw for a batch: mixes its hidden states where they are shown to it, and then knows the labels' shares.

    Attributes:
        stage: after which of the network's stages, from 1; 0 is the input.
        partner: int64[B], never a clip itself.
        weight: lambda, float32[B], the share of a clip's own state.
        block_seed: draws PatchUp's blocks; None mixes everywhere.
        shares: float32[B, B], the share of every clip in every mixed one; known once it was called.
    """

    stage: int
    partner: Tensor
    weight: Tensor
    block_seed: int | None = None
    shares: Tensor | None = None

    def __call__(self, states: Tensor) -> Tensor:
        """The mixed states of a batch: float[B * rows, C, ...], with as many rows (frames, or one) for each clip."""
        rows = states.unflatten(0, (len(self.partner), -1))
        partner = self.partner.to(states.device, non_blocking=True)
        weight = self.weight.to(states.device, non_blocking=True)
        other = rows.index_select(0, partner)
        mixed = other.lerp(rows, weight.to(rows.dtype).view(-1, *[1] * (rows.ndim - 1)))
        own = weight
        if self.block_seed is not None:
            inside = self._blocks(states)
            mixed, untouched = torch.where(inside, mixed, rows), 1 - inside.float().mean()
            own = untouched + (1 - untouched) * weight
        everyone = torch.eye(len(partner), device=states.device)
        self.shares = everyone[partner].lerp(everyone, own[:, None])
        return mixed.flatten(0, 1)

    def _blocks(self, states: Tensor) -> Tensor:
        """The places of one state that are in blocks, bool[C, ..., H, W]: the same for all clips and frames.

        As DropBlock's (Ghiasi et al., NeurIPS 2018): seeds by chance in each channel, each grown to a block.
        """
        assert self.block_seed is not None
        height, width = states.shape[-2:]
        side = next((block for block in BLOCKS if block < min(height, width)), 1)
        chance = KEPT * height * width / (side**2 * (height - side + 1) * (width - side + 1))
        generator = torch.Generator().manual_seed(self.block_seed)
        seeds = (torch.rand(states.shape[1], height, width, generator=generator) < chance).float()
        grown = functional.max_pool2d(seeds.to(states.device, non_blocking=True), side, stride=1, padding=side // 2)
        # a state with a time axis has the same blocks at all times
        return (grown > 0).unflatten(0, (-1, *[1] * (states.ndim - 4)))


def manifold_mixup(
    count: int, stages: int, *, alpha: float = 2.0, ratio: str = "clip", generator: torch.Generator | None = None
) -> HiddenMixing:
    """Manifold mixup (Verma et al., ICML 2019): mixup of the states after a stage k that is drawn for each batch.

    k is uniform among 0 (the input) and the network's `stages`; lambda ~ Beta(alpha, alpha) for each clip or, with
    `ratio` "batch" as in the paper, for all; h~ = lambda h_i + (1 - lambda) h_j, at every time of a clip; labels alike.
    """
    stage = int(torch.randint(stages + 1, (), generator=generator))
    weight, partner = draw(count, alpha, generator)
    if ratio == "batch":
        weight = weight[:1].expand(count)
    return HiddenMixing(stage, partner, weight.to(torch.float32))


def patchup(count: int, stages: int, *, alpha: float = 2.0, generator: torch.Generator | None = None) -> HiddenMixing:
    """Soft PatchUp (Faramarzi et al., AAAI 2022): manifold mixup inside of blocks, one set of blocks for a batch.

    With lambda ~ Beta(alpha, alpha) for each clip and u the share of places outside of blocks, a label is that of the
    clip itself by u + (1 - u) lambda. The published loss is u L(q_i) + (1 - u) L(lambda q_i + (1 - lambda) q_j) +
    L(q~); since the cross-entropy is linear in the target these are 2 L(q~), of which one is taken. k is never the
    input, which the published method cuts and pastes: that is `cutmix`.
    """
    mixing = manifold_mixup(count, stages - 1, alpha=alpha, generator=generator)
    mixing.stage += 1
    mixing.block_seed = int(torch.randint(2**31, (), generator=generator))
    return mixing


@contextmanager
def mixing_inside(network: nn.Module, stages: Sequence[str], mixing: HiddenMixing | None) -> Iterator[None]:
    """Inside of this context, the network's next forward passes mix the output of the drawn stage."""
    if mixing is None or mixing.stage == 0:
        yield
        return
    stage = network.get_submodule(stages[mixing.stage - 1])
    hook = stage.register_forward_hook(lambda _module, _inputs, states: mixing(states))
    try:
        yield
    finally:
        hook.remove()
