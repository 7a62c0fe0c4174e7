from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from dfer.config.settings import ArmSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.training import Plan, speed
from dfer.training.speed import flops_per_clip, step_speed
from dfer.training.step import Step

PLAN = Plan(
    arm=ArmSettings(labels="soft", mixing="midas", normalize="softmax"),
    model=ModelSettings(width=0.25, input_size=32),
    sampling=SamplingSettings(num_segments=4),
    train=TrainSettings(batch_size=4, device="cpu"),
)
SIDE = 256


class Clock:
    """Time passes in steps and products alone: the first step takes 100 s, the others half a second, one of them 30 s;
    a product a thousandth of a second."""

    def __init__(self) -> None:
        self.now = 0.0
        self._steps = iter([100.0, 0.5, 30.0])

    def perf_counter(self) -> float:
        return self.now

    def step(self, *arguments: Any, **options: Any) -> Any:
        self.now += next(self._steps, 0.5)
        return self._take(*arguments, **options)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._take, multiply = Step.__call__, torch.matmul

        def product(*arguments: Any, **options: Any) -> torch.Tensor:
            self.now += 0.001
            return multiply(*arguments, **options)

        clock = self
        monkeypatch.setattr(Step, "__call__", lambda step, *given, **named: clock.step(step, *given, **named))
        monkeypatch.setattr(torch, "matmul", product)
        monkeypatch.setattr(speed, "time", clock)
        monkeypatch.setattr(speed, "MATRIX_SIDE", {"cpu": SIDE})


@pytest.mark.parametrize("arm", [ArmSettings(labels="hard"), PLAN.arm], ids=["hard", "midas"])
def test_speed_is_that_of_the_median_step_after_the_first_and_of_the_fastest_products(
    arm: ArmSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock().install(monkeypatch)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    measured = step_speed(replace(PLAN, arm=arm), threads=1, seconds=60)
    assert (measured.device, measured.precision) == ("cpu", "float32")
    assert (measured.steps_per_second, measured.clips_per_second) == pytest.approx((2, 8))
    assert measured.peak_flops == pytest.approx(2 * SIDE**3 / 0.001)
    assert measured.share_of_peak == pytest.approx(8 * flops_per_clip(PLAN) / (2 * SIDE**3 / 0.001))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_the_papers_network_takes_87_gigaflops_a_clip() -> None:
    """Forward 8 frames of 1.814 GMAC; backward twice that, but for the gradient of the pictures themselves."""
    forward = 2 * 8 * 1.814e9
    pictures = 2 * 8 * 112 * 112 * 64 * 3 * 7 * 7
    paper = replace(PLAN, model=ModelSettings(input_size=224), sampling=SamplingSettings(num_segments=8))
    assert flops_per_clip(paper) == pytest.approx(3 * forward - pictures, rel=1e-2)
