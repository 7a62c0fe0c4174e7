from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from dfer.models import WeightsError, build


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """torchvision's network with random weights and statistics, and its weight file in a download cache."""
    torch.manual_seed(0)
    network = torchvision.models.video.r3d_18(num_classes=400).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    path = tmp_path_factory.mktemp("torch") / "hub" / "checkpoints" / "r3d_18-b3b3357e.pth"
    path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), path)
    return network, path


def test_width_one_has_torchvision_names_and_shapes() -> None:
    with torch.device("meta"):
        own = build("r3d_18", num_classes=400).state_dict()
        theirs = torchvision.models.video.r3d_18().state_dict()
    assert {name: tensor.shape for name, tensor in own.items()} == {n: t.shape for n, t in theirs.items()}


def test_torchvision_weights_give_torchvision_logits(
    kinetics: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, path = kinetics
    monkeypatch.setenv("TORCH_HOME", str(path.parents[2]))
    model = build("r3d_18", num_classes=400, num_segments=8, pretrained="kinetics400").eval()
    clips = torch.randn(2, 8, 3, 48, 40)
    with torch.no_grad():
        assert torch.allclose(model(clips), network(clips.transpose(1, 2)), atol=1e-5)


def test_a_classifier_of_another_size_is_left_out(
    kinetics: tuple[nn.Module, Path], caplog: pytest.LogCaptureFixture
) -> None:
    network, path = kinetics
    with caplog.at_level("INFO"):
        model = build("r3d_18", num_classes=7, pretrained=str(path))
    assert "fc.weight is [400, 512], here [7, 512]: left out" in caplog.text
    assert torch.equal(model.layer4[1].conv2[0].weight, network.layer4[1].conv2[0].weight)


def test_weights_of_the_flat_network_do_not_fit(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(WeightsError, match=r"resnet18\.pth does not fit|no state dict of dfer\.models\.r3d:R3D18"):
        build("r3d_18", num_classes=7, pretrained=str(tmp_path / "resnet18.pth"))


def test_width_narrows_every_layer() -> None:
    with torch.device("meta"):
        full, narrow = (build("r3d_18", num_classes=7, width=width) for width in (1.0, 0.25))
    for (name, wide), (_, thin) in zip(full.named_parameters(), narrow.named_parameters(), strict=True):
        if name != "fc.bias":
            assert wide.shape[0] == (7 if name == "fc.weight" else 4 * thin.shape[0]), name
