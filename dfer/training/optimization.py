"""Optimiser, learning-rate schedule, device and precision of a training (section 4.3)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR, StepLR

from dfer.config.settings import TrainSettings
from dfer.training.world import World

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def make_optimizer(model: nn.Module, settings: TrainSettings) -> Optimizer:
    """SGD with momentum, or AdamW (which ignores `momentum`), for all parameters that are trained.

    Weight decay is on all of them, or (`decay_norms: false`) not on vectors: biases and what normalisations learn.
    """
    # torch's fused SGD takes new memory for the momentum and leaves it as it is when a scaler skips the first step for
    # an overflow, which only float16 has.
    fused = True if settings.precision != "float16" else None  # None: torch's choice, all parameters at once on a GPU
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": trained}]
    if not settings.decay_norms:
        groups = [
            {"params": [parameter for parameter in trained if parameter.ndim > 1]},
            {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
        ]
    if settings.optimizer == "adamw":
        return AdamW(groups, settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    return SGD(
        groups,
        settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=fused,
    )


def make_schedule(optimizer: Optimizer, settings: TrainSettings, steps: int) -> LRScheduler:
    """The learning rate of each of `steps` steps, which are those of all epochs.

    A cosine from `learning_rate` to `final_learning_rate`; one cycle up to it and down; or falls by `step_factor` every
    `step_epochs`. In `warmup_epochs` before a cosine or a first step it grows linearly from a hundredth.
    Raises ValueError for settings that no learning rate can follow.
    """
    if problem := settings.problem_with_schedule():
        raise ValueError(problem)
    if settings.schedule == "onecycle":
        # The momentum stays what the settings say.
        return OneCycleLR(optimizer, settings.learning_rate, total_steps=steps, cycle_momentum=False)
    warmup = round(steps * settings.warmup_epochs / settings.epochs)
    main: LRScheduler
    if settings.schedule == "step":
        main = StepLR(optimizer, max(1, round(steps * settings.step_epochs / settings.epochs)), settings.step_factor)
    else:
        main = CosineAnnealingLR(optimizer, T_max=steps - warmup, eta_min=settings.final_learning_rate)
    if not warmup:
        return main
    growing = LinearLR(optimizer, start_factor=0.01, total_iters=warmup)
    return SequentialLR(optimizer, [growing, main], milestones=[warmup])


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


def uses_cuda_graph(
    settings: TrainSettings,
    device: torch.device,
    world: World,
    *,
    needs_network: bool = False,
    recordable: bool = True,
) -> bool:
    """Whether the steps of a training are recorded as a CUDA graph: on a GPU, by one process, a batch at once.

    Not with a mixing or a method that looks into the network, nor with a network that is not `recordable`; not in
    float16, whose scaler looks at every step's gradients before it updates; and not for a training that is to be
    repeated to the bit, whose first steps, not yet replayed, come at other places after it was stopped. Raises
    ValueError where one was asked for ("on") and cannot be.
    """
    against = {
        "it is on the CPU": device.type != "cuda",
        f"{world.size} processes share it": world.size > 1,
        "its mixing or method looks into the network": needs_network,
        "its network copies numbers from the CPU": not recordable,
    }
    reasons = [reason for reason, holds in against.items() if holds]
    if problem := settings.problem_with_cuda_graph(*reasons):
        raise ValueError(problem)
    reasons += settings.reasons_against_cuda_graph()
    return settings.cuda_graph != "off" and not reasons


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
def torch_state(threads: int, device: torch.device, *, tf32: bool, deterministic: bool = False) -> Iterator[None]:
    """Set torch's global state for a training or an evaluation, and restore it, also the random generators of `device`
    and the CPU.

    `threads` 0 leaves torch's number. `tf32`: whether a GPU may round the inputs of float32 products to TF32 (10 bits
    of mantissa); `precision: auto` allows it, a precision that was asked for by name does not. `deterministic`: a GPU
    takes only algorithms that come to the same bits every time, and cuDNN does not choose by measuring; an operation
    that has no such algorithm raises RuntimeError.
    """
    matmul = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 and device.type == "cuda" else "highest")
    devices = [device] if device.type == "cuda" else []
    cudnn = torch.backends.cudnn.flags(
        enabled=True, benchmark=not deterministic, deterministic=deterministic, allow_tf32=tf32
    )
    before = torch.are_deterministic_algorithms_enabled()
    if deterministic:
        # cuBLAS reads it when it is first used; two workspaces of 4 MiB a stream keep its sums in one order
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        with thread_count(threads), torch.random.fork_rng(devices=devices), cudnn:
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.use_deterministic_algorithms(before)
