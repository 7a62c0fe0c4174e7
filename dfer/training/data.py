"""Clips of a table, read from their shards in the order in which the training wants them."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dfer.config.settings import AugmentSettings
from dfer.sampling import segment_indices
from dfer.shards import Shard, ShardError, open_shard
from dfer.storage.remote import Location, below
from dfer.system.prefetch import prefetch
from dfer.system.randomness import stream
from dfer.training.cache import FrameCache, ShardRow
from dfer.training.transforms import full_view, random_views
from dfer.training.world import ALONE, World

Key = tuple[int, int | None] | tuple[int, int | None, int]
"""A clip's row in its source, and the epoch it is drawn for; None is the evaluation's fixed view. A third number, from
1, is of a clip's further views in an epoch that draws it several times."""

_CPU = torch.device("cpu")


class StoredBatch(NamedTuple):
    """Clips as they are stored, with everything random about their views."""

    frames: Tensor  # uint8[B, T, H, W, 3]
    crop_params: Tensor | None  # float64[B, 4] for `random_view`, or None for the evaluation's view
    rows: Tensor  # int64[B] in the source


class ClipSource:
    """The clips of a table that have aligned faces.

    `source[row, epoch]` is (frames uint8[T, 3, S, S], row): for an epoch, one random frame of each segment in a random
    view; for None, the segments' centres and the whole frame. What an epoch draws depends on the seed, the epoch and
    the row alone. Batches take two steps to the same: `stored` decodes, `views` crops and resizes, on any device.

    Attributes:
        clips: the usable rows of the table, numbered from 0.
        left_out: how many rows of the table have no aligned face.
        shard_rows: where each clip is stored.
        cache: where decoded frames are taken from once it is filled; None decodes every time.
    """

    def __init__(
        self,
        clips: pd.DataFrame,
        index: pd.DataFrame,
        root: Location,
        *,
        num_segments: int,
        consecutive: int = 1,
        input_size: int,
        augment: AugmentSettings | None = None,
        seed: int = 0,
    ) -> None:
        """Nothing is opened yet. Raises ValueError if a clip is listed twice in the index, or no clip is usable.

        Args:
            clips: rows of the clip table; a clip that is listed twice is drawn twice, in different views.
            index: the align index; `shard` is a folder relative to `root` (a folder, or the URL of one), or absolute.
            num_segments, consecutive: T and V, see `segment_indices`.
            input_size: S, pixels.
            augment: the random view; without it, only the evaluation's view can be read.
            seed: of all random draws.
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
        stored = aligned.loc[self.clips["clip_id"]]
        self.shard_rows: list[ShardRow] = [
            (below(root, shard), int(row)) for shard, row in zip(stored["shard"], stored["row"], strict=True)
        ]
        self.cache: FrameCache | None = None
        self._num_segments, self._consecutive, self._input_size = num_segments, consecutive, input_size
        self._augment, self._seed = augment, seed
        self._shards: dict[Location, Shard] = {}

    def __len__(self) -> int:
        return len(self.shard_rows)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        batch = self.stored([key])
        return self.views(batch.frames, batch.crop_params)[0], key[0]

    def num_frames(self, row: int) -> int:
        """How many frames of a clip are stored; decodes nothing."""
        shard, shard_row = self._shard(row)
        return shard.num_frames(shard_row)

    def stored(self, keys: Sequence[Key]) -> StoredBatch:
        """The frames of some clips that are looked at, as stored: random ones for an epoch, the centres for None.

        Raises ShardError if a clip cannot be read, is another than the index says, or has frames of another size than
        the rest of the batch.
        """
        if not keys:
            no_frames = torch.empty((0, self._num_segments, 1, 1, 3), dtype=torch.uint8)
            return StoredBatch(no_frames, torch.empty((0, 4), dtype=torch.float64), torch.empty(0, dtype=torch.int64))
        drawn = [self._draw(*key) for key in keys]
        positions = np.stack([indices for indices, _ in drawn])
        rows = [key[0] for key in keys]
        if self.cache is not None and self.cache.filled:
            frames = self.cache.take([self.shard_rows[row] for row in rows], positions)
        else:
            frames = torch.from_numpy(self._decoded(rows, positions))
        params = [values for _, values in drawn if values is not None]
        return StoredBatch(frames, torch.from_numpy(np.stack(params)) if params else None, torch.tensor(rows))

    def views(self, frames: Tensor, crop_params: Tensor | None) -> Tensor:
        """The network's view uint8[B, T, 3, S, S] of frames uint8[B, T, H, W, 3], computed on their device.

        `crop_params` float64[B, 4] are those of the random views, on the CPU; None is the evaluation's view.
        """
        # Channels last in memory, as stored: torchvision resizes uint8 fastest so.
        clips, size = frames.permute(0, 1, 4, 2, 3), self._input_size
        if crop_params is None:
            return full_view(clips.flatten(0, 1), size).unflatten(0, clips.shape[:2]).contiguous()
        assert self._augment is not None
        return random_views(clips, size, self._augment, crop_params)

    def whole(self, row: int) -> Tensor:
        """All stored frames of a clip, uint8[N, H, W, 3]; raises as `stored`."""
        return torch.from_numpy(self._read(row, np.arange(self.num_frames(row))))

    def reopened(self) -> ClipSource:
        """The same source with files of its own."""
        other = copy(self)
        other._shards = {}
        return other

    def _draw(
        self, row: int, epoch: int | None, view: int = 0
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64] | None]:
        """The frames of a clip that are shown, int64[T], and the four crop parameters of its view."""
        if epoch is None:
            return self._positions(row, train=False), None
        if self._augment is None:
            raise ValueError("this source has no augmentation: only its evaluation view can be read")
        generator = stream(self._seed, "clip", epoch, row + (view << 32))
        return self._positions(row, train=True, generator=generator), generator.random(4)

    def _positions(
        self, row: int, *, train: bool, generator: np.random.Generator | None = None
    ) -> npt.NDArray[np.int64]:
        stored = self.num_frames(row)
        return segment_indices(
            stored, self._num_segments, train=train, generator=generator, consecutive=self._consecutive
        )

    def _decoded(self, rows: Sequence[int], positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        first = self._read(rows[0], positions[0])
        batch = np.empty((len(rows), *first.shape), np.uint8)
        batch[0] = first
        for number, row in enumerate(rows[1:], start=1):
            frames = self._read(row, positions[number], batch[number])
            if frames.shape != first.shape:
                (height, width), (first_height, first_width) = frames.shape[1:3], first.shape[1:3]
                raise ShardError(
                    f"clip {self.clips['clip_id'].iloc[row]} has frames of {width}x{height} pixels, "
                    f"{self.clips['clip_id'].iloc[rows[0]]} of {first_width}x{first_height}: a training needs clips "
                    "that were aligned with the same settings"
                )
            if frames.base is not batch:
                batch[number] = frames
        return batch

    def _read(
        self, row: int, positions: npt.NDArray[np.int64], out: npt.NDArray[np.uint8] | None = None
    ) -> npt.NDArray[np.uint8]:
        shard, shard_row = self._shard(row)
        stored, expected = shard.clip_ids[shard_row], self.clips["clip_id"].iloc[row]
        if stored != expected:
            raise ShardError(
                f"{shard.path}: the align index says that row {shard_row} is clip {expected}, found {stored}; the "
                "index is of other shards: align again"
            )
        return shard.frames(shard_row, positions, out)

    def _shard(self, row: int) -> tuple[Shard, int]:
        folder, shard_row = self.shard_rows[row]
        if folder not in self._shards:
            self._shards[folder] = open_shard(folder)
        return self._shards[folder], shard_row


class TrainingBatches:
    """The batches of each epoch, lists of keys: all clips, shuffled by (seed, epoch). Set `epoch` before each.

    With `chances`, as many draws with replacement; a clip that is drawn again in an epoch is seen in another view, and
    may be mixed with that. Otherwise every clip is drawn once.

    A last batch of a single clip joins the one before it, since a clip can only be mixed with another one. Of several
    processes each gets its share of every batch, which may be empty in a small last one (`World.share`).
    """

    def __init__(
        self,
        num_clips: int,
        batch_size: int,
        seed: int,
        world: World = ALONE,
        chances: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """`chances` float64[N] sum to 1. Raises ValueError for fewer than two clips."""
        if num_clips < 2:
            raise ValueError(f"training needs two clips or more, found {num_clips}")
        self._num_clips, self._seed, self._world, self._chances = num_clips, seed, world, chances
        self._starts = list(range(0, num_clips, batch_size))
        if num_clips % batch_size == 1 and len(self._starts) > 1:
            self._starts.pop()
        self._ends = [*self._starts[1:], num_clips]
        self.epoch = 1

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def sizes(self) -> list[int]:
        """Clips of each whole batch, all processes' shares together; the same in every epoch."""
        return [end - start for start, end in zip(self._starts, self._ends, strict=True)]

    def __iter__(self) -> Iterator[list[Key]]:
        generator = stream(self._seed, "order", self.epoch)
        if self._chances is None:
            keys: list[Key] = [(row, self.epoch) for row in generator.permutation(self._num_clips).tolist()]
        else:
            keys, before = [], Counter[int]()
            for row in generator.choice(self._num_clips, self._num_clips, p=self._chances).tolist():
                keys.append((row, self.epoch, before[row]) if before[row] else (row, self.epoch))
                before[row] += 1
        for start, end in zip(self._starts, self._ends, strict=True):
            yield self._world.share(keys[start:end])


class Loader:
    """Batches of (frames uint8[B, T, 3, S, S] on a device, rows int64[B]), read ahead of the training.

    Clips are decoded by worker processes, or by one thread of this process; with a filled cache they are only gathered,
    by that thread too.
    Crop and resize follow on the device, one batch at a time. `waited` is how many seconds the latest pass has spent
    waiting for clips, its views not included.
    """

    def __init__(self, source: ClipSource, batches: Iterable[list[Key]], *, workers: int, device: torch.device) -> None:
        """`batches` can be gone through more than once; worker processes start with the first pass."""
        self._source, self._batches, self._workers, self._device = source, batches, workers, device
        self._processes: DataLoader | None = None
        self.waited = 0.0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.waited = 0.0
        stored = self.stored()
        while True:
            started = time.perf_counter()
            batch = next(stored, None)
            self.waited += time.perf_counter() - started
            if batch is None:
                return
            frames = batch.frames.to(self._device, non_blocking=True)
            yield self._source.views(frames, batch.crop_params), batch.rows

    def stored(self) -> Iterator[StoredBatch]:
        """One pass over the batches before their views are made."""
        cache = self._source.cache
        if self._workers and cache is None:
            if self._processes is None:
                self._processes = self._start_processes()
            return iter(self._processes)
        return prefetch(map(self._pinned, self._batches))

    def _pinned(self, keys: list[Key]) -> StoredBatch:
        """A batch; for a GPU in memory that it can copy from while this process goes on."""
        batch = self._source.stored(keys)
        if self._device.type == "cuda" and not batch.frames.is_cuda and not batch.frames.is_pinned():
            return batch._replace(frames=batch.frames.pin_memory())
        return batch

    def _start_processes(self) -> DataLoader:
        return DataLoader(
            _Batched(self._source),
            sampler=self._batches,
            batch_size=None,
            num_workers=self._workers,
            # A process that runs threads must not be forked.
            multiprocessing_context="spawn",
            persistent_workers=True,
            pin_memory=self._device.type == "cuda",
            # A loader draws from torch's global generator otherwise, more or less often depending on its workers.
            generator=torch.Generator(),
        )


class _Batched(Dataset[StoredBatch]):
    """What worker processes do: a whole batch at a time."""

    def __init__(self, source: ClipSource) -> None:
        self._source = source

    def __getitem__(self, keys: list[Key]) -> StoredBatch:
        return self._source.stored(keys)


def training_loader(
    source: ClipSource, batches: TrainingBatches, *, workers: int = 0, device: torch.device = _CPU
) -> Loader:
    """One epoch a pass; set `batches.epoch` before each."""
    return Loader(source, batches, workers=workers, device=device)


def evaluation_loader(
    source: ClipSource,
    *,
    batch_size: int,
    workers: int = 0,
    device: torch.device = _CPU,
    rows: Sequence[int] | None = None,
) -> Loader:
    """The evaluation's view of the clips in `rows`, in that order, or of all in the order of `source.clips`."""
    keys: list[Key] = [(row, None) for row in (range(len(source)) if rows is None else rows)]
    batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
    return Loader(source, batches, workers=workers, device=device)


def fill_cache(cache: FrameCache, sources: Sequence[ClipSource], *, threads: int) -> None:
    """Decode every clip of the sources once, in so many threads; they use the cache from then on."""
    # By name too: if the index has two clips in one row of a shard, one of them is wrong, and reading it raises.
    clips = {
        (shard_row, clip_id): (source, row)
        for source in sources
        for row, (shard_row, clip_id) in enumerate(zip(source.shard_rows, source.clips["clip_id"], strict=True))
    }
    on_disk = sorted(clips)
    decoded = _decoded([clips[name] for name in on_disk], threads)
    cache.fill(zip((shard_row for shard_row, _ in on_disk), decoded, strict=True))
    for source in sources:
        source.cache = cache


def _decoded(clips: Sequence[tuple[ClipSource, int]], threads: int) -> Iterator[Tensor]:
    """All frames of each clip, in order, a few of them ahead. Decoding JPEG keeps no other thread from running."""
    own = threading.local()

    def whole(source: ClipSource, row: int) -> Tensor:
        # open files are not shared between threads
        opened: dict[int, ClipSource] = own.__dict__.setdefault("opened", {})
        return opened.setdefault(id(source), source.reopened()).whole(row)

    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Tensor]] = deque()
        try:
            for source, row in clips:
                waiting.append(pool.submit(whole, source, row))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def stored_frames(sources: Sequence[ClipSource]) -> tuple[dict[ShardRow, int], tuple[int, int]]:
    """Every clip of the sources with its number of frames, and height and width of the first one's."""
    lengths = {
        shard_row: source.num_frames(row) for source in sources for row, shard_row in enumerate(source.shard_rows)
    }
    height, width = sources[0].stored([(0, None)]).frames.shape[2:4]
    return lengths, (height, width)
