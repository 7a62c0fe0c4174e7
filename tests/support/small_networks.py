"""The catalogue's networks at their smallest, for tests that go over all of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfer.config.catalogue import NETWORKS

WIDTH = 0.125
ONE_SIZE = {name: network.input_size for name, network in NETWORKS.items() if network.one_size}
"""Networks that take frames of one size alone, since their weights know a frame's places."""
IDLE = {
    "mvit_v2_s": {f"blocks.15.attn.{name}" for name in ("rel_pos_h", "rel_pos_w", "rel_pos_t", "pool_q.pool.weight")}
}
"""Parameters that no logit depends on."""

Output = Tensor | tuple[Tensor, tuple[Tensor, ...]]


def takes(name: str, num_segments: int) -> bool:
    """Whether the network takes clips of that number of frames."""
    network = NETWORKS[name]
    return num_segments >= network.fewest and num_segments % network.multiple == 0


def some_clips(name: str, batch: int, num_segments: int, height: int = 32, width: int = 32) -> Tensor:
    """Random ones, small where the network takes them."""
    height, width = (ONE_SIZE.get(name, side) for side in (height, width))
    return torch.randn(batch, num_segments, 3, height, width)


def logits_of(output: Output) -> Tensor:
    """Those of the classifier alone, of networks with auxiliary ones, too."""
    return output[0] if isinstance(output, tuple) else output


def all_logits(output: Output) -> list[Tensor]:
    """Those of the classifier, then the auxiliary ones."""
    return [output[0], *output[1]] if isinstance(output, tuple) else [output]


@torch.no_grad()
def settled(model: nn.Module, clips: Tensor) -> nn.Module:
    """The network in evaluation mode, with the running statistics of these clips: untrained, without them, a deep one
    loses what it sees among ever larger numbers."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)]
    for norm in norms:
        norm.momentum = 1.0
    model.train()(clips)
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()
