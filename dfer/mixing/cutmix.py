"""CutMix, and its forms for clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dfer.mixing.batch import check, draw_partners, numpy_generator
from dfer.mixing.pasting import COLUMNS, ROWS, TIME, even_length, paste, run_of


def cutmix(
    clips: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    ratio: str = "clip",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Paste a box of another clip j != i into every clip i of a batch, the same box in all frames.

    Yun et al., *CutMix*, ICCV 2019 (arXiv:1905.04899), equations 1 and 2; of VideoMix (Yun et al., arXiv:2012.03457)
    the spatial form. With lambda ~ Beta(alpha, alpha)::

        x~ = M * x_i + (1 - M) * x_j        y~ = m * y_i + (1 - m) * y_j        m = mean of M

    M is 0 inside a box of H sqrt(1 - lambda) times W sqrt(1 - lambda) pixels (even numbers, as in the public code),
    whose centre is uniform over the frame. What sticks out is cut off, so m may be more than lambda: it is counted. The
    partner j is uniform among the other clips. Raises TypeError if clips are neither uint8 nor floating point, or
    labels are not floating point; ValueError for fewer than two clips, shapes that do not fit, label rows that are no
    distributions, a bad `alpha` or `ratio`.

    Args:
        clips: uint8 or float[B, T, C, H, W], in any pixel scale. Not modified.
        labels: float[B, K], non-negative rows that sum to 1: soft labels, or one-hot rows. Not modified. They may be on
            another device than the clips (on the CPU, checking them never waits for a GPU).
        alpha: parameter of the beta distribution, above 0; 1, lambda being uniform, in the paper.
        ratio: "clip", or "batch": one lambda and one box for all clips of the batch, as in the public code.
        generator: source of the randomness; torch's global one if None.

    Returns:
        The mixed clips, of the same type, and the mixed labels, like `labels`. No gradient flows through the mixing.
    """
    return _paste_cuboid(clips, labels, (ROWS, COLUMNS), alpha, ratio, generator)


def cutmix_time(
    clips: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    ratio: str = "clip",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Whole frames, T (1 - lambda) in a row, rounded, at the same places of the other clip: VideoMix's temporal form.

    The middle of the run is uniform over the clip, and what sticks out is cut off. All else is as in `cutmix`.
    """
    return _paste_cuboid(clips, labels, (TIME,), alpha, ratio, generator)


def cutmix_space_time(
    clips: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    ratio: str = "clip",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """A box in a run of frames: VideoMix's form in space and time.

    T, H and W times the cube root of 1 - lambda, around a centre that is uniform over the clip; what sticks out is cut
    off. All else is as in `cutmix`.
    """
    return _paste_cuboid(clips, labels, (TIME, ROWS, COLUMNS), alpha, ratio, generator)


def _paste_cuboid(
    clips: Tensor,
    labels: Tensor,
    axes: Sequence[int],
    alpha: float,
    ratio: str,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """`cutmix`, with a box that ends within these axes and goes through all of the others."""
    check(clips, labels, alpha=alpha, ratio=ratio)
    rng = numpy_generator(generator)
    partner = draw_partners(rng, len(clips))
    boxes = len(clips) if ratio == "clip" else 1
    fraction = (1 - rng.beta(alpha, alpha, size=boxes)) ** (1 / len(axes))
    masks = []
    for axis in axes:
        size = clips.shape[axis]
        # Of eight frames, one more or less is much: their number is the nearest one.
        length = torch.from_numpy(np.rint(size * fraction).astype(int)) if axis == TIME else even_length(size, fraction)
        masks.append(run_of(size, axis, length, torch.from_numpy(rng.integers(size, size=boxes))))
    return paste(clips, labels, torch.from_numpy(partner), masks)
