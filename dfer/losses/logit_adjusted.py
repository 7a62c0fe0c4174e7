"""The logit-adjusted cross-entropy (Menon et al., "Long-tail learning via logit adjustment", ICLR 2021)."""

from __future__ import annotations

from torch import Tensor

from dfer.losses.cross_entropy import cross_entropy


def logit_adjusted(logits: Tensor, targets: Tensor, *, class_counts: Tensor, adjustment: float = 1.0) -> Tensor:
    """The cross-entropy of logits + tau log pi, summed over the clips of the batch; evaluations use plain logits.

    pi is the share of each class in the training clips, from `class_counts` float[K], all above 0; tau is
    `adjustment`. A rare class then needs a larger logit to fit its clips, which it keeps when pi is gone.
    """
    return cross_entropy(logits + adjustment * (class_counts / class_counts.sum()).log(), targets)
