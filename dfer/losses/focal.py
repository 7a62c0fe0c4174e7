"""The focal loss (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017) against a label distribution."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def focal(logits: Tensor, targets: Tensor, *, focal_gamma: float = 2.0) -> Tensor:
    """The sum of -sum_k q_k (1 - p_k)^gamma log p_k over the clips of the batch, p = softmax(logits), q = targets.

    For a q of one class this is the published loss, without its alpha. gamma 0 is the cross-entropy.
    """
    log_p = functional.log_softmax(logits, dim=1)
    # 1 - p as a sum of the others' exponentials would keep its digits near p = 1; a loss of p^gamma there is 0 anyway
    return -(targets * (-log_p.expm1()).clamp(min=0) ** focal_gamma * log_p).sum()
