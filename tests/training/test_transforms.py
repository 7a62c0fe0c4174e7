from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dfer.config.catalogue import IMAGENET_MEAN, IMAGENET_STD
from dfer.config.settings import AugmentSettings
from dfer.training.transforms import (
    full_view,
    normalize_,
    random_box,
    random_view,
    random_views,
    resized_crops,
    to_float,
)


def gradient(side: int = 64, num_frames: int = 3) -> Tensor:
    """Frames whose red is the column and green the row, in 0..255; blue is the frame."""
    ramp = torch.linspace(0, 255, side)
    frames = torch.zeros(num_frames, 3, side, side)
    frames[:, 0], frames[:, 1] = ramp.view(1, 1, -1), ramp.view(1, -1, 1)
    frames[:, 2] = torch.arange(num_frames).view(-1, 1, 1)
    return frames.round().to(torch.uint8)


def test_the_evaluation_sees_the_whole_frame() -> None:
    view = full_view(gradient(), 16)
    assert view.shape == (3, 3, 16, 16)
    assert view.dtype == torch.uint8
    assert view[0, 0, 0, [0, -1]].tolist() == pytest.approx([6, 249], abs=2)
    assert torch.equal(full_view(gradient(), 64), gradient())


def test_shrinking_does_not_alias() -> None:
    stripes = (torch.arange(64) % 2 * 255).to(torch.uint8).expand(1, 3, 64, 64).contiguous()
    inside = full_view(stripes, 16)[..., 1:-1].float()
    assert (inside - 127.5).abs().max() < 3


def views(augment: AugmentSettings, count: int = 200) -> list[Tensor]:
    numbers = np.random.default_rng(0).random((count, 4)).tolist()
    return [random_view(gradient(), 32, augment, four) for four in numbers]


def test_all_frames_of_a_clip_share_crop_and_flip() -> None:
    for view in views(AugmentSettings(min_scale=0.5), 30):
        assert torch.equal(view[0, :2], view[1, :2])
        assert torch.equal(view[0, :2], view[2, :2])
        assert view[:, 2].float().mean(dim=(1, 2)).tolist() == [0, 1, 2]


def test_the_crop_is_square_and_between_min_scale_and_the_whole_frame() -> None:
    spans = []
    for view in views(AugmentSettings(min_scale=0.5, horizontal_flip=0.0)):
        wide, high = (float(view[0, channel].max()) - float(view[0, channel].min()) for channel in (0, 1))
        assert wide == pytest.approx(high, abs=4)
        spans.append(wide / 255)
    assert 0.44 <= min(spans) < 0.55
    assert 0.9 < max(spans) <= 1.0


def test_crops_reach_every_corner() -> None:
    least = np.array([view[0, :2].amin(dim=(1, 2)).tolist() for view in views(AugmentSettings(min_scale=0.5))])
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert ((least > 64) == corner).all(axis=1).any()


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (0.5, 70, 130), (1.0, 200, 200)])
def test_clips_are_mirrored_as_often_as_asked(probability: float, low: int, high: int) -> None:
    mirrored = [view[0, 0, 0, 0] > view[0, 0, 0, -1] for view in views(AugmentSettings(horizontal_flip=probability))]
    assert low <= sum(mirrored) <= high


def test_without_scale_and_flip_training_sees_what_evaluation_sees() -> None:
    numbers = np.random.default_rng(0).random(4).tolist()
    same = AugmentSettings(min_scale=1.0, horizontal_flip=0.0)
    assert torch.equal(random_view(gradient(), 32, same, numbers), full_view(gradient(), 32))


def test_floats_are_normalised_in_place() -> None:
    frames = torch.randint(0, 256, (2, 4, 3, 5, 5), dtype=torch.uint8)
    floats = frames.float()
    assert normalize_(floats, IMAGENET_MEAN, IMAGENET_STD) is floats
    assert torch.equal(floats, to_float(frames, IMAGENET_MEAN, IMAGENET_STD))


def test_pixels_are_normalised_per_channel() -> None:
    frames = torch.randint(0, 256, (2, 4, 3, 5, 5), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    floats = to_float(frames, IMAGENET_MEAN, IMAGENET_STD)
    assert floats.dtype == torch.float32
    assert torch.allclose(floats, (frames.float() / 255 - mean) / std, atol=1e-5)


@given(st.integers(8, 60), st.integers(8, 60), st.integers(4, 70), st.floats(0.3, 1.0), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_all_views_at_once_are_those_of_one_clip_after_the_other(
    height: int, width: int, size: int, least: float, seed: int
) -> None:
    """What a GPU does with two matrix products: up to a rounding, of which torch does two on a CPU."""
    generator = np.random.default_rng(seed)
    clips = torch.from_numpy(generator.integers(0, 256, (3, 2, 3, height, width), dtype=np.uint8))
    params, augment = torch.from_numpy(generator.random((3, 4))), AugmentSettings(min_scale=least)
    expected = random_views(clips, size, augment, params)
    boxes = [random_box(height, width, augment, values) for values in params.tolist()]
    views = resized_crops(clips, size, boxes)
    assert views.is_contiguous()
    assert (views.int() - expected.int()).abs().max() <= 1
    assert (views.float() - expected.float()).abs().mean() < 0.3


def test_views_are_made_of_whole_products_where_a_training_may_round_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """In TF32 a GPU's views would be darker; that of the training is as it was afterwards."""
    seen: list[str] = []
    product = Tensor.__matmul__

    def watched(first: Tensor, second: Tensor) -> Tensor:
        seen.append(torch.get_float32_matmul_precision())
        return product(first, second)

    monkeypatch.setattr(Tensor, "__matmul__", watched)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        resized_crops(gradient()[None], 16, [random_box(64, 64, AugmentSettings(), [0.5] * 4)])
        assert seen == ["highest", "highest"]
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_constants_made_while_predicting_serve_a_training() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    with torch.inference_mode():
        to_float(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), mean, std)
    weight = torch.ones(1, requires_grad=True)
    (to_float(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), mean, std) * weight).sum().backward()
    assert weight.grad is not None
