from __future__ import annotations

import equations as eq
import pytest
import torch
import torchvision
from torch import Tensor, nn

from dfer.config import catalogue
from dfer.models import available, build
from dfer.models.freezing import freeze_trunk

ORDER = [3, 0, 2, 1]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return eq.shaken(build("former_dfer", num_classes=5, num_segments=4, width=0.125))


@pytest.fixture(scope="module")
def clips() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    colours = torch.rand(2, 4, 3, 1, 1, generator=generator, dtype=torch.float64)
    return colours * torch.rand(2, 4, 3, 112, 112, generator=generator, dtype=torch.float64)


def test_its_size_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "NETWORKS", {"former_dfer": catalogue.NETWORKS["former_dfer"]})
    facts = available()["former_dfer"]
    assert (facts["parameters"], facts["gflops"], facts["input"]) == (18_031_943, 16.6, "16 frames of 112 px")


def test_the_trunk_has_torchvision_names_and_shapes() -> None:
    with torch.device("meta"):
        own = build("former_dfer", num_classes=7).state_dict()
        theirs = torchvision.models.resnet18(num_classes=7).state_dict()
    new = ("spatial", "temporal", "class_token")
    trunk = {name: tensor.shape for name, tensor in own.items() if not name.startswith(new)}
    assert trunk == {name: tensor.shape for name, tensor in theirs.items()}


@torch.no_grad()
def test_it_computes_the_published_equations(model: nn.Module, clips: Tensor) -> None:
    state = model.state_dict()
    x = clips.reshape(8, 3, 112, 112)
    x = eq.max_pool(eq.relu(eq.batch_norm(eq.convolution(x, state["conv1.weight"], 2), eq.below(state, "bn1"))))
    for name in ("layer1", "layer2", "layer3"):
        x = eq.stage(x, eq.below(state, name), 2)
    places = torch.stack([x[:, :, row, column] for row in range(7) for column in range(7)], dim=1)
    places = eq.transformer(places + state["spatial_positions"], eq.below(state, "spatial"), 1, heads=8)
    x = torch.stack([places[:, 7 * row : 7 * row + 7] for row in range(7)], dim=1).permute(0, 3, 1, 2)
    features = eq.stage(x, eq.below(state, "layer4"), 2).mean(dim=(2, 3)).reshape(2, 4, -1)
    tokens = torch.cat((state["class_token"].repeat(2, 1, 1), features), dim=1) + state["temporal_positions"]
    tokens = eq.transformer(tokens, eq.below(state, "temporal"), 3, heads=8)
    torch.testing.assert_close(model(clips), eq.classifier(tokens[:, 0], state), rtol=0, atol=1e-9)


@torch.no_grad()
def test_frames_are_looked_at_alone_and_their_order_is_known_by_positions_alone(
    model: nn.Module, clips: Tensor
) -> None:
    features = model.frame_features(clips[0])
    torch.testing.assert_close(model.frame_features(clips[0, ORDER]), features[ORDER])
    assert (model(clips[:, ORDER]) - model(clips)).abs().amin() > 1e-4
    torch.testing.assert_close(model(clips[1:]), model(clips)[1:])
    positions = model.temporal_positions.clone()
    model.temporal_positions[:, 1:] = positions[:, 1:2]
    torch.testing.assert_close(model(clips[:, ORDER]), model(clips))
    model.temporal_positions.copy_(positions)


@torch.no_grad()
def test_places_are_told_apart_by_positions(model: nn.Module, clips: Tensor) -> None:
    positions = model.spatial_positions.clone()
    before = model(clips)
    model.spatial_positions.copy_(positions.flip(1))
    assert (model(clips) - before).abs().amin() > 1e-6
    model.spatial_positions.copy_(positions)


def test_positions_and_class_token_start_as_published() -> None:
    torch.manual_seed(0)
    model = build("former_dfer", num_classes=7)
    for name in ("spatial_positions", "temporal_positions", "class_token"):
        assert float(getattr(model, name).detach().std()) == pytest.approx(1, abs=0.1)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    model = build("former_dfer", num_classes=3, num_segments=2, width=0.125, dropout=0.0)
    nn.functional.cross_entropy(model(torch.rand(2, 2, 3, 112, 112)), torch.tensor([0, 2])).backward()
    dead = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert dead == []


def test_positions_are_frozen_with_the_rest() -> None:
    model = build("former_dfer", num_classes=3, num_segments=2, width=0.125)
    freeze_trunk(model, "former_dfer")
    assert {name for name, value in model.named_parameters() if value.requires_grad} == {"fc.weight", "fc.bias"}


def test_frames_of_another_size_are_refused_with_the_way_out() -> None:
    with torch.device("meta"):
        model = build("former_dfer", num_classes=7, num_segments=2, width=0.125)
        with pytest.raises(ValueError, match=r"112 x 112 pixels, found 64 x 112: set model\.input_size to 112, or"):
            model(torch.empty(2, 2, 3, 64, 112))
        with pytest.raises(ValueError, match=r"expected clips \[B, 2, 3, H, W\]"):
            model(torch.empty(2, 4, 3, 112, 112))
