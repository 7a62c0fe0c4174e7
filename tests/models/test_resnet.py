from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

from dfer.models import build


def test_width_one_has_torchvision_names_and_shapes() -> None:
    with torch.device("meta"):
        own = build("resnet18", num_classes=1000).state_dict()
        theirs = torchvision.models.resnet18().state_dict()
    assert {name: tensor.shape for name, tensor in own.items()} == {n: t.shape for n, t in theirs.items()}


def test_with_torchvision_weights_it_is_torchvision_s_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    own = build("resnet18", num_classes=1000, pretrained=str(tmp_path / "resnet18.pth")).eval()
    pictures = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(own(pictures[:, None]), theirs(pictures), atol=1e-5)


def test_logits_of_several_frames_are_the_mean_of_each_one_s() -> None:
    torch.manual_seed(0)
    model = build("resnet18", num_classes=7, width=0.25).eval()
    clips = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        per_frame = model(clips.reshape(8, 1, 3, 32, 32))
        model.num_segments = 4
        assert torch.allclose(model(clips), per_frame.view(2, 4, 7).mean(dim=1), atol=1e-5)


def test_a_picture_is_a_clip_of_one_frame_unless_told_otherwise() -> None:
    with torch.device("meta"):
        model = build("resnet18", num_classes=7, width=0.125)
    with pytest.raises(ValueError, match=r"\[B, 1, 3, H, W\], found \[2, 8, 3, 32, 32\]"):
        model(torch.zeros(2, 8, 3, 32, 32, device="meta"))
