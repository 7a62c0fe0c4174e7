"""Decoded frames that stay in memory for a whole training, in RAM or on the GPU."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dfer.shards import ShardError
from dfer.storage.remote import Location
from dfer.system.memory import available_memory, total_memory
from dfer.training.plan import Resources

ShardRow = tuple[Location, int]
"""Where a clip is stored: its shard's folder and its row in it."""

Where = Literal["none", "host", "device"]

HOST_SHARE, DEVICE_SHARE = 0.5, 0.6
"""The most that "auto" takes of a training's part of the memory: the rest is for the training itself."""

KEPT_FREE: dict[str, int] = {"host": 2 * 2**30, "device": 4 * 2**30}
"""Bytes that no cache takes, asked for by name or not."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheChoice:
    """Where decoded frames are kept, how many bytes they take, and the reason for the choice."""

    where: Where
    num_bytes: int
    why: str

    def as_dict(self) -> dict[str, Any]:
        """JSON data: `where`, `gib` and `why`."""
        return {"where": self.where, "gib": round(self.num_bytes / 2**30, 3), "why": self.why}


def choose_cache(
    asked: Literal["auto", "host", "device"],
    num_bytes: int,
    device: torch.device,
    resources: Resources,
) -> CacheChoice:
    """Where `num_bytes` of decoded frames are kept.

    "auto" takes the GPU's memory if they fill at most 60 % of this training's room in it, else RAM if they fill at most
    half of that in RAM. The room is what is free, but no more than an equal part of the whole for each of the trainings
    side by side that `resources` names, and some GiB stay free. A GPU that ran out of memory with frames in it
    (`resources.frames_on_gpu`) gets none, whatever was asked for. Raises ValueError when a place that was asked for by
    name does not exist or is too small.
    """
    side_by_side, on_its_gpu = resources.side_by_side, resources.on_its_gpu or resources.side_by_side
    rooms: dict[Where, int] = {"host": _room("host", available_memory(), total_memory(), side_by_side)}
    if device.type == "cuda" and not resources.frames_on_gpu:
        asked = "auto" if asked == "device" else asked
    elif device.type == "cuda":
        rooms["device"] = _room("device", *torch.cuda.mem_get_info(device), on_its_gpu)
    if asked == "auto":
        choice = _what_fits(num_bytes, rooms)
    elif asked not in rooms:
        raise ValueError("train.cache is 'device', but the training is on the CPU: set it to 'auto' or 'host'")
    elif num_bytes > rooms[asked]:
        sharing = on_its_gpu if asked == "device" else side_by_side
        raise ValueError(
            f"train.cache is {asked!r}, but the decoded frames take {_gib(num_bytes)}, and {_gib(rooms[asked])} are "
            f"free for each of {sharing} trainings at a time: set it to 'auto' or 'none', or store fewer or "
            "smaller frames"
        )
    else:
        choice = CacheChoice(asked, num_bytes, "asked for")
    # How much happened to be free is in the log alone: it differs every time.
    free = ", ".join(f"{_gib(room)} ({name})" for name, room in rooms.items())
    _log.info("cache of decoded frames: %s (%s): %s; free: %s", choice.where, choice.why, _gib(num_bytes), free)
    return choice


def _room(where: Where, free: int, total: int, sharers: int) -> int:
    """Bytes for one of those who share a memory. The others may have taken their part of it already, or not yet."""
    return max(0, min(free, total // sharers) - KEPT_FREE[where])


def _what_fits(num_bytes: int, rooms: Mapping[Where, int]) -> CacheChoice:
    if "device" in rooms and num_bytes <= DEVICE_SHARE * rooms["device"]:
        return CacheChoice("device", num_bytes, "fits into the GPU's memory")
    if num_bytes <= HOST_SHARE * rooms["host"]:
        return CacheChoice("host", num_bytes, "fits into RAM")
    return CacheChoice("none", num_bytes, "fits nowhere")


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"


class FrameCache:
    """The decoded frames of clips, one after another in one tensor uint8[N, H, W, 3]."""

    def __init__(
        self, lengths: Mapping[ShardRow, int], size: tuple[int, int], *, device: torch.device, pinned: bool = False
    ) -> None:
        """Nothing is allocated or read yet.

        `lengths` are the clips' numbers of frames, all of `size` H, W, kept on `device`. `pinned` gathers batches in
        page-locked RAM, from which a GPU copies while this process goes on.
        """
        ends = np.cumsum(list(lengths.values()))
        self._starts = dict(zip(lengths, (ends - list(lengths.values())).tolist(), strict=True))
        self._shape = (int(ends[-1]), *size, 3)
        self.device, self._pinned = device, pinned
        self._frames: Tensor | None = None

    @property
    def filled(self) -> bool:
        """Whether it holds the frames."""
        return self._frames is not None

    @staticmethod
    def num_bytes(lengths: Mapping[ShardRow, int], size: tuple[int, int]) -> int:
        """Bytes that the frames of these clips take."""
        return sum(lengths.values()) * size[0] * size[1] * 3

    def fill(self, clips: Iterable[tuple[ShardRow, Tensor]]) -> None:
        """Store every clip's frames uint8[T, H, W, 3]; ShardError when those of a clip have another size."""
        started = reported = time.perf_counter()
        frames = torch.empty(self._shape, dtype=torch.uint8, device=self.device)
        for number, (shard_row, decoded) in enumerate(clips, start=1):
            if decoded.shape[1:] != frames.shape[1:]:
                raise ShardError(
                    f"{shard_row[0]}: row {shard_row[1]} has frames of {_pixels(decoded.shape)}, other clips of this "
                    f"training of {_pixels(frames.shape)}; align them with the same settings"
                )
            start = self._starts[shard_row]
            frames[start : start + len(decoded)] = decoded
            if time.perf_counter() - reported > 10:
                reported = time.perf_counter()
                _log.info("cache of decoded frames: %d of %d clips", number, len(self._starts))
        self._frames = frames
        seconds = time.perf_counter() - started
        _log.info("cache of decoded frames: %d clips in %.1f s", len(self._starts), seconds)

    def take(self, shard_rows: Sequence[ShardRow], positions: npt.NDArray[np.int64]) -> Tensor:
        """Frames uint8[B, T, H, W, 3] of B clips at `positions` int64[B, T]."""
        assert self._frames is not None, "fill the cache first"
        starts = np.array([self._starts[shard_row] for shard_row in shard_rows])
        index = starts[:, None] + positions
        if self.device.type == "cuda":
            return self._frames[torch.from_numpy(index).to(self.device, non_blocking=True)]
        batch = torch.empty((*index.shape, *self._shape[1:]), dtype=torch.uint8, pin_memory=self._pinned)
        # NumPy's copy runs beside the network, without torch's threads, which the network needs.
        np.take(self._frames.numpy(), index, axis=0, out=batch.numpy(), mode="clip")
        return batch


def _pixels(shape: Sequence[int]) -> str:
    return f"{shape[-2]}x{shape[-3]} pixels"
