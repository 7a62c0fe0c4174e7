"""The class-balanced cross-entropy.

Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def class_balanced(logits: Tensor, targets: Tensor, *, class_counts: Tensor, class_balance: float = 0.999) -> Tensor:
    """The sum of -sum_k w_k q_k log p_k over the clips of the batch, p = softmax(logits), q = targets.

    w_k is proportional to (1 - beta) / (1 - beta^n_k), and has a mean of 1 over the classes that have clips; n_k are
    the `class_counts`, float[K]: the training clips of each class, which are no whole numbers for soft labels. beta is
    `class_balance`, in [0, 1): 0 weighs all classes the same, close to 1 by 1 / n_k.
    """
    return -(class_weights(class_counts, class_balance) * targets * functional.log_softmax(logits, dim=1)).sum()


def class_weights(class_counts: Tensor, class_balance: float) -> Tensor:
    """w of `class_balanced`, float[K]; 0 for a class without clips."""
    effective = -torch.expm1(class_counts.double() * torch.log(torch.tensor(class_balance, dtype=torch.float64)))
    weights = torch.where(class_counts > 0, (1 - class_balance) / effective, 0.0)
    return (weights * (class_counts > 0).sum() / weights.sum()).to(class_counts.dtype)
