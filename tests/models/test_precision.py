"""Networks under autocast: what is small stays in float32."""

from __future__ import annotations

import pytest
import torch
from small_networks import some_clips
from torch import Tensor, nn

from dfer.config.catalogue import NETWORKS
from dfer.models import build


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_their_classifier_are_in_float32(name: str) -> None:
    model = build(name, num_classes=7, num_segments=4, width=0.125).eval()
    seen: dict[str, torch.dtype] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[type(module).__name__] = inputs[0].dtype  # the classifier comes last

    for module in model.modules():
        if isinstance(module, nn.Linear | nn.GRU | nn.LSTM):
            module.register_forward_pre_hook(note)
    convolutions: list[torch.dtype] = []
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))
    first.register_forward_hook(lambda _, __, output: convolutions.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(some_clips(name, 2, 4))
    assert convolutions == [torch.bfloat16]
    assert set(seen.values()) == {torch.float32}
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_in_double_precision_stays_there(name: str) -> None:
    model = build(name, num_classes=7, num_segments=4, width=0.125).double().eval()
    assert model(some_clips(name, 2, 4).double()).dtype == torch.float64
