from __future__ import annotations

import equations as eq
import pytest
import torch
import torchvision
from torch import Tensor, nn

from dfer.config import catalogue
from dfer.models import available, build

ORDER = [2, 0, 1]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return eq.shaken(build("stt_like", num_classes=5, num_segments=3, width=0.125))


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.rand(2, 3, 3, 112, 112, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_it_is_said_to_be_a_reconstruction_and_how_large_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    network = catalogue.NETWORKS["stt_like"]
    assert "Known: " in network.reconstructed
    assert "Chosen: " in network.reconstructed
    monkeypatch.setattr(catalogue, "NETWORKS", {"stt_like": network})
    facts = available()["stt_like"]
    assert (facts["parameters"], facts["gflops"], facts["input"]) == (5_958_215, 16.4, "16 frames of 112 px")


def test_the_trunk_has_torchvision_names_and_shapes() -> None:
    with torch.device("meta"):
        own = build("stt_like", num_classes=7).state_dict()
        theirs = torchvision.models.resnet18().state_dict()
    new = ("spatial_positions", "temporal_positions", "blocks.", "fc.")
    trunk = {name: tensor.shape for name, tensor in own.items() if not name.startswith(new)}
    assert trunk == {name: tensor.shape for name, tensor in theirs.items() if not name.startswith(("layer4.", "fc."))}


@torch.no_grad()
def test_it_computes_its_equations(model: nn.Module, clips: Tensor) -> None:
    state = model.state_dict()
    x = clips.reshape(6, 3, 112, 112)
    x = eq.max_pool(eq.relu(eq.batch_norm(eq.convolution(x, state["conv1.weight"], 2), eq.below(state, "bn1"))))
    for name in ("layer1", "layer2", "layer3"):
        x = eq.stage(x, eq.below(state, name), 2)
    tokens = torch.einsum("nchw->nhwc", x).reshape(2, 3, 49, -1)
    tokens = tokens + state["spatial_positions"][None, None] + state["temporal_positions"][None]
    for block in (eq.below(state, f"blocks.{number}") for number in range(4)):
        seen = eq.layer_norm(tokens, eq.below(block, "spatial_norm"))
        frames = [eq.attention(seen[:, t], eq.below(block, "spatial"), 8) for t in range(3)]
        tokens = tokens + torch.stack(frames, dim=1)
        seen = eq.layer_norm(tokens, eq.below(block, "temporal_norm"))
        places = [eq.attention(seen[:, :, place], eq.below(block, "temporal"), 8) for place in range(49)]
        tokens = tokens + torch.stack(places, dim=2)
        part = eq.below(block, "feed_forward")
        seen = eq.layer_norm(tokens, eq.below(block, "feed_forward_norm"))
        hidden = eq.gelu(torch.einsum("btpd,ed->btpe", seen, part["0.weight"]) + part["0.bias"])
        tokens = tokens + torch.einsum("btpe,de->btpd", hidden, part["2.weight"]) + part["2.bias"]
    features = tokens.sum(dim=(1, 2)) / (3 * 49)
    torch.testing.assert_close(model(clips), eq.classifier(features, state), rtol=0, atol=1e-10)


@torch.no_grad()
def test_the_order_of_frames_is_known_by_positions_alone(model: nn.Module, clips: Tensor) -> None:
    logits = model(clips)
    assert (model(clips[:, ORDER]) - logits).abs().amax(dim=1).min() > 1e-6
    torch.testing.assert_close(model(clips[1:]), logits[1:])
    positions = model.temporal_positions.clone()
    model.temporal_positions[:] = positions[:1]
    torch.testing.assert_close(model(clips[:, ORDER]), model(clips))
    model.temporal_positions.copy_(positions)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    model = build("stt_like", num_classes=3, num_segments=2, width=0.125, dropout=0.0)
    nn.functional.cross_entropy(model(torch.rand(2, 2, 3, 112, 112)), torch.tensor([0, 2])).backward()
    dead = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert dead == []


def test_frames_of_another_size_or_number_are_refused_with_the_way_out() -> None:
    with torch.device("meta"):
        model = build("stt_like", num_classes=7, num_segments=2, width=0.125)
        with pytest.raises(ValueError, match=r"112 x 112 pixels, found 96 x 112: set model\.input_size to 112, or"):
            model(torch.empty(2, 2, 3, 96, 112))
        with pytest.raises(ValueError, match=r"expected clips \[B, 2, 3, H, W\]"):
            model(torch.empty(2, 4, 3, 112, 112))
