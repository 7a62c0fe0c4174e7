"""Optimiser, learning-rate schedule, device and precision of a training (section 4.3)."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from dfer.settings import TrainSettings

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def make_optimizer(model: nn.Module, settings: TrainSettings) -> Optimizer:
    """SGD with momentum, or AdamW (which has no use for `momentum`); weight decay on all parameters."""
    if settings.optimizer == "adamw":
        return AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    return SGD(
        model.parameters(),
        settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def make_schedule(optimizer: Optimizer, settings: TrainSettings, steps: int) -> LRScheduler:
    """The learning rate of each of `steps` steps: cosine from `learning_rate` to 0, or one cycle up to it and down."""
    if settings.schedule == "onecycle":
        # The momentum stays what the settings say.
        return OneCycleLR(optimizer, settings.learning_rate, total_steps=steps, cycle_momentum=False)
    return CosineAnnealingLR(optimizer, T_max=steps)


def choose_device(device: str) -> torch.device:
    """The device for "auto" (a CUDA device if there is one), "cpu" or "cuda".

    Raises ValueError if CUDA is asked for and absent; nothing falls back to the CPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device is 'cuda', but torch finds no CUDA device; set it to 'auto' or 'cpu', or check the driver"
        )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ValueError for half precision on a CPU, where it is many times slower than float32."""
    if precision != "float32" and device.type == "cpu":
        raise ValueError(f"precision {precision!r} is for CUDA devices; on a CPU it is far slower: set it to 'float32'")
