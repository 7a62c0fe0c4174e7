from __future__ import annotations

import pytest
import torch

from dfer.config.settings import ArmSettings, MixingSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.training.speed import StepSpeed, flops_per_clip, step_speed

MODEL, SAMPLING = ModelSettings(width=0.25, input_size=32), SamplingSettings(num_segments=4)


@pytest.mark.parametrize(
    "arm", [ArmSettings(labels="hard"), ArmSettings(labels="soft", mixing="midas", normalize="softmax")]
)
def test_a_step_is_measured(arm: ArmSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfer.training.speed.MATRIX_SIDE", {"cpu": 256})
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    settings = TrainSettings(batch_size=4, device="cpu")
    speed = step_speed(MODEL, SAMPLING, settings, arm, MixingSettings(), threads=1, seconds=0.1)
    assert (speed.device, speed.precision) == ("cpu", "float32")
    assert speed.clips_per_second == pytest.approx(4 * speed.steps_per_second)
    assert speed.flops_per_clip == flops_per_clip(MODEL, SAMPLING) > 1e6
    assert speed.peak_flops > 1e8
    assert speed.share_of_peak > 0
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_the_share_of_the_peak_is_arithmetic_done_over_arithmetic_possible() -> None:
    speed = StepSpeed("cpu", "float32", clips_per_second=2, steps_per_second=0.5, flops_per_clip=10, peak_flops=80)
    assert speed.share_of_peak == 0.25


def test_the_papers_network_takes_87_gigaflops_a_clip() -> None:
    """Forward 8 frames of 1.814 GMAC; backward twice that, but for the gradient of the pictures themselves."""
    forward = 2 * 8 * 1.814e9
    pictures = 2 * 8 * 112 * 112 * 64 * 3 * 7 * 7
    counted = flops_per_clip(ModelSettings(input_size=224), SamplingSettings(num_segments=8))
    assert counted == pytest.approx(3 * forward - pictures, rel=1e-2)
