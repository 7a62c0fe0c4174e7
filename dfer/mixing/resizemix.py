"""ResizeMix: a small copy of another clip."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfer.mixing.batch import check, draw_partners, numpy_generator
from dfer.mixing.pasting import COLUMNS, ROWS, paste, queued, run_of


def resizemix(
    clips: Tensor,
    labels: Tensor,
    *,
    scope: tuple[float, float] = (0.1, 0.8),
    ratio: str = "clip",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Shrink the whole of another clip j != i into a box of every clip i of a batch, the same box in all frames.

    Qin et al., *ResizeMix*, arXiv:2012.11101. With tau uniform in `scope`::

        x~ = x_i outside of the box, x_j shrunk inside        y~ = m * y_i + (1 - m) * y_j

    The box has tau H times tau W pixels (rounded, at least one) and lies wholly inside the frame, in any place with the
    same probability; m is the share of the pixels outside, counted. Every pixel of the box is the one of x_j that is
    nearest to its place, so no new values arise. (Public code squeezes x_j into what is left of a box that sticks out.)
    The partner j is uniform among the other clips. Raises TypeError if clips are neither uint8 nor floating point, or
    labels are not floating point; ValueError for fewer than two clips, shapes that do not fit, label rows that are no
    distributions, a bad `scope` or `ratio`.

    Args:
        clips: uint8 or float[B, T, C, H, W], in any pixel scale. Not modified.
        labels: float[B, K], non-negative rows that sum to 1. Not modified.
        scope: the smallest and the largest tau, above 0 and at most 1; 0.1 and 0.8 in the paper.
        ratio: "clip", or "batch": one box for all clips of the batch, as in public code.
        generator: source of the randomness; torch's global one if None.

    Returns:
        The mixed clips, of the same type, and the mixed labels, like `labels`. No gradient flows through the mixing.
    """
    check(clips, labels, ratio=ratio)
    if not 0 < scope[0] <= scope[1] <= 1:
        raise ValueError(f"scope {scope}: expected the smallest and the largest share of a side, above 0 and at most 1")
    rng = numpy_generator(generator)
    partner = torch.from_numpy(draw_partners(rng, len(clips)))
    tau = rng.uniform(*scope, size=len(clips) if ratio == "clip" else 1)
    others = clips.detach().index_select(0, queued(partner, clips.device))
    masks = []
    for axis in (ROWS, COLUMNS):
        size = clips.shape[axis]
        length = np.maximum(np.rint(tau * size), 1).astype(np.int64)
        start = rng.integers(size - length + 1)
        masks.append(run_of(size, axis, torch.from_numpy(length), torch.from_numpy(start + length // 2)))
        seen = torch.from_numpy(_shrunk(size, start, length)).view_as(masks[-1])
        others = others.gather(axis, queued(seen, clips.device).expand_as(others))
    return paste(clips, labels, partner, masks, others=others)


def _shrunk(size: int, start: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which of `size` places is seen at each of them, int64[B, size], after all have been shrunk into a run.

    Place p of the run is the middle p + 1/2 of a cell; the place is seen that it falls into. Beyond the run: any.
    """
    places = np.arange(size) - start[:, None]
    return np.clip((2 * places + 1) * size // (2 * length[:, None]), 0, size - 1)
