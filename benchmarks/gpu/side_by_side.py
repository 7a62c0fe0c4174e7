"""Two trainings on one GPU."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from benchmarks.gpu.conditions import Conditions, Values
from benchmarks.gpu.steps import Take, figures, state, taken, usual_mode
from benchmarks.gpu.timing import WARM_UP, wait
from dfer.system.processes import Sender, run_together

_PATIENCE = 120.0
"""Seconds that a process waits for the other one to be ready."""


def two_at_once(conditions: Conditions, *, cuda_graph: str) -> Values:
    """Steps of two processes together, against those of one."""
    device = torch.device(conditions.device)
    with tempfile.TemporaryDirectory(dir=conditions.scratch or None) as meeting:
        common = {"conditions": conditions, "cuda_graph": cuda_graph, "meeting": meeting}
        rates = run_together(side, [{**common, "number": number} for number in range(2)], threads=0)
    (alone, first), (_, second) = rates
    mode = usual_mode(device)
    both = first + second
    remark = f"{alone:.4g} steps a second alone, {first:.4g} and {second:.4g} side by side; the times are of both"
    values: Values = {"ms": 1000 / both, "rate": both, "ratio": both / alone, "remark": remark}
    return values | {"share_of_peak": figures(conditions, mode, values["ms"])["share_of_peak"]}


def side(*, conditions: Conditions, cuda_graph: str, meeting: str, number: int, send: Sender) -> tuple[float, float]:
    """One of two processes: steps a second, first of number 0 alone, then of both."""
    device = torch.device(conditions.device)
    mode = usual_mode(device)
    with state(mode, device):
        take = taken(conditions, mode, cuda_graph=cuda_graph)
        for _ in range(WARM_UP):
            take()
        wait(device)
        _meet(Path(meeting), "alone", number)
        alone = _rate(take, device, conditions) if number == 0 else 0.0
        _meet(Path(meeting), "both", number)
        both = _rate(take, device, conditions)
    return alone, both


def _rate(take: Take, device: torch.device, conditions: Conditions) -> float:
    started, steps = time.perf_counter(), 0
    while not steps or time.perf_counter() - started < 2 * conditions.seconds:
        for _ in range(conditions.steps):
            take()
        wait(device)
        steps += conditions.steps
    return steps / (time.perf_counter() - started)


def _meet(folder: Path, name: str, number: int) -> None:
    """Wait until both processes are here. Raises TimeoutError if the other one does not come."""
    (folder / f"{name}-{number}").touch()
    ends = time.monotonic() + _PATIENCE
    while not (folder / f"{name}-{1 - number}").exists():
        if time.monotonic() > ends:
            raise TimeoutError(f"the other process was not ready after {_PATIENCE:.0f} s")
        time.sleep(0.002)
