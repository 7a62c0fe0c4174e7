"""A mixing, a loss and a label normalisation of your own: functions that an arm names, with this file on PYTHONPATH:

arms:
  cut: {labels: soft, mixing: "own_mixing:half_and_half", loss: "own_mixing:focal", normalize: "own_mixing:smoothed"}
"""

import torch
from torch import Tensor


def half_and_half(
    clips: Tensor, labels: Tensor, *, generator: torch.Generator | None = None, **_: object
) -> tuple[Tensor, Tensor]:
    """The left half of every clip uint8[B, T, C, H, W] and the right half of the clip before it; half of both labels.

    Called with `alpha` and `ratio` too, which it has no use for.
    """
    mixed, half = clips.clone(), clips.shape[-1] // 2
    mixed[..., half:] = clips.roll(1, dims=0)[..., half:]
    return mixed, (labels + labels.roll(1, dims=0)) / 2


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal loss (Lin et al. 2017, gamma 2) against label distributions float[B, K], summed over the clips."""
    log_probabilities = logits.log_softmax(dim=1)
    return -((1 - log_probabilities.exp()) ** 2 * targets * log_probabilities).sum()


def smoothed(targets: Tensor) -> Tensor:
    """Label smoothing: a tenth of every label float[B, K] is shared by all classes."""
    return 0.9 * targets + 0.1 / targets.shape[1]
