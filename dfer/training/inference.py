"""Logits of many clips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dfer.training.transforms import to_float


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
) -> npt.NDArray[np.float64]:
    """Logits float64[N, K] of batches of (frames uint8[B, T, 3, S, S], rows), in the batches' order, in float32.

    The model is on `device`; it is put into evaluation mode for this and left in the mode it was in.
    """
    training = model.training
    model.eval()
    logits = [model(to_float(frames.to(device, non_blocking=True), mean, std)).float() for frames, _ in batches]
    model.train(training)
    return torch.cat(logits).cpu().numpy().astype(np.float64)
