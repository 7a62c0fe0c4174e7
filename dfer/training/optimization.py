"""Optimiser, learning-rate schedule, device and precision of a training (section 4.3)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from dfer.config.settings import TrainSettings

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def make_optimizer(model: nn.Module, settings: TrainSettings) -> Optimizer:
    """SGD with momentum, or AdamW (which ignores `momentum`); weight decay on all parameters."""
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
    """The device for "auto" (CUDA if there is any), "cpu" or "cuda"; ValueError, not the CPU, where CUDA is missing."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device is 'cuda', but torch finds no CUDA device; set it to 'auto' or 'cpu', or check the driver"
        )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def choose_precision(precision: str, device: torch.device) -> str:
    """The precision for "auto": bfloat16 on a CUDA device that computes in it, else float32; or the one asked for.

    Raises ValueError for half precision on a CPU, where it is many times slower than float32.
    """
    if precision == "auto":
        in_half = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if in_half else "float32"
    if precision != "float32" and device.type == "cpu":
        raise ValueError(
            f"precision {precision!r} is for CUDA devices; on a CPU it is far slower: set it to 'auto' or 'float32'"
        )
    return precision


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """Set torch's number of CPU threads, and restore it; 0 leaves it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def torch_state(threads: int, device: torch.device, *, tf32: bool) -> Iterator[None]:
    """Set torch's global state for one training, and restore it, also the random generators of `device` and the CPU.

    `threads` 0 leaves torch's number. `tf32`: whether a GPU may round the inputs of float32 products to TF32 (10 bits
    of mantissa); `precision: auto` allows it, a precision that was asked for by name does not.
    """
    matmul = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 and device.type == "cuda" else "highest")
    devices = [device] if device.type == "cuda" else []
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32)
    try:
        with thread_count(threads), torch.random.fork_rng(devices=devices), cudnn:
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
