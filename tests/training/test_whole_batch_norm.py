"""What a process without clips sends to the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules._functions import SyncBatchNorm
from torch.testing._internal.distributed.fake_pg import FakeStore

from dfer.training.whole_batch_norm import WholeBatchNorm, with_whole_batch_norm


@pytest.fixture
def four_processes() -> Iterator[None]:
    """This one of four; nothing is sent."""
    dist.init_process_group("fake", store=FakeStore(), rank=3, world_size=4)
    yield
    dist.destroy_process_group()


def sent_by_an_empty_share(precision: torch.dtype, hooked: bool, monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """What torch's SyncBatchNorm sends forward and backward. Its arithmetic runs here on the CPU: for an empty share it
    is none, and only the module around it insists on a GPU."""
    sent: list[torch.dtype] = []

    def gathered(output: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> None:
        sent.append(values.dtype)
        output.zero_()

    monkeypatch.setattr(dist, "all_gather_single", gathered, raising=False)
    monkeypatch.setattr(dist, "all_gather_into_tensor", gathered)
    monkeypatch.setattr(dist, "all_reduce", lambda values, *_, **__: sent.append(values.dtype))
    # the statistics of all, which the others' shares would give
    monkeypatch.setattr(
        torch, "batch_norm_gather_stats_with_counts", lambda input, *_: (input.new_zeros(4), input.new_ones(4))
    )
    norm = with_whole_batch_norm(nn.BatchNorm2d(4), torch.device("cuda"))
    assert isinstance(norm, nn.SyncBatchNorm)
    share = torch.empty(0, 4, 6, 6, dtype=precision, requires_grad=True)
    (seen,) = next(iter(norm._forward_pre_hooks.values()))(norm, (share,)) or (share,) if hooked else (share,)
    statistics = norm.running_mean, norm.running_var, norm.eps, norm.momentum
    output = SyncBatchNorm.apply(seen, norm.weight, norm.bias, *statistics, dist.group.WORLD, 4)
    output.sum().backward()
    return sent


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16, torch.float32])
def test_an_empty_share_on_a_gpu_sends_float32_forward_and_backward(
    precision: torch.dtype, four_processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As processes with clips do: torch.batch_norm_stats is float32 in every precision."""
    assert sent_by_an_empty_share(precision, True, monkeypatch) == [torch.float32] * 2


def test_without_the_hook_it_would_not(four_processes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """When this fails, torch has mended it, and the hook can go."""
    assert sent_by_an_empty_share(torch.bfloat16, False, monkeypatch) == [torch.bfloat16] * 2


def test_a_share_with_clips_is_left_as_it_is() -> None:
    norm = with_whole_batch_norm(nn.Sequential(nn.BatchNorm2d(4)), torch.device("cuda"))[0]
    (hook,) = norm._forward_pre_hooks.values()
    assert hook(norm, (torch.empty(2, 4, 3, 3, dtype=torch.bfloat16),)) is None


def test_sums_in_bfloat16_are_of_float32() -> None:
    """One process: the same as torch's BatchNorm in float32, of the same rounded input, up to the output's rounding."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=1)
    try:
        generator = torch.Generator().manual_seed(0)
        values = (torch.randn(16, 3, 56, 56, generator=generator) * 0.1 + 4).to(torch.bfloat16)
        own, plain = WholeBatchNorm(nn.BatchNorm2d(3)), nn.BatchNorm2d(3)
        output = own(values)
        expected = plain(values.float())
        assert output.dtype == torch.bfloat16
        torch.testing.assert_close(output.float(), expected, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(own.running_var, plain.running_var, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(own.running_mean, plain.running_mean)
    finally:
        dist.destroy_process_group()
