"""Logits of many clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

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
    forward: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> npt.NDArray[np.float64]:
    """Logits float64[N, K] of batches of (frames uint8[B, T, 3, S, S], rows), in the batches' order, in float32.

    The model is on `device`; it is put into evaluation mode for this and left in the mode it was in. `forward`, given
    clips float[B, T, 3, S, S] and rows, may show it the clips in another way.
    """
    show = forward or (lambda clips, _: model(clips))
    training = model.training
    model.eval()
    logits = [show(to_float(frames.to(device, non_blocking=True), mean, std), rows).float() for frames, rows in batches]
    model.train(training)
    return torch.cat(logits).cpu().numpy().astype(np.float64)
