"""The step of the paper's training on frames that lie on the GPU: from mixing to new weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.conditions import Conditions, Values
from benchmarks.gpu.timing import compared, launched, matmul_peak, memory, wait
from benchmarks.paper import SEGMENTS, paper_plan
from dfer.config.catalogue import NETWORKS
from dfer.labels import EMOTIONS
from dfer.training.optimization import choose_precision, torch_state
from dfer.training.plan import Plan
from dfer.training.speed import flops_per_clip
from dfer.training.step import Step, make_network

TRAINING_CLIPS = 9_356  # of one fold of DFEW
EPOCHS = 450  # section 4.3

Take = Callable[[], Tensor]
"""Take one step; returns its loss, on the device."""


@dataclass(frozen=True)
class Mode:
    """What a step computes in: `train.precision`, and whether products in float32 may be rounded to TF32."""

    precision: str
    tf32: bool = False


MODES = {
    "float32": Mode("float32"),
    "TF32": Mode("float32", tf32=True),
    "bfloat16": Mode("bfloat16", tf32=True),  # as `train.precision: auto`
    "float16": Mode("float16"),
}


def usual_mode(device: torch.device) -> str:
    """What `train.precision: auto` takes on a device."""
    precision = choose_precision("auto", device)
    return "TF32" if precision == "float32" and device.type == "cuda" else precision


def step(
    conditions: Conditions, *, mode: str, channels_last: bool, frames: int = SEGMENTS, launches: bool = False
) -> Values:
    """Steps without a CUDA graph. `launches`, here and below: only what they start."""
    device = torch.device(conditions.device)
    with state(mode, device), memory(device) as held:
        take = taken(conditions, mode, frames, channels_last=channels_last, cuda_graph="off")
        values = (launched if launches else compared)(take, conditions)
        del take
    return values if launches else values | held | figures(conditions, mode, values["ms"], frames=frames)


def graph(conditions: Conditions, *, mode: str, launches: bool = False) -> Values:
    """Steps as a CUDA graph against the same steps without, and how far their losses agree."""
    with state(mode, torch.device(conditions.device)):
        # without dropout, whose numbers need not be drawn alike
        ours, other = (taken(conditions, mode, cuda_graph=choice, dropout=0.0) for choice in ("on", "off"))
        if launches:
            return launched(ours, conditions, other)
        losses = [[float(take()) for _ in range(conditions.steps)] for take in (ours, other)]
        values = compared(ours, conditions, other)
    difference = max(abs(one - two) / abs(two) for one, two in zip(*losses, strict=True))
    remark = f"against none; the losses of {conditions.steps} steps {agreement(difference)}"
    return values | figures(conditions, mode, values["ms"]) | {"loss_difference": difference, "remark": remark}


def compiled(conditions: Conditions, *, mode: str, how: str, cuda_graph: str, launches: bool = False) -> Values:
    """Steps of a network that `torch.compile` has compiled in a mode of its own, against one that it has not."""
    device = torch.device(conditions.device)
    torch.compiler.reset()
    with state(mode, device):
        other = taken(conditions, mode, cuda_graph=cuda_graph)
        ours = taken(conditions, mode, cuda_graph=cuda_graph, compile_mode=how)
        if launches:
            return launched(ours, conditions, other)
        started = time.perf_counter()
        ours()
        wait(device)
        compiling = time.perf_counter() - started
        values = compared(ours, conditions, other)
    remark = f"against the same without compiling; the first step, which compiles, took {compiling:.1f} s"
    return values | figures(conditions, mode, values["ms"]) | {"compile_s": compiling, "remark": remark}


def network(conditions: Conditions, *, name: str, launches: bool = False) -> Values:
    """Steps of a network of the catalogue in its own frames and size, as trainings run by default.

    Quick: in small frames, unless its own size is the only one.
    """
    device, own = torch.device(conditions.device), NETWORKS[name]
    mode = usual_mode(device)
    plan = paper_plan(
        conditions.size if conditions.is_quick and not own.one_size else own.input_size,
        segments=own.num_segments,
        width=conditions.width,
        name=name,
        precision=MODES[mode].precision,
        batch_size=conditions.batch,
    )
    with state(mode, device), memory(device) as held:
        take = _steps_of(plan, device)
        values = (launched if launches else compared)(take, conditions)
        del take
    if launches:
        return values
    reached = conditions.batch * flops_per_clip(plan) / (values["ms"] / 1000)
    return values | held | {"share_of_peak": reached / _peak(mode, conditions.device, conditions.peak_side)}


def state(mode: str, device: torch.device) -> AbstractContextManager[None]:
    """torch's global state of a training in that mode."""
    return torch_state(0, device, tf32=MODES[mode].tf32)


def taken(
    conditions: Conditions,
    mode: str,
    frames: int = SEGMENTS,
    *,
    compile_mode: str = "",
    channels_last: bool = True,
    dropout: float = 0.5,
    cuda_graph: str = "off",
) -> Take:
    """A new training's step, on random frames that are on its device. Within `state`; the same losses every time."""
    make = made(
        conditions,
        mode,
        frames,
        compile_mode=compile_mode,
        channels_last=channels_last,
        dropout=dropout,
        cuda_graph=cuda_graph,
    )
    return _on_random_clips(make, conditions.batch, frames, conditions.size, torch.device(conditions.device))


def _on_random_clips(make: Step, batch: int, frames: int, size: int, device: torch.device) -> Take:
    generator = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (batch, frames, 3, size, size), dtype=torch.uint8, generator=generator).to(device)
    targets = torch.rand(batch, len(EMOTIONS), generator=generator).softmax(dim=1)
    return lambda: make(clips, targets, generator)[0]


def _steps_of(plan: Plan, device: torch.device) -> Take:
    torch.manual_seed(0)
    make = Step(make_network(plan).to(device).train(), plan, steps=1_000_000)
    return _on_random_clips(make, plan.train.batch_size, plan.sampling.num_segments, plan.model.input_size, device)


def made(
    conditions: Conditions,
    mode: str,
    frames: int = SEGMENTS,
    *,
    compile_mode: str = "",
    dropout: float = 0.5,
    **train: Any,
) -> Step:
    """A new training's step. Within `state`."""
    torch.manual_seed(0)
    plan = paper_plan(
        conditions.size,
        segments=frames,
        width=conditions.width,
        dropout=dropout,
        precision=MODES[mode].precision,
        batch_size=conditions.batch,
        **train,
    )
    network = make_network(plan).to(torch.device(conditions.device)).train()
    if compile_mode:
        network.compile(mode=compile_mode)
    return Step(network, plan, steps=1_000_000)


def figures(conditions: Conditions, mode: str, ms: float, *, frames: int = SEGMENTS) -> Values:
    """What a step of so many milliseconds means: `share_of_peak`, in its own precision, and the training's `hours` if
    sizes are the paper's."""
    reached = conditions.batch * _flops(conditions.size, frames, conditions.width) / (ms / 1000)
    values: Values = {"share_of_peak": reached / _peak(mode, conditions.device, conditions.peak_side)}
    return values if conditions.is_quick else values | {"hours": training_hours(ms / 1000, conditions.batch)}


def training_hours(seconds: float, batch: int) -> float:
    """Hours of the paper's training, at so many seconds a step, without its evaluations."""
    return EPOCHS * math.ceil(TRAINING_CLIPS / batch) * seconds / 3600


def agreement(difference: float) -> str:
    """How far numbers agree that differ by a share of at most `difference`."""
    return "are equal" if difference == 0 else f"agree to {-math.log10(difference):.1f} digits"


@cache
def _peak(mode: str, device: str, side: int) -> float:
    chosen = MODES[mode]
    return matmul_peak(chosen.precision, torch.device(device), side, tf32=chosen.tf32)


@cache
def _flops(size: int, frames: int, width: float) -> float:
    return flops_per_clip(paper_plan(size, segments=frames, width=width))
