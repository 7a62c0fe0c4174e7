"""The normalisation of a target before the loss sees it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from dfer.config import catalogue
from dfer.config.settings import ArmSettings


def unchanged(targets: Tensor) -> Tensor:
    """The targets as they are."""
    return targets


def softmax(targets: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Softmax over the classes of targets / temperature (section 3.1, end, where it is 1).

    Of a row that already sums to 1 it is nearly uniform at temperature 1: a one-hot row of 7 classes becomes 0.312 and
    six times 0.115. At 0.1 it is the softmax of the counts of ten votes.
    """
    return torch.softmax(targets / temperature if temperature != 1 else targets, dim=-1)


def smooth(targets: Tensor, *, smoothing: float = 0.1) -> Tensor:
    """Label smoothing (Szegedy et al., CVPR 2016): (1 - smoothing) q + smoothing / K."""
    return torch.lerp(targets, torch.full_like(targets, 1 / targets.shape[-1]), smoothing)


def sharpen(targets: Tensor, *, temperature: float = 0.5) -> Tensor:
    """Each row to the power 1 / temperature, over its sum (Berthelot et al., MixMatch, NeurIPS 2019): below 1 it
    sharpens, above 1 it flattens."""
    powers = targets ** (1 / temperature)
    return powers / powers.sum(dim=-1, keepdim=True)


NORMALIZATIONS: dict[str, Callable[..., Tensor]] = {
    name: catalogue.load(known.function) for name, known in catalogue.NORMALIZATIONS.items()
}
"""Name -> function (targets float[..., K], **options) from rows that sum to 1 to such rows."""


def normalization_of(arm: ArmSettings) -> Callable[[Tensor], Tensor]:
    """The arm's normalisation with its options filled in: targets -> targets.

    Raises ValueError for a name that is neither in `NORMALIZATIONS` nor a `module:attribute`.
    """
    options = {name: getattr(arm, name) for name in catalogue.normalization(arm.normalize).options}
    return partial(catalogue.choose(arm.normalize, NORMALIZATIONS, "label normalisation"), **options)


def normalize_targets(targets: Tensor, name: str) -> Tensor:
    """Normalise target rows float[B, K] that sum to 1, by a key of `NORMALIZATIONS` with its default options, or your
    own `module:attribute`. Raises ValueError if the name is neither.
    """
    normalized: Tensor = catalogue.choose(name, NORMALIZATIONS, "label normalisation")(targets)
    return normalized
