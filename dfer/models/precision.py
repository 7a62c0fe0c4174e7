"""Float32 inside a network that computes in half precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Operations take their inputs' own precision in here, also where autocast would round them to half precision.

    For what is cheap and needs its digits. MIDAS's targets are nearly flat, so what is left of the gradient at the
    logits, softmax minus target, is a small difference: logits in bfloat16 would spoil it.
    """
    if torch.amp.is_autocast_available(device.type):  # not for meta tensors
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
