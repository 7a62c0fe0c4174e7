"""FMix: masks of any form."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfer.mixing.batch import check, draw_partners, numpy_generator
from dfer.mixing.pasting import paste


def fmix(
    clips: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    decay: float = 3.0,
    ratio: str = "clip",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Paste blots of another clip j != i into every clip i of a batch, the same in all frames.

    Harris et al., *FMix*, arXiv:2002.12047. With lambda ~ Beta(alpha, alpha) and independent complex normal numbers
    Z::

        G = real part of F^-1[Z / f^decay]        M = 1 where G is among its HW lambda largest pixels, else 0
        x~ = M * x_i + (1 - M) * x_j              y~ = m * y_i + (1 - m) * y_j        m = mean of M

    f is the distance of a frequency from 0, in cycles a pixel and at least 1 / max(H, W): the larger `decay`, the
    smoother the blots. The number of pixels is rounded, and m is counted. The partner j is uniform among the other
    clips. Raises TypeError if clips are neither uint8 nor floating point, or labels are not floating point; ValueError
    for fewer than two clips, shapes that do not fit, label rows that are no distributions, a bad `alpha`, `decay` or
    `ratio`.

    Args:
        clips: uint8 or float[B, T, C, H, W], in any pixel scale. Not modified.
        labels: float[B, K], non-negative rows that sum to 1. Not modified.
        alpha: parameter of the beta distribution, above 0; 1 in the public code.
        decay: of the amplitude with frequency, 0 or more; 3 in the paper.
        ratio: "clip", or "batch": one lambda and one mask for all clips of the batch, as in the public code.
        generator: source of the randomness; torch's global one if None.

    Returns:
        The mixed clips, of the same type, and the mixed labels, like `labels`. No gradient flows through the mixing.
    """
    check(clips, labels, alpha=alpha, ratio=ratio)
    if not 0 <= decay < float("inf"):
        raise ValueError(f"decay {decay}: expected a finite number, 0 or more")
    rng = numpy_generator(generator)
    partner = draw_partners(rng, len(clips))
    height, width = clips.shape[-2:]
    masks = []
    for weight in rng.beta(alpha, alpha, size=len(clips) if ratio == "clip" else 1):
        grey = _low_frequencies(rng, height, width, decay)
        pasted = round((1 - weight) * grey.size)
        darkest = np.partition(grey, pasted - 1, axis=None)[pasted - 1] if pasted else -np.inf
        masks.append(torch.from_numpy(grey <= darkest))
    return paste(clips, labels, torch.from_numpy(partner), [torch.stack(masks)[:, None, None]])


def _low_frequencies(rng: np.random.Generator, height: int, width: int, decay: float) -> NDArray[np.float64]:
    """A random grey image G, [H, W]."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    real, imaginary = rng.standard_normal((2, *frequency.shape))
    spectrum = (real + 1j * imaginary) / np.maximum(frequency, 1 / max(height, width)) ** decay
    return np.fft.irfft2(spectrum, (height, width))
