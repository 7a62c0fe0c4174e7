from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from dfer.models import WeightsError, build
from dfer.models.saved import save_model


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
        (
            lambda state: state.update({"conv1.weight": torch.zeros(64, 3, 3, 3)}),
            r"conv1.weight is \[64, 3, 3, 3\], expected",
        ),
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


SMALL: dict[str, Any] = {"width": 0.125, "num_segments": 2, "dropout": 0.2}
THREE = ("engaged", "bored", "confused")


@pytest.fixture(params=["resnet18_tsm", "resnet18_gru", "r3d_18"])
def trained(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, nn.Module, Path]:
    """The name of a network, one with random weights, and the folder that holds it as a trained model."""
    network = build(request.param, num_classes=3, **SMALL)
    card = {"model": request.param, "classes": THREE, "input_size": 32, "normalization": {}, **SMALL}
    save_model(tmp_path, network.state_dict(), card)
    return request.param, network, tmp_path


@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_a_model_that_was_trained_here_gives_all_but_its_classifier(
    trained: tuple[str, nn.Module, Path], file: str
) -> None:
    name, network, folder = trained
    for classes, number in ((THREE[::-1], 3), (None, 3), (("happy", "sad"), 2)):
        model = build(name, num_classes=number, pretrained=str(folder / file), classes=classes, **SMALL)
        ours, theirs = model.state_dict(), network.state_dict()
        kept = {key for key, value in theirs.items() if torch.equal(value, ours[key])}
        assert theirs.keys() - kept == {"fc.weight", "fc.bias"}
    again = build(name, num_classes=3, pretrained=str(folder / file), classes=THREE, **SMALL)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in again.state_dict().items())


def test_a_trained_model_of_another_network_is_an_error(trained: tuple[str, nn.Module, Path], tmp_path: Path) -> None:
    name, _, folder = trained
    other = "r3d_18" if name == "resnet18_tsm" else "resnet18_tsm"
    with pytest.raises(
        WeightsError, match=f"holds a {name} of width 0.125, expected a {other} of width 0.125: set mod"
    ):
        build(other, num_classes=3, pretrained=str(folder), **SMALL)
    with pytest.raises(WeightsError, match=r"expected a .* of width 0\.25"):
        build(name, num_classes=3, pretrained=str(folder), **{**SMALL, "width": 0.25})
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"holds a trained model, model\.safetensors and model\.json"):
        build(name, num_classes=3, pretrained=str(folder), **SMALL)
    with pytest.raises(WeightsError, match=r"is .* the folder of a finished training"):
        build(name, num_classes=3, pretrained=str(tmp_path.parent), **SMALL)


class Headless(nn.Module):
    """A network whose classifier has another name than the catalogue expects."""

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        super().__init__()
        self.classifier = nn.Linear(2, num_classes)


def test_a_trained_model_whose_classifier_is_not_known_is_an_error(tmp_path: Path) -> None:
    name = f"{__name__}:Headless"
    network = build(name, num_classes=3, **SMALL)
    card = {"model": name, "classes": THREE, "input_size": 32, "normalization": {}, **SMALL}
    save_model(tmp_path, network.state_dict(), card)
    build(name, num_classes=3, pretrained=str(tmp_path), classes=THREE, **SMALL)
    with pytest.raises(WeightsError, match="has no layer 'fc'"):
        build(name, num_classes=3, pretrained=str(tmp_path), classes=THREE[::-1], **SMALL)


def test_files_that_are_no_weights_are_errors(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such weight file"):
        build("resnet18_tsm", num_classes=7, pretrained=str(tmp_path / "absent.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(WeightsError, match="cannot be read"):
        build("resnet18_tsm", num_classes=7, pretrained=str(tmp_path / "text.pth"))
    torch.save(Path("code"), tmp_path / "pickle.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        build("resnet18_tsm", num_classes=7, pretrained=str(tmp_path / "pickle.pth"))


def test_a_safetensors_file_is_read_as_the_same_weights(
    torchvision_file: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    path = tmp_path / "resnet18.safetensors"
    save_file(torchvision_file[0].state_dict(), path)
    model = build("resnet18_tsm", num_classes=7, pretrained=str(path))
    assert torch.equal(model.conv1.weight, torchvision_file[0].conv1.weight)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"resnet18\.safetensors cannot be read as a safetensors file"):
        build("resnet18_tsm", num_classes=7, pretrained=str(path))


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
