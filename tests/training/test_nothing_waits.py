"""What a step computes stays on its device: seen without a GPU, by tensors of torch's device "meta".

Nothing can be read back from it, which is an error, and a copy to it is an operation of tensors on two devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from small_networks import ONE_SIZE, WIDTH, all_logits
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dfer.config.catalogue import NETWORKS
from dfer.config.settings import ArmSettings
from dfer.losses import LOSSES, loss_of
from dfer.models import build
from dfer.training.transforms import to_float

CPU, META = torch.device("cpu"), torch.device("meta")


class BetweenDevices(TorchDispatchMode):
    """Lists the operations that have tensors on two devices. A single number on the CPU is no tensor to a kernel: it is
    an argument like any number, unless it is copied."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        copies = function in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        devices = {tensor.device for tensor in tensors if copies or tensor.dim() or tensor.device != CPU}
        if len(devices) > 1:
            self.operations.append(str(function))
        return result


@pytest.mark.parametrize("name", NETWORKS)
def test_recordable_networks_are_those_that_copy_nothing(name: str) -> None:
    network, size = NETWORKS[name], ONE_SIZE.get(name, 32)
    frames = 16 if network.fewest > 8 else 8
    model = build(name, num_classes=7, num_segments=frames, width=WIDTH, dropout=0.2).to(META).train()
    clips = torch.zeros((2, frames, 3, size, size), dtype=torch.uint8, device=META)
    to_float(clips, network.mean, network.std)  # keeps mean and deviation on the device
    with BetweenDevices() as seen:
        logits = all_logits(model(to_float(clips, network.mean, network.std)))
        torch.cat(logits).sum().backward()
    assert network.recordable == (not seen.operations), seen.operations[:3]


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_looks_at_a_number_or_copies_one(name: str) -> None:
    loss = loss_of(ArmSettings(labels="soft", loss=name), torch.full((7,), 10.0, device=META))
    logits = torch.zeros((8, 7), device=META, requires_grad=True)
    with BetweenDevices() as seen:
        loss(logits, torch.zeros((8, 7), device=META)).backward()
    assert not seen.operations


def test_a_look_at_the_device_or_a_copy_to_it_would_be_seen() -> None:
    values = torch.zeros((8, 7), device=META)
    with pytest.raises(RuntimeError, match="meta"):
        float(values.sum())
    with pytest.raises(RuntimeError, match="meta"):
        values.cpu()
    with BetweenDevices() as seen:
        values[torch.arange(3)]
        torch.ones(()).to(META)
    assert seen.operations == ["aten.index.Tensor", "aten._to_copy.default"]
