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

The targets are mixed and normalised, rows that sum to 1; counts of votes for a loss that `counts` in the catalogue. Not
the mean: a batch may be computed in parts, by several processes, and the training divides the sums by the clips of the
whole batch. On a GPU, nothing may wait for it.
"""


def loss_of(arm: ArmSettings, class_counts: Tensor | None = None) -> Loss:
    """The arm's loss with its options filled in: (logits, targets) -> the sum of the clips' losses.

    `class_counts` float[K], on the device of the logits, are the training clips of each class, for losses that weigh
    classes. Raises ValueError for a loss that is neither in `LOSSES` nor named as `module:attribute`, and for one that
    weighs classes without their counts.
    """
    known = catalogue.loss(arm.loss)
    options: dict[str, object] = {name: getattr(arm, name) for name in known.options}
    if known.weighs_classes:
        if class_counts is None:
            raise ValueError(f"the loss {arm.loss} weighs classes by their clips, and none are counted")
        options["class_counts"] = class_counts
    return partial(catalogue.choose(arm.loss, LOSSES, "loss"), **options)
