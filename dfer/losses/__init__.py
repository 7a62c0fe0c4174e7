"""Losses of a training."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from dfer.config import catalogue

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    name: catalogue.load(reference) for name, reference in catalogue.LOSSES.items()
}
"""Name -> function (logits float[B, K], targets float[B, K]) -> the sum of the clips' losses, a scalar.

The targets are mixed and normalised, rows that sum to 1. Not the mean: a batch may be computed in parts, by several
processes, and the training divides the sums by the clips of the whole batch. On a GPU, nothing may wait for it.
"""
