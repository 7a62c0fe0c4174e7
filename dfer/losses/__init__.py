"""Losses of a training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from dfer.config import catalogue
from dfer.config.settings import ArmSettings

Loss = Callable[..., Tensor]

LOSSES: dict[str, Loss] = {name: catalogue.load(known.function) for name, known in catalogue.LOSSES.items()}
"""Name -> function (logits float[B, K], targets float[B, K], **options) -> the sum of the clips' losses, a scalar.

The targets are mixed and normalised, rows that sum to 1. Not the mean: a batch may be computed in parts, by several
processes, and the training divides the sums by the clips of the whole batch. On a GPU, nothing may wait for it.
"""


def loss_of(arm: ArmSettings) -> Loss:
    """The arm's loss with its options filled in: (logits, targets) -> the sum of the clips' losses.

    Raises ValueError for a loss that is neither in `LOSSES` nor named as `module:attribute`.
    """
    options = {name: getattr(arm, name) for name in catalogue.loss(arm.loss).options}
    return partial(catalogue.choose(arm.loss, LOSSES, "loss"), **options)
