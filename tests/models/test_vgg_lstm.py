from __future__ import annotations

import equations as eq
import pytest
import torch
import torchvision
from torch import Tensor, nn

from dfer.config import catalogue
from dfer.models import available, build
from dfer.models.vgg_lstm import seven_by_seven

SIZES = {"vgg13_lstm": (133_411_143, 180.9), "vgg13_lstm_two_stream": (142_817_927, 339.3)}


@pytest.fixture(params=SIZES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def small(name: str, num_segments: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return eq.shaken(build(name, num_classes=5, num_segments=num_segments, width=0.125))


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.randn(2, 3, 3, 32, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_their_sizes_are_near_the_published_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = catalogue.NETWORKS[name]
    assert bool(network.reconstructed) == (name == "vgg13_lstm_two_stream")
    monkeypatch.setattr(catalogue, "NETWORKS", {name: network})
    facts = available()[name]
    assert (facts["parameters"], facts["gflops"]) == SIZES[name]
    assert facts["parameters"] / 1e6 == pytest.approx({"vgg13_lstm": 133, "vgg13_lstm_two_stream": 144}[name], rel=0.01)


def test_the_trunk_has_torchvision_names_and_shapes(name: str) -> None:
    with torch.device("meta"):
        own = build(name, num_classes=7).state_dict()
        theirs = torchvision.models.vgg13().state_dict()
    shared = {key: tensor.shape for key, tensor in own.items() if key.startswith(("features.", "classifier."))}
    assert shared == {key: tensor.shape for key, tensor in theirs.items() if not key.startswith("classifier.6.")}


def _last_state(frames: Tensor, state: eq.State, tower: str) -> Tensor:
    """VGG-13 and the LSTM, [B, T, 3, 32, 64] -> [B, 32]."""
    x, place = frames.flatten(0, 1), 0
    for _ in range(5):
        for _ in range(2):
            x = eq.convolution(x, state[f"{tower}.{place}.weight"]) + state[f"{tower}.{place}.bias"][:, None, None]
            x, place = eq.relu(x), place + 2
        rows = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
        x, place = torch.maximum(rows[:, :, :, ::2], rows[:, :, :, 1::2]), place + 1
    left, right = x[:, :, 0, 0], x[:, :, 0, 1]  # the seven columns of a map that is one high and two wide
    columns = [left, left, left, (left + right) / 2, right, right, right]
    x = torch.stack(columns, dim=2)[:, :, None].repeat(1, 1, 7, 1).reshape(len(x), -1)
    for layer in ("classifier.0", "classifier.3"):
        x = eq.relu(eq.classifier(x, state, layer))
    x = x.reshape(*frames.shape[:2], -1)
    h = cell = x.new_zeros(len(frames), state["lstm.weight_hh_l0"].shape[1])
    for step in range(frames.shape[1]):
        gates = torch.einsum("bd,gd->bg", x[:, step], state["lstm.weight_ih_l0"]) + state["lstm.bias_ih_l0"]
        gates = gates + torch.einsum("bd,gd->bg", h, state["lstm.weight_hh_l0"]) + state["lstm.bias_hh_l0"]
        enter, forget, candidate, leave = gates.tensor_split(4, dim=1)
        cell = cell / (1 + (-forget).exp()) + candidate.tanh() / (1 + (-enter).exp())
        h = cell.tanh() / (1 + (-leave).exp())
    return h


@torch.no_grad()
def test_they_compute_their_equations(name: str, clips: Tensor) -> None:
    model = small(name)
    state = model.state_dict()
    features = _last_state(clips, state, "features")
    if name == "vgg13_lstm_two_stream":
        differences = torch.stack((clips[:, 1] - clips[:, 0], clips[:, 2] - clips[:, 1]), dim=1)
        features = torch.cat((features, _last_state(differences, state, "motion_features")), dim=1)
    torch.testing.assert_close(model(clips), eq.classifier(features, state), rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [(7, 7), (1, 2), (5, 9), (14, 11)])
def test_maps_are_pooled_as_torchvision_pools_them(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(seven_by_seven(x), nn.AdaptiveAvgPool2d(7)(x))


@torch.no_grad()
def test_order_matters_and_clips_are_alone(name: str, clips: Tensor) -> None:
    model = small(name)
    logits = model(clips)
    assert (model(clips.flip(1)) - logits).abs().amax(dim=1).min() > 1e-7
    torch.testing.assert_close(model(clips[1:]), logits[1:])


@torch.no_grad()
def test_the_second_stream_sees_what_changes_alone(clips: Tensor) -> None:
    model = small("vgg13_lstm_two_stream")
    seen: list[Tensor] = []
    model.motion_features.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    model(clips)
    model(clips + torch.randn(2, 1, 3, 32, 64, dtype=torch.float64))
    torch.testing.assert_close(seen[0], seen[1])


def test_gradients_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, num_classes=3, num_segments=3, width=0.125, dropout=0.0)
    nn.functional.cross_entropy(model(torch.randn(3, 3, 3, 32, 32)), torch.tensor([0, 2, 1])).backward()
    dead = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert dead == []


def test_weights_start_as_torchvision_draws_them(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, num_classes=7, num_segments=2, width=0.25)
    assert float(model.classifier[3].weight.detach().std()) == pytest.approx(0.01, rel=0.02)
    weight = model.features[12].weight.detach()
    assert float(weight.std()) == pytest.approx((2 / (9 * len(weight))) ** 0.5, rel=0.05)
    assert model.features[12].bias.abs().max() == 0


def test_bad_clips_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"needs two or more, found 1: set sampling\.num_segments to 2 or more, or to 0"
    ):
        build("vgg13_lstm_two_stream", num_classes=7, num_segments=1, width=0.125)
    with torch.device("meta"):
        model = build("vgg13_lstm", num_classes=7, num_segments=2, width=0.125)
        with pytest.raises(ValueError, match=r"expected clips \[B, 2, 3, H, W\]"):
            model(torch.empty(2, 4, 3, 32, 32))
