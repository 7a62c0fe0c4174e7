"""Clips as folders of JPEG files, read with PIL and transformed frame by frame in float."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from dfer.config.catalogue import IMAGENET_MEAN, IMAGENET_STD


class JpegFolders(Dataset[tuple[Tensor, int]]):
    """Clips as folders of JPEG files; `[i]` is (float32[T, 3, S, S], normalised, i), each frame transformed separately.

    One random frame of each of `num_segments` equal segments.
    """

    def __init__(self, folders: Sequence[Path], *, num_segments: int, size: int) -> None:
        self._clips = [sorted(folder.glob("*.jpg")) for folder in folders]
        self._num_segments = num_segments
        self._generator = np.random.default_rng()
        self._transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(size, scale=(0.8, 1.0)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        files = self._clips[index]
        edges = np.linspace(0, len(files), self._num_segments + 1).astype(int)
        drawn = [self._generator.integers(low, max(low + 1, high)) for low, high in pairwise(edges)]
        chosen = [files[min(index, len(files) - 1)] for index in drawn]
        return torch.stack([self._transform(Image.open(file).convert("RGB")) for file in chosen]), index


def folder_loader(
    folders: Sequence[Path], *, num_segments: int, size: int, batch_size: int, workers: int
) -> DataLoader:
    """Batches of (float32[B, T, 3, S, S], indices)."""
    return DataLoader(
        JpegFolders(folders, num_segments=num_segments, size=size),
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
