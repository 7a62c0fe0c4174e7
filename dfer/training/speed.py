"""How fast a network trains on this machine, measured with the training's step, and how fast the machine can be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from dfer.system.memory import keep_freed_memory
from dfer.training.optimization import PRECISIONS, choose_device, choose_precision, torch_state
from dfer.training.plan import Plan
from dfer.training.step import Step, make_network
from dfer.training.transforms import random_views

MATRIX_SIDE = {"cpu": 3072, "cuda": 8192}
"""Side of the square matrices whose product measures the peak: large enough that nothing but arithmetic counts."""


@dataclass(frozen=True)
class StepSpeed:
    """The speed of a training's step."""

    device: str  # "cpu", or the GPU's name
    precision: str  # that the step computed in
    clips_per_second: float  # clips_per_second, steps_per_second: of the median step; reading clips is not part of it
    steps_per_second: float
    # convolutions and matrix products of a clip's forward and backward pass (a multiplication with its addition counts
    # as two)
    flops_per_clip: float
    peak_flops: float  # per second, of the fastest product of two large matrices in the same precision

    @property
    def share_of_peak(self) -> float:
        """The step's arithmetic in proportion to what large matrices reach."""
        return self.clips_per_second * self.flops_per_clip / self.peak_flops


def step_speed(plan: Plan, *, threads: int, seconds: float = 5.0) -> StepSpeed:
    """Time the training's step on random frames of the size that the network sees, with random weights.

    A step is everything from stored frames on the device to new weights: view, mixing, normalising, forward, backward,
    update. The first steps (allocation, cuDNN's search for kernels) do not count. It is measured for `seconds`, at
    least three steps; `threads` 0 leaves torch's number. Raises ValueError for a device or precision that this machine
    lacks.
    """
    keep_freed_memory()
    device, tf32 = choose_device(plan.train.device), plan.train.precision == "auto"
    precision = choose_precision(plan.train.precision, device)
    plan = replace(_untrained(plan), train=plan.train.model_copy(update={"precision": precision}))
    batch, size, segments = plan.train.batch_size, plan.model.input_size, plan.sampling.num_segments
    with torch_state(threads, device, tf32=tf32):
        network = make_network(plan).to(device).train()
        step = Step(network, plan, steps=1_000_000)
        generator = np.random.default_rng(0)
        stored = torch.randint(0, 256, (batch, segments, size, size, 3), dtype=torch.uint8, device=device)
        targets = torch.from_numpy(generator.dirichlet(np.ones(len(plan.classes)), batch)).to(torch.float32)
        draws = torch.Generator().manual_seed(0)

        def one_step() -> None:
            crop_params = torch.from_numpy(generator.random((batch, 4)))
            step(random_views(stored.permute(0, 1, 4, 2, 3), size, plan.train.augment, crop_params), targets, draws)

        seconds_per_step = _median_seconds(one_step, device, seconds)
        peak = _peak_flops(PRECISIONS[precision], device)
    return StepSpeed(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        precision=precision,
        clips_per_second=batch / seconds_per_step,
        steps_per_second=1 / seconds_per_step,
        flops_per_clip=flops_per_clip(plan),
        peak_flops=peak,
    )


def flops_per_clip(plan: Plan) -> float:
    """Floating-point operations of one clip's forward and backward pass; counted, nothing is computed."""
    size = plan.model.input_size
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = make_network(_untrained(plan))
        outputs = network(torch.empty(2, plan.sampling.num_segments, 3, size, size))
        every = [outputs[0], *outputs[1]] if hasattr(network, "auxiliary_weights") else [outputs]
        torch.stack([cross_entropy(logits, torch.empty_like(logits)) for logits in every]).sum().backward()
    return counter.get_total_flops() / 2


def _untrained(plan: Plan) -> Plan:
    return replace(plan, model=plan.model.model_copy(update={"pretrained": None}))


def _median_seconds(run: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Seconds of one call: the median over rounds, each of which lets the GPU's queue run full."""
    run()
    _wait(device)
    # One after the other, as on a CPU; on a GPU, waiting after every call would measure the waiting.
    calls = 10 if device.type == "cuda" else 1
    rounds: list[float] = []
    while len(rounds) < 3 or sum(rounds) < seconds:
        started = time.perf_counter()
        for _ in range(calls):
            run()
        _wait(device)
        rounds.append(time.perf_counter() - started)
    return float(np.median(rounds)) / calls


def _peak_flops(dtype: torch.dtype, device: torch.device) -> float:
    side = MATRIX_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty(side, side, dtype=dtype, device=device)
    return 2 * side**3 / _median_seconds(lambda: torch.matmul(left, right, out=out), device, 0.5)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
