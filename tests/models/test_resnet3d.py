from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from dfer.config.catalogue import NETWORKS
from dfer.models import build


def test_size_and_cost_are_those_of_the_published_network() -> None:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = build("resnet18_3d", num_classes=7).eval()
        model(torch.empty(1, 16, 3, 112, 112))
    assert sum(parameter.numel() for parameter in model.parameters()) == 33_207_495
    assert counter.get_total_flops() / 1e9 == pytest.approx(16.6, abs=0.05)
    assert NETWORKS["resnet18_3d"].recipe["model"]["pretrained"] is None


def test_names_are_those_of_the_authors_files() -> None:
    with torch.device("meta"):
        names = {name.removesuffix(".weight") for name, _ in build("resnet18_3d", num_classes=7).named_parameters()}
    names = {name for name in names if not name.endswith("bias")}
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    expected = {"conv1", "bn1", "fc"} | {
        f"{block}.{layer}{i}" for block in blocks for layer in ("conv", "bn") for i in (1, 2)
    }
    assert names == expected | {f"layer{stage}.0.downsample.{i}" for stage in (2, 3, 4) for i in (0, 1)}


def test_logits_are_those_of_the_equations() -> None:
    torch.manual_seed(0)
    model = build("resnet18_3d", num_classes=5, num_segments=9, width=0.125).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    state = model.state_dict()

    def normalized(x: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (
            state[f"{name}.{part}"][:, None, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def convolved(x: Tensor, name: str, stride: int | tuple[int, ...], padding: int) -> Tensor:
        return functional.conv3d(x, state[f"{name}.weight"], stride=stride, padding=padding)

    clips = torch.randn(2, 9, 3, 40, 36, dtype=torch.float64)
    x = normalized(convolved(clips.transpose(1, 2), "conv1", (1, 2, 2), 3), "bn1").clamp(min=0)
    x = functional.pad(x, (1, 1, 1, 1, 1, 1)).unfold(2, 3, 2).unfold(3, 3, 2).unfold(4, 3, 2).amax(dim=(-3, -2, -1))
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            out = normalized(convolved(x, f"{name}.conv1", stride, 1), f"{name}.bn1").clamp(min=0)
            out = normalized(convolved(out, f"{name}.conv2", 1, 1), f"{name}.bn2")
            if stride == 2:
                x = normalized(
                    torch.einsum(
                        "oi,nithw->nothw", state[f"{name}.downsample.0.weight"][:, :, 0, 0, 0], x[:, :, ::2, ::2, ::2]
                    ),
                    f"{name}.downsample.1",
                )
            x = (x + out).clamp(min=0)
    logits = torch.einsum("kc,nc->nk", state["fc.weight"], x.mean(dim=(2, 3, 4))) + state["fc.bias"]
    with torch.no_grad():
        torch.testing.assert_close(model(clips), logits, atol=1e-9, rtol=1e-9)


def test_order_matters_and_gradients_reach_everything() -> None:
    torch.manual_seed(0)
    model = build("resnet18_3d", num_classes=7, num_segments=8, width=0.125, dropout=0.0)
    clips = torch.randn(4, 8, 3, 32, 32)
    nn.functional.cross_entropy(model(clips), torch.tensor([0, 1, 2, 3])).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    model.eval()
    with torch.no_grad():
        assert not torch.allclose(model(clips.flip(1)), model(clips), atol=1e-3)
    with pytest.raises(ValueError, match=r"\[B, 8, 3, H, W\], found \[4, 7, 3, 32, 32\]"):
        model(clips[:, :7])


def test_width_narrows_every_layer() -> None:
    with torch.device("meta"):
        full, narrow = (build("resnet18_3d", num_classes=7, width=width) for width in (1.0, 0.25))
    for (name, wide), (_, thin) in zip(full.named_parameters(), narrow.named_parameters(), strict=True):
        if name != "fc.bias":
            assert wide.shape[0] == (7 if name == "fc.weight" else 4 * thin.shape[0]), name
