"""What the mixings that cut and paste share: masks, and the label's share counted from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_, mul

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfer.mixing.midas import blend

TIME, ROWS, COLUMNS = 1, 3, 4
"""Axes of clips [B, T, C, H, W]."""


@torch.no_grad()
def paste(
    clips: Tensor, labels: Tensor, partner: Tensor, masks: Sequence[Tensor], *, others: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Put the pixels of clip j = partner[i] that lie inside the mask M into clip i, for every clip i of a batch::

        x~_i = (1 - M_i) x_i + M_i x_j        y~_i = (1 - m_i) y_i + m_i y_j        m_i = mean of M_i

    So the label's share is the share of the pixels that are there. Nothing waits for a GPU.

    Args:
        clips: uint8 or float[B, T, C, H, W]. Not modified.
        labels: float[B, K]. Not modified.
        partner: int64[B], on the CPU.
        masks: M is the product of these: bool, on the CPU or with the clips, B rows (or 1 for all clips), and no axis
            but the first longer than 1 in two of them.
        others: the clips of which `partner` takes the pixels, in place of `clips`; in the partners' order already.

    Returns:
        The mixed clips, like `clips`, and the mixed labels, like `labels`; with the clips if that is where the masks
        are, since then a GPU alone knows the share.
    """
    pasted = reduce(mul, [mask.flatten(1).double().mean(dim=1) for mask in masks])
    if others is None:
        others = clips.index_select(0, queued(partner, clips.device))
    mixed = torch.where(reduce(and_, [queued(mask, clips.device) for mask in masks]), others, clips)
    labels = labels if pasted.device.type == "cpu" else queued(labels, pasted.device)
    return mixed, blend(labels, partner, (1 - pasted).expand(len(labels)))


def queued(values: Tensor, device: torch.device) -> Tensor:
    """The values on the device. A GPU takes them in its turn: from pinned memory, since only that can wait there."""
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def run_of(size: int, axis: int, length: Tensor, centre: Tensor) -> Tensor:
    """Mask of a run of places along an axis of clips [B, T, C, H, W], of which it has `size`.

    The run of row i has length[i] places around centre[i], less those that would lie beyond an end. Both are int64[B]
    on one device. Returns bool[B, 1, 1, 1, 1] but for that axis, on that device.
    """
    start = (centre - length // 2).unsqueeze(1)
    places = torch.arange(size, device=centre.device)
    shape = [len(centre), 1, 1, 1, 1]
    shape[axis] = size
    return ((places >= start) & (places < start + length.unsqueeze(1))).view(shape)


def even_length(size: int, fraction: NDArray[np.float64]) -> Tensor:
    """A side of `size` times `fraction` pixels, int64[B]: the even number below, as in CutMix's public code, where a
    box reaches as far to both sides of its centre."""
    return torch.from_numpy(2 * (size * fraction / 2).astype(np.int64))
