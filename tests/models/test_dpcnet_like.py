from __future__ import annotations

import equations as eq
import pytest
import torch
import torchvision
from torch import Tensor, nn

from dfer.config import catalogue
from dfer.models import available, build


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return eq.shaken(build("dpcnet_like", num_classes=5, num_segments=4, width=0.125))


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.rand(2, 4, 3, 40, 48, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_it_is_said_to_be_a_reconstruction_and_how_large_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    network = catalogue.NETWORKS["dpcnet_like"]
    assert "Known: " in network.reconstructed
    assert "Chosen: " in network.reconstructed
    monkeypatch.setattr(catalogue, "NETWORKS", {"dpcnet_like": network})
    facts = available()["dpcnet_like"]
    assert (facts["parameters"], facts["gflops"], facts["input"]) == (36_635_854, 16.8, "4 frames of 160 px")


def test_the_trunk_has_torchvision_names_and_shapes() -> None:
    with torch.device("meta"):
        own = build("dpcnet_like", num_classes=1000).state_dict()
        theirs = torchvision.models.resnet50().state_dict()
    new = ("places.", "frames.", "channels.", "temporal.")
    trunk = {name: tensor.shape for name, tensor in own.items() if not name.startswith(new)}
    assert trunk == {name: tensor.shape for name, tensor in theirs.items()}


def _bottleneck(x: Tensor, state: eq.State, stride: int) -> Tensor:
    def normalized(y: Tensor, number: int, by: int = 1) -> Tensor:
        return eq.batch_norm(eq.convolution(y, state[f"conv{number}.weight"], by), eq.below(state, f"bn{number}"))

    y = normalized(eq.relu(normalized(eq.relu(normalized(x, 1)), 2, stride)), 3)
    if "downsample.0.weight" in state:
        x = eq.batch_norm(eq.convolution(x, state["downsample.0.weight"], stride), eq.below(state, "downsample.1"))
    return eq.relu(x + y)


def _sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


@torch.no_grad()
def test_it_computes_its_equations(model: nn.Module, clips: Tensor) -> None:
    state = model.state_dict()
    x = clips.reshape(8, 3, 40, 48)
    x = eq.max_pool(eq.relu(eq.batch_norm(eq.convolution(x, state["conv1.weight"], 2), eq.below(state, "bn1"))))
    for name, blocks in (("layer1", 3), ("layer2", 4), ("layer3", 6), ("layer4", 3)):
        for number in range(blocks):
            stride = 2 if name != "layer1" and number == 0 else 1
            x = _bottleneck(x, eq.below(state, f"{name}.{number}"), stride)
    gates = _sigmoid(torch.einsum("nchw,c->nhw", x, state["places.weight"][0, :, 0, 0]) + state["places.bias"])
    first = torch.einsum("nchw,nhw->nc", x, gates).reshape(2, 4, -1) / (x.shape[2] * x.shape[3])
    means = first.mean(dim=2)
    gates = torch.empty(2, 4, dtype=torch.float64)
    for view in (0, 1):
        pair = torch.stack((means[:, view], means[:, view + 2]), dim=1)
        gates[:, [view, view + 2]] = _sigmoid(pair @ state["frames.weight"].T + state["frames.bias"])
    first = first * gates[:, :, None]
    hidden = eq.relu(first.mean(dim=1) @ state["channels.0.weight"].T + state["channels.0.bias"])
    weighed = first * _sigmoid(hidden @ state["channels.2.weight"].T + state["channels.2.bias"])[:, None]
    padded = torch.cat((torch.zeros_like(weighed[:, :1]), weighed, torch.zeros_like(weighed[:, :1])), dim=1)
    windows = torch.stack([padded[:, step : step + 4] for step in range(3)], dim=-1)
    second = eq.relu(torch.einsum("btck,dck->btd", windows, state["temporal.weight"]) + state["temporal.bias"])
    four = [eq.classifier((p[:, v] + p[:, v + 2]) / 2, state) for p in (first, second) for v in (0, 1)]
    torch.testing.assert_close(model(clips), sum(four) / 4, rtol=0, atol=1e-10)

    for module in model.modules():  # in training mode, but with the statistics of evaluation
        module.training = not isinstance(module, nn.BatchNorm2d | nn.Dropout)
    logits, auxiliary = model(clips)
    model.eval()
    assert torch.equal(logits, model(clips))
    assert len(auxiliary) == len(model.auxiliary_weights) == 4
    for seen, expected in zip(auxiliary, four, strict=True):
        torch.testing.assert_close(seen, expected, rtol=0, atol=1e-10)


@torch.no_grad()
def test_order_matters_and_clips_are_alone(model: nn.Module, clips: Tensor) -> None:
    logits = model(clips)
    assert (model(clips.flip(1)) - logits).abs().amax(dim=1).min() > 1e-7
    torch.testing.assert_close(model(clips[1:]), logits[1:])


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    model = build("dpcnet_like", num_classes=3, width=0.125, dropout=0.0)
    logits, auxiliary = model(torch.rand(3, 4, 3, 64, 64))
    assert (logits.dtype, [one.shape for one in auxiliary]) == (torch.float32, [(3, 3)] * 4)
    nn.functional.cross_entropy(logits, torch.tensor([0, 2, 1])).backward()
    dead = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert dead == []


def test_frames_that_do_not_make_two_views_are_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"between 2 views, found 5: set sampling\.num_segments to an even number, or"):
        build("dpcnet_like", num_classes=7, num_segments=5, width=0.125)
    with torch.device("meta"):
        model = build("dpcnet_like", num_classes=7, width=0.125)
        with pytest.raises(ValueError, match=r"expected clips \[B, 4, 3, H, W\]"):
            model(torch.empty(2, 2, 3, 32, 32))
