"""The intensity-aware loss (Li et al. 2023): the class that is confused most with a clip's own counts once more."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dfer.losses.cross_entropy import cross_entropy


def ial(logits: Tensor, targets: Tensor, *, ial_weight: float = 0.1) -> Tensor:
    """Cross-entropy + `ial_weight` * L_IAL, summed over the clips of the batch.

    Li, Niu, Zhu and Zhao, "Intensity-Aware Loss for Dynamic Facial Expression Recognition in the Wild", AAAI 2023,
    with the weight of the authors' code. For a clip of class t, L_IAL is the cross-entropy between t and the class m
    with the largest logit of all others: -log(e^z_t / (e^z_t + e^z_m)).

    For a label distribution q (ours, not the paper's) L_IAL = sum_k q_k * -log(e^z_k / (e^z_k + e^z_m(k))), with m(k)
    the class of the largest logit among those that have less of q than k. A class that was chosen as often or more is
    not mistaken for k, and a k without any class below it adds nothing. For a q of one class this is the paper's.

    Args:
        logits, targets: float[B, K], rows of targets sum to 1.
        ial_weight: of L_IAL.
    """
    less = targets.unsqueeze(1) < targets.unsqueeze(2)  # [B, k, j]: class j has less of the target than k
    confused = logits.unsqueeze(1).masked_fill(~less, -torch.inf).amax(dim=2)
    return cross_entropy(logits, targets) + ial_weight * (targets * functional.softplus(confused - logits)).sum()
