"""Batch normalisation by the statistics of the whole batch where several processes have a share of it each."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm


def with_whole_batch_norm(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with every BatchNorm replaced by one that sees all processes' shares; parameters keep their names.

    On a GPU it is torch's SyncBatchNorm, which takes no CPU tensors; on the CPU `WholeBatchNorm`.
    """
    if device.type == "cuda":
        synced: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        for module in synced.modules():
            if isinstance(module, nn.SyncBatchNorm):
                module.register_forward_pre_hook(empty_share_in_float32)
        return synced
    if isinstance(network, _BatchNorm):
        return WholeBatchNorm(network)
    for name, child in network.named_children():
        setattr(network, name, with_whole_batch_norm(child, device))
    return network


def empty_share_in_float32(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    """A hook for torch's SyncBatchNorm: an empty share of a batch comes to it in float32.

    A process with clips sends its sums in float32, whatever the precision of its input, but one without sends zeros in
    that of the input. In half precision the bytes of the two would not fit, and all would wait for ever.
    """
    return (inputs[0].float(), *inputs[1:]) if inputs[0].numel() == 0 else None


class WholeBatchNorm(_BatchNorm):
    """BatchNorm of any dimension over the shares of all processes of the default group; a share may be empty."""

    def __init__(self, layer: _BatchNorm) -> None:
        """Takes the place of `layer`, with its parameters and running statistics."""
        super().__init__(
            layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats, device="meta"
        )
        self.weight, self.bias = layer.weight, layer.bias
        self.running_mean, self.running_var = layer.running_mean, layer.running_var
        self.num_batches_tracked = layer.num_batches_tracked
        self.training = layer.training

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected channels in the second dimension, found a tensor of shape {list(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """float[B, C, ...] -> the same shape and dtype; every process of the group must call it too.

        Sums are in the precision of the statistics, in half precision too: 401,408 pixels are no number in bfloat16.
        """
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        normalized = self._normalized(input.to(self._precision))
        return normalized.to(input.dtype)

    @property
    def _precision(self) -> torch.dtype:
        return torch.float32 if self.running_mean is None else self.running_mean.dtype

    def _normalized(self, input: Tensor) -> Tensor:
        others = [dimension for dimension in range(input.dim()) if dimension != 1]
        along = [1, -1, *[1] * (input.dim() - 2)]
        number = input.new_tensor([input.numel() / input.shape[1]])
        dist.all_reduce(number)
        # In two passes: squares of numbers far from 0 would lose the variance in their last digits.
        mean = _sum(input.sum(others)) / number
        variance = _sum((input - mean.view(along)).square().sum(others)) / number
        if self.track_running_stats:
            self._keep(mean.detach(), variance.detach() * number / (number - 1))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
            return input * scale.view(along) + (self.bias - mean * scale).view(along)
        return (input - mean.view(along)) * scale.view(along)

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor) -> None:
        assert self.num_batches_tracked is not None and self.running_mean is not None and self.running_var is not None
        self.num_batches_tracked.add_(1)
        weight = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient in each of them is the sum of the gradients in all."""

    @staticmethod
    def forward(_: FunctionCtx, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)
    return total
