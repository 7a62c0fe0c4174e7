"""A trained model as one graph of torch, from frames as they are stored to probabilities: what is handed on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dfer import read_out


class Graph(nn.Module):
    """uint8[B, T, H, W, 3] RGB -> logits and, as read out, probabilities: float32[B, K] each.

    Pixels are normalised in it as by `dfer.training.transforms.to_float`, with numbers of its own: those that are kept
    for the next call there would be the tracer's, if it came first.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, card: Mapping[str, Any]) -> None:
        super().__init__()
        self.network, self.read_out = network, read_out.of_card(card)
        mean, std = card["normalization"]["mean"], card["normalization"]["std"]
        self.register_buffer("scale", torch.tensor([1 / (255 * value) for value in std]).view(-1, 1, 1))
        self.register_buffer("shift", torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(-1, 1, 1))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        clips = frames.permute(0, 1, 4, 2, 3).to(torch.float32) * self.scale + self.shift
        logits = self.network(clips)
        return logits, _read(logits, **self.read_out)


def _read(logits: Tensor, form: str, temperature: float, scale: float) -> Tensor:
    """`dfer.read_out.read` in operations of torch alone, for a graph."""
    logits = logits / scale
    if form == "softmax":
        return logits.softmax(dim=-1)
    rows = temperature * (logits - logits.amax(dim=-1, keepdim=True))
    ordered = rows.sort(dim=-1, descending=True).values
    numbers = torch.arange(1, rows.shape[-1] + 1, dtype=rows.dtype, device=rows.device)
    surplus = (ordered.cumsum(dim=-1) - 1) / numbers
    last = (ordered > surplus).sum(dim=-1, keepdim=True) - 1
    projected = (rows - surplus.gather(-1, last)).clamp(min=0.0)
    return (1 - read_out.FLOOR * rows.shape[-1]) * projected + read_out.FLOOR
