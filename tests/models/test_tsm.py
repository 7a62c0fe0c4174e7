from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dfer.models import build, temporal_shift


def small(**options: object) -> nn.Module:
    return build("resnet18_tsm", num_classes=7, width=0.25, **options)  # type: ignore[arg-type]


def shifted_by_loops(x: Tensor, num_segments: int, fold_div: int) -> Tensor:
    fold = x.shape[1] // fold_div
    out = torch.zeros_like(x)
    for frame in range(len(x)):
        time = frame % num_segments
        for channel in range(x.shape[1]):
            source = time + 1 if channel < fold else time - 1 if channel < 2 * fold else time
            if 0 <= source < num_segments:
                out[frame, channel] = x[frame - time + source, channel]
    return out


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 17), st.integers(2, 9), st.booleans())
@settings(deadline=None, max_examples=40)
def test_the_shift_moves_channels_between_neighbouring_frames_of_a_clip(
    clips: int, num_segments: int, channels: int, fold_div: int, channels_last: bool
) -> None:
    x = torch.randn(clips * num_segments, channels, 2, 3)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    before = x.clone()
    out = temporal_shift(x, num_segments, fold_div)
    assert torch.equal(out, shifted_by_loops(x, num_segments, fold_div))
    assert torch.equal(x, before)
    assert out.stride() == x.stride()


def test_the_shift_passes_the_right_gradient() -> None:
    x = torch.randn(6, 9, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: temporal_shift(value, 3, 4), x)


def test_the_shift_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\[B\*4, C, H, W\]"):
        temporal_shift(torch.zeros(6, 8, 2, 2), 4)
    with pytest.raises(ValueError, match="fold_div 1"):
        temporal_shift(torch.zeros(4, 8, 2, 2), 4, fold_div=1)


def test_width_one_has_torchvision_names_and_shapes() -> None:
    with torch.device("meta"):
        own = build("resnet18_tsm", num_classes=1000).state_dict()
        theirs = torchvision.models.resnet18().state_dict()
    assert {name: tensor.shape for name, tensor in own.items()} == {n: t.shape for n, t in theirs.items()}


def test_logits_are_the_mean_over_the_frames_of_each_clip() -> None:
    model = small(num_segments=1).eval()
    clips = torch.randn(2, 4, 3, 32, 32)
    per_frame = model(clips.reshape(8, 1, 3, 32, 32))
    model.num_segments = 4
    assert torch.allclose(model(clips), per_frame.view(2, 4, 7).mean(dim=1), atol=1e-5)


def test_the_order_of_frames_matters_and_clips_do_not_leak_into_each_other() -> None:
    model = small(num_segments=4).eval()
    clips = torch.randn(3, 4, 3, 32, 32)
    logits = model(clips)
    assert logits.shape == (3, 7)
    assert not torch.allclose(model(clips.flip(1)), logits, atol=1e-4)
    assert torch.allclose(model(clips[1:2]), logits[1:2], atol=1e-5)


def test_width_narrows_every_layer() -> None:
    with torch.device("meta"):
        full, narrow = (build("resnet18_tsm", num_classes=7, width=width) for width in (1.0, 0.25))
    for (name, wide), (_, thin) in zip(full.named_parameters(), narrow.named_parameters(), strict=True):
        if name != "fc.bias":
            assert wide.shape[0] == (7 if name == "fc.weight" else 4 * thin.shape[0]), name


def test_the_network_can_be_exported_for_any_batch_size() -> None:
    model = small(num_segments=2).eval()
    dynamic = {"clips": {0: torch.export.Dim("batch", min=2)}}
    program = torch.export.export(model, (torch.randn(3, 2, 3, 32, 32),), dynamic_shapes=dynamic)
    clips = torch.randn(5, 2, 3, 32, 32)
    assert torch.allclose(program.module()(clips), model(clips), atol=1e-5)


def test_clips_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[B, 4, 3, H, W\], found \[1, 3, 3, 32, 32\]"):
        small(num_segments=4)(torch.zeros(1, 3, 3, 32, 32))
