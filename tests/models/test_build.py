from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torchvision
from small_networks import IDLE, all_logits, logits_of, settled, some_clips, takes
from torch import nn

from dfer.config.catalogue import NETWORKS
from dfer.labels import EMOTIONS
from dfer.models import available, build, channels_last


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet50"}, "there are: resnet18_tsm"),
        ({"width": 0.5, "pretrained": "imagenet"}, "width 1.0 only"),
        ({"width": 1.5}, "width in"),
        ({"dropout": 1.0}, "dropout in"),
        ({"num_classes": 0}, "one class"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**{"name": "resnet18_tsm", "num_classes": 7, **options})


@pytest.fixture(scope="module", params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("num_segments", [1, 2, 5, 8])
def test_every_network_gives_logits_for_clips(name: str, num_segments: int) -> None:
    if not takes(name, num_segments):
        with pytest.raises(ValueError, match=r"found 1|found 2|found 5"):
            build(name, num_classes=5, num_segments=num_segments, width=0.125)
        return
    model = build(name, num_classes=5, num_segments=num_segments, width=0.125).eval()
    with torch.no_grad():
        logits = model(some_clips(name, 3, num_segments, 40, 32))
    assert logits.shape == (3, 5)
    assert logits.isfinite().all()


def test_every_network_sees_as_many_segments_as_the_catalogue_says(name: str) -> None:
    with torch.device("meta"):
        model = build(name, num_classes=7, width=0.125)
        segments = NETWORKS[name].num_segments
        assert logits_of(model(some_clips(name, 2, segments))).shape == (2, 7)
        with pytest.raises(ValueError, match=rf"\[B, {segments}, 3, H, W\], found \[2, 3, 3, 32, 32\]"):
            model(torch.empty(2, 3, 3, 32, 32))


def test_every_network_but_that_for_pictures_sees_the_order_of_frames_and_each_clip_alone(name: str) -> None:
    torch.manual_seed(0)
    clips = some_clips(name, 3, 8)
    model = settled(build(name, num_classes=7, num_segments=8, width=0.125), clips)
    with torch.no_grad():
        logits = model(clips)
        assert torch.allclose(model(clips[1:2]), logits[1:2], rtol=1e-4, atol=1e-5)
        difference = (model(clips[:, [3, 1, 5, 0, 4, 2, 7, 6]]) - logits).abs().amax(dim=1)
    assert (difference < 1e-6).all() if name == "resnet18" else (difference > 1e-4).all()


def test_gradients_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, num_classes=7, num_segments=4, width=0.125, dropout=0.0)
    outputs = all_logits(model(some_clips(name, 4, 4)))
    sum(nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3])) for logits in outputs).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        idle = parameter_name in IDLE.get(name, ())
        assert (parameter.grad.abs().sum() > 0) != idle, parameter_name


def test_dropout_is_in_front_of_the_classifier(name: str) -> None:
    torch.manual_seed(0)
    clips = some_clips(name, 2, 4)
    model = settled(build(name, num_classes=7, num_segments=4, width=0.125, dropout=0.9), clips)
    with torch.no_grad():
        calm = model(clips)
        model.dropout.train()
        assert not torch.allclose(model(clips), calm, atol=1e-3)


def test_the_layout_of_the_weights_changes_nothing_but_speed(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, num_classes=7, num_segments=4, width=0.125).eval()
    clips = some_clips(name, 2, 4)
    with torch.no_grad():
        before = model(clips)
        assert torch.allclose(channels_last(model)(clips), before, atol=1e-5)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    for convolution in convolutions:
        assert convolution.weight.movedim(1, -1).is_contiguous()


def test_the_weights_of_another_network_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"no 'imagenet' weights for r3d_18; .* to kinetics400, the path"):
        build("r3d_18", num_classes=7, pretrained="imagenet")
    with pytest.raises(ValueError, match=r"no 'kinetics400' weights for resnet18_gru; .* to imagenet"):
        build("resnet18_gru", num_classes=7, pretrained="kinetics400")


OWN_NETWORK = """
import torch
from torch import nn


class Flat(nn.Module):
    def __init__(self, num_classes, num_segments, width, dropout):
        super().__init__()
        self.arguments = (num_classes, num_segments, width, dropout)
        self.backbone = nn.Linear(3, 4)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, clips):
        return self.fc(self.backbone(clips.mean(dim=(1, 3, 4))))


class NotANetwork:
    def __init__(self, *arguments):
        raise AssertionError("must not be called")


def function(*arguments):
    raise AssertionError("must not be called")
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "networks_of_ones_own.py").write_text(OWN_NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "networks_of_ones_own", raising=False)
    return "networks_of_ones_own"


def test_a_network_of_ones_own_is_built_by_module_and_attribute(own_module: str, tmp_path: Path) -> None:
    model = build(f"{own_module}:Flat", num_classes=5, width=0.5, dropout=0.1)
    assert model.arguments == (5, 8, 0.5, 0.1)
    assert model(torch.randn(2, 8, 3, 16, 16)).shape == (2, 5)
    torch.save(model.state_dict(), tmp_path / "own.pth")
    again = build(f"{own_module}:Flat", num_classes=7, num_segments=4, pretrained=str(tmp_path / "own.pth"))
    assert torch.equal(again.backbone.weight, model.backbone.weight)
    assert again.fc.out_features == 7
    with pytest.raises(ValueError, match=r"set model\.pretrained to the path of a weight file"):
        build(f"{own_module}:Flat", num_classes=7, pretrained="imagenet")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("networks_of_ones_own:NotANetwork", "expected a class derived from torch.nn.Module"),
        ("networks_of_ones_own:function", "expected a class derived from torch.nn.Module"),
        ("networks_of_ones_own:torch", "expected a class derived from torch.nn.Module"),
        ("networks_of_ones_own:Absent", "has no 'Absent'"),
        ("os:system", "expected a class derived from torch.nn.Module"),
        ("torch.nn:ReLU", r"cannot be called with \(num_classes, num_segments, width, dropout\)"),
        ("module_that_is_nowhere:Net", "no module 'module_that_is_nowhere'"),
    ],
)
def test_what_is_no_network_is_refused_without_calling_it(own_module: str, reference: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(reference, num_classes=7)


def test_what_there_is_says_how_large_it_is() -> None:
    models = available()
    assert list(models) == list(NETWORKS)
    classes = len(EMOTIONS)
    trunk = sum(parameter.numel() for parameter in torchvision.models.resnet18().parameters()) - 513 * 1000
    assert models["resnet18_tsm"]["parameters"] == models["resnet18"]["parameters"] == trunk + 513 * classes
    # Three gates, each with weights for the input and the state and (in torch) two biases.
    assert models["resnet18_gru"]["parameters"] == trunk + 3 * 256 * (512 + 256 + 2) + 257 * classes
    kinetics = torchvision.models.video.R3D_18_Weights.KINETICS400_V1.meta["num_params"]
    assert models["r3d_18"]["parameters"] == kinetics - 513 * (400 - classes)
    # torchvision's own figures, in multiply-adds.
    imagenet = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["_ops"]
    assert models["resnet18_tsm"]["gflops"] == pytest.approx(2 * 8 * imagenet, rel=0.01)
    assert models["resnet18"]["gflops"] == pytest.approx(2 * imagenet, rel=0.01)
    assert models["resnet18"]["input"] == "1 frame of 224 px"
    assert models["resnet18_gru"]["gflops"] == pytest.approx(2 * 8 * imagenet, rel=0.01)
    r3d = torchvision.models.video.R3D_18_Weights.KINETICS400_V1.meta["_ops"]
    assert models["r3d_18"]["gflops"] == pytest.approx(2 * r3d, rel=0.01)
    assert models["r3d_18"]["input"] == "16 frames of 112 px"
    assert all(facts["source"] and facts["pretrained"] for facts in models.values())
