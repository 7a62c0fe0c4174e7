from __future__ import annotations

import numpy as np
import pytest

from dfer.demo.acting import Performance, perform
from dfer.demo.expressions import BLINK
from dfer.labels import EMOTIONS


def act(emotion: str, seed: int, intensity: float = 1.0, frames: int = 32) -> Performance:
    intensities = [intensity * (emotion == other) for other in EMOTIONS]
    return perform(intensities, frames, np.random.default_rng(seed))


def mean_strength(performance: Performance, unit: int) -> np.ndarray:
    if unit not in performance.units:
        return np.zeros(len(performance.strength))
    return performance.strength[:, performance.units.index(unit)].mean(axis=1)


@pytest.mark.parametrize("frames", [1, 2, 24, 40])
def test_shapes_and_finite_values(frames: int) -> None:
    performance = act("fear", 0, frames=frames)
    assert performance.strength.shape == (frames, len(performance.units), 2)
    assert performance.head.shape == (frames, 5)
    assert performance.teeth.shape == (frames, 2)
    assert all(np.isfinite(part).all() for part in (performance.strength, performance.head, performance.teeth))
    assert performance.strength.dtype == np.float32


@pytest.mark.parametrize("seed", range(10))
def test_an_expression_rises_from_rest_to_its_apex_before_the_middle(seed: int) -> None:
    smile = mean_strength(act("happy", seed), 12)
    assert abs(smile[0]) < 0.25
    assert 0.7 < smile[16:22].max() < 1.5


def test_weaker_intensity_moves_less() -> None:
    strong, weak = (mean_strength(act("happy", 3, intensity), 12).max() for intensity in (1.0, 0.5))
    assert 0.35 < weak / strong < 0.65


@pytest.mark.parametrize("seed", range(10))
def test_a_neutral_face_moves_its_head_and_no_more_than_slightly_its_muscles(seed: int) -> None:
    performance = act("neutral", seed)
    muscles = [place for place, unit in enumerate(performance.units) if unit != BLINK]
    assert 0 < np.abs(performance.strength[:, muscles]).max() < 0.15
    assert np.ptp(performance.head, axis=0).max() > 0.02


def test_half_of_the_neutral_clips_blink() -> None:
    blinks = [mean_strength(act("neutral", seed), BLINK).max() > 0.5 for seed in range(60)]
    assert 18 <= sum(blinks) <= 42


def test_sides_differ_but_not_much() -> None:
    apex = act("happy", 1).strength[18]
    assert not np.array_equal(apex[:, 0], apex[:, 1])
    assert np.abs(apex[:, 0] - apex[:, 1]).max() < 0.4
