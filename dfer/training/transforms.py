"""From stored frames to what the network sees: crop, flip, resize, normalise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from dfer.config.settings import AugmentSettings

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's RGB values in [0, 1], with which torchvision's weights were trained."""


def full_view(frames: Tensor, size: int) -> Tensor:
    """The whole frames uint8[T, 3, H, W], resized with antialiasing to uint8[T, 3, size, size]: for evaluation."""
    return functional.resize(frames, [size, size], antialias=True)


def random_view(frames: Tensor, size: int, augment: AugmentSettings, crop_params: Sequence[float]) -> Tensor:
    """One random square crop and flip for all frames uint8[T, 3, H, W] of a clip ("random scaling", section 4.3).

    The side of the crop is uniform in [min_scale, 1] times the shorter side of the frame, its position uniform.
    `crop_params` are four numbers, uniform in [0, 1): scale, position down and to the right, flip. Returns uint8[T, 3,
    size, size].
    """
    scale, down, right, flip = crop_params
    height, width = frames.shape[-2:]
    side = max(1, round(min(height, width) * (augment.min_scale + scale * (1 - augment.min_scale))))
    top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
    view = functional.resized_crop(frames, top, left, side, side, [size, size], antialias=True)
    return functional.horizontal_flip(view) if flip < augment.horizontal_flip else view


def random_views(clips: Tensor, size: int, augment: AugmentSettings, crop_params: Tensor) -> Tensor:
    """`random_view` of each of the clips uint8[B, T, 3, H, W], computed on their device.

    `crop_params` is float64[B, 4] in [0, 1), on the CPU. Returns uint8[B, T, 3, size, size], contiguous, because
    convolutions round differently in another layout.
    """
    views = torch.empty((*clips.shape[:3], size, size), dtype=torch.uint8, device=clips.device)
    for view, clip, values in zip(views, clips, crop_params.tolist(), strict=True):
        view.copy_(random_view(clip, size, augment, values))
    return views


def to_float(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Frames uint8[..., 3, H, W] in 0..255 -> float32, (x / 255 - mean) / std per channel."""
    return normalize_(frames.to(torch.float32), mean, std)


def normalize_(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """`to_float` of frames that are float32[..., 3, H, W] in 0..255, in place; returns them."""
    scale = torch.tensor([1 / (255 * value) for value in std]).view(-1, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(-1, 1, 1)
    # A blocking copy would wait for everything that the GPU has still to do.
    scale, shift = (tensor.to(frames.device, non_blocking=True) for tensor in (scale, shift))
    return frames.mul_(scale).add_(shift)
