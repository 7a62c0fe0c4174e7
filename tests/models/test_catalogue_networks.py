"""What every network of the catalogue can do, at its smallest: see, learn, be written and read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_networks import WIDTH, all_logits, settled, some_clips
from torch import Tensor, nn
from torch.nn import functional

from dfer.config.catalogue import NETWORKS
from dfer.models import build
from dfer.models.saved import load_model, save_model

SMALL = {"num_segments": 4, "width": WIDTH, "dropout": 0.0}


@pytest.fixture(scope="module", params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build(name, num_classes=3, **SMALL)


def test_logits_are_the_same_again_in_a_batch_alone_and_from_a_file(
    name: str, model: nn.Module, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    clips = some_clips(name, 3, 4)
    settled(model, clips)
    card = {"model": name, "classes": ["one", "two", "three"], "input_size": clips.shape[-1], "normalization": {}}
    save_model(tmp_path, model.state_dict(), {**card, **SMALL})
    loaded, _ = load_model(tmp_path)
    with torch.no_grad():
        logits = model(clips)
        assert logits.shape == (3, 3)
        assert logits.dtype == torch.float32
        assert torch.equal(model(clips), logits)
        assert torch.equal(loaded(clips), logits)
        torch.testing.assert_close(model(clips[1:2]), logits[1:2], rtol=1e-4, atol=1e-5)


def test_a_few_steps_tell_bright_clips_from_dark_ones(name: str, model: nn.Module) -> None:
    torch.manual_seed(2)
    labels = torch.tensor([0, 1, 0, 1])
    clips = 0.3 * some_clips(name, 4, 4) + (2.0 * labels - 1)[:, None, None, None, None]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    weights = [1.0, *getattr(model, "auxiliary_weights", ())]

    def loss() -> Tensor:
        each = [functional.cross_entropy(logits[:, :2], labels) for logits in all_logits(model(clips))]
        assert len(each) == len(weights)
        return sum((weight * one for weight, one in zip(weights, each, strict=True)), torch.zeros(()))

    model.train()
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        losses.append(loss())
        losses[-1].backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
        optimizer.step()
    assert losses[-1] < 0.95 * losses[0]
