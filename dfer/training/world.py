"""The processes that do one training together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """All processes of a training, as one of them sees it; several are torch.distributed's default process group."""

    rank: int = 0  # its number, from 0; rank 0 writes the files and reports
    size: int = 1  # how many processes there are

    def sharing(self, count: int) -> int:
        """How many processes get clips of a batch of `count`: the first ones, as many as can have two or more each."""
        return max(1, min(self.size, count // 2))

    def share(self, batch: Sequence[T]) -> list[T]:
        """This process's part of a batch. The parts are disjoint, and together they are the batch."""
        sharing = self.sharing(len(batch))
        return list(batch[self.rank :: sharing]) if self.rank < sharing else []

    def parts(self, count: int, asked: int) -> int:
        """Into how many micro-batches every share of a batch of `count` is cut: as many as asked for, fewer if one of
        them would have less than two clips. All processes cut alike, since BatchNorm sums each part over them."""
        smallest = count // self.sharing(count)
        return max(1, min(asked, smallest // 2))

    def agrees(self, text: str, device: torch.device) -> bool:
        """Whether all processes call this with the same text; each waits for all."""
        if self.size == 1:
            return True
        number = int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)
        least, most = torch.tensor(number, device=device), torch.tensor(number, device=device)
        dist.all_reduce(least, dist.ReduceOp.MIN)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        return int(least) == int(most)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place; each waits for all."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor


ALONE = World()
