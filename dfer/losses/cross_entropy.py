"""Cross-entropy against a label distribution (section 3.1)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum of -sum_k targets[i, k] * log softmax(logits[i])[k] over the clips i of the batch."""
    return functional.cross_entropy(logits, targets, reduction="sum")
