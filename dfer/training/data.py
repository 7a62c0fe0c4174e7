"""Clips of a table, read from their shards in the order in which the training wants them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dfer.sampling import segment_indices
from dfer.settings import AugmentSettings
from dfer.shards import Shard, ShardError, open_shard
from dfer.training.randomness import stream
from dfer.training.transforms import full_view, random_view

Key = tuple[int, int | None]
"""A clip's row in its source, and the epoch it is drawn for; None is the evaluation's fixed view."""

CACHE_BYTES = 512 * 2**20


class ClipSource(Dataset[tuple[Tensor, int]]):
    """The clips of a table that have aligned faces.

    `source[row, epoch]` is (frames uint8[T, 3, S, S], row): for an epoch, one random frame of each segment in a random
    view; for None, the segments' centres and the whole frame. What an epoch draws depends on the seed, the epoch and
    the row alone.

    Attributes:
        clips: the usable rows of the table, numbered from 0.
        left_out: how many rows of the table have no aligned face.
    """

    def __init__(
        self,
        clips: pd.DataFrame,
        index: pd.DataFrame,
        root: Path,
        *,
        num_segments: int,
        input_size: int,
        augment: AugmentSettings | None = None,
        seed: int = 0,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """Nothing is opened yet.

        Args:
            clips: rows of the clip table; a clip that is there twice is drawn twice, in different views.
            index: the align index; `shard` is a folder relative to `root`, or absolute.
            root: see `index`.
            num_segments: T.
            input_size: S, pixels.
            augment: the random view; without it, only the evaluation's view can be read.
            seed: of everything that is random here.
            cache_bytes: decoded frames that are kept in memory, so that small sets are decoded once.

        Raises:
            ValueError: a clip is listed twice in the index, or no clip is usable.
        """
        twice = index["clip_id"][index["clip_id"].duplicated()]
        if len(twice):
            raise ValueError(f"the align index lists {len(twice)} clips twice, the first is {twice.iloc[0]}")
        aligned = index.loc[index["status"] == "ok", ["clip_id", "shard", "row"]].set_index("clip_id")
        usable = clips["clip_id"].isin(aligned.index)
        if not usable.any():
            raise ValueError(
                f"none of {len(clips)} clips has aligned faces in an index of {len(index)} clips "
                f"({len(aligned)} of them ok); were the clips aligned under other names?"
            )
        self.clips = clips[usable].reset_index(drop=True)
        self.left_out = int((~usable).sum())
        places = aligned.loc[self.clips["clip_id"]]
        self._places = [(root / shard, int(row)) for shard, row in zip(places["shard"], places["row"], strict=True)]
        self._num_segments, self._input_size = num_segments, input_size
        self._augment, self._seed = augment, seed
        self._cache: dict[int, npt.NDArray[np.uint8]] = {}
        self._cache_room = cache_bytes
        self._shards: dict[Path, Shard] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        row, epoch = key
        if epoch is None:
            return full_view(self._frames(row, None), self._input_size).contiguous(), row
        if self._augment is None:
            raise ValueError("this source has no augmentation: only its evaluation view can be read")
        generator = stream(self._seed, "clip", epoch, row)
        view = random_view(self._frames(row, generator), self._input_size, self._augment, generator)
        # One layout, whoever collates: convolutions round differently in another one.
        return view.contiguous(), row

    def _frames(self, row: int, generator: np.random.Generator | None) -> Tensor:
        """One frame of each segment, uint8[T, 3, H, W]: random ones with a generator, else the centres."""
        folder, place = self._places[row]
        if folder not in self._shards:
            self._shards[folder] = open_shard(folder)
        shard = self._shards[folder]
        num_frames = len(shard.frame_indices(place))
        positions = segment_indices(num_frames, self._num_segments, train=generator is not None, generator=generator)
        if row in self._cache:
            frames = self._cache[row][positions]
        elif self._cache_room > 0:
            self._cache[row] = self._read(shard, place, row, np.arange(num_frames))
            self._cache_room -= self._cache[row].nbytes
            frames = self._cache[row][positions]
        else:
            frames = self._read(shard, place, row, positions)
        # Channels last in memory, as stored: torchvision resizes uint8 fastest so.
        return torch.from_numpy(frames).permute(0, 3, 1, 2)

    def _read(self, shard: Shard, place: int, row: int, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        clip, wanted = shard.read(place, positions), self.clips["clip_id"].iloc[row]
        if clip.clip_id != wanted:
            raise ShardError(
                f"{shard.path}: the align index says that row {place} is {wanted}, found {clip.clip_id}; the index is "
                "of other shards: align again"
            )
        return clip.frames


class TrainingBatches:
    """The batches of one epoch after another, each a list of keys: all clips, shuffled by (seed, epoch).

    A last batch of a single clip joins the one before it, since a clip can only be mixed with another one.
    """

    def __init__(self, num_clips: int, batch_size: int, seed: int) -> None:
        """Raises ValueError for fewer than two clips."""
        if num_clips < 2:
            raise ValueError(f"training needs two clips or more, found {num_clips}")
        self._num_clips, self._seed = num_clips, seed
        self._starts = list(range(0, num_clips, batch_size))
        if num_clips % batch_size == 1 and len(self._starts) > 1:
            self._starts.pop()
        self.epoch = 1

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[list[Key]]:
        order = stream(self._seed, "order", self.epoch).permutation(self._num_clips)
        for start, end in zip(self._starts, [*self._starts[1:], self._num_clips], strict=True):
            yield [(int(row), self.epoch) for row in order[start:end]]


def training_loader(source: ClipSource, batches: TrainingBatches, *, workers: int, pin_memory: bool) -> DataLoader:
    """Batches of (frames uint8[B, T, 3, S, S], rows int64[B]); set `batches.epoch` before each pass."""
    return DataLoader(
        source,
        batch_sampler=batches,
        num_workers=workers,
        multiprocessing_context=_fresh_processes(workers),
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        # A loader draws from torch's global generator otherwise, more or less often depending on its workers.
        generator=torch.Generator(),
    )


def evaluation_loader(source: ClipSource, *, batch_size: int, workers: int = 0) -> DataLoader:
    """Batches of (frames uint8[B, T, 3, S, S], rows int64[B]) in the order of `source.clips`."""
    keys: list[Key] = [(row, None) for row in range(len(source))]
    batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
    return DataLoader(
        source,
        batch_sampler=batches,
        num_workers=workers,
        multiprocessing_context=_fresh_processes(workers),
        persistent_workers=workers > 0,
        generator=torch.Generator(),
    )


def _fresh_processes(workers: int) -> str | None:
    """A process that runs threads, as one that is tracked does, must not be forked."""
    return "spawn" if workers else None
