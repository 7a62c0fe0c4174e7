"""SaliencyMix: a box around what stands out."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from dfer.mixing.batch import check, draw_partners, numpy_generator
from dfer.mixing.pasting import COLUMNS, ROWS, even_length, paste, queued, run_of

MAP_SIZE = 64
"""Height and width of a saliency map, pixels, unless the frame is smaller."""
MAP_FRAMES = 8
"""A map is the mean over at most so many frames, evenly spaced: neighbours are alike, and this halves the time."""
BLUR = 2.5
"""Standard deviation of the blur, pixels of the map."""


def saliencymix(
    clips: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    ratio: str = "clip",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """CutMix with the box around the most salient pixel of the other clip j != i, the same box in all frames.

    Uddin et al., *SaliencyMix*, ICLR 2021 (arXiv:2006.01791). With lambda ~ Beta(alpha, alpha)::

        x~ = M * x_i + (1 - M) * x_j        y~ = m * y_i + (1 - m) * y_j        m = mean of M

    M is 0 inside a box of H sqrt(1 - lambda) times W sqrt(1 - lambda) pixels (even numbers, as in the public code); its
    centre is the largest value of `saliency` of x_j, one map a clip. What sticks out is cut off, and m is
    counted. The public code takes OpenCV's fine-grained saliency, which is not part of its usual package. The partner j
    is uniform among the other clips. Raises TypeError if clips are neither uint8 nor floating point, or labels are not
    floating point; ValueError for fewer than two clips, shapes that do not fit, label rows that are no distributions, a
    bad `alpha` or `ratio`.

    Args:
        clips: uint8 or float[B, T, C, H, W]. Not modified.
        labels: float[B, K], non-negative rows that sum to 1. Not modified. They may be on another device than the clips
            (on the CPU, checking them never waits for a GPU).
        alpha: parameter of the beta distribution, above 0; 1 in the public code.
        ratio: "clip", or "batch": one lambda and one box for all clips of the batch, the one around what is most
            salient in the first clip's partner, as in the public code.
        generator: source of the randomness; torch's global one if None.

    Returns:
        The mixed clips, of the same type, and the mixed labels, where the clips are: their share depends on pixels, and
        nothing waits for them. No gradient flows through the mixing.
    """
    check(clips, labels, alpha=alpha, ratio=ratio)
    rng = numpy_generator(generator)
    partner = torch.from_numpy(draw_partners(rng, len(clips)))
    boxes = len(clips) if ratio == "clip" else 1
    fraction = (1 - rng.beta(alpha, alpha, size=boxes)) ** 0.5
    others = clips.detach().index_select(0, queued(partner, clips.device))
    masks = []
    for axis, centre in zip((ROWS, COLUMNS), _most_salient(others[:boxes]), strict=True):
        length = queued(even_length(clips.shape[axis], fraction), clips.device)
        masks.append(run_of(clips.shape[axis], axis, length, centre))
    return paste(clips, labels, partner, masks, others=others)


@torch.no_grad()
def saliency(clips: Tensor) -> Tensor:
    """How much each place of clips [B, T, C, H, W] stands out: float32[B, h, w], h and w at most `MAP_SIZE`.

    The spectral residual of grey frames (Hou and Zhang, CVPR 2007): what is left of the log amplitude A of their
    spectrum S without its mean over 3 x 3 frequencies, with the same phase, back in the image, squared and blurred;
    then the mean over `MAP_FRAMES`. Since amplitude times phase is S, that is F^-1[S exp(-mean of A)].

    Frames are faded out to their edges first, from their mean on. To a Fourier transform, opposite edges are
    neighbours: where they differ, corners would stand out more than any face.
    """
    clips = clips[:, :: math.ceil(clips.shape[1] / MAP_FRAMES)]
    count, frames, _, height, width = clips.shape
    size = min(height, MAP_SIZE), min(width, MAP_SIZE)
    grey = clips.flatten(0, 1).float().mean(dim=1, keepdim=True)
    grey = functional.interpolate(grey, size, mode="bilinear", antialias=True)
    fade_rows, fade_columns = (_window(length, grey.device) for length in size)
    spectrum = torch.fft.fft2((grey - grey.mean(dim=(-2, -1), keepdim=True)) * fade_rows[:, None] * fade_columns)
    mean = spectrum.abs().clamp_(min=1e-6).log_()
    for axis in (-2, -1):
        mean = mean.roll(1, axis) + mean + mean.roll(-1, axis)
    maps = torch.fft.ifft2(spectrum * torch.exp(-mean / 9)).real.square()
    # The blur of a mean is the mean of blurs.
    return _blurred(maps.view(count, frames, *size).mean(dim=1))


def _window(length: int, device: torch.device) -> Tensor:
    """Hann's window at the middles of so many places."""
    return torch.sin(torch.pi * (torch.arange(length, device=device) + 0.5) / length) ** 2


def _blurred(maps: Tensor) -> Tensor:
    """Maps [B, h, w] under a normal distribution; beyond the edges lie zeros."""
    reach = round(2 * BLUR)
    offsets = torch.arange(-reach, reach + 1, device=maps.device)
    weights = torch.exp(-((offsets / BLUR) ** 2) / 2)
    weights = weights / weights.sum()
    rows = functional.conv2d(maps[:, None], weights.view(1, 1, -1, 1), padding=(reach, 0))
    return functional.conv2d(rows, weights.view(1, 1, 1, -1), padding=(0, reach))[:, 0]


def _most_salient(clips: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of the most salient pixel of each clip, int64[B] each, where the clips are."""
    maps = saliency(clips)
    height, width = maps.shape[1:]
    place = maps.flatten(1).argmax(dim=1)
    row, column = place // width, place % width
    return (2 * row + 1) * clips.shape[ROWS] // (2 * height), (2 * column + 1) * clips.shape[COLUMNS] // (2 * width)
