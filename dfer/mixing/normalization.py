"""The normalisation of a target before the loss sees it."""

from __future__ import annotations

import torch
from torch import Tensor


def normalize_targets(targets: Tensor, how: str) -> Tensor:
    """Normalise target rows float[B, K]: "softmax" (section 3.1, end) or "none", which returns them as they are.

    The softmax of a row that already sums to 1 is nearly uniform: a one-hot row of 7 classes becomes 0.312 and six
    times 0.115. Raises ValueError for another `how`.
    """
    if how == "softmax":
        return torch.softmax(targets, dim=-1)
    if how == "none":
        return targets
    raise ValueError(f"target normalisation {how!r}: expected 'softmax' or 'none'")
