from __future__ import annotations

import equations as eq
import pytest
import torch
from torch import Tensor, nn

from dfer.config import catalogue
from dfer.models import available, build

ORDER = [3, 0, 2, 1]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return eq.shaken(build("gca", num_classes=5, num_segments=4, width=0.25))


@pytest.fixture(scope="module")
def clips() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    colours = torch.rand(2, 4, 3, 1, 1, generator=generator, dtype=torch.float64)
    return colours * torch.rand(2, 4, 3, 112, 112, generator=generator, dtype=torch.float64)


def test_its_size_is_the_published_one_without_what_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "NETWORKS", {"gca": catalogue.NETWORKS["gca"]})
    facts = available()["gca"]
    # Their code computes each transformer layer twice, which makes 11.9.
    assert (facts["parameters"], facts["gflops"], facts["input"]) == (18_936_775, 11.2, "16 frames of 112 px")


def gca_block(x: Tensor, state: eq.State) -> tuple[Tensor, Tensor]:
    """Two clips of four frames -> maps, mean global convolution."""
    u = eq.relu(eq.batch_norm(eq.convolution(x, state["conv1.weight"], 2), eq.below(state, "bn1")))
    u = eq.batch_norm(eq.convolution(u, state["conv2.weight"]), eq.below(state, "bn2"))
    g = torch.einsum("nchw,chw->nc", u, state["global_convolution.weight"][:, 0])
    hidden = eq.relu(torch.einsum("nc,rc->nr", g, state["squeeze.weight"][:, :, 0, 0]))
    w = 2 / (1 + (-torch.einsum("nr,cr->nc", hidden, state["expand.weight"][:, :, 0, 0])).exp())
    w = w.reshape(2, 4, -1)
    context = (w[:, 0] + w[:, 1] + w[:, 2] + w[:, 3]) / 4
    w = (w * context[:, None] + 1e-5).sqrt().reshape(8, -1)
    return eq.relu(u * w[:, :, None, None] + eq.shortcut(x, state)), g.reshape(2, 4, -1).sum(dim=1) / 4


@torch.no_grad()
def test_it_computes_the_published_equations(model: nn.Module, clips: Tensor) -> None:
    state = model.state_dict()
    x = clips.reshape(8, 3, 112, 112)
    for convolution, norm, stride in (("stem.0", "stem.1", 2), ("stem.3", "stem.4", 1)):
        x = eq.relu(eq.batch_norm(eq.convolution(x, state[f"{convolution}.weight"], stride), eq.below(state, norm)))
    x = eq.basic_block(eq.max_pool(x), eq.below(state, "layer1"))
    x, seen2 = gca_block(x, eq.below(state, "layer2"))
    x, seen3 = gca_block(x, eq.below(state, "layer3"))
    f = x.reshape(2, 4, *x.shape[1:])
    summed = []
    for time in range(3):
        moving = eq.stage(f[:, time + 1] - f[:, time], eq.below(state, "layer4"), 3)
        staying = eq.convolution(f[:, time], state["places.0.weight"], 2)
        staying = eq.relu(eq.batch_norm(staying, eq.below(state, "places.1")))
        places = torch.stack([staying[:, :, row, column] for row in range(4) for column in range(4)], dim=1)
        places = eq.transformer(places + state["static_positions"], eq.below(state, "static"), 2, heads=4)
        summed.append(places.transpose(1, 2).reshape(2, -1) + moving.reshape(2, -1))
    tokens = torch.stack(summed, dim=1) + state["temporal_positions"][:, :3]
    tokens = eq.transformer(tokens, eq.below(state, "temporal"), 2, heads=4)
    logits = eq.classifier(tokens.sum(dim=1) / 3, state)
    torch.testing.assert_close(model(clips), logits, rtol=0, atol=1e-9)

    for module in model.modules():  # in training mode, but with the statistics of evaluation
        module.training = not isinstance(module, nn.BatchNorm2d | nn.Dropout)
    trained, auxiliary = model(clips)
    model.eval()
    assert torch.equal(trained, model(clips))
    for name, seen, found in zip(("auxiliary2", "auxiliary3"), (seen2, seen3), auxiliary, strict=True):
        expected = torch.einsum("bc,dc,kd->bk", seen, state[f"{name}.0.weight"], state[f"{name}.1.weight"])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@torch.no_grad()
def test_the_order_of_frames_is_seen_by_the_logits_and_not_by_the_auxiliary_ones(
    model: nn.Module, clips: Tensor
) -> None:
    assert (model(clips[:, ORDER]) - model(clips)).abs().amin() > 1e-4
    torch.testing.assert_close(model(clips[1:]), model(clips)[1:])
    stateful = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    (_, before), (_, after) = model(clips), model(clips[:, ORDER])
    model.eval()
    model.load_state_dict(stateful)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_a_frame_s_weights_know_the_whole_clip(model: nn.Module, clips: Tensor) -> None:
    changed = clips.clone()
    changed[0, 3] = 0
    maps, _ = model.layer2(model.layer1(model.stem(clips.flatten(0, 1))), 4)
    others, _ = model.layer2(model.layer1(model.stem(changed.flatten(0, 1))), 4)
    moved = (maps - others).abs().amax(dim=(1, 2, 3))
    assert (moved[:4] > 1e-6).all()
    assert (moved[4:] == 0).all()


def test_gradients_reach_every_parameter_but_the_auxiliary_weight_of_zero_and_the_last_position() -> None:
    torch.manual_seed(0)
    model = build("gca", num_classes=3, num_segments=3, width=0.125, dropout=0.0)
    labels = torch.tensor([0, 2])
    logits, auxiliary = model(torch.rand(2, 3, 3, 112, 112))
    assert (logits.dtype, [one.shape for one in auxiliary]) == (torch.float32, [(2, 3), (2, 3)])
    losses = [nn.functional.cross_entropy(one, labels) for one in (logits, *auxiliary)]
    (
        losses[0] + sum(weight * loss for weight, loss in zip(model.auxiliary_weights, losses[1:], strict=True))
    ).backward()
    dead = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert dead == ["auxiliary3.0.weight", "auxiliary3.1.weight"]
    by_place = model.temporal_positions.grad.abs().sum(dim=(0, 2))
    assert (by_place[:-1] > 0).all()
    assert by_place[-1] == 0


def test_what_it_cannot_take_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"needs two or more, found 1: set sampling\.num_segments to 2 or more, or"):
        build("gca", num_classes=7, num_segments=1, width=0.125)
    with torch.device("meta"):
        model = build("gca", num_classes=7, num_segments=2, width=0.125)
        with pytest.raises(ValueError, match=r"112 x 112 pixels, found 96 x 96: set model\.input_size to 112, or"):
            model(torch.empty(2, 2, 3, 96, 96))
        with pytest.raises(ValueError, match=r"expected clips \[B, 2, 3, H, W\]"):
            model(torch.empty(2, 4, 3, 112, 112))
