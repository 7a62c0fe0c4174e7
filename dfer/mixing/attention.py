"""CutMix by what a network attends to: which places are pasted, or how much the pasted ones count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dfer.mixing.batch import check, draw_partners, numpy_generator
from dfer.mixing.cutmix import cutmix
from dfer.mixing.pasting import paste

CELLS = 6 / 49
"""The share of places that attentive CutMix pastes: six of 7 x 7 in its paper."""


def attentive_cutmix(
    clips: Tensor, labels: Tensor, *, attention: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Attentive CutMix (Walawalkar et al., ICASSP 2020): the places of the other clip that a network attends to most.

    The most attended eighth of the cells of clip j's map, as squares of pixels, is pasted at the same places into all
    frames of clip i; the labels have the shares of the pixels. The paper's map is that of another, pretrained network;
    here it is the trained network's own (see `attention_of`). Partners, errors and results are those of `cutmix`.

    Args:
        attention: float[B, h, w], of each clip, on the clips' device.
    """
    check(clips, labels)
    rng = numpy_generator(generator)
    partner = torch.from_numpy(draw_partners(rng, len(clips)))
    cells = attention.shape[1] * attention.shape[2]
    most = attention.flatten(1).topk(max(1, round(CELLS * cells)), dim=1).indices
    chosen = torch.zeros(len(clips), cells, device=attention.device).scatter_(1, most, 1.0)
    chosen = chosen[partner.to(attention.device)].view(len(clips), 1, *attention.shape[1:])
    # a network sees the view in its own size: cells are squares of it, up to rounding
    mask = functional.interpolate(chosen, clips.shape[-2:], mode="nearest-exact") > 0
    return paste(clips, labels, partner, [mask[:, :, None].cpu()])


def attention_of(network: nn.Module, feature_map: str, clips: Tensor) -> Tensor:
    """How strongly a network's last map answers at each place, float[B, h, w], of clips float[B, T, 3, S, S].

    The mean over channels and times of the module's output, without gradients and in evaluation mode, so that
    statistics stay as they are; the network's modes are restored.
    """
    maps: list[Tensor] = []
    hook = network.get_submodule(feature_map).register_forward_hook(lambda _module, _inputs, out: maps.append(out))
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            network(clips)
    finally:
        hook.remove()
        for module, training in modes.items():
            module.training = training
    rows = maps[0].float().mean(dim=1).unflatten(0, (len(clips), -1))  # [B, rows, (t,) h, w]
    return rows.flatten(1, -3).mean(dim=1)


@dataclass
class TransMix:
    """One draw of TransMix (Chen et al., CVPR 2022) for a batch: CutMix, with labels by the attention on what is there.

    The share of clip j is (m + a) / 2: m of the pixels, a of the attention that the class token of the mixed clip pays
    to the pasted places, in the mean over heads, of the network's last block. No gradient flows through it.

    Attributes:
        shares: float[B, B], of every clip in every mixed one, by pixels; by `counted` once attention is known.
        pasted: float[B, S, S], where pixels of another clip are.
    """

    shares: Tensor
    pasted: Tensor
    _attention: list[Tensor] = field(default_factory=list)

    @contextmanager
    def listening(self, network: nn.Module, attention: str) -> Iterator[None]:
        """Inside of this context, the network's next forward pass is looked at: at its module of that name."""

        def look(module: Any, inputs: tuple[Any, ...]) -> None:
            self._attention.append(class_token_attention(module, *inputs))

        hook = network.get_submodule(attention).register_forward_pre_hook(look)
        try:
            yield
        finally:
            hook.remove()

    def counted(self) -> Tensor:
        """The clips' shares by pixels and attention, float[B, B], on the attention's device."""
        attention = self._attention.pop()
        pasted = functional.interpolate(self.pasted[:, None].to(attention.device), attention.shape[1:], mode="nearest")
        seen = (attention * pasted[:, 0]).sum(dim=(1, 2)) / attention.sum(dim=(1, 2))
        shares = self.shares.to(attention.device)
        own = torch.eye(len(shares), device=shares.device)
        by_pixels = (shares * (1 - own)).sum(dim=1)
        # what is not one's own is of a single other clip
        other = (shares * (1 - own)) / by_pixels.clamp(min=torch.finfo(shares.dtype).tiny)[:, None]
        share = ((by_pixels + seen) / 2)[:, None]
        return torch.where(by_pixels[:, None] > 0, share * other + (1 - share) * own, own)


def transmix(
    clips: Tensor,
    *,
    alpha: float = 1.0,
    ratio: str = "clip",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, TransMix]:
    """Clips [B, T, C, H, W] mixed by `cutmix`, and what their labels depend on."""
    everyone = torch.eye(len(clips))
    start = torch.Generator().manual_seed(int(torch.randint(2**63 - 1, (), generator=generator)))
    state = start.get_state()
    mixed, shares = cutmix(clips, everyone, alpha=alpha, ratio=ratio, generator=start)
    # the same draw once more, on clips whose pixels are their number, shows where the other clip is
    numbers = torch.arange(len(clips), dtype=torch.float32).view(-1, 1, 1, 1, 1)
    start.set_state(state)
    seen, _ = cutmix(numbers.expand(-1, 1, 1, *clips.shape[-2:]), everyone, alpha=alpha, ratio=ratio, generator=start)
    return mixed, TransMix(shares, (seen != numbers)[:, 0, 0].float())


@torch.no_grad()
def class_token_attention(attention: Any, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """How much the class token looks at each place, float[B, h, w]: the mean over heads, the sum over times.

    Args:
        attention: torchvision's `MultiscaleAttention`.
        tokens: float[B, 1 + t * h * w, C], its input, the class token first.
        grid: (t, h, w) of the others.
    """
    heads = attention.qkv(tokens).unflatten(-1, (3, attention.num_heads, -1)).transpose(1, 3)
    queries, keys, _ = heads.unbind(dim=2)  # [B, heads, tokens, D]
    if attention.pool_q is not None:
        queries, _ = attention.pool_q(queries, grid)
    if attention.pool_k is not None:
        keys, grid = attention.pool_k(keys, grid)
    # relative positions are those of places to one another; a class token has none
    weights = (attention.scaler * queries[:, :, :1] @ keys.transpose(2, 3)).softmax(dim=-1)
    return weights[:, :, 0, 1:].float().mean(dim=1).unflatten(1, grid).sum(dim=1)
