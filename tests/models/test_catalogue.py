from __future__ import annotations

import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dfer.config.catalogue import NETWORKS
from dfer.labels import EMOTIONS
from dfer.models import WeightsError, available, build, channels_last, temporal_shift


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


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    network = torchvision.models.resnet18().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(network.state_dict(), path)
    return network, path


def test_a_torchvision_file_gives_torchvision_features_where_nothing_is_shifted(
    torchvision_file: tuple[nn.Module, Path],
) -> None:
    network, path = torchvision_file
    model = build("resnet18_tsm", num_classes=7, num_segments=1, pretrained=str(path)).eval()
    frames = torch.randn(2, 3, 64, 64)
    features = nn.Sequential(*list(network.children())[:-1], nn.Flatten())
    with torch.no_grad():
        assert torch.allclose(model.frame_features(frames), features(frames), atol=1e-5)
        shifted = build("resnet18_tsm", num_classes=7, num_segments=2, pretrained=str(path)).eval()
        assert not torch.allclose(shifted.frame_features(frames), features(frames), atol=1e-2)


def test_a_classifier_of_another_size_is_left_out_and_logged(
    torchvision_file: tuple[nn.Module, Path], caplog: pytest.LogCaptureFixture
) -> None:
    network, path = torchvision_file
    with caplog.at_level("INFO"):
        seven = build("resnet18_tsm", num_classes=7, pretrained=str(path))
    assert "fc.weight" in caplog.text
    assert seven.fc.out_features == 7
    thousand = build("resnet18_tsm", num_classes=1000, pretrained=str(path))
    assert torch.equal(thousand.fc.weight, network.fc.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layer1.0.conv1.weight"), "missing layer1.0.conv1.weight"),
        (lambda state: state.update(extra=torch.zeros(1)), "unexpected extra"),
        (lambda state: state.update({"conv1.weight": torch.zeros(64, 3, 3, 3)}), "conv1.weight"),
        (lambda state: state.update(epoch=3), "plain state dict"),
    ],
)
def test_any_other_mismatch_is_an_error(
    torchvision_file: tuple[nn.Module, Path], tmp_path: Path, change: object, message: str
) -> None:
    state = dict(torchvision_file[0].state_dict())
    change(state)  # type: ignore[operator]
    path = tmp_path / "other.pth"
    torch.save(state, path)
    with pytest.raises(WeightsError, match=message):
        build("resnet18_tsm", num_classes=7, pretrained=str(path))


def test_files_that_are_no_weights_are_errors(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such weight file"):
        build("resnet18_tsm", num_classes=7, pretrained=str(tmp_path / "absent.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(WeightsError, match="cannot be read"):
        build("resnet18_tsm", num_classes=7, pretrained=str(tmp_path / "text.pth"))
    torch.save(Path("code"), tmp_path / "pickle.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        build("resnet18_tsm", num_classes=7, pretrained=str(tmp_path / "pickle.pth"))


def test_unreachable_imagenet_weights_name_both_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    with pytest.raises(WeightsError, match=r"resnet18-f37072fd\.pth .*path.* null"):
        build("resnet18_tsm", num_classes=7, pretrained="imagenet")


def test_imagenet_weights_come_from_the_download_cache(
    torchvision_file: tuple[nn.Module, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, path = torchvision_file
    cached = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(path.read_bytes())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = build("resnet18_tsm", num_classes=7, pretrained="imagenet")
    assert torch.equal(model.conv1.weight, network.conv1.weight)


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


def test_clips_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[B, 4, 3, H, W\], found \[1, 3, 3, 32, 32\]"):
        small(num_segments=4)(torch.zeros(1, 3, 3, 32, 32))


@pytest.fixture(scope="module", params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("num_segments", [1, 2, 5, 8])
def test_every_network_gives_logits_for_clips(name: str, num_segments: int) -> None:
    model = build(name, num_classes=5, num_segments=num_segments, width=0.125).eval()
    with torch.no_grad():
        logits = model(torch.randn(3, num_segments, 3, 40, 32))
    assert logits.shape == (3, 5)
    assert logits.isfinite().all()


def test_every_network_sees_as_many_segments_as_the_catalogue_says(name: str) -> None:
    with torch.device("meta"):
        model = build(name, num_classes=7, width=0.125)
        segments = NETWORKS[name].num_segments
        assert model(torch.empty(2, segments, 3, 32, 32)).shape == (2, 7)
        with pytest.raises(ValueError, match=rf"\[B, {segments}, 3, H, W\], found \[2, 3, 3, 32, 32\]"):
            model(torch.empty(2, 3, 3, 32, 32))


def test_every_network_sees_the_order_of_frames_and_each_clip_alone(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, num_classes=7, num_segments=6, width=0.125).eval()
    clips = torch.randn(3, 6, 3, 32, 32)
    with torch.no_grad():
        logits = model(clips)
        assert torch.allclose(model(clips[1:2]), logits[1:2], atol=1e-5)
        shuffled = model(clips[:, [3, 1, 5, 0, 4, 2]])
        assert ((shuffled - logits).abs().amax(dim=1) > 1e-3).all()


def test_gradients_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, num_classes=7, num_segments=4, width=0.125, dropout=0.0)
    nn.functional.cross_entropy(model(torch.randn(4, 4, 3, 32, 32)), torch.tensor([0, 1, 2, 3])).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_dropout_is_in_front_of_the_classifier(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, num_classes=7, num_segments=2, width=0.125, dropout=0.9).eval()
    clips = torch.randn(2, 2, 3, 32, 32)
    with torch.no_grad():
        calm = model(clips)
        model.dropout.train()
        assert not torch.allclose(model(clips), calm, atol=1e-4)


def test_the_layout_of_the_weights_changes_nothing_but_speed(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, num_classes=7, num_segments=4, width=0.125).eval()
    clips = torch.randn(2, 4, 3, 32, 32)
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
    assert models["resnet18_tsm"]["parameters"] == trunk + 513 * classes
    # Three gates, each with weights for the input and the state and (in torch) two biases.
    assert models["resnet18_gru"]["parameters"] == trunk + 3 * 256 * (512 + 256 + 2) + 257 * classes
    kinetics = torchvision.models.video.R3D_18_Weights.KINETICS400_V1.meta["num_params"]
    assert models["r3d_18"]["parameters"] == kinetics - 513 * (400 - classes)
    # torchvision's own figures, in multiply-adds.
    imagenet = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["_ops"]
    assert models["resnet18_tsm"]["gflops"] == pytest.approx(2 * 8 * imagenet, rel=0.01)
    assert models["resnet18_gru"]["gflops"] == pytest.approx(2 * 8 * imagenet, rel=0.01)
    r3d = torchvision.models.video.R3D_18_Weights.KINETICS400_V1.meta["_ops"]
    assert models["r3d_18"]["gflops"] == pytest.approx(2 * r3d, rel=0.01)
    assert models["r3d_18"]["input"] == "16 frames of 112 px"
    assert all(facts["source"] and facts["pretrained"] for facts in models.values())
