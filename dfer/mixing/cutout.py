"""Cutout: a hole in every clip."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dfer.mixing.batch import check, numpy_generator
from dfer.mixing.pasting import COLUMNS, ROWS, even_length, paste, run_of


def cutout(
    clips: Tensor,
    labels: Tensor,
    *,
    side: float = 0.5,
    ratio: str = "clip",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Paint a box of every clip in the clip's mean colour, the same box in all frames; labels stay as they are.

    DeVries and Taylor, *Cutout*, arXiv:1708.04552, section 3. The box has `side` times the frame's height and width
    (even numbers of pixels, as in the public code); its centre is uniform over the frame, and what sticks out is cut
    off. The paper puts 0 into normalised pixels, the mean colour of its data set. Here pixels are not normalised yet,
    and not by the same numbers for every network, so the hole has the clip's own mean colour over all its frames: close
    to 0 after any normalisation. Nothing of another clip is seen, so a batch may be a single clip.

    Raises TypeError if clips are neither uint8 nor floating point, or labels are not floating point; ValueError for
    shapes that do not fit, label rows that are no distributions, a bad `side` or `ratio`.

    Args:
        clips: uint8 or float[B, T, C, H, W], in any pixel scale. Not modified.
        labels: float[B, K], non-negative rows that sum to 1. Not modified.
        side: of the hole, relative to the frame's, above 0 and at most 1. The paper's: a half for CIFAR-10 (16 of 32
            pixels), a quarter for CIFAR-100.
        ratio: "clip", or "batch": one place for all clips of the batch.
        generator: source of the randomness; torch's global one if None.

    Returns:
        The clips with holes, of the same type (the mean of uint8 is rounded), and a copy of the labels.
    """
    check(clips, labels, ratio=ratio, alone=True)
    if not 0 < side <= 1:
        raise ValueError(f"side {side}: expected a number above 0 and at most 1, relative to the frame's")
    rng = numpy_generator(generator)
    boxes = len(clips) if ratio == "clip" else 1
    masks = []
    for axis in (ROWS, COLUMNS):
        size = clips.shape[axis]
        centre = torch.from_numpy(rng.integers(size, size=boxes))
        masks.append(run_of(size, axis, even_length(size, np.full(boxes, side)), centre))
    holed, _ = paste(clips, labels, torch.arange(len(clips)), masks, others=_mean_colours(clips))
    return holed, labels.detach().clone()


@torch.no_grad()
def _mean_colours(clips: Tensor) -> Tensor:
    """[B, 1, C, 1, 1], of the clips' type."""
    colours = clips.float().mean(dim=(1, 3, 4), keepdim=True)
    return (colours.round() if clips.dtype == torch.uint8 else colours).to(clips.dtype)
