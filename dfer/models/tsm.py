"""ResNet-18 with temporal shift modules (TSM, Lin et al. 2019), the network of section 4.3."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.models.resnet import BasicBlock

from dfer.models.resnet import ResNet18


def temporal_shift(x: Tensor, num_segments: int, fold_div: int = 8) -> Tensor:
    """Shift 1/fold_div of the channels one frame back in time and as many one frame forth; the others stay.

    With f = C // fold_div, channels 0..f-1 of frame t come from frame t+1, channels f..2f-1 from frame t-1, zeros where
    there is no such frame. `x` is float[B*T, C, H, W], the T frames of a clip after one another; the result is a new
    tensor in the same memory format.
    Raises ValueError if the number of frames is no multiple of `num_segments`, or `fold_div` is below 2.
    """
    if x.ndim != 4 or num_segments < 1 or x.shape[0] % num_segments:
        raise ValueError(f"expected [B*{num_segments}, C, H, W], found {list(x.shape)}")
    if fold_div < 2:
        raise ValueError(f"fold_div {fold_div}: expected 2 or more, since two folds are shifted")
    shifted: Tensor = _TemporalShift.apply(x, num_segments, x.shape[1] // fold_div)
    return shifted


class _TemporalShift(torch.autograd.Function):
    """Written by hand because autograd's version of the slice assignments copies the activations four times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, num_segments: int, fold: int) -> Tensor:
        ctx.num_segments, ctx.fold = num_segments, fold
        return _shifted(x, num_segments, backward=slice(0, fold), forward=slice(fold, 2 * fold))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        fold = ctx.fold
        grad = _shifted(grads[0], ctx.num_segments, backward=slice(fold, 2 * fold), forward=slice(0, fold))
        return grad, None, None


def _shifted(x: Tensor, num_segments: int, *, backward: slice, forward: slice) -> Tensor:
    out = torch.empty_like(x)
    clips, shifted = (tensor.unflatten(0, (-1, num_segments)) for tensor in (x, out))
    shifted[:, :-1, backward] = clips[:, 1:, backward]
    shifted[:, -1, backward] = 0
    shifted[:, 1:, forward] = clips[:, :-1, forward]
    shifted[:, 0, forward] = 0
    rest = slice(max(backward.stop, forward.stop), None)
    shifted[:, :, rest] = clips[:, :, rest]
    return out


class ShiftedBlock(BasicBlock):
    """torchvision's block with a temporal shift in front of its first convolution.

    The shift is inside the residual branch: the identity keeps every frame's own features ("residual shift").
    """

    num_segments = 1

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        # One segment has no neighbour in time, and zeros instead of a quarter of its channels would be of no use.
        out = temporal_shift(x, self.num_segments) if self.num_segments > 1 else x
        out = self.relu(self.bn1(self.conv1(out)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + identity)


class ResNet18TSM(ResNet18):
    """float[B, T, C, H, W] with C = 3 -> logits float[B, K]: `ResNet18` with shifts between the frames of a clip."""

    block = ShiftedBlock
    frame_by_frame = False  # but for one segment, which gains nothing

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        super().__init__(num_classes, num_segments, width, dropout)
        for module in self.modules():
            if isinstance(module, ShiftedBlock):
                module.num_segments = num_segments
