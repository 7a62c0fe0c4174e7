from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.video.mvit import MViT

from dfer.config import catalogue
from dfer.models import available, build
from dfer.models.video_transformers import _mvit_blocks

THEIRS = {"mvit_v2_s": torchvision.models.video.mvit_v2_s, "swin3d_t": torchvision.models.video.swin3d_t}
DEAD = {
    "mvit_v2_s": {f"blocks.15.attn.{name}" for name in ("rel_pos_h", "rel_pos_w", "rel_pos_t", "pool_q.pool.weight")},
    "swin3d_t": set(),
}
"""Parameters that no logit depends on: the last block of mvit_v2_s is read at its class token alone."""


@pytest.fixture(params=THEIRS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def clips_of(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_names_and_shapes_are_torchvision_s(name: str) -> None:
    with torch.device("meta"):
        own, theirs = build(name, num_classes=400).state_dict(), THEIRS[name]().state_dict()
    assert {key: value.shape for key, value in own.items()} == {key: value.shape for key, value in theirs.items()}


def test_sizes_costs_and_pixels_are_those_of_torchvision_s_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = catalogue.NETWORKS[name]
    weights = torchvision.models.get_weight(network.pretrained["kinetics400"])
    pixels = weights.transforms.keywords
    assert (network.mean, network.std) == (tuple(pixels["mean"]), tuple(pixels["std"]))
    assert pixels["crop_size"] == (network.input_size, network.input_size)
    monkeypatch.setattr(catalogue, "NETWORKS", {name: network})
    facts = available()[name]
    assert facts["parameters"] == weights.meta["num_params"] - 769 * (400 - 7)
    assert facts["input"] == "16 frames of 224 px"
    assert facts["gflops"] == pytest.approx(2 * weights.meta["_ops"], rel=0.02)


def test_torchvision_s_file_is_loaded_whole_but_for_the_classifier(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    theirs = THEIRS[name]().state_dict()
    url = torchvision.models.get_weight(catalogue.NETWORKS[name].pretrained["kinetics400"]).url
    path = tmp_path / "hub" / "checkpoints" / Path(url).name
    path.parent.mkdir(parents=True)
    torch.save(theirs, path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with caplog.at_level("INFO"):
        own = build(name, num_classes=7, num_segments=8, pretrained="kinetics400").state_dict()
    assert "weight is [400, 768], here [7, 768]: left out" in caplog.text
    assert all(torch.equal(own[key], value) for key, value in theirs.items() if not key.startswith("head."))


@torch.no_grad()
def test_swin_gives_torchvision_s_logits() -> None:
    torch.manual_seed(0)
    model = build("swin3d_t", num_classes=5, num_segments=6, width=0.125).eval()
    theirs = torchvision.models.video.SwinTransformer3d(
        [2, 4, 4], 12, [2, 2, 6, 2], [3, 6, 12, 24], [8, 7, 7], num_classes=5
    ).eval()
    theirs.load_state_dict(model.state_dict())
    clips = clips_of(2, 6, 3, 72, 40)
    torch.testing.assert_close(model(clips), theirs(clips.transpose(1, 2)))


@torch.no_grad()
@pytest.mark.parametrize(("frames", "side"), [(16, 224), (6, 64)])
def test_mvit_gives_torchvision_s_logits_with_positions_resized_to_other_sizes(frames: int, side: int) -> None:
    torch.manual_seed(0)
    model = build("mvit_v2_s", num_classes=5, num_segments=frames, width=0.1).eval()
    theirs = MViT((side, side), frames, _mvit_blocks(10), True, False, True, True, num_classes=5).eval()
    expected = theirs.state_dict()
    state = model.state_dict()
    for key, value in state.items():
        if "rel_pos" in key:
            state[key] = functional.interpolate(value.T[None], len(expected[key]), mode="linear")[0].T
            assert (len(value) != len(expected[key])) == (side != 224)
    theirs.load_state_dict(state)
    clips = clips_of(1, frames, 3, side, side)
    torch.testing.assert_close(model(clips), theirs(clips.transpose(1, 2)))


@torch.no_grad()
def test_frames_of_other_sizes_and_shapes_are_taken(name: str) -> None:
    for frames, height, width in ((1, 32, 32), (3, 40, 56), (5, 36, 100)):
        model = build(name, num_classes=3, num_segments=frames, width=0.125).eval()
        logits = model(clips_of(2, frames, 3, height, width))
        assert logits.shape == (2, 3)
        assert logits.isfinite().all()


@torch.no_grad()
def test_order_matters_and_clips_are_alone(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, num_classes=5, num_segments=8, width=0.125).eval()
    clips = clips_of(2, 8, 3, 64, 64)
    logits = model(clips)
    assert (model(clips.flip(1)) - logits).abs().amax(dim=1).min() > 1e-3
    torch.testing.assert_close(model(clips[1:]), logits[1:], atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"expected clips \[B, 8, 3, H, W\]"):
        model(clips[:, :4])


def test_gradients_reach_all_that_logits_depend_on(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, num_classes=3, num_segments=8, width=0.125, dropout=0.0).eval()  # drops no path
    functional.cross_entropy(model(clips_of(2, 8, 3, 64, 64)), torch.tensor([0, 2])).backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in model.parameters())
    assert {key for key, value in model.named_parameters() if not value.grad.abs().sum() > 0} == DEAD[name]


def test_width_narrows_dimensions_and_keeps_heads(name: str) -> None:
    with torch.device("meta"):
        full, half = (build(name, num_classes=7, width=width) for width in (1.0, 0.5))
    heads = [
        [module.num_heads for module in model.modules() if isinstance(getattr(module, "num_heads", None), int)]
        for model in (full, half)
    ]
    assert heads[0] == heads[1] != []
    linear = [[module for module in model.modules() if isinstance(module, nn.Linear)] for model in (full, half)]
    for wide, thin in zip(*linear, strict=True):
        assert wide.in_features == 2 * thin.in_features
