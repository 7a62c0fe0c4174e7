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
    """Logits of all clips, float64[N, K], computed in float32.

    Args:
        model: on `device`; it is in evaluation mode meanwhile, and in its former mode afterwards.
        batches: pairs of frames uint8[B, T, 3, S, S] and rows; the logits are in their order.
        mean, std: per channel, see `to_float`.
        forward: called instead of the model with clips float[B, T, 3, S, S] and rows.
    """
    show = forward or (lambda clips, _: model(clips))
    training = model.training
    model.eval()
    logits = [show(to_float(frames.to(device, non_blocking=True), mean, std), rows).float() for frames, rows in batches]
    model.train(training)
    return torch.cat(logits).cpu().numpy().astype(np.float64)
