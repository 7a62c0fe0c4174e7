"""The normalisation of a target before the loss sees it."""

from __future__ import annotations

import torch
from torch import Tensor

from dfer.config import catalogue


def unchanged(targets: Tensor) -> Tensor:
    """The targets as they are."""
    return targets


def softmax(targets: Tensor) -> Tensor:
    """Softmax over the classes (section 3.1, end).

    Of a row that already sums to 1 it is nearly uniform: a one-hot row of 7 classes becomes 0.312 and six times 0.115.
    """
    return torch.softmax(targets, dim=-1)


NORMALIZATIONS = {name: catalogue.load(reference) for name, reference in catalogue.NORMALIZATIONS.items()}
"""Name -> function from target rows float[B, K] to such rows."""


def normalize_targets(targets: Tensor, name: str) -> Tensor:
    """Normalise target rows float[B, K] that sum to 1, by a key of `NORMALIZATIONS` or your own `module:attribute`.

    Raises ValueError if the name is neither.
    """
    normalized: Tensor = catalogue.choose(name, NORMALIZATIONS, "label normalisation")(targets)
    return normalized
