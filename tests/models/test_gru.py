from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from dfer.models import WeightsError, build


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    network = torchvision.models.resnet18().eval()
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(network.state_dict(), path)
    return network, path


def test_the_trunk_has_torchvision_names_and_shapes() -> None:
    with torch.device("meta"):
        own = build("resnet18_gru", num_classes=7).state_dict()
        theirs = torchvision.models.resnet18().state_dict()
    trunk = {name: tensor.shape for name, tensor in own.items() if not name.startswith(("gru.", "fc."))}
    assert trunk == {name: tensor.shape for name, tensor in theirs.items() if not name.startswith("fc.")}


def test_torchvision_weights_fill_the_trunk_and_the_rest_is_drawn_and_logged(
    imagenet: tuple[nn.Module, Path], caplog: pytest.LogCaptureFixture
) -> None:
    network, path = imagenet
    torch.manual_seed(1)
    random = build("resnet18_gru", num_classes=7, num_segments=2)
    torch.manual_seed(1)
    with caplog.at_level("INFO"):
        model = build("resnet18_gru", num_classes=7, num_segments=2, pretrained=str(path)).eval()
    assert "fc.weight is [1000, 512], here [7, 256]: left out" in caplog.text
    assert "random weights for fc.bias, fc.weight, gru.bias_hh_l0" in caplog.text
    frames = torch.randn(2, 3, 64, 64)
    features = nn.Sequential(*list(network.children())[:-1], nn.Flatten())
    with torch.no_grad():
        assert torch.allclose(model.frame_features(frames), features(frames), atol=1e-5)
    for name in ("gru.weight_hh_l0", "fc.weight"):
        assert torch.equal(model.state_dict()[name], random.state_dict()[name])


def test_a_trunk_with_a_hole_is_an_error(imagenet: tuple[nn.Module, Path], tmp_path: Path) -> None:
    state = dict(imagenet[0].state_dict())
    del state["layer4.1.conv2.weight"]
    torch.save(state, tmp_path / "hole.pth")
    with pytest.raises(WeightsError, match=r"missing layer4\.1\.conv2\.weight$"):
        build("resnet18_gru", num_classes=7, pretrained=str(tmp_path / "hole.pth"))


def test_weights_of_the_whole_network_are_loaded_whole(tmp_path: Path) -> None:
    network = build("resnet18_gru", num_classes=7)
    torch.save(network.state_dict(), tmp_path / "own.pth")
    again = build("resnet18_gru", num_classes=7, pretrained=str(tmp_path / "own.pth")).state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(again[name], tensor), name


def test_states_know_the_past_and_all_of_them_count() -> None:
    torch.manual_seed(0)
    model = build("resnet18_gru", num_classes=7, num_segments=5, width=0.125).eval()
    states: list[Tensor] = []
    model.gru.register_forward_hook(lambda module, inputs, outputs: states.append(outputs[0]))
    clip = torch.randn(1, 5, 3, 32, 32)
    changed = clip.clone()
    changed[:, 2] = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        logits = model(clip)
        model(changed)
        before, after = states
        assert torch.allclose(before[:, :2], after[:, :2], atol=1e-6)
        assert ((before - after)[0, 2:].abs().amax(dim=1) > 1e-4).all()
        assert torch.allclose(logits, sum(model.fc(before[:, time]) for time in range(5)) / 5, atol=1e-6)


def test_half_as_many_units_as_features_at_every_width() -> None:
    with torch.device("meta"):
        assert build("resnet18_gru", num_classes=7).gru.hidden_size == 256
        assert build("resnet18_gru", num_classes=7, width=0.25).gru.hidden_size == 64
