"""A network for tests: small and smooth, so that a difference in rounding stays one."""

from __future__ import annotations

import os
import signal

import torch
from torch import Tensor, nn


class Smooth(nn.Module):
    """float[B, T, 3, S, S] -> logits float[B, K]: two convolutions with BatchNorm and tanh, and means."""

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=4),
            nn.BatchNorm2d(8),
            nn.Tanh(),
            nn.Conv2d(8, 12, 3, stride=2),
            nn.BatchNorm2d(12),
            nn.Tanh(),
        )
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(12, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        features = self.layers(clips.flatten(0, 1)).mean(dim=(2, 3))
        logits: Tensor = self.fc(self.dropout(features)).unflatten(0, clips.shape[:2])
        return logits.mean(dim=1)


class WithoutNorm(Smooth):
    """The same without BatchNorm: parts of a batch are computed like the whole."""

    def __init__(self, *arguments: float) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.layers = nn.Sequential(*(layer for layer in self.layers if not isinstance(layer, nn.BatchNorm2d)))


class Cramped(Smooth):
    """The same on a device that has room for training on three clips at a time."""

    def forward(self, clips: Tensor) -> Tensor:
        if self.training and len(clips) > 3:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(clips)} GiB")
        return super().forward(clips)


class Mortal(Smooth):
    """The same in a process that is killed in its first step, unless it is the one of rank 0."""

    def forward(self, clips: Tensor) -> Tensor:
        if self.training and torch.distributed.get_rank() > 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(clips)
