"""From stored frames to what the network sees: crop, flip, resize, normalise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from dfer.config.settings import AugmentSettings


def full_view(frames: Tensor, size: int) -> Tensor:
    """The whole frames uint8[T, 3, H, W], resized with antialiasing to uint8[T, 3, size, size]: for evaluation."""
    return functional.resize(frames, [size, size], antialias=True)


class CropBox(NamedTuple):
    """A square part of a frame, in pixels, and whether it is mirrored."""

    top: int
    left: int
    side: int
    flipped: bool


def random_box(height: int, width: int, augment: AugmentSettings, crop_params: Sequence[float]) -> CropBox:
    """What a random view of frames of `height` x `width` shows ("random scaling", section 4.3).

    The side of the crop is uniform in [min_scale, 1] times the shorter side of the frame, its position uniform.
    `crop_params` are four numbers, uniform in [0, 1): scale, position down and to the right, flip.
    """
    scale, down, right, flip = crop_params
    side = max(1, round(min(height, width) * (augment.min_scale + scale * (1 - augment.min_scale))))
    top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
    return CropBox(top, left, side, flip < augment.horizontal_flip)


def random_view(frames: Tensor, size: int, augment: AugmentSettings, crop_params: Sequence[float]) -> Tensor:
    """One random square crop and flip for all frames uint8[T, 3, H, W] of a clip, see `random_box`.

    Returns uint8[T, 3, size, size].
    """
    height, width = frames.shape[-2:]
    top, left, side, flipped = random_box(height, width, augment, crop_params)
    view = functional.resized_crop(frames, top, left, side, side, [size, size], antialias=True)
    return functional.horizontal_flip(view) if flipped else view


def random_views(clips: Tensor, size: int, augment: AugmentSettings, crop_params: Tensor) -> Tensor:
    """`random_view` of each of the clips uint8[B, T, 3, H, W], computed on their device.

    `crop_params` is float64[B, 4] in [0, 1), on the CPU. Returns uint8[B, T, 3, size, size], contiguous, because
    convolutions round differently in another layout. A GPU makes all of them at once, and may round to a neighbouring
    value.
    """
    if clips.is_cuda and len(clips):
        height, width = clips.shape[-2:]
        boxes = [random_box(height, width, augment, values) for values in crop_params.tolist()]
        return resized_crops(clips, size, boxes)
    views = torch.empty((*clips.shape[:3], size, size), dtype=torch.uint8, device=clips.device)
    for view, clip, values in zip(views, clips, crop_params.tolist(), strict=True):
        view.copy_(random_view(clip, size, augment, values))
    return views


def resized_crops(clips: Tensor, size: int, boxes: Sequence[CropBox]) -> Tensor:
    """Another part of each of the clips uint8[B, T, 3, H, W], resized with antialiasing to uint8[B, T, 3, size, size].

    Resizing is linear along each axis, so that all clips take two batched matrix products, whatever their boxes are:
    a few kernels where one clip after another takes hundreds.
    """
    height, width = clips.shape[-2:]
    numbers = torch.tensor([[box.top, box.left, box.side, box.flipped] for box in boxes], dtype=torch.float32)
    top, left, side, flipped = numbers.to(clips.device, non_blocking=True).unbind(dim=1)
    down = _triangles(top, side, height, size, torch.zeros_like(flipped))
    across = _triangles(left, side, width, size, flipped)
    # the products want every frame's rows one after another: converted and laid out in one pass
    pixels = clips.to(torch.float32, memory_format=torch.contiguous_format)
    with _whole_products():
        lower = down[:, None, None] @ pixels
        resized = lower.flatten(1, 3) @ across.transpose(1, 2)
    return resized.round_().clamp_(0, 255).to(torch.uint8).view(*clips.shape[:3], size, size)


@contextmanager
def _whole_products() -> Iterator[None]:
    """Products of all bits of float32: in TF32, which a training may use, shares of pixels have ten, and views would be
    darker by a tenth of a grey level."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _triangles(start: Tensor, side: Tensor, length: int, size: int, flipped: Tensor) -> Tensor:
    """The shares float32[B, size, length] that the pixels of a line have in those of its part of `side` from `start`.

    The antialiased bilinear filter of torch and Pillow: a triangle as wide as the step between two results, at least
    one pixel, of which only the part inside counts.
    """
    step = (side / size)[:, None, None]
    places = torch.arange(size, device=start.device, dtype=torch.float32)
    places = torch.where(flipped[:, None] > 0, size - 1 - places, places)[:, :, None]
    pixels = torch.arange(length, device=start.device, dtype=torch.float32) - start[:, None, None]
    shares = 1 - (pixels + 0.5 - (places + 0.5) * step).abs() / step.clamp(min=1)
    inside = (pixels >= 0) & (pixels < side[:, None, None])
    shares = shares.clamp_(min=0) * inside
    return shares / shares.sum(dim=2, keepdim=True)


def to_float(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Frames uint8[..., 3, H, W] in 0..255 -> float32, (x / 255 - mean) / std per channel."""
    return normalize_(frames.to(torch.float32), mean, std)


def normalize_(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """`to_float` of frames that are float32[..., 3, H, W] in 0..255, in place; returns them."""
    scale, shift = _scale_and_shift(tuple(mean), tuple(std), frames.device)
    return frames.mul_(scale).add_(shift)


@cache  # a recorded graph reads them from where they are, so none may be dropped
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Kept on their device: a GPU would be sent them in every step, and a CUDA graph could not."""
    with torch.inference_mode(False):
        scale = torch.tensor([1 / (255 * value) for value in std]).view(-1, 1, 1)
        shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(-1, 1, 1)
        return scale.to(device), shift.to(device)
