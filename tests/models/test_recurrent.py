from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from dfer.models import WeightsError, build

LAYERS = {"resnet18_gru": "gru", "resnet18_lstm": "lstm"}


@pytest.fixture(params=LAYERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    network = torchvision.models.resnet18().eval()
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(network.state_dict(), path)
    return network, path


def test_the_trunk_has_torchvision_names_and_shapes_and_the_rest_its_own(name: str) -> None:
    with torch.device("meta"):
        own = build(name, num_classes=7).state_dict()
        theirs = torchvision.models.resnet18().state_dict()
    trunk = {key: tensor.shape for key, tensor in own.items() if not key.startswith((f"{LAYERS[name]}.", "fc."))}
    assert trunk == {key: tensor.shape for key, tensor in theirs.items() if not key.startswith("fc.")}
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    assert list(own)[-6:] == [*(f"{LAYERS[name]}.{key}" for key in names), "fc.weight", "fc.bias"]


@pytest.mark.parametrize(("name", "gates"), [("resnet18_gru", 3), ("resnet18_lstm", 4)])
def test_parameters_by_the_number_of_gates(name: str, gates: int) -> None:
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in build(name, num_classes=7).parameters())
        trunk = sum(parameter.numel() for parameter in torchvision.models.resnet18().parameters()) - 513 * 1000
    # Each with weights for the input and the state and (in torch) two biases.
    assert parameters == trunk + gates * 256 * (512 + 256 + 2) + 257 * 7
    assert parameters == {"resnet18_gru": 11_769_671, "resnet18_lstm": 11_966_791}[name]


def test_torchvision_weights_fill_the_trunk_and_the_rest_is_drawn_and_logged(
    name: str, imagenet: tuple[nn.Module, Path], caplog: pytest.LogCaptureFixture
) -> None:
    network, path = imagenet
    torch.manual_seed(1)
    random = build(name, num_classes=7, num_segments=2)
    torch.manual_seed(1)
    with caplog.at_level("INFO"):
        model = build(name, num_classes=7, num_segments=2, pretrained=str(path)).eval()
    assert "fc.weight is [1000, 512], here [7, 256]: left out" in caplog.text
    assert f"random weights for fc.bias, fc.weight, {LAYERS[name]}.bias_hh_l0" in caplog.text
    frames = torch.randn(2, 3, 64, 64)
    features = nn.Sequential(*list(network.children())[:-1], nn.Flatten())
    with torch.no_grad():
        assert torch.allclose(model.frame_features(frames), features(frames), atol=1e-5)
    for key in (f"{LAYERS[name]}.weight_hh_l0", "fc.weight"):
        assert torch.equal(model.state_dict()[key], random.state_dict()[key])


def test_a_trunk_with_a_hole_is_an_error(name: str, imagenet: tuple[nn.Module, Path], tmp_path: Path) -> None:
    state = dict(imagenet[0].state_dict())
    del state["layer4.1.conv2.weight"]
    torch.save(state, tmp_path / "hole.pth")
    with pytest.raises(WeightsError, match=r"missing layer4\.1\.conv2\.weight$"):
        build(name, num_classes=7, pretrained=str(tmp_path / "hole.pth"))


def test_weights_of_the_whole_network_are_loaded_whole(name: str, tmp_path: Path) -> None:
    network = build(name, num_classes=7)
    torch.save(network.state_dict(), tmp_path / "own.pth")
    again = build(name, num_classes=7, pretrained=str(tmp_path / "own.pth")).state_dict()
    for key, tensor in network.state_dict().items():
        assert torch.equal(again[key], tensor), key


def test_states_know_the_past_and_all_of_them_count(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, num_classes=7, num_segments=5, width=0.125).eval()
    states: list[Tensor] = []
    model.get_submodule(LAYERS[name]).register_forward_hook(lambda module, inputs, outputs: states.append(outputs[0]))
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


def _gru(state: dict[str, Tensor], features: Tensor) -> list[Tensor]:
    """Chung et al. (2014), with torch's order of the gates and its bias inside the reset."""
    h, states = features.new_zeros(len(features), state["gru.weight_hh_l0"].shape[1]), []
    for x in features.unbind(1):
        inner = (torch.einsum("gi,bi->bg", state["gru.weight_ih_l0"], x) + state["gru.bias_ih_l0"]).chunk(3, 1)
        outer = (torch.einsum("gi,bi->bg", state["gru.weight_hh_l0"], h) + state["gru.bias_hh_l0"]).chunk(3, 1)
        reset, update = (1 / (1 + (-inner[gate] - outer[gate]).exp()) for gate in (0, 1))
        h = (1 - update) * (inner[2] + reset * outer[2]).tanh() + update * h
        states.append(h)
    return states


def _lstm(state: dict[str, Tensor], features: Tensor) -> list[Tensor]:
    """Hochreiter and Schmidhuber (1997) with a forget gate; gates in torch's order."""
    h = features.new_zeros(len(features), state["lstm.weight_hh_l0"].shape[1])
    cell, states = torch.zeros_like(h), []
    for x in features.unbind(1):
        gates = torch.einsum("gi,bi->bg", state["lstm.weight_ih_l0"], x) + state["lstm.bias_ih_l0"]
        gates = gates + torch.einsum("gi,bi->bg", state["lstm.weight_hh_l0"], h) + state["lstm.bias_hh_l0"]
        enter, forget, candidate, leave = gates.chunk(4, 1)
        cell = cell / (1 + (-forget).exp()) + candidate.tanh() / (1 + (-enter).exp())
        h = cell.tanh() / (1 + (-leave).exp())
        states.append(h)
    return states


def test_states_are_those_of_the_equations(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, num_classes=7, num_segments=4, width=0.125).double().eval()
    clips = torch.randn(2, 4, 3, 32, 32, dtype=torch.float64)
    state = model.state_dict()
    with torch.no_grad():
        features = torch.stack([model.frame_features(clip) for clip in clips])
        states = {"gru": _gru, "lstm": _lstm}[LAYERS[name]](state, features)
        logits = torch.einsum("kc,bc->bk", state["fc.weight"], sum(states) / 4) + state["fc.bias"]
        torch.testing.assert_close(model(clips), logits, atol=1e-9, rtol=1e-9)


def test_half_as_many_units_as_features_at_every_width(name: str) -> None:
    with torch.device("meta"):
        assert build(name, num_classes=7).get_submodule(LAYERS[name]).hidden_size == 256
        assert build(name, num_classes=7, width=0.25).get_submodule(LAYERS[name]).hidden_size == 64
