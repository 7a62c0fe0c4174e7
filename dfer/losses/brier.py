"""The Brier score as a loss (Brier, "Verification of forecasts expressed in terms of probability", 1950)."""

from __future__ import annotations

from torch import Tensor


def brier(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum of sum_k (p_k - q_k)^2 over the clips of the batch, p = softmax(logits), q = targets; each in [0, 2]."""
    return ((logits.softmax(dim=1) - targets) ** 2).sum()
