"""Times calls that only start the GPU's work, and what it does for them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd import DeviceType

from benchmarks.gpu.conditions import Conditions, Values
from dfer.training.optimization import PRECISIONS, torch_state

Call = Callable[[], object]

WARM_UP = 5
"""Calls before any is timed: cuDNN searches for kernels, and a CUDA graph is recorded in the fourth."""

_ROUND_SECONDS = 0.2
_LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaLaunchCooperative", "cuLaunchCooperative", "cudaGraphLaunch")


def wait(device: torch.device) -> None:
    """Until the GPU has done what was started."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_per_call(run: Call, device: torch.device, seconds: float) -> float:
    """Median seconds of a call, in rounds that let the GPU's queue run full."""
    return alternating([run], device, seconds)[0]


def alternating(runs: Sequence[Call], device: torch.device, seconds: float) -> list[float]:
    """`seconds_per_call` of each of several functions, for so many seconds each, which take turns round by round."""
    for run in runs:
        for _ in range(WARM_UP if device.type == "cuda" else 1):
            run()
    calls = [max(1, min(200, round(_ROUND_SECONDS / _timed(run, device, 1)))) if seconds else 1 for run in runs]
    rounds: list[list[float]] = [[] for _ in runs]
    ends = time.perf_counter() + seconds * len(runs)
    while len(rounds[0]) < 3 or time.perf_counter() < ends:
        for run, number, measured in zip(runs, calls, rounds, strict=True):
            measured.append(_timed(run, device, number))
    return [statistics.median(measured) for measured in rounds]


def _timed(run: Call, device: torch.device, calls: int) -> float:
    wait(device)
    started = time.perf_counter()
    for _ in range(calls):
        run()
    wait(device)
    return (time.perf_counter() - started) / calls


def compared(ours: Call, conditions: Conditions, other: Call | None = None) -> Values:
    """Times of a call: `ms`, `rate` a second, `host_ms` until it returns while the GPU has nothing else to do, and the
    `ratio` to another one."""
    device = torch.device(conditions.device)
    seconds, *others = alternating([ours] if other is None else [ours, other], device, conditions.seconds)
    values: Values = {"ms": 1000 * seconds, "rate": 1 / seconds, "host_ms": None}
    if device.type == "cuda":
        values["host_ms"] = 1000 * statistics.median(_host_seconds(ours, device) for _ in range(10))
    if others:
        values["ratio"] = others[0] / seconds
    return values


def _host_seconds(run: Call, device: torch.device) -> float:
    wait(device)
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def launched(ours: Call, conditions: Conditions, other: Call | None = None) -> Values:
    """What a call starts: `launches` (kernels and graphs), `gpu_ms` that they take, and the other's `other_launches`.

    Not to be followed by timing in the same process: a profiler may stay attached to the GPU.
    """
    device = torch.device(conditions.device)
    values = _profiled(ours, device)
    return values if other is None else values | {"other_launches": _profiled(other, device)["launches"]}


def _profiled(run: Call, device: torch.device, calls: int = 5) -> Values:
    from torch.profiler import ProfilerActivity, profile

    for _ in range(WARM_UP):
        run()
    wait(device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(calls):
            run()
        wait(device)
    return counted(profiler.key_averages(), calls)


def counted(events: Iterable[Any], calls: int) -> Values:
    """`launches` and `gpu_ms` of one of several calls, from the averages of torch's profiler."""
    events = list(events)
    launches = sum(event.count for event in events if event.key.startswith(_LAUNCHES))
    # names that a program gives to its parts are among the GPU's events, too, and span the kernels
    kernels = [event for event in events if event.device_type == DeviceType.CUDA and not event.is_user_annotation]
    busy = sum(event.self_device_time_total for event in kernels)  # microseconds
    if not launches or not busy:  # a driver may not let its events be traced
        return {"launches": None, "gpu_ms": None}
    return {"launches": round(launches / calls), "gpu_ms": busy / 1000 / calls}


def matmul_peak(precision: str, device: torch.device, side: int, *, tf32: bool = False) -> float:
    """Operations a second of the product of two square matrices, in a precision of `PRECISIONS`; float32 with or
    without TF32."""
    dtype = PRECISIONS[precision]
    with torch_state(0, device, tf32=tf32):
        left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty(side, side, dtype=dtype, device=device)
        return 2 * side**3 / seconds_per_call(lambda: torch.matmul(left, right, out=out), device, 0.3)


@contextmanager
def memory(device: torch.device) -> Iterator[Values]:
    """Yields a dict that has the `memory_gib` that torch held on the GPU at most, when the block has ended."""
    values: Values = {"memory_gib": None}
    gc.collect()  # a step and its recording refer to each other
    wait(device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    yield values
    if device.type == "cuda":
        values["memory_gib"] = torch.cuda.max_memory_reserved(device) / 2**30
