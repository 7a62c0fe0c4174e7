"""mixup: the weighted mean of two clips."""

from __future__ import annotations

import torch
from torch import Tensor

from dfer.mixing.midas import mix


def mixup(
    clips: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    ratio: str = "clip",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Zhang et al., *mixup*, ICLR 2018 (arXiv:1710.09412), section 1: what MIDAS does before it normalises the label.

    With lambda ~ Beta(alpha, alpha)::

        x~ = lambda * x_i + (1 - lambda) * x_j        y~ = lambda * y_i + (1 - lambda) * y_j

    It is `dfer.mixing.midas.mix`, whose arguments, result and errors it has. The authors' code has alpha 1 for CIFAR
    and one lambda a batch (`ratio` "batch"), and lets a clip be paired with itself, which never happens here.
    """
    return mix(clips, labels, alpha=alpha, ratio=ratio, generator=generator)
