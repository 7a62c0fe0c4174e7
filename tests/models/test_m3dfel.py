from __future__ import annotations

from pathlib import Path

import equations as eq
import pytest
import torch
import torchvision
from torch import Tensor, nn

from dfer.config import catalogue
from dfer.models import WeightsError, available, build
from dfer.models.freezing import freeze_trunk
from dfer.models.m3dfel import DynamicNormalization
from dfer.models.weights import load_pretrained


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return eq.shaken(build("m3dfel", num_classes=5, num_segments=8, width=0.125))


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.rand(2, 8, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_its_size_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "NETWORKS", {"m3dfel": catalogue.NETWORKS["m3dfel"]})
    facts = available()["m3dfel"]
    assert (facts["parameters"], facts["input"]) == (46_823_384, "16 frames of 112 px")
    assert facts["gflops"] == pytest.approx(86, abs=0.5)


def _states(features: Tensor, state: eq.State) -> Tensor:
    """A bidirectional LSTM of two layers, [B, M, D] -> [B, M, 2D]."""
    for layer in (0, 1):
        ways = []
        for way, steps in (("", range(4)), ("_reverse", range(3, -1, -1))):
            part = {kind: state[f"{kind}_l{layer}{way}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
            h = cell = features.new_zeros(len(features), part["weight_hh"].shape[1])
            seen = {}
            for step in steps:
                gates = torch.einsum("bd,gd->bg", features[:, step], part["weight_ih"]) + part["bias_ih"]
                gates = gates + torch.einsum("bd,gd->bg", h, part["weight_hh"]) + part["bias_hh"]
                enter, forget, candidate, leave = gates.tensor_split(4, dim=1)
                cell = cell / (1 + (-forget).exp()) + candidate.tanh() / (1 + (-enter).exp())
                seen[step] = h = cell.tanh() / (1 + (-leave).exp())
            ways.append(torch.stack([seen[step] for step in range(4)], dim=1))
        features = torch.cat(ways, dim=2)
    return features


def _normalized(x: Tensor, state: eq.State) -> Tensor:
    """DMIN by loops over bags and features, with sums written out."""
    out = torch.empty_like(x)
    blends = {name: state[f"{name}_blend"].exp() / state[f"{name}_blend"].exp().sum() for name in ("mean", "variance")}
    for b, bag in enumerate(x):
        means = bag.sum(dim=0) / 4
        variances = ((bag - means) ** 2).sum(dim=0) / 3
        bag_mean = means.sum() / len(means)
        bag_variance = (variances + means**2).sum() / len(means) - bag_mean**2
        for d in range(len(means)):
            mean = blends["mean"][0] * means[d] + blends["mean"][1] * bag_mean
            variance = blends["variance"][0] * variances[d] + blends["variance"][1] * bag_variance
            out[b, :, d] = (bag[:, d] - mean) / (variance + 1e-5) ** 0.5 * state["weight"][d] + state["bias"][d]
    return out


@torch.no_grad()
def test_it_computes_the_published_equations(model: nn.Module, clips: Tensor) -> None:
    state = model.state_dict()
    features = torch.stack([model.trunk.clip_features(clips[:, 2 * i : 2 * i + 2]) for i in range(4)], dim=1)
    states = _states(features, eq.below(state, "lstm"))
    queries, keys, values = (
        torch.einsum("bmd,ed->bme", states, weight).reshape(2, 4, 8, -1) for weight in state["qkv.weight"].chunk(3)
    )
    scores = torch.einsum("bihd,bjhd->bhij", queries, keys) / queries.shape[-1] ** 0.5
    shares = scores.exp() / scores.exp().sum(dim=-1, keepdim=True)
    attended = torch.einsum("bhij,bjhd->bihd", shares, values).reshape(2, 4, -1)
    gated = states / (1 + (-_normalized(attended, eq.below(state, "normalization"))).exp())
    padded = torch.cat((torch.zeros(2, 4, 1), gated, torch.zeros(2, 4, 1)), dim=2)
    windows = torch.stack([padded[:, :, i : i + gated.shape[2]] for i in range(3)], dim=-1)
    bag = torch.einsum("bmdk,mk->bd", windows, state["bag.weight"][0]) + state["bag.bias"]
    torch.testing.assert_close(model(clips), eq.classifier(bag, state), rtol=0, atol=1e-8)


def test_normalization_starts_with_even_blends_and_no_scale() -> None:
    x = torch.randn(3, 4, 16, dtype=torch.float64)
    layer = DynamicNormalization(16).double()
    with torch.no_grad():
        out = layer(x)
    variances, means = x.var(dim=1), x.mean(dim=1)
    mean = (means + x.mean(dim=(1, 2))[:, None]) / 2
    variance = (variances + (variances + means**2).mean(dim=1, keepdim=True) - x.mean(dim=(1, 2))[:, None] ** 2) / 2
    torch.testing.assert_close(out, (x - mean[:, None]) / (variance[:, None] + 1e-5).sqrt())


@torch.no_grad()
def test_order_of_instances_and_of_frames_within_matters_and_clips_are_alone(model: nn.Module, clips: Tensor) -> None:
    logits = model(clips)
    assert (model(clips[:, [2, 3, 0, 1, 4, 5, 6, 7]]) - logits).abs().amax(dim=1).min() > 1e-5
    assert (model(clips[:, [1, 0, 2, 3, 4, 5, 6, 7]]) - logits).abs().amax(dim=1).min() > 1e-5
    torch.testing.assert_close(model(clips[1:]), logits[1:])


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    model = build("m3dfel", num_classes=3, num_segments=8, width=0.125, dropout=0.0)
    nn.functional.cross_entropy(model(torch.rand(3, 8, 3, 32, 32)), torch.tensor([0, 2, 1])).backward()
    dead = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert dead == []


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    network = torchvision.models.video.r3d_18(num_classes=400).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, std=0.1)
    path = tmp_path_factory.mktemp("torch") / "hub" / "checkpoints" / "r3d_18-b3b3357e.pth"
    path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), path)
    return network, path


def test_torchvision_weights_fill_the_trunk_and_the_rest_is_drawn(
    kinetics: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network, path = kinetics
    monkeypatch.setenv("TORCH_HOME", str(path.parents[2]))
    with caplog.at_level("INFO"):
        model = build("m3dfel", num_classes=400, pretrained="kinetics400").eval()
    assert "random weights for bag.bias, bag.weight, fc.bias, fc.weight, lstm.bias_hh_l0" in caplog.text
    theirs = {f"trunk.{name}": value for name, value in network.state_dict().items() if not name.startswith("fc.")}
    own = model.state_dict()
    assert {name for name in own if name.startswith("trunk.")} == theirs.keys()
    assert all(torch.equal(own[name], value) for name, value in theirs.items())
    assert own["fc.weight"].shape == (400, 1024)  # so many classes, but no weights of theirs
    clip = torch.randn(1, 4, 3, 32, 32)
    features = nn.Sequential(*list(network.children())[:-1], nn.Flatten())
    with torch.no_grad():
        torch.testing.assert_close(model.trunk.clip_features(clip), features(clip.transpose(1, 2)))


@pytest.fixture
def narrow() -> nn.Module:
    return build("m3dfel", num_classes=7, num_segments=4, width=0.125)


def test_a_trunk_with_a_hole_or_a_strange_layer_is_an_error(narrow: nn.Module, tmp_path: Path) -> None:
    state = {**narrow.trunk.state_dict(), "fc.weight": torch.zeros(400, 64)}
    first = state.pop("layer4.1.conv2.0.weight")
    torch.save(state, tmp_path / "hole.pth")
    with pytest.raises(WeightsError, match=r"missing trunk\.layer4\.1\.conv2\.0\.weight$"):
        load_pretrained(narrow, catalogue.NETWORKS["m3dfel"], str(tmp_path / "hole.pth"))
    torch.save({**state, "layer4.1.conv2.0.weight": first, "extra.weight": first[:1]}, tmp_path / "extra.pth")
    with pytest.raises(WeightsError, match=r"unexpected trunk\.extra\.weight$"):
        load_pretrained(narrow, catalogue.NETWORKS["m3dfel"], str(tmp_path / "extra.pth"))


def test_weights_of_the_whole_network_are_loaded_whole(narrow: nn.Module, tmp_path: Path) -> None:
    torch.save(narrow.state_dict(), tmp_path / "own.pth")
    other = build("m3dfel", num_classes=7, num_segments=4, width=0.125)
    load_pretrained(other, catalogue.NETWORKS["m3dfel"], str(tmp_path / "own.pth"))
    again = other.state_dict()
    assert all(torch.equal(again[name], value) for name, value in narrow.state_dict().items())


def test_only_the_trunk_freezes(narrow: nn.Module) -> None:
    freeze_trunk(narrow, "m3dfel")
    frozen = {name.split(".")[0] for name, value in narrow.named_parameters() if not value.requires_grad}
    assert frozen == {"trunk"}


def test_frames_that_do_not_make_four_parts_are_refused_with_the_way_out() -> None:
    with pytest.raises(
        ValueError, match=r"4 parts of as many frames, found 10 frames: set sampling\.num_segments to a"
    ):
        build("m3dfel", num_classes=7, num_segments=10, width=0.125)
    with torch.device("meta"):
        model = build("m3dfel", num_classes=7, num_segments=8, width=0.125)
        with pytest.raises(ValueError, match=r"expected clips \[B, 8, 3, H, W\]"):
            model(torch.empty(2, 4, 3, 32, 32))
